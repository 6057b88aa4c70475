//! Processes, waiting for a CPU, disks, DNS.

use std::net::UdpSocket;

use serde_json::Value;
use tapio_ingest::KernelOptions;

use crate::{
    lab::{Cgroup, root},
    processes::{Python, first_line, in_cgroups},
    rows::{Watched, attribute, int, text},
};

/// Two thousand processes that last a moment, one that stays and one that crashes.
#[test]
fn a_flood_of_processes_does_not_hide_the_one_that_crashes() {
    if !root("a_flood_of_processes_does_not_hide_the_one_that_crashes") {
        return;
    }
    let cgroup = Cgroup::memory("flood");
    let mut w = Watched::start(KernelOptions { memory: true, ..KernelOptions::none() });
    let script = "import os, signal
def run(end):
    pid = os.fork()
    if pid == 0: end()
    os.waitpid(pid, 0)
for _ in range(2000): run(lambda: os._exit(0))
run(lambda: os.kill(os.getpid(), signal.SIGSEGV))";
    let child = Python::run(&[&cgroup], script);
    let crashes = |rows: &[Value]| {
        rows.iter().filter(|r| attribute(r, "signal") == "11").cloned().collect::<Vec<_>>()
    };
    let pid = child.pid();
    let begun = |rows: &[Value]| {
        rows.iter().any(|r| text(r, "kind") == "process.exec" && int(r, "pid") == pid)
    };
    w.until("exec and crash", "events", |rows| begun(rows) && !crashes(rows).is_empty());
    let series = w.series(&cgroup);
    let here = |w: &Watched| {
        w.rows("events").into_iter().filter(|r| int(r, "series_id") == series).collect::<Vec<_>>()
    };
    let events = here(&w);
    let crash = &crashes(&events)[0];
    assert_eq!((text(crash, "kind"), text(crash, "severity")), ("process.exit", "warning"));
    assert_eq!(attribute(crash, "parent_pid"), pid.to_string());
    // Those that began before a tick and ended after it may be told.
    assert!(events.len() < 100, "{} events of 2,000 short lives", events.len());
    let short = w.health.value("collector.ebpf", "processes_short_lived");
    assert!(short >= 1900, "{short} short lives were counted");
    child.end();
    w.until("its end", "events", |rows| {
        rows.iter().any(|r| text(r, "kind") == "process.exit" && int(r, "pid") == pid)
    });
    let events = here(&w);
    let of_pid = |r: &&Value| text(r, "kind") == "process.exit" && int(r, "pid") == pid;
    let end = events.iter().find(of_pid).unwrap();
    assert_eq!((attribute(end, "exit_code"), text(end, "severity")), ("0", "debug"));
}

/// Its beginning belongs to the cgroup that it began in, its end to the one that it ended in.
#[test]
fn a_process_that_moves_is_told_where_it_was() {
    if !root("a_process_that_moves_is_told_where_it_was") {
        return;
    }
    let (first, second) = (Cgroup::memory("first"), Cgroup::memory("second"));
    let mut w = Watched::start(KernelOptions { memory: true, ..KernelOptions::none() });
    let child = Python::run(&[&first], "pass");
    let pid = child.pid();
    let of = |kind: &'static str| move |r: &&Value| text(r, "kind") == kind && int(r, "pid") == pid;
    let python = |r: &Value| of("process.exec")(&r) && text(r, "comm").starts_with("python");
    let begun = w.until("its beginning", "events", |e| e.iter().any(python));
    std::fs::write(second.procs(), pid.to_string()).unwrap();
    child.end();
    let events = w.until("its end", "events", |e| e.iter().any(|r| of("process.exit")(&r)));
    // The shell that put it there was executed elsewhere.
    let series = |rows: &[Value], kind| int(rows.iter().rfind(of(kind)).unwrap(), "series_id");
    assert_eq!(series(&begun, "process.exec"), w.series(&first));
    assert_eq!(series(&events, "process.exit"), w.series(&second));
}

/// What was resident for a moment only, which no reading of /proc can show afterwards.
#[test]
fn the_peak_of_a_process_is_a_column() {
    if !root("the_peak_of_a_process_is_a_column") {
        return;
    }
    const PEAK: i64 = 200 << 20;
    let cgroup = Cgroup::memory("peak");
    let mut w = Watched::start(KernelOptions { memory: true, ..KernelOptions::none() });
    let script = "import mmap
def spike():
    m = mmap.mmap(-1, 200 << 20)
    for i in range(0, 200 << 20, 4096): m[i] = 1
    m.close()
spike()
a = bytearray(32 << 20)";
    let child = Python::run(&[&cgroup], script);
    let pid = child.pid();
    w.until("the process", "series", |rows| rows.iter().any(|r| int(r, "pid") == pid));
    let labels = w.rows("series");
    let series = int(labels.iter().find(|r| int(r, "pid") == pid).unwrap(), "series_id");
    w.tick();
    let rows = w.rows("resources");
    let row = rows.iter().rfind(|r| int(r, "series_id") == series).unwrap();
    let (peak, now) = (int(row, "memory_peak_bytes"), int(row, "memory_usage_bytes"));
    assert!((PEAK..PEAK + (64 << 20)).contains(&peak), "{row}");
    assert!(now < PEAK / 2, "{row}");
}

