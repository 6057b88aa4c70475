//! Memory per process and the life of processes.

use std::{collections::HashMap, fs, process::Command};

use tapio_ebpf::{LifeEvent, LifeKind, LoadOptions, Memory, ProcessMemory, Programs};

use crate::{
    child::{Role, STEP},
    lab::{Cgroup, load, root, wait},
};

fn memory() -> Programs {
    load(&LoadOptions { memory: true, ..LoadOptions::none() })
}

fn of(memory: &mut Memory, tgid: u32) -> Option<ProcessMemory> {
    let mut all = Vec::new();
    memory.read(&mut all).unwrap();
    all.into_iter().find(|p| p.tgid == tgid)
}

/// One process's `RssAnon + RssFile + RssShmem`, as /proc has them; `None` for kernel threads and for a process that is
/// hidden even from root, as the first one of some virtual machines is.
fn proc_rss(pid: u32) -> Option<u64> {
    fs::read(format!("/proc/{pid}/maps")).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let of = |key| kib(&status, key);
    Some((of("RssAnon:")? + of("RssFile:")? + of("RssShmem:")?) * 1024)
}

/// A line of /proc/PID/status.
fn kib(status: &str, key: &str) -> Option<u64> {
    status.lines().find_map(|l| l.strip_prefix(key))?.trim().strip_suffix(" kB")?.parse().ok()
}

/// What the kernel may hold back: three kinds, less than max(32, 2 × CPUs) pages per CPU each.
fn held_back() -> u64 {
    let cpus = std::thread::available_parallelism().unwrap().get() as u64;
    3 * cpus * (2 * cpus).max(32) * 4096
}

#[test]
fn every_process_is_seen_as_proc_sees_it() {
    if !root("every_process_is_seen_as_proc_sees_it") {
        return;
    }
    // There before the programs are.
    let mut before = Role::start("leak", None);
    before.step().unwrap();
    let mut programs = memory();
    let memory = programs.memory.as_mut().unwrap();
    let pids = || {
        let dir = fs::read_dir("/proc").unwrap();
        let pids = dir.filter_map(|e| e.unwrap().file_name().to_str()?.parse::<u32>().ok());
        pids.filter_map(|pid| Some((pid, proc_rss(pid)?))).collect::<HashMap<_, _>>()
    };
    let first = pids();
    let mut all = Vec::new();
    memory.read(&mut all).unwrap();
    let second = pids();
    // Those that did not change in the meantime.
    let still: HashMap<_, _> = first.iter().filter(|(p, rss)| second.get(p) == Some(rss)).collect();
    assert!(still.contains_key(&before.tgid()), "{still:?}");
    for (pid, rss) in still {
        let Some(seen) = all.iter().find(|p| p.tgid == *pid) else {
            // A process that has not executed yet uses the memory of the one that made it (vfork).
            wait("a process to be seen or to end", || {
                let mut again = Vec::new();
                memory.read(&mut again).unwrap();
                (again.iter().any(|p| p.tgid == *pid) || proc_rss(*pid).is_none()).then_some(())
            });
            continue;
        };
        let off = seen.memory.rss_bytes().abs_diff(*rss);
        assert!(off <= held_back(), "{pid} {}: /proc {rss}, off by {off}", seen.comm);
    }
    // Gone processes are removed.
    let tgid = before.tgid();
    assert!(of(memory, tgid).is_some());
    drop(before);
    assert_eq!(of(memory, tgid), None);
}

#[test]
fn the_curve_of_a_leak_is_that_of_its_cgroup() {
    if !root("the_curve_of_a_leak_is_that_of_its_cgroup") {
        return;
    }
    let mut programs = memory();
    let memory = programs.memory.as_mut().unwrap();
    for role in ["leak", "leak-threads"] {
        let cgroup = Cgroup::memory(role);
        let mut child = Role::start(role, Some(&cgroup.procs()));
        let mut worst = 0.0_f64;
        for step in 1..=48_u64 {
            child.step().unwrap();
            let seen = of(memory, child.tgid()).unwrap();
            let files = cgroup.anon_bytes();
            assert!(seen.memory.anon_bytes > step * STEP as u64 - (1 << 20), "{seen:?}");
            assert_eq!(seen.cgroups.memory, cgroup.id());
            // Below 32 MiB what each CPU holds back weighs more than 2 %.
            if files >= 32 << 20 {
                let off = seen.memory.anon_bytes.abs_diff(files) as f64 / files as f64;
                worst = worst.max(off);
            }
        }
        eprintln!("{role}: at most {:.2} % off the cgroup's files", worst * 100.0);
        assert!(worst > 0.0 || role == "leak", "the comparison compares something");
        assert!(worst <= 0.02, "{role}: {worst}");
    }
}

