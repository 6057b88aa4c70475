//! What the kernel programs cost: the same work with and without them, interleaved, as CPU time of the whole process.
//!
//! Run as root on a quiet machine, best on one CPU (`taskset -c 1`), where no scheduler puts both ends of a connection here
//! or there: `cargo run --release -p tapio-ebpf --example cost [TRIALS [WORDS]]`, with words only what has them in its name.
//! Prints medians and the spread (first to third quartile) of the differences of neighbouring trials. Work that another
//! process does is not in it; on the loopback the kernel's work for both ends is.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    hint::black_box,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use tapio_ebpf::{LoadOptions, Programs};

const PAGE: usize = 4096;

fn nanoseconds(clock: ClockId) -> f64 {
    let t = clock_gettime(clock);
    t.tv_sec as f64 * 1e9 + t.tv_nsec as f64
}

/// CPU time per unit of work, nanoseconds.
fn timed(units: usize, work: impl FnOnce()) -> f64 {
    let began = nanoseconds(ClockId::ProcessCPUTime);
    work();
    (nanoseconds(ClockId::ProcessCPUTime) - began) / units as f64
}

/// Touches fresh pages and nothing else.
fn page_faults() -> f64 {
    const PAGES: usize = 32_768;
    timed(PAGES, || {
        let mut memory = vec![0_u8; PAGES * PAGE];
        for page in memory.chunks_mut(PAGE) {
            page[0] = 1;
        }
        black_box(&memory);
    })
}

/// Allocates and fills blocks of 1 KiB to 512 KiB, of which 256 live.
fn allocations() -> f64 {
    const COUNT: usize = 20_000;
    let mut seed = 12_345_u64;
    let mut live: Vec<Vec<u8>> = vec![Vec::new(); 256];
    timed(COUNT, || {
        for _ in 0..COUNT {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            live[(seed >> 20) as usize % 256] = vec![1; 1024 << (seed % 10)];
        }
        black_box(&live);
    })
}

/// The same work in a process of its own: what loading leaves behind in this one's allocator is not in it.
fn in_child(work: &str) -> f64 {
    let exe = std::env::current_exe().unwrap();
    let out = std::process::Command::new(exe).args([WORK, work]).output().unwrap();
    String::from_utf8(out.stdout).unwrap().trim().parse().unwrap()
}

const WORK: &str = "--work";

const REQUEST: &[u8] =
    b"GET /api/v1/items/12345?page=2 HTTP/1.1\r\nHost: shop.test\r\nUser-Agent: cost\r\n\
    Accept: application/json\r\nAccept-Encoding: gzip\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: cost\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\n\
    0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789";

/// Answers on every connection until it is closed.
fn serve(listener: TcpListener, connections: usize) {
    for _ in 0..connections {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            let mut got = 0;
            while let Ok(n @ 1..) = stream.read(&mut buffer) {
                got += n;
                while got >= REQUEST.len() {
                    got -= REQUEST.len();
                    stream.write_all(RESPONSE).unwrap();
                }
            }
        });
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn transaction(stream: &mut TcpStream, request: &[u8]) {
    let mut answer = [0; RESPONSE.len()];
    stream.write_all(request).unwrap();
    stream.read_exact(&mut answer).unwrap();
}

/// Requests and answers on one connection that is kept alive; both ends are in this process.
fn exchanges(request: &[u8]) -> f64 {
    exchanges_with(TcpListener::bind("127.0.0.1:0").unwrap(), request)
}

fn exchanges_with(listener: TcpListener, request: &[u8]) -> f64 {
    const COUNT: usize = 20_000;
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(|| serve(listener, 1));
    let mut stream = connect(address);
    server.join().unwrap();
    timed(COUNT, || (0..COUNT).for_each(|_| transaction(&mut stream, request)))
}

/// HTTP.
fn transactions() -> f64 {
    exchanges(REQUEST)
}

/// As many bytes of something else.
fn other_exchanges() -> f64 {
    exchanges(&vec![0x16; REQUEST.len()])
}

