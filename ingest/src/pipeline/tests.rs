use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use arrow::{
    array::{Array, AsArray},
    datatypes::Int64Type,
};
use tapio_sql::catalog;
use tapio_store::read_parquet;

use super::*;
use crate::rows::{Columns, ints, labels, times};

const DAY: i64 = 86_400_000_000;
const NOW: i64 = 1_795_392_000_000_000;

/// Rows of `health` that are told apart by their value.
fn rows(values: impl IntoIterator<Item = i64>, ts: i64) -> TableBatch {
    let values: Vec<i64> = values.into_iter().collect();
    let n = values.len();
    let mut c = Columns::new(catalog().get("health").unwrap(), n);
    c.set("ts", times((0..n as i64).map(|i| ts + i).collect()));
    c.set("observed_at", times(vec![ts; n]));
    for name in ["component", "metric", "severity"] {
        c.set(name, labels(std::iter::repeat_n(Some("t"), n)));
    }
    c.set("value", ints(values.into_iter().map(Some)));
    c.finish().unwrap()
}

fn options(dir: &Path) -> IngestOptions {
    let store = Store::open(dir.join("store").to_str().unwrap(), true).unwrap();
    IngestOptions {
        health_interval: Duration::from_secs(3600),
        retry: (Duration::from_millis(20), Duration::from_millis(100)),
        ..IngestOptions::new(store, dir.join("wal"))
    }
}

/// All rows as a reader gets them (hot first, then the snapshot), with how often each is there.
async fn visible(ingest: &Ingest, options: &IngestOptions) -> BTreeMap<i64, usize> {
    let hot = ingest.hot("health");
    let log = options.store.table(catalog().get("health").unwrap());
    let snapshot = log.snapshot().await.unwrap();
    let done = snapshot.txn.get(&hot.writer).copied().unwrap_or(i64::MIN);
    let mut batches: Vec<_> =
        hot.batches.into_iter().filter(|b| b.last_seq > done).map(|b| b.batch).collect();
    for path in snapshot.files.keys() {
        let bytes = log.read_file(path).await.unwrap();
        batches.extend(read_parquet(log.def(), path, bytes).unwrap());
    }
    let mut found = BTreeMap::new();
    for b in batches {
        let values = b.column_by_name("value").unwrap().as_primitive::<Int64Type>();
        // Rows with a sentence are the pipeline's own counters.
        let own = b.column_by_name("detail").unwrap();
        for row in (0..b.num_rows()).filter(|r| own.is_null(*r)) {
            *found.entry(values.value(row)).or_default() += 1;
        }
    }
    found
}

fn once(values: impl IntoIterator<Item = i64>) -> BTreeMap<i64, usize> {
    values.into_iter().map(|v| (v, 1)).collect()
}

fn wal_files(dir: &Path) -> usize {
    let names = std::fs::read_dir(dir.join("wal")).unwrap();
    names.filter(|e| e.as_ref().unwrap().file_name().to_str().unwrap().starts_with("wal-")).count()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for e in std::fs::read_dir(from).unwrap() {
        let e = e.unwrap();
        std::fs::copy(e.path(), to.join(e.file_name())).unwrap();
    }
}

#[tokio::test]
async fn rows_go_from_log_to_hot_to_files_once() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let ingest = Ingest::open(options.clone()).await.unwrap();
    assert_eq!(ingest.data_through_us(), None);
    // Over midnight: two partitions.
    let seq = ingest.append(vec![rows(0..3, NOW - 2), rows(3..5, NOW)]).await.unwrap();
    ingest.append_tick(vec![rows([5], NOW + DAY)], NOW + DAY).await.unwrap();
    assert_eq!((seq, ingest.data_through_us()), (1, Some(NOW + DAY)));
    assert_eq!(visible(&ingest, &options).await, once(0..6));
    ingest.append_with_cursor("journal", "s=1", vec![]).await.unwrap();
    assert_eq!(ingest.cursor("journal").as_deref(), Some("s=1"));

    let report = ingest.flush().await.unwrap();
    assert_eq!(report, FlushReport { rows: 6, files: 3, tables: 1 });
    assert!(ingest.hot("health").batches.is_empty());
    assert_eq!(visible(&ingest, &options).await, once(0..6));
    assert_eq!(wal_files(dir.path()), 1);
    assert_eq!(ingest.flush().await.unwrap(), FlushReport::default());

    ingest.append(vec![rows([6], NOW)]).await.unwrap();
    drop(ingest);
    let ingest = Ingest::open(options.clone()).await.unwrap();
    assert_eq!(ingest.recovery().rows, 1);
    assert_eq!(ingest.recovery().rows_in_files, 0);
    assert_eq!(ingest.cursor("journal").as_deref(), Some("s=1"));
    assert_eq!(visible(&ingest, &options).await, once(0..7));
    ingest.shutdown().await.unwrap();
    assert!(matches!(ingest.append(vec![]).await, Err(SinkError::Closed)));
    assert_eq!(visible(&ingest, &options).await, once(0..7));
}