/// A process that has much memory forks: while the child is made it bears the parent's ids.
#[test]
fn a_fork_does_not_disturb_the_parent() {
    if !root("a_fork_does_not_disturb_the_parent") {
        return;
    }
    let mut programs = memory();
    let memory = programs.memory.as_mut().unwrap();
    let script = "import os, sys\n\
        kept = bytearray(64 << 20)\n\
        print('> ready', flush=True)\n\
        sys.stdin.readline()\n\
        pids = [os.fork() for _ in range(1)]\n\
        if pids[0] == 0: sys.stdin.readline(); os._exit(3)\n\
        for i in range(200):\n\
        \x20   pid = os.fork()\n\
        \x20   if pid == 0: os._exit(0)\n\
        \x20   os.waitpid(pid, 0)\n\
        more = bytearray(8 << 20)\n\
        print('>', pids[0], flush=True)\n\
        os.waitpid(pids[0], 0)\n";
    let mut parent = Role::python(script);
    let before = of(memory, parent.tgid()).unwrap();
    assert!(before.memory.anon_bytes >= 64 << 20, "{before:?}");
    let child: u32 = parent.step().unwrap().parse().unwrap();
    let after = of(memory, parent.tgid()).unwrap();
    let of_child = of(memory, child).unwrap();
    // The child shares the pages, each of the two has them mapped.
    assert!(of_child.memory.anon_bytes >= 64 << 20, "{of_child:?}");
    assert_eq!(after.start_ns, before.start_ns);
    let off = after.memory.anon_bytes.abs_diff(proc_anon(parent.tgid()));
    assert!(off <= held_back(), "{after:?}, off by {off}");
    assert!(after.memory.anon_bytes >= before.memory.anon_bytes + (8 << 20) - held_back());
    assert_eq!(parent.step(), None);
    assert!(parent.child.wait().unwrap().success());
    let mut all = Vec::new();
    memory.read(&mut all).unwrap();
    assert!(all.iter().all(|p| p.tgid != parent.tgid() && p.tgid != child));
}

fn proc_anon(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    kib(&status, "RssAnon:").unwrap() * 1024
}