/// A unified cgroup that only the server's sockets are in: a socket stays in the cgroup that its process, or the process
/// that listened, was in when it was made.
struct ServerCgroup(PathBuf);

impl ServerCgroup {
    fn create() -> Self {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let line = mounts.lines().find(|l| l.split(' ').nth(2) == Some("cgroup2")).unwrap();
        let root = PathBuf::from(line.split(' ').nth(1).unwrap());
        let dir = root.join(format!("tapio-cost-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    fn transactions(&self) -> f64 {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own.lines().find_map(|l| l.strip_prefix("0::/")).unwrap().to_owned();
        let pid = std::process::id().to_string();
        std::fs::write(self.0.join("cgroup.procs"), &pid).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        std::fs::write(self.0.parent().unwrap().join(own).join("cgroup.procs"), &pid).unwrap();
        exchanges_with(listener, REQUEST)
    }
}

impl Drop for ServerCgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

fn load(options: &LoadOptions) -> Programs {
    let (programs, missing) = Programs::load(options);
    assert!(missing.is_empty(), "{missing:#?}");
    programs
}

/// Whether the words on the command line are part of this name.
fn asked(what: &str) -> bool {
    std::env::args().nth(2).is_none_or(|words| what.contains(&words))
}

fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|q| values[(values.len() - 1) * q / 4])
}

fn compare(what: &str, options: &LoadOptions, trials: usize, work: impl Fn() -> f64) {
    if !asked(what) {
        return;
    }
    work();
    let (mut off, mut on, mut differences) = (Vec::new(), Vec::new(), Vec::new());
    for trial in 0..trials {
        // Which of the two comes first alternates.
        let with = || {
            let programs = load(options);
            let ns = work();
            drop(programs);
            ns
        };
        let (a, b) = if trial % 2 == 0 {
            let a = work();
            (a, with())
        } else {
            let b = with();
            (work(), b)
        };
        off.push(a);
        on.push(b);
        differences.push(b - a);
    }
    let ([_, off, _], [_, on, _], [low, median, high]) =
        (quartiles(off), quartiles(on), quartiles(differences));
    println!(
        "{what:<44} off {off:9.1} ns  on {on:9.1} ns  difference {median:+8.1} ns ({:+.1} %), quartiles {low:+.1} to {high:+.1}",
        median / off * 100.0
    );
}

