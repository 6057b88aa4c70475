//! The Tapio side of `tests/peers/screen.py`: makes a store, then answers one question again and again.
//!
//! `tapio-bench make DIR SERIES POINTS` writes a store; `tapio-bench ask DIR SQL` runs the statement once for every line
//! on stdin and prints `CPU_MS ROWS`, CPU time of the whole process. `tapio-bench hot DIR SERIES POINTS PATTERN` evaluates a
//! pattern, as a server does, over rows that came tick by tick and are in no file yet: before each line another tick comes
//! (which is not counted), and the evaluation is as of it.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{io::BufRead, path::Path, sync::Arc, time::Duration};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray, new_null_array};
use tapio_ingest::{Ingest, IngestOptions};
use tapio_query::{Engine, EngineOptions, QueryError};
use tapio_sql::{Pattern, PatternCatalog, TableBatch, TableDef, catalog, date_of};
use tapio_store::{Commit, Store};

/// 2026-11-23T00:00:00Z.
const START_US: i64 = 1_795_392_000_000_000;
const CADENCE_US: i64 = 10_000_000;
const LIMIT: i64 = 1 << 30;
/// Ticks that may come after the first question.
const MORE_POINTS: i64 = 300;

/// As the server has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["make", dir, series, points] => {
            make(dir, series.parse().unwrap(), points.parse().unwrap()).await;
        }
        ["ask", dir, sql] => {
            let store = Store::open(dir, false).unwrap();
            let engine = EngineOptions::new(store, PatternCatalog::builtin().unwrap());
            let engine = Engine::new(engine).unwrap();
            for line in std::io::stdin().lock().lines() {
                line.unwrap();
                answer(async { Ok(engine.sql(sql, Some(i64::MAX)).await?.1) }).await;
            }
        }
        ["hot", dir, series, points, pattern] => {
            hot(dir, series.parse().unwrap(), points.parse().unwrap(), pattern).await;
        }
        _ => panic!(
            "usage: tapio-bench make DIR SERIES POINTS | ask DIR SQL | hot DIR SERIES POINTS PATTERN"
        ),
    }
}

/// One series in fifty rises so that it crosses its limit within 15 minutes, one in ten rises slower, the rest wobble.
/// Bytes in use by series and point.
fn levels(series: i64, points: i64) -> Vec<(i64, Vec<i64>)> {
    let of = |s: i64| {
        let id = tapio_sql::series_id(&["bench", &s.to_string()]);
        let mut noise = id | 1;
        let mut level = |p: i64| {
            noise = noise.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            let wobble = (noise >> 44).rem_euclid(1 << 20);
            let seconds = p * CADENCE_US / 1_000_000;
            let rise = match s {
                s if s % 50 == 0 => (LIMIT / 2) / 1_000 * seconds,
                s if s % 10 == 0 => (LIMIT / 2) / 20_000 * seconds,
                _ => 0,
            };
            ((LIMIT / 4 + rise + wobble) & !0xfff).min(LIMIT)
        };
        (id, (0..points).map(&mut level).collect())
    };
    (0..series).map(of).collect()
}

/// Rows of `resources`: series, point, bytes in use.
fn rows(def: &TableDef, rows: &[(i64, i64, i64)]) -> RecordBatch {
    let int = |of: fn(&(i64, i64, i64)) -> i64| -> ArrayRef {
        Arc::new(rows.iter().map(of).collect::<Int64Array>())
    };
    let ts = rows.iter().map(|r| START_US + r.1 * CADENCE_US);
    let ts = TimestampMicrosecondArray::from_iter_values(ts).with_timezone("UTC");
    let time: ArrayRef = Arc::new(ts);
    let columns = def
        .columns
        .iter()
        .map(|c| match c.name.as_str() {
            "series_id" => int(|r| r.0),
            "ts" | "observed_at" => time.clone(),
            "memory_usage_bytes" | "memory_working_set_bytes" | "memory_level_bytes" => {
                int(|r| r.2)
            }
            "memory_limit_bytes" => int(|_| LIMIT),
            "memory_headroom_bytes" => int(|r| LIMIT - r.2),
            _ => new_null_array(&c.ty.arrow(), rows.len()),
        })
        .collect();
    RecordBatch::try_new(def.schema(), columns).unwrap()
}

async fn make(dir: &str, series: i64, points: i64) {
    let def = catalog().get("resources").unwrap();
    let levels = levels(series, points);
    let all: Vec<_> = levels
        .iter()
        .flat_map(|(id, of)| of.iter().enumerate().map(|(p, v)| (*id, p as i64, *v)))
        .collect();
    let log = Store::open(dir, true).unwrap().table(def);
    let file = log.write_file(&date_of(START_US), &[rows(def, &all)]).await.unwrap();
    let commit = Commit { add: vec![file], data_change: true, ..Commit::default() };
    log.commit(commit).await.unwrap();
}

/// All series once a tick, through the write-ahead log; from tick `points` on an evaluation after each.
async fn hot(dir: &str, series: i64, points: i64, pattern: &str) {
    let pattern = Pattern::parse("bench.sql", pattern).unwrap();
    let name = pattern.name.clone();
    let store = Store::open(dir, true).unwrap();
    let mut options = IngestOptions::new(store.clone(), Path::new(dir).join("wal"));
    (options.flush_bytes, options.max_hot_bytes) = (usize::MAX, usize::MAX);
    (options.flush_wal_bytes, options.flush_rows) = (u64::MAX, usize::MAX);
    options.flush_interval = Duration::from_secs(86_400);
    let ingest = Ingest::open(options).await.unwrap();
    let mut options = EngineOptions::new(store, PatternCatalog::builtin().unwrap());
    options.hot = Arc::new(ingest.clone());
    options.patterns.add(pattern);
    let engine = Engine::new(options).unwrap();
    let mut lines = std::io::stdin().lock().lines();
    let levels = levels(series, points + MORE_POINTS);
    for p in 0..points + MORE_POINTS {
        let at = START_US + p * CADENCE_US;
        let tick: Vec<_> = levels.iter().map(|(id, of)| (*id, p, of[p as usize])).collect();
        let def = catalog().get("resources").unwrap();
        let batch = TableBatch::try_new(def.clone(), rows(def, &tick)).unwrap();
        ingest.append_tick(vec![batch], at).await.unwrap();
        if p + 1 >= points {
            let Some(line) = lines.next() else { return };
            line.unwrap();
            settle().await;
            answer(engine.evaluate(&name, at)).await;
        }
    }
}

/// Waits until the tick is dealt with: small batches are merged in the background.
async fn settle() {
    loop {
        let before = cpu_ms();
        tokio::time::sleep(Duration::from_millis(10)).await;
        if cpu_ms() - before < 0.5 {
            return;
        }
    }
}

async fn answer(rows: impl Future<Output = Result<Vec<RecordBatch>, QueryError>>) {
    let before = cpu_ms();
    let rows: usize = rows.await.unwrap().iter().map(RecordBatch::num_rows).sum();
    println!("{:.2} {rows}", cpu_ms() - before);
}

fn cpu_ms() -> f64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    t.tv_sec as f64 * 1e3 + t.tv_nsec as f64 / 1e6
}