#[test]
fn the_life_of_processes_is_told() {
    if !root("the_life_of_processes_is_told") {
        return;
    }
    let mut programs = memory();
    let memory = programs.memory.as_mut().unwrap();
    let cgroup = Cgroup::memory("life");
    let run = |script: &str| {
        let join = format!("echo $$ > {}; {script}", cgroup.procs().display());
        let mut child = Command::new("sh").args(["-c", &join]).spawn().unwrap();
        let status = child.wait().unwrap();
        (child.id(), status)
    };
    let (seven, _) = run("exit 7");
    let (killed, _) = run("kill -9 $$");
    let (executed, _) = run("exec sleep 0");
    let mut told: Vec<LifeEvent> = Vec::new();
    let mut events_of = |tgid: u32| {
        wait("the end of the process", || {
            memory.poll_life(&mut told);
            let of: Vec<_> = told.iter().filter(|e| e.tgid == tgid).cloned().collect();
            of.iter().any(|e| matches!(e.kind, LifeKind::Exit { .. })).then_some(of)
        })
    };
    let status = |events: &[LifeEvent]| match events.last().unwrap().kind {
        LifeKind::Exit { status, memory, peak_rss_bytes } => {
            // Kernels before 6.16 have let it go by then.
            assert!(
                memory.is_none_or(|m| (1..=peak_rss_bytes).contains(&m.rss_bytes())),
                "{memory:?}"
            );
            assert!(peak_rss_bytes > 0);
            status
        }
        ref other => panic!("{other:?}"),
    };
    let of_seven = events_of(seven);
    let kinds: Vec<_> = of_seven.iter().map(|e| &e.kind).collect();
    assert!(
        matches!(kinds[..], [LifeKind::Fork, LifeKind::Exec { .. }, LifeKind::Exit { .. }]),
        "{kinds:?}"
    );
    assert_eq!(of_seven[0].parent_tgid, std::process::id());
    assert!(of_seven.iter().all(|e| e.start_ns == of_seven[0].start_ns && e.start_ns <= e.boot_ns));
    assert!(of_seven[2].boot_ns >= of_seven[1].boot_ns);
    assert_eq!(of_seven[2].comm, "sh");
    // It moved into the cgroup after it had been forked.
    assert_ne!(of_seven[0].cgroups.memory, cgroup.id());
    assert_eq!(of_seven[2].cgroups.memory, cgroup.id());
    assert_eq!((status(&of_seven).code(), status(&of_seven).signal()), (Some(7), None));
    let of_killed = events_of(killed);
    assert_eq!((status(&of_killed).code(), status(&of_killed).signal()), (None, Some(9)));
    let of_executed = events_of(executed);
    let files: Vec<_> = of_executed
        .iter()
        .filter_map(|e| match &e.kind {
            LifeKind::Exec { file } => Some(file.rsplit('/').next().unwrap()),
            _ => None,
        })
        .collect();
    assert_eq!(files, ["sh", "sleep"]);
    assert_eq!(of_executed.last().unwrap().comm, "sleep");
    assert_eq!(status(&of_executed).code(), Some(0));
    let losses = memory.losses().unwrap();
    assert!(losses.iter().all(|l| l.count == 0), "{losses:?}");
}

#[test]
fn a_process_that_moves_is_seen_in_its_new_cgroup() {
    if !root("a_process_that_moves_is_seen_in_its_new_cgroup") {
        return;
    }
    let mut programs = memory();
    let memory = programs.memory.as_mut().unwrap();
    let (from, to) = (Cgroup::memory("from"), Cgroup::memory("to"));
    let child = Role::start("leak", Some(&from.procs()));
    assert_eq!(of(memory, child.tgid()).unwrap().cgroups.memory, from.id());
    fs::write(to.procs(), child.tgid().to_string()).unwrap();
    assert_eq!(of(memory, child.tgid()).unwrap().cgroups.memory, to.id());
}

/// What was there for a moment only, between two reads, before any program was loaded or not.
#[test]
fn a_peak_is_that_of_proc() {
    if !root("a_peak_is_that_of_proc") {
        return;
    }
    let script = "import sys\n\
        for mib in (96, 32):\n\
        \x20   kept = bytearray(mib << 20)\n\
        \x20   del kept\n\
        \x20   print('> gone', flush=True)\n\
        \x20   sys.stdin.readline()\n";
    let mut child = Role::python(script);
    let mut programs = None;
    for answer in [Some("gone"), None] {
        let memory = programs.get_or_insert_with(memory).memory.as_mut().unwrap();
        let seen = of(memory, child.tgid()).unwrap();
        let status = fs::read_to_string(format!("/proc/{}/status", child.tgid())).unwrap();
        let hwm = kib(&status, "VmHWM:").unwrap() * 1024;
        assert!(hwm >= 96 << 20, "{status}");
        assert!(seen.peak_rss_bytes.abs_diff(hwm) <= held_back(), "{seen:?}, /proc {hwm}");
        assert!(seen.memory.rss_bytes() + (64 << 20) < seen.peak_rss_bytes, "{seen:?}");
        assert_eq!(child.step().as_deref(), answer);
    }
    assert!(child.child.wait().unwrap().success());
    let memory = programs.as_mut().unwrap().memory.as_mut().unwrap();
    let mut told = Vec::new();
    let peak = wait("the end of the process", || {
        memory.poll_life(&mut told);
        told.iter().find_map(|e| match e.kind {
            LifeKind::Exit { peak_rss_bytes, .. } if e.tgid == child.tgid() => Some(peak_rss_bytes),
            _ => None,
        })
    });
    assert!(peak + held_back() >= 96 << 20, "{peak}");
}