/// What the reading thread needs: everything loaded, 200 services with five routes each, at a fixed rate.
fn user_space(rate: f64, seconds: u64) {
    const SERVICES: usize = 200;
    let listeners: Vec<_> =
        (0..SERVICES).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap()).collect();
    let mut programs = load(&LoadOptions::default());
    let servers: Vec<_> = listeners.into_iter().map(|l| thread::spawn(|| serve(l, 1))).collect();
    let mut streams: Vec<_> = addresses.iter().map(|a| connect(*a)).collect();
    servers.into_iter().for_each(|s| s.join().unwrap());

    let stop = Arc::new(AtomicBool::new(false));
    let reader = {
        let stop = stop.clone();
        thread::spawn(move || {
            let (mut life, mut victims, mut memory, mut http) = (vec![], vec![], vec![], vec![]);
            let (mut counted, mut entries) = (0, 0);
            let began = nanoseconds(ClockId::ThreadCPUTime);
            let mut tick = 0;
            let mut finish = false;
            while !finish {
                finish = stop.load(Ordering::Relaxed);
                programs.memory.as_mut().unwrap().poll_life(&mut life);
                programs.oom.as_mut().unwrap().poll(&mut victims);
                if tick % 20 == 0 || finish {
                    memory.clear();
                    http.clear();
                    programs.memory.as_mut().unwrap().read(&mut memory).unwrap();
                    programs.http.as_mut().unwrap().drain(&mut http).unwrap();
                    let ours = |port| addresses.iter().any(|a| a.port() == port);
                    counted += http
                        .iter()
                        .filter(|t| t.side == tapio_ebpf::Side::Server && ours(t.server.port()))
                        .map(|t| t.count)
                        .sum::<u64>();
                    entries = entries.max(http.len());
                }
                life.clear();
                tick += 1;
                thread::sleep(Duration::from_millis(50));
            }
            let losses = programs.losses().unwrap();
            let lost: u64 = losses.iter().flat_map(|(_, l)| l).map(|l| l.count).sum();
            (nanoseconds(ClockId::ThreadCPUTime) - began, counted, entries, memory.len(), lost)
        })
    };
    let began = Instant::now();
    let request = String::from_utf8(REQUEST.to_vec()).unwrap();
    let routes = ["items", "users", "carts", "rates", "pages"]
        .map(|route| request.replace("items", route).into_bytes());
    let mut sent = 0_u64;
    while began.elapsed() < Duration::from_secs(seconds) {
        if rate.is_finite() {
            let due = (began.elapsed().as_secs_f64() * rate) as u64;
            if sent >= due {
                thread::sleep(Duration::from_micros(500));
                continue;
            }
        }
        let n = sent as usize;
        transaction(&mut streams[n % SERVICES], &routes[n / SERVICES % routes.len()]);
        sent += 1;
    }
    let wall = began.elapsed();
    stop.store(true, Ordering::Relaxed);
    let (cpu, counted, entries, processes, lost) = reader.join().unwrap();
    println!(
        "reading thread at {:.0} requests/s, {entries} entries, {processes} processes: {:.2} % of a core; \
         sent {sent}, counted {counted}, lost records {lost}; resident memory of this process {} MiB",
        sent as f64 / wall.as_secs_f64(),
        cpu / wall.as_nanos() as f64 * 100.0,
        resident() >> 20
    );
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn main() {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some(WORK) {
        let work = if args.next().as_deref() == Some("faults") { page_faults } else { allocations };
        work();
        println!("{}", work());
        return;
    }
    let trials = std::env::args().nth(1).map_or(21, |t| t.parse().unwrap());
    let none = LoadOptions::none();
    let memory = LoadOptions { memory: true, ..none.clone() };
    let http = LoadOptions { http: true, ..none.clone() };
    let all = LoadOptions::default();
    let began = Instant::now();
    let cpu_began = nanoseconds(ClockId::ProcessCPUTime);
    drop(load(&all));
    println!(
        "loading everything and taking it away: {:.2} s, of which {:.2} s CPU",
        began.elapsed().as_secs_f64(),
        (nanoseconds(ClockId::ProcessCPUTime) - cpu_began) / 1e9
    );
    println!("{trials} pairs of trials each");
    let (faults, allocations) = (|| in_child("faults"), || in_child("allocations"));
    compare("page fault, nothing loaded (noise)", &none, trials, faults);
    compare("page fault, memory", &memory, trials, faults);
    compare("allocation, nothing loaded (noise)", &none, trials, allocations);
    compare("allocation, memory", &memory, trials, allocations);
    compare("HTTP transaction, nothing loaded (noise)", &none, trials, transactions);
    compare("HTTP transaction, http, both ends watched", &http, trials, transactions);
    let cgroup = ServerCgroup::create();
    let server = LoadOptions { unified_cgroup: Some(cgroup.0.clone()), ..http.clone() };
    compare("HTTP transaction, http, server watched", &server, trials, || cgroup.transactions());
    drop(cgroup);
    compare("HTTP transaction, everything, both ends", &all, trials, transactions);
    compare("exchange that is not HTTP, http", &http, trials, other_exchanges);
    let net = LoadOptions { net: true, ..none.clone() };
    compare("exchange that is not HTTP, net", &net, trials, other_exchanges);
    let dns = LoadOptions { dns: true, ..none.clone() };
    compare("exchange that is not HTTP, dns", &dns, trials, other_exchanges);
    let cpu = LoadOptions { cpu: true, ..none.clone() };
    compare("exchange (a few context switches), cpu", &cpu, trials, other_exchanges);
    compare("exchange that is not HTTP, everything", &all, trials, other_exchanges);
    if asked("reading thread") {
        user_space(5000.0, 10);
        user_space(f64::INFINITY, 10);
    }
}
