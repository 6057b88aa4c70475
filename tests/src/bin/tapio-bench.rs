//! The Tapio side of `tests/peers/screen.py`: makes a store, then answers one question again and again.
//!
//! `tapio-bench make DIR SERIES POINTS` writes a store; `tapio-bench ask DIR SQL` runs the statement once for every line
//! on stdin and prints `CPU_MS ROWS`, CPU time of the whole process.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{io::BufRead, sync::Arc};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray, new_null_array};
use tapio_query::{Engine, EngineOptions};
use tapio_sql::{PatternCatalog, catalog, date_of};
use tapio_store::{Commit, Store};

/// 2026-11-23T00:00:00Z.
const START_US: i64 = 1_795_392_000_000_000;
const CADENCE_US: i64 = 10_000_000;
const LIMIT: i64 = 1 << 30;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["make", dir, series, points] => {
            make(dir, series.parse().unwrap(), points.parse().unwrap()).await;
        }
        ["ask", dir, sql] => ask(dir, sql).await,
        _ => panic!("usage: tapio-bench make DIR SERIES POINTS | ask DIR SQL"),
    }
}

/// One series in fifty rises so that it crosses its limit within 15 minutes, one in ten rises slower, the rest wobble.
async fn make(dir: &str, series: i64, points: i64) {
    let def = catalog().get("resources").unwrap();
    let rows = (series * points) as usize;
    let (mut ids, mut ts, mut used) = (Vec::new(), Vec::new(), Vec::new());
    for s in 0..series {
        let id = tapio_sql::series_id(&["bench", &s.to_string()]);
        let mut noise = id | 1;
        for p in 0..points {
            noise = noise.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            let wobble = (noise >> 44).rem_euclid(1 << 20);
            let seconds = p * CADENCE_US / 1_000_000;
            let rise = match s {
                s if s % 50 == 0 => (LIMIT / 2) / 1_000 * seconds,
                s if s % 10 == 0 => (LIMIT / 2) / 20_000 * seconds,
                _ => 0,
            };
            ids.push(id);
            ts.push(START_US + p * CADENCE_US);
            used.push(((LIMIT / 4 + rise + wobble) & !0xfff).min(LIMIT));
        }
    }
    let time = Arc::new(TimestampMicrosecondArray::from(ts).with_timezone("UTC")) as ArrayRef;
    let int = |v: Vec<i64>| Arc::new(Int64Array::from(v)) as ArrayRef;
    let headroom = int(used.iter().map(|u| LIMIT - u).collect());
    let used = int(used);
    let columns = def
        .columns
        .iter()
        .map(|c| match c.name.as_str() {
            "series_id" => int(ids.clone()),
            "ts" | "observed_at" => time.clone(),
            "memory_usage_bytes" | "memory_working_set_bytes" | "memory_level_bytes" => {
                used.clone()
            }
            "memory_limit_bytes" => int(vec![LIMIT; rows]),
            "memory_headroom_bytes" => headroom.clone(),
            _ => new_null_array(&c.ty.arrow(), rows),
        })
        .collect();
    let batch = RecordBatch::try_new(def.schema(), columns).unwrap();
    let log = Store::open(dir, true).unwrap().table(def);
    let file = log.write_file(&date_of(START_US), &[batch]).await.unwrap();
    let commit = Commit { add: vec![file], data_change: true, ..Commit::default() };
    log.commit(commit).await.unwrap();
}

async fn ask(dir: &str, sql: &str) {
    let store = Store::open(dir, false).unwrap();
    let patterns = PatternCatalog::builtin().unwrap();
    let engine = Engine::new(EngineOptions::new(store, patterns)).unwrap();
    for line in std::io::stdin().lock().lines() {
        line.unwrap();
        let before = cpu_ms();
        let (_, batches) = engine.sql(sql, Some(i64::MAX)).await.unwrap();
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        println!("{:.2} {rows}", cpu_ms() - before);
    }
}

fn cpu_ms() -> f64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    t.tv_sec as f64 * 1e3 + t.tv_nsec as f64 / 1e6
}