/// Three processes want one CPU; the cgroup above them has the sum.
#[test]
fn waiting_for_a_cpu_is_in_resources() {
    if !root("waiting_for_a_cpu_is_in_resources") {
        return;
    }
    let top = Cgroup::memory("top");
    let busy = top.child("busy");
    let mut w = Watched::start(KernelOptions { cpu: true, ..KernelOptions::none() });
    let spin = "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done";
    let run = format!("for n in 1 2 3; do taskset -c 0 sh -c '{spin}' & done; wait");
    assert!(in_cgroups(&[&busy], &run).status().unwrap().success());
    w.tick();
    let labels = w.rows("series");
    let of = |path: String| {
        let label =
            labels.iter().find(|r| text(r, "cgroup") == path && text(r, "kind") == "cgroup");
        let series = int(label.unwrap(), "series_id");
        let rows = w.rows("resources");
        let row = rows.into_iter().rfind(|r| int(r, "series_id") == series).unwrap();
        (int(&row, "cpu_wait_us"), int(&row, "cpu_waits"), int(&row, "cpu_usage_us"))
    };
    let (below, above) = (of(format!("/{}/busy", top.name())), of(format!("/{}", top.name())));
    // Each of three waits while the two others run: together as long as twice what they ran, if nobody else is there.
    assert!(below.0 > 300_000 && below.1 > 10, "{below:?}");
    assert_eq!((below.0, below.1), (above.0, above.1), "nothing is in the upper one itself");
    let rows = w.rows("resources");
    assert!(rows.iter().any(|r| int(r, "cpu_wait_us") > below.0), "the node has all of it");
}

#[test]
fn writes_are_told_for_the_memory_cgroup_of_who_wrote() {
    const TEST: &str = "writes_are_told_for_the_memory_cgroup_of_who_wrote";
    if !root(TEST) {
        return;
    }
    let (memory, io) = (Cgroup::memory("disk"), Cgroup::io("disk"));
    let file = tempfile::Builder::new().prefix("tapio-block").tempfile_in("/var/tmp").unwrap();
    let mut w = Watched::start(KernelOptions { block: true, ..KernelOptions::none() });
    let path = file.path().display();
    let dd = "dd if=/dev/zero bs=64k count=200 oflag=direct conv=notrunc";
    let cgroups: &[&Cgroup] = &[&memory, &io];
    // It stays, so that it can be seen in both cgroups.
    let run = format!("{dd} of={path} 2>/dev/null && echo done && read x");
    let mut child = in_cgroups(cgroups, &run).spawn().unwrap();
    if first_line(&mut child) != "done" {
        child.wait().unwrap();
        eprintln!("SKIPPED {TEST}: {path} cannot be written directly");
        return;
    }
    w.tick();
    let series = w.series(&memory);
    let here = |r: &Value| text(r, "operation") == "write" && int(r, "series_id") == series;
    let bytes =
        |rows: &[Value]| -> i64 { rows.iter().filter(|r| here(r)).map(|r| int(r, "bytes")).sum() };
    // What the kernel left out because the program was running on that CPU is counted.
    let rows = w.until("the writes", "block", |rows| bytes(rows) >= 190 * 65_536);
    assert!(bytes(&rows) <= 200 * 65_536, "{}", bytes(&rows));
    let row = rows.iter().find(|r| here(r)).unwrap();
    assert!(std::fs::exists(format!("/sys/block/{}", text(row, "disk"))).unwrap(), "{row}");
    assert_eq!(row["latency_buckets"].as_array().unwrap().len(), 42);
    drop(child.stdin.take());
    child.wait().unwrap();
}

/// A server that answers NXDOMAIN to everything.
#[test]
fn a_name_that_does_not_exist_is_a_row_and_one_event() {
    if !root("a_name_that_does_not_exist_is_a_row_and_one_event") {
        return;
    }
    let Ok(server) = UdpSocket::bind("127.77.9.1:53") else {
        eprintln!(
            "SKIPPED a_name_that_does_not_exist_is_a_row_and_one_event: port 53 is taken everywhere"
        );
        return;
    };
    let cgroup = Cgroup::memory("dns");
    let mut w = Watched::start(KernelOptions { dns: true, ..KernelOptions::none() });
    let script = "import socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(10)
for i in range(20):
    q = struct.pack('>HHHHHH', i, 0x100, 1, 0, 0, 0) + b'\\x04gone\\x04test\\0' + struct.pack('>HH', 1, 1)
    s.sendto(q, ('127.77.9.1', 53)); s.recv(512)";
    let mut child = Python::start(&[&cgroup], script);
    for _ in 0..20 {
        let mut packet = [0; 512];
        let (n, from) = server.recv_from(&mut packet).unwrap();
        (packet[2], packet[3]) = (0x81, 0x83);
        server.send_to(&packet[..n], from).unwrap();
    }
    child.done();
    let of = |rows: &[Value]| -> Vec<Value> {
        let here = |r: &&Value| text(r, "server_address") == "127.77.9.1";
        rows.iter().filter(here).cloned().collect()
    };
    let sum = |rows: &[Value]| -> i64 { of(rows).iter().map(|r| int(r, "count")).sum() };
    let rows = of(&w.until("the answers", "dns", |rows| sum(rows) >= 20));
    let series = w.series(&cgroup);
    assert!(
        rows.iter().all(|r| int(r, "rcode") == 3 && int(r, "series_id") == series),
        "{rows:#?}"
    );
    w.tick();
    let failed =
        |r: &&Value| text(r, "kind") == "net.dns_failed" && attribute(r, "name") == "gone.test";
    let events: Vec<Value> = w.rows("events").iter().filter(failed).cloned().collect();
    assert_eq!(events.len(), 1, "{events:#?}");
    assert_eq!(attribute(&events[0], "rcode"), "3");
}
