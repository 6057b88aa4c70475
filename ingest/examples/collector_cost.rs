//! What collecting and storing cost on this machine: `cargo run -p tapio-ingest --example collector_cost -- [CGROUPS] [TICKS]`.
//!
//! As root with a v1 memory controller it makes CGROUPS (default 200) cgroups in every controller, each with a process,
//! ticks once a second and prints the CPU time of a tick; then it times appends to the acknowledgement on the disk under
//! the current directory, one at a time and sixteen at once.
#![allow(clippy::unwrap_used)]

#[path = "shared/machine.rs"]
mod machine;
mod measure;

use std::{
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use machine::Cgroups;
use measure::{cpu, print_times};

use tapio_ingest::{Clock, Collector, CollectorOptions, Ingest, IngestOptions, SystemClock};
use tapio_store::{RowSink, Store};

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1).map(|a| a.parse::<usize>().unwrap());
    let (cgroups, ticks) = (args.next().unwrap_or(200), args.next().unwrap_or(20));
    let made = Cgroups::make(cgroups, |_| Command::new("sleep").arg("600").spawn().unwrap());
    let mut collector = Collector::new(CollectorOptions::default()).unwrap();
    let first = cpu(libc::RUSAGE_SELF);
    collector.tick(SystemClock.now_us());
    let after_first = cpu(libc::RUSAGE_SELF);
    println!(
        "first tick (opening the files of {} cgroups): {} us CPU",
        collector.cgroups(),
        after_first.0 + after_first.1 - first.0 - first.1
    );
    let dir = tempfile::tempdir_in(".").unwrap();
    let store = Store::open(dir.path().join("store").to_str().unwrap(), true).unwrap();
    let ingest = Ingest::open(IngestOptions::new(store, dir.path().join("wal"))).await.unwrap();
    let (mut reading, mut storing, mut acks) = ((0, 0), 0, Vec::new());
    let mut last = None;
    for _ in 0..ticks {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = cpu(libc::RUSAGE_SELF);
        let tick = collector.tick(SystemClock.now_us());
        let read = cpu(libc::RUSAGE_SELF);
        let start = Instant::now();
        ingest.append_tick(tick.batches.clone(), tick.through_us).await.unwrap();
        acks.push(start.elapsed());
        let done = cpu(libc::RUSAGE_SELF);
        reading = (reading.0 + read.0 - before.0, reading.1 + read.1 - before.1);
        storing += done.0 + done.1 - read.0 - read.1;
        last = Some(tick);
    }
    let n = ticks as i64;
    println!(
        "a tick: {} us CPU reading ({} user, {} system), {} us CPU storing; {:.2} % of a core at 1 Hz",
        (reading.0 + reading.1) / n,
        reading.0 / n,
        reading.1 / n,
        storing / n,
        (reading.0 + reading.1) as f64 / n as f64 / 1e4
    );
    print_times("append of a tick to its acknowledgement", &mut acks);
    drop(made);

    let batches = Arc::new(last.unwrap().batches);
    let mut alone = Vec::new();
    for _ in 0..200 {
        let start = Instant::now();
        ingest.append(batches.to_vec()).await.unwrap();
        alone.push(start.elapsed());
    }
    print_times("the same, without pause", &mut alone);
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let (ingest, batches) = (ingest.clone(), batches.clone());
            tokio::spawn(async move {
                let mut times = Vec::new();
                for _ in 0..25 {
                    let start = Instant::now();
                    ingest.append(batches.to_vec()).await.unwrap();
                    times.push(start.elapsed());
                }
                times
            })
        })
        .collect();
    let start = Instant::now();
    let mut crowd = Vec::new();
    for t in tasks {
        crowd.extend(t.await.unwrap());
    }
    println!(
        "sixteen writers: {:.0} appends/s",
        crowd.len() as f64 / start.elapsed().as_secs_f64()
    );
    print_times("sixteen writers, append to acknowledgement", &mut crowd);
    let start = Instant::now();
    let report = ingest.shutdown().await.unwrap();
    println!("flush of {} rows: {:?}", report.rows, start.elapsed());
}
