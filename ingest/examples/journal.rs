//! What following the journal costs on this machine: `cargo run --release -p tapio-ingest --example journal -- [LINES]`.
//!
//! As root it starts a journald of its own (own mounts, own directory), and prints:
//! - how fast a backlog of LINES (default 100,000) entries of 50 units, with a rotation among them, is stored, and the CPU time per 1,000 lines of
//!   this process and of journalctl;
//! - how long single entries take from being sent to being in the table, 100 of them one by one;
//! - what a trickle of lines costs, each append with its own sync to disk;
//! - the peak resident memory of this process.
#![allow(clippy::unwrap_used)]

mod measure;
#[path = "../src/journald/standalone.rs"]
mod standalone;

use std::time::{Duration, Instant};

use measure::{cpu, print_times};
use standalone::{Journald, missing};
use tapio_ingest::{
    Ingest, IngestOptions,
    journald::{JournalOptions, RateLimit, run},
};
use tapio_store::{HotSource, Store};
use tokio::sync::oneshot;

fn total(who: libc::c_int) -> i64 {
    let (user, system) = cpu(who);
    user + system
}

fn peak_rss_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

/// Numbered entries of the cursor that is stored.
fn stored(ingest: &Ingest) -> u64 {
    let number = |c: String| u64::from_str_radix(c.split("i=").nth(1)?.split(';').next()?, 16).ok();
    ingest.cursor("journald").and_then(number).unwrap_or(0)
}

fn send(journald: &Journald, unit: usize, i: usize) {
    let message = format!("GET /api/users/{i} 200 in 12 ms from 10.0.0.1");
    journald.line(&format!("unit-{unit}"), &message).unwrap();
}

#[tokio::main]
async fn main() {
    if let Some(missing) = missing() {
        return eprintln!("needs {missing}");
    }
    let lines = std::env::args().nth(1).map_or(100_000, |a| a.parse().unwrap());
    let dir = tempfile::tempdir_in(".").unwrap();
    let path = dir.path().canonicalize().unwrap();
    let journald = Journald::start(&path, "ReadKMsg=no\\nRuntimeMaxUse=2G\\n", "").unwrap();
    for i in 0..lines {
        if i == lines / 2 {
            journald.rotate().unwrap();
        }
        send(&journald, i % 50, i);
    }
    let store = Store::open(path.join("store").to_str().unwrap(), true).unwrap();
    let ingest = Ingest::open(IngestOptions::new(store, path.join("wal"))).await.unwrap();
    let options = JournalOptions {
        directory: Some(journald.log()),
        // Everything is stored, so that everything is paid for.
        rate: RateLimit { per_second: u32::MAX, burst: u32::MAX },
        ..JournalOptions::default()
    };
    let before = total(libc::RUSAGE_SELF);
    let start = Instant::now();
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(run(ingest.clone(), options, async move {
        let _ = stopped.await;
    }));
    // journald's own first entries are numbered too.
    while stored(&ingest) < lines as u64 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let wall = start.elapsed().as_secs_f64();
    let own = total(libc::RUSAGE_SELF) - before;
    let each = |us: i64| us as f64 / lines as f64;
    println!(
        "a backlog of {lines} lines: {:.0} lines/s, this process {:.1} ms CPU per 1,000 lines",
        lines as f64 / wall,
        each(own)
    );

    let mut latency: Vec<Duration> = Vec::new();
    for i in 0..100 {
        // One by one, at odd times, so that the times between two batches are met evenly.
        tokio::time::sleep(Duration::from_millis(137)).await;
        let rows = |ingest: &Ingest| {
            ingest.hot("events").batches.iter().map(|b| b.batch.num_rows()).sum::<usize>()
        };
        let before = rows(&ingest);
        let sent = Instant::now();
        send(&journald, 0, i);
        while rows(&ingest) == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        latency.push(sent.elapsed());
    }
    print_times("sent to in the table", &mut latency);
    let before = total(libc::RUSAGE_SELF);
    let start = Instant::now();
    for i in 0..500 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        send(&journald, i % 50, i);
    }
    println!(
        "a trickle of {:.0} lines/s: {:.2} % of a core in this process, sending included",
        500.0 / start.elapsed().as_secs_f64(),
        (total(libc::RUSAGE_SELF) - before) as f64 / start.elapsed().as_micros() as f64 * 100.0
    );
    let children = total(libc::RUSAGE_CHILDREN);
    let _ = stop.send(());
    task.await.unwrap();
    let journalctl = total(libc::RUSAGE_CHILDREN) - children;
    println!("journalctl: {:.1} ms CPU per 1,000 lines", each(journalctl));
    println!("peak resident memory: {:.0} MiB with {} rows hot", peak_rss_mib(), ingest.size().0);
    ingest.shutdown().await.unwrap();
}
