//! What reading the kernel programs costs: `cargo run --release -p tapio-ingest --example kernel_cost -- [SECONDS] [RATE]`.
//!
//! As root it makes 200 cgroups with an HTTP server in each and sends RATE (default 5,000) requests a second on connections
//! that are kept alive, five routes to each server. For SECONDS (default 15) at a time, in turns, the collector reads files
//! only, and files and kernel programs; the CPU time of this process is printed (servers and generator are others), how
//! many transactions became rows, and the resident memory. Then connects are refused at odd times, to see how long it takes
//! until queries see the event.
#![allow(clippy::unwrap_used)]

#[path = "shared/machine.rs"]
mod machine;
mod measure;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use arrow::{array::AsArray, datatypes::Int64Type};
use machine::Cgroups;
use measure::{cpu, print_times};
use tapio_ingest::{
    Clock, Collector, CollectorOptions, Health, Ingest, IngestOptions, KernelOptions, SystemClock,
    Tick, run,
};
use tapio_store::{HotSource, Store};

const SERVERS: usize = 200;
const ROUTES: [&str; 5] = ["items", "users", "carts", "rates", "pages"];
const BODY: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\n";

fn own(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(role).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// A server: waits to be put into its cgroup, says its port, answers on every connection.
fn serve() {
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    let answer = format!("{BODY}{}", "x".repeat(100));
    for stream in listener.incoming() {
        let (mut stream, answer) = (stream.unwrap(), answer.clone());
        stream.set_nodelay(true).unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            let mut seen = 0_u32;
            while let Ok(n @ 1..) = stream.read(&mut buffer) {
                // A request ends with two line ends and has no body.
                for b in &buffer[..n] {
                    seen = seen << 8 | u32::from(*b);
                    if seen == 0x0d0a_0d0a {
                        stream.write_all(answer.as_bytes()).unwrap();
                    }
                }
            }
        });
    }
}

/// The generator: one request after the other on all connections in turn, at a steady rate.
fn drive(rate: f64, seconds: f64, ports: &[u16]) {
    let mut streams: Vec<TcpStream> = ports
        .iter()
        .map(|p| {
            let stream = TcpStream::connect(("127.0.0.1", *p)).unwrap();
            stream.set_nodelay(true).unwrap();
            stream
        })
        .collect();
    let mut answer = vec![0; BODY.len() + 100];
    let began = Instant::now();
    let mut sent = 0_u32;
    while began.elapsed().as_secs_f64() < seconds {
        let due = Duration::from_secs_f64(f64::from(sent) / rate);
        thread::sleep(due.saturating_sub(began.elapsed()));
        // Ten at a time, so that the generator sleeps and does not spin.
        for _ in 0..10 {
            let i = sent as usize;
            let route = ROUTES[i / streams.len() % ROUTES.len()];
            let request = format!("GET /api/v1/{route}/{i} HTTP/1.1\r\nHost: shop.test\r\n\r\n");
            let server = i % streams.len();
            streams[server].write_all(request.as_bytes()).unwrap();
            streams[server].read_exact(&mut answer).unwrap();
            sent += 1;
        }
    }
    println!("{sent} {}", began.elapsed().as_secs_f64());
}

/// Resident memory of this process now, MiB.
fn rss() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

/// Transactions of the servers, as their ends saw them.
fn transactions(tick: &Tick, ports: &[u16]) -> i64 {
    let http = tick.batches.iter().filter(|b| b.def().name == "http").map(|b| b.batch());
    http.map(|b| {
        let ints = |name: &str| b.column_by_name(name).unwrap().as_primitive::<Int64Type>().clone();
        let (count, port) = (ints("count"), ints("server_port"));
        let sides = b.column_by_name("side").unwrap().as_any_dictionary();
        let names = sides.values().as_string::<i32>();
        let keys = sides.normalized_keys();
        (0..b.num_rows())
            .filter(|i| {
                names.value(keys[*i]) == "server" && ports.contains(&(port.value(*i) as u16))
            })
            .map(|i| count.value(i))
            .sum::<i64>()
    })
    .sum()
}

struct Bench {
    ingest: Option<Ingest>,
    ports: Vec<u16>,
    seconds: u32,
    rate: f64,
}

impl Bench {
    fn collector(&self, kernel: bool) -> (Collector, Arc<Health>) {
        let health = Arc::new(Health::default());
        let options = CollectorOptions {
            kernel: kernel.then(KernelOptions::default),
            health: health.clone(),
            ..CollectorOptions::default()
        };
        (Collector::new(options).unwrap(), health)
    }

    fn generator(&self) -> Child {
        let ports = self.ports.iter().map(u16::to_string);
        let mut command = own("drive");
        command.arg(self.rate.to_string()).arg(self.seconds.to_string()).args(ports);
        command.spawn().unwrap()
    }

