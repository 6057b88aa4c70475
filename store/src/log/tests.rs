use super::*;
use arrow::array::{ArrayRef, Int64Array, TimestampMicrosecondArray, new_null_array};

fn rows(series: &[i64], ts: &[i64]) -> RecordBatch {
    let def = tapio_sql::catalog().get("resources").unwrap();
    let columns = def
        .columns
        .iter()
        .map(|c| match c.name.as_str() {
            "series_id" => Arc::new(Int64Array::from(series.to_vec())) as ArrayRef,
            "ts" | "observed_at" => {
                Arc::new(TimestampMicrosecondArray::from(ts.to_vec()).with_timezone("UTC"))
            }
            _ => new_null_array(&c.ty.arrow(), ts.len()),
        })
        .collect();
    RecordBatch::try_new(def.schema(), columns).unwrap()
}

fn log(store: &Store) -> TableLog {
    store.table(tapio_sql::catalog().get("resources").unwrap())
}

async fn add(log: &TableLog, app: &str, sequence: i64, series: i64) -> Committed {
    let file = log.write_file("2026-11-23", &[rows(&[series], &[1_795_392_000_000_000])]).await;
    let commit = Commit {
        add: vec![file.unwrap()],
        txn: Some((app.into(), sequence)),
        data_change: true,
        operation: "WRITE".into(),
        ..Commit::default()
    };
    log.commit(commit).await.unwrap()
}

#[tokio::test]
async fn a_file_is_visible_after_its_commit_and_sorted() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().to_str().unwrap(), true).unwrap();
    let log = log(&store);
    assert_eq!(log.snapshot().await.unwrap().version, None);
    let batch = rows(&[2, 1, 1], &[5_000, 9_000, 7_000]);
    let file = log.write_file("1970-01-01", &[batch]).await.unwrap();
    assert!(log.snapshot().await.unwrap().files.is_empty());
    assert_eq!(log.unlisted_files().await.unwrap(), vec![file.path.clone()]);
    let commit = Commit { add: vec![file.clone()], data_change: true, ..Commit::default() };
    assert_eq!(log.commit(commit).await.unwrap(), Committed::Version(0));

    let other = store.table(log.def());
    let snapshot = other.snapshot().await.unwrap();
    assert_eq!(snapshot.rows(), 3);
    assert_eq!(snapshot.schema_version, log.def().schema_version);
    assert!(other.unlisted_files().await.unwrap().is_empty());
    let bytes = other.read_file(&file.path).await.unwrap();
    let back = crate::read_parquet(log.def(), &file.path, bytes).unwrap();
    let series: Vec<i64> = back[0].column(0).to_data().buffer::<i64>(0)[..3].to_vec();
    assert_eq!(series, [1, 1, 2]);
}

#[tokio::test]
async fn the_same_txn_is_committed_once() {
    let store = Store::memory();
    let log = log(&store);
    assert_eq!(add(&log, "w", 10, 1).await, Committed::Version(0));
    assert_eq!(add(&log, "w", 10, 1).await, Committed::Already(0));
    assert_eq!(add(&log, "w", 11, 1).await, Committed::Version(1));
    assert_eq!(log.snapshot().await.unwrap().rows(), 2);
    assert_eq!(log.snapshot_at(0).await.unwrap().rows(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_writers_lose_nothing() {
    let store = Store::memory();
    let tasks: Vec<_> = (0..8)
        .map(|w| {
            let log = log(&store);
            tokio::spawn(async move {
                for s in 1..=10 {
                    add(&log, &format!("w{w}"), s, w).await;
                }
            })
        })
        .collect();
    for t in tasks {
        t.await.unwrap();
    }
    let snapshot = log(&store).snapshot().await.unwrap();
    assert_eq!(snapshot.version, Some(79));
    assert_eq!(snapshot.rows(), 80);
    assert!((0..8).all(|w| snapshot.txn[&format!("w{w}")] == 10));
}

#[tokio::test]
async fn replacing_what_is_gone_is_a_conflict() {
    let store = Store::memory();
    let log = log(&store);
    add(&log, "w", 1, 1).await;
    let old = log.snapshot().await.unwrap().files.keys().next().unwrap().clone();
    let file = log.write_file("2026-11-23", &[rows(&[1], &[1_795_392_000_000_000])]).await.unwrap();
    let compaction = Commit { add: vec![file], remove: vec![old.clone()], ..Commit::default() };
    log.commit(compaction.clone()).await.unwrap();
    assert_eq!(log.snapshot().await.unwrap().rows(), 1);
    let e = log.commit(compaction).await.unwrap_err();
    assert!(matches!(&e, StoreError::Conflict { path, .. } if *path == old), "{e}");
}

#[tokio::test]
async fn a_newer_table_is_read_but_not_written() {
    let store = Store::memory();
    let mut newer = (**tapio_sql::catalog().get("resources").unwrap()).clone();
    newer.schema_version += 1;
    add(&store.table(&Arc::new(newer)), "w", 1, 1).await;
    let log = log(&store);
    assert_eq!(log.snapshot().await.unwrap().rows(), 1);
    let e = log.commit(Commit::default()).await.unwrap_err();
    assert!(matches!(e, StoreError::NewerSchema { .. }), "{e}");
}

#[tokio::test]
async fn a_damaged_entry_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().to_str().unwrap(), true).unwrap();
    let log = log(&store);
    add(&log, "w", 1, 1).await;
    let entry = dir.path().join("resources/_delta_log/00000000000000000001.json");
    std::fs::write(entry, "{\"add\":").unwrap();
    let e = log.snapshot().await.unwrap_err().to_string();
    assert!(e.contains("00000000000000000001.json") && e.contains("line 1"), "{e}");
}