#[tokio::test]
async fn a_crash_between_commit_and_forgetting_the_log_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let ingest = Ingest::open(options.clone()).await.unwrap();
    for n in 0..40 {
        ingest.append(vec![rows([n], NOW)]).await.unwrap();
    }
    let before = dir.path().join("before");
    copy(&dir.path().join("wal"), &before);
    ingest.flush().await.unwrap();
    drop(ingest);
    // The log as it was when the commit had just gone through.
    std::fs::remove_dir_all(dir.path().join("wal")).unwrap();
    copy(&before, &dir.path().join("wal"));
    let ingest = Ingest::open(options.clone()).await.unwrap();
    assert_eq!((ingest.recovery().rows, ingest.recovery().rows_in_files), (0, 40));
    let next = ingest.append(vec![rows([40], NOW)]).await.unwrap();
    assert_eq!(next, 41);
    assert_eq!(visible(&ingest, &options).await, once(0..41));
    ingest.flush().await.unwrap();
    assert_eq!(visible(&ingest, &options).await, once(0..41));
}

#[tokio::test]
async fn an_unwritable_store_fills_the_buffer_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let options = IngestOptions { max_hot_bytes: 8_000, ..options(dir.path()) };
    let ingest = Ingest::open(options.clone()).await.unwrap();
    // Root may write anywhere, so the table's folder is made a file.
    let blocked = dir.path().join("store/health");
    std::fs::write(&blocked, "in the way").unwrap();
    let mut kept = 0;
    let refused = loop {
        match ingest.append(vec![rows([kept], NOW)]).await {
            Ok(_) => kept += 1,
            Err(e) => break e,
        }
        assert!(kept < 1_000);
    };
    assert!(matches!(&refused, SinkError::Full { bytes, .. } if *bytes <= 8_000), "{refused}");
    assert!(ingest.failing().is_some());
    assert!(ingest.health().value("flush", "failures") > 0);
    assert!(ingest.health().value("ingest", "appends_refused") > 0);
    assert!(ingest.flush().await.unwrap_err().to_string().contains("health"));
    std::fs::remove_file(&blocked).unwrap();
    // The next flush, by hand or in the background, makes room.
    ingest.flush().await.unwrap();
    assert_eq!(ingest.failing(), None);
    ingest.append(vec![rows([kept], NOW)]).await.unwrap();
    assert_eq!(visible(&ingest, &options).await, once(0..=kept));
    ingest.shutdown().await.unwrap();
    assert_eq!(visible(&ingest, &options).await, once(0..=kept));
}