    /// One turn: µs of CPU per second of reading, and all of this process.
    async fn turn(&self, kernel: bool) -> (f64, f64) {
        let (mut collector, health) = self.collector(kernel);
        collector.tick(SystemClock.now_us());
        let mut generator = self.generator();
        let (mut reading, mut rows, mut seen, mut ticks) = (0, 0, 0, 0);
        let (began, before) = (Instant::now(), cpu(libc::RUSAGE_SELF));
        let mut next = tokio::time::interval(Duration::from_secs(1));
        next.tick().await;
        let mut ended = false;
        while !ended {
            next.tick().await;
            ended = generator.try_wait().unwrap().is_some();
            let start = cpu(libc::RUSAGE_SELF);
            let tick = collector.tick(SystemClock.now_us());
            let read = cpu(libc::RUSAGE_SELF);
            reading += read.0 + read.1 - start.0 - start.1;
            rows += tick.batches.iter().map(|b| b.num_rows()).sum::<usize>();
            seen += transactions(&tick, &self.ports);
            ticks += 1;
            if let Some(ingest) = &self.ingest {
                ingest.append_tick(tick.batches, tick.through_us).await.unwrap();
            }
        }
        let (wall, after) = (began.elapsed().as_secs_f64(), cpu(libc::RUSAGE_SELF));
        let all = (after.0 + after.1 - before.0 - before.1) as f64 / wall;
        let reading = reading as f64 / wall;
        generator.wait().unwrap();
        let mut said = String::new();
        BufReader::new(generator.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let (sent, took) = said.trim().split_once(' ').unwrap();
        let rate = sent.parse::<f64>().unwrap() / took.parse::<f64>().unwrap();
        println!(
            "{}: {rate:.0} requests/s; ticks {:.2} % of a core, whole process {:.2} %; {} rows a tick; RSS {:.1} MiB",
            if kernel { "files and kernel" } else { "files only      " },
            reading / 1e4,
            all / 1e4,
            rows / ticks,
            rss()
        );
        if kernel {
            println!("  {sent} transactions sent, {seen} in rows");
            for e in
                health.entries().iter().filter(|e| e.value > 0 && e.component == "collector.ebpf")
            {
                println!("  {}: {} ({})", e.metric, e.value, e.detail);
            }
        }
        (reading, all)
    }

    /// From a refused connect until a query can see its event, once in a while at odd times.
    async fn latency(&self, ingest: &Ingest) {
        let (collector, _) = self.collector(true);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let running = tokio::spawn(run(ingest.clone(), collector, shutdown));
        let mut generator = self.generator();
        // The first tick makes the cgroups known.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let mut delays = Vec::new();
        for i in 0..self.seconds {
            tokio::time::sleep(Duration::from_millis(u64::from(300 + 97 * (i % 11)))).await;
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let before = own_failures(ingest);
            let refused = Instant::now();
            let _ = TcpStream::connect(("127.0.0.1", port));
            while own_failures(ingest) == before && refused.elapsed() < Duration::from_secs(10) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            delays.push(refused.elapsed());
        }
        print_times("from a refused connect to an event that queries see", &mut delays);
        let _ = stop.send(());
        running.await.unwrap().unwrap();
        generator.wait().unwrap();
    }
}

/// Failed connects of this process among the hot rows.
fn own_failures(ingest: &Ingest) -> usize {
    let me = i64::from(std::process::id());
    let batches = ingest.hot("events").batches;
    let failed = batches.iter().map(|b| {
        let column = |name: &str| b.batch.column_by_name(name).unwrap().clone();
        let (kinds, pids) = (column("kind"), column("pid"));
        let (kinds, pids) = (kinds.as_any_dictionary(), pids.as_primitive::<Int64Type>());
        let (names, keys) = (kinds.values().as_string::<i32>(), kinds.normalized_keys());
        let own = |i: &usize| pids.value(*i) == me && names.value(keys[*i]) == "net.connect_failed";
        (0..b.batch.num_rows()).filter(own).count()
    });
    failed.sum()
}

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("serve") => return serve(),
        Some("drive") => {
            let ports: Vec<u16> = args[3..].iter().map(|p| p.parse().unwrap()).collect();
            return drive(args[1].parse().unwrap(), args[2].parse().unwrap(), &ports);
        }
        _ => {}
    }
    let mut numbers = args.iter().map(|a| a.parse::<u32>().unwrap());
    let (seconds, rate) = (numbers.next().unwrap_or(15), numbers.next().unwrap_or(5000));
    let mut made = Cgroups::make(SERVERS, |_| own("serve").spawn().unwrap());
    let ports = made.children.iter_mut().map(|c| {
        c.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        let mut line = String::new();
        BufReader::new(c.stdout.take().unwrap()).read_line(&mut line).unwrap();
        line.trim().parse().unwrap()
    });
    let ports = ports.collect();
    let mut bench = Bench { ingest: None, ports, seconds, rate: f64::from(rate) };
    println!("without storing:");
    let mut differences = Vec::new();
    for _ in 0..3 {
        let (off, on) = (bench.turn(false).await, bench.turn(true).await);
        differences.push((on.1 - off.1) / 1e4);
    }
    println!("kernel programs cost {differences:.2?} % of a core");
    let dir = tempfile::tempdir_in(".").unwrap();
    let store = Store::open(dir.path().join("store").to_str().unwrap(), true).unwrap();
    let ingest =
        Ingest::open(IngestOptions::new(store.clone(), dir.path().join("wal"))).await.unwrap();
    bench.ingest = Some(ingest.clone());
    println!("with storing:");
    bench.turn(true).await;
    bench.latency(&ingest).await;
    let report = ingest.shutdown().await.unwrap();
    println!("flushed {} rows in {} files", report.rows, report.files);
    for def in tapio_sql::catalog().iter() {
        let snapshot = store.table(def).snapshot().await.unwrap();
        let bytes: u64 = snapshot.files.values().map(|f| f.size).sum();
        let rows = snapshot.rows();
        if rows == 0 {
            continue;
        }
        println!("  {}: {rows} rows, {:.1} bytes each", def.name, bytes as f64 / rows as f64);
    }
}
