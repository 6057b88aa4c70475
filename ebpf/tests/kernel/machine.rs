//! Waiting for a CPU, and disks.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use tapio_ebpf::{Block, BlockOperation, BlockRequests, CpuWaits, LoadOptions};

use crate::lab::{Cgroup, load, root, wait};

/// One process wants a CPU and four others want the same one.
#[test]
fn waiting_for_a_cpu_is_that_of_schedstat() {
    if !root("waiting_for_a_cpu_is_that_of_schedstat") {
        return;
    }
    let mut programs = load(&LoadOptions { cpu: true, ..LoadOptions::none() });
    let cpu = programs.cpu.as_mut().unwrap();
    let (memory, other) = (Cgroup::memory("waits"), Cgroup::memory("rivals"));
    // Nothing that starts other processes: they would wait too.
    let busy = "i=0; while [ $i -lt 1000000 ]; do i=$((i+1)); done";
    let start = |cgroup: &Cgroup| {
        let join =
            format!("echo $$ > {}; exec taskset -c 0 sh -c \"$0\"", cgroup.procs().display());
        let mut command = Command::new("sh");
        command.args(["-c", &join, busy]).spawn().unwrap()
    };
    let rivals: Vec<_> = (0..4).map(|_| start(&other)).collect();
    let mut child = start(&memory);
    // It has ended and nobody has asked how: nothing is added any more, and the kernel still tells.
    wait("the process to end", || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        stat.contains(") Z ").then_some(())
    });
    let schedstat = fs::read_to_string(format!("/proc/{}/schedstat", child.id())).unwrap();
    let waited: u64 = schedstat.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(child.wait().unwrap().success());
    rivals.into_iter().for_each(|mut r| {
        r.wait().unwrap();
    });
    let mut all = Vec::new();
    cpu.drain(&mut all).unwrap();
    let here: Vec<&CpuWaits> = all.iter().filter(|w| w.cgroups.memory == memory.id()).collect();
    let seen: u64 = here.iter().map(|w| w.delay_ns).sum();
    let runs: u64 = here.iter().map(|w| w.runs).sum();
    assert!(runs > 10, "{here:?}");
    assert!(here.iter().all(|w| w.delays.iter().sum::<u64>() == w.runs), "{here:?}");
    // What it waited before it was in the cgroup is told elsewhere.
    assert!(waited > 400_000_000, "the rivals let it wait, {waited} ns");
    let off = seen.abs_diff(waited) as f64 / waited as f64;
    assert!(off < 0.1, "seen {seen} ns, schedstat {waited} ns");
    let losses = cpu.losses().unwrap();
    assert!(losses.iter().all(|l| l.count == 0), "{losses:?}");
}

#[test]
fn direct_writes_are_told_to_the_byte() {
    if !root("direct_writes_are_told_to_the_byte") {
        return;
    }
    let cgroup = Cgroup::io("block");
    // On a disk: what is in memory makes no requests.
    let mut file = tempfile::Builder::new().prefix("tapio-block").tempfile_in("/var/tmp").unwrap();
    file.write_all(&[0; 4096]).unwrap();
    file.as_file().sync_all().unwrap();
    let mut programs = load(&LoadOptions { block: true, ..LoadOptions::none() });
    let block = programs.block.as_mut().unwrap();
    let path = file.path().display();
    let script = format!(
        "echo $$ > {}; exec dd if=/dev/zero of={path} bs=64k count=200 oflag=direct conv=notrunc",
        cgroup.procs().display()
    );
    let status = Command::new("sh").args(["-c", &script]).stderr(Stdio::null()).status().unwrap();
    if !status.success() {
        eprintln!("SKIPPED direct_writes_are_told_to_the_byte: {path} cannot be written directly");
        return;
    }
    let id = cgroup.id();
    let written = 200 * 65_536;
    // A completion that interrupts the program on its own CPU is left out by the kernel, and counted.
    let left_out = |block: &Block| -> u64 {
        let losses = block.losses().unwrap();
        losses.iter().find(|l| l.what.contains("block_complete")).unwrap().count
    };
    let mut all: Vec<BlockRequests> = Vec::new();
    wait("all writes", || {
        block.drain(&mut all).unwrap();
        all.retain(|r| r.cgroup == id);
        let writes = all.iter().filter(|r| r.operation == BlockOperation::Write);
        let bytes: u64 = writes.map(|r| r.bytes).sum();
        (bytes >= written || left_out(block) > 0).then_some(())
    });
    let writes: Vec<_> = all.iter().filter(|r| r.operation == BlockOperation::Write).collect();
    let bytes = writes.iter().map(|r| r.bytes).sum::<u64>();
    if left_out(block) > 0 {
        assert!(bytes <= written && bytes > 0, "{bytes}");
        return;
    }
    assert_eq!(bytes, written);
    let requests: u64 = writes.iter().map(|r| r.requests).sum();
    assert!(requests >= 200, "{writes:?}");
    for r in &writes {
        assert_eq!(r.latency.iter().sum::<u64>(), r.requests, "{r:?}");
        assert_eq!(r.errors, 0);
        assert!(fs::exists(format!("/sys/block/{}", r.disk)).unwrap(), "{r:?}");
        assert!(r.latency_ns / r.requests > 1000, "faster than any disk: {r:?}");
    }
}