#[tokio::test]
async fn flushing_happens_by_rows_and_retries_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let options = IngestOptions { flush_rows: 10, ..options(dir.path()) };
    let ingest = Ingest::open(options.clone()).await.unwrap();
    let blocked = dir.path().join("store/health");
    std::fs::write(&blocked, "in the way").unwrap();
    ingest.append(vec![rows(0..20, NOW)]).await.unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while ingest.health().value("flush", "failures") < 2 {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    std::fs::remove_file(&blocked).unwrap();
    while ingest.size().0 > 0 {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(visible(&ingest, &options).await, once(0..20));
}

#[tokio::test]
async fn a_second_pipeline_is_refused_and_a_damaged_log_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let ingest = Ingest::open(options.clone()).await.unwrap();
    let e = Ingest::open(options.clone()).await.unwrap_err();
    assert!(e.to_string().contains(&std::process::id().to_string()), "{e}");
    for n in 0..5 {
        ingest.append(vec![rows([n], NOW)]).await.unwrap();
    }
    drop(ingest);
    let wal = dir.path().join("wal/wal-00000000000000000001.log");
    let bytes = std::fs::read(&wal).unwrap();
    std::fs::write(&wal, &bytes[..bytes.len() - 1]).unwrap();
    let ingest = Ingest::open(options.clone()).await.unwrap();
    assert_eq!(ingest.recovery().frames, 4);
    assert!(ingest.recovery().tail_bytes > 0);
    assert!(ingest.health().value("wal", "tail_bytes") > 0);
    assert_eq!(visible(&ingest, &options).await, once(0..4));
    // The counters reach the store with the shutdown.
    ingest.shutdown().await.unwrap();
    assert_eq!(visible(&ingest, &options).await, once(0..4));
    let log = options.store.table(catalog().get("health").unwrap());
    assert_eq!(log.snapshot().await.unwrap().rows(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_appends_share_one_sync() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let ingest = Ingest::open(options.clone()).await.unwrap();
    let tasks: Vec<_> = (0..16)
        .map(|t| {
            let ingest = ingest.clone();
            tokio::spawn(async move {
                for n in 0..20 {
                    ingest.append(vec![rows([t * 100 + n], NOW)]).await.unwrap();
                }
            })
        })
        .collect();
    for t in tasks {
        t.await.unwrap();
    }
    let expected = (0..16).flat_map(|t| (0..20).map(move |n| t * 100 + n));
    assert_eq!(visible(&ingest, &options).await, once(expected));
    assert!(ingest.hot("health").batches.len() < 50);
}

const CHILD: &str = "TAPIO_TEST_KILL9_DIR";

/// The process that is killed: appends from four tasks, flushes all the time, tells what was acknowledged.
#[test]
fn kill9_child() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let base: i64 = std::env::var("TAPIO_TEST_KILL9_BASE").unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = IngestOptions {
            flush_interval: Duration::from_millis(15),
            flush_rows: 60,
            wal_segment_bytes: 40_000,
            ..options(Path::new(&dir))
        };
        let ingest = Ingest::open(options).await.unwrap();
        let tasks: Vec<_> = (0..4)
            .map(|t| {
                let ingest = ingest.clone();
                tokio::spawn(async move {
                    for n in 0..100_000 {
                        let first = base + t * 1_000_000 + n * 3;
                        ingest.append(vec![rows(first..first + 3, NOW)]).await.unwrap();
                        let mut out = std::io::stdout().lock();
                        let _ = out.write_all(format!("\nACK {first}\n").as_bytes());
                        let _ = out.flush();
                    }
                })
            })
            .collect();
        for t in tasks {
            t.await.unwrap();
        }
    });
}

/// T2: ten times killed under load, each acknowledged row is there exactly once, no other row twice.
#[test]
fn kill_9_under_load_ten_times() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut acked: Vec<i64> = Vec::new();
    let mut recovered = 0;
    for run in 0..10i64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "pipeline::tests::kill9_child", "--nocapture", "--test-threads=1"])
            .env(CHILD, dir.path())
            .env("TAPIO_TEST_KILL9_BASE", (run * 10_000_000).to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Killed after a different number of acknowledgements each time, at whatever it is doing then.
        let enough = 20 + run * 37;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        let take = |line: std::io::Result<String>, acked: &mut Vec<i64>| {
            let first = line.ok().and_then(|l| l.strip_prefix("ACK ")?.parse::<i64>().ok());
            acked.extend(first);
            i64::from(first.is_some())
        };
        while seen < enough {
            seen += take(lines.next().expect("the child ended by itself"), &mut acked);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        lines.for_each(|l| {
            take(l, &mut acked);
        });

        let options = options(dir.path());
        runtime.block_on(async {
            let ingest = Ingest::open(options.clone()).await.unwrap();
            let report = ingest.recovery();
            assert_eq!((report.damaged_bytes, report.damaged_frames), (0, 0), "{report:?}");
            recovered += report.rows;
            let found = visible(&ingest, &options).await;
            assert!(found.values().all(|n| *n == 1), "a row is there twice");
            for first in &acked {
                for v in *first..first + 3 {
                    assert!(
                        found.contains_key(&v),
                        "row {v} of run {run} was acknowledged and is gone"
                    );
                }
            }
            assert_eq!(found.len() % 3, 0, "a frame came back in part");
        });
    }
    assert!(acked.len() > 1_500 && recovered > 0, "{} {recovered}", acked.len());
}
