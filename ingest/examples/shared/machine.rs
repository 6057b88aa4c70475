//! What the cost examples share: cgroups with a process in each, and what this process used.

use std::{path::PathBuf, process::Child, time::Duration};

/// Cgroups in every controller, each with a process; they end with this value.
pub struct Cgroups {
    dirs: Vec<PathBuf>,
    pub children: Vec<Child>,
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for c in &mut self.children {
            let _ = c.kill();
            let _ = c.wait();
        }
        for d in self.dirs.iter().rev() {
            let _ = std::fs::remove_dir(d);
        }
    }
}

impl Cgroups {
    pub fn make(n: usize, spawn: impl Fn(usize) -> Child) -> Self {
        let mut made = Self { dirs: Vec::new(), children: Vec::new() };
        let controllers = ["memory", "cpu", "cpuacct", "pids", "blkio", "unified"];
        let roots: Vec<PathBuf> = controllers
            .iter()
            .map(|c| PathBuf::from(format!("/sys/fs/cgroup/{c}")))
            .filter(|p| p.is_dir())
            .map(|p| p.join(format!("tapio-cost-{}", std::process::id())))
            .collect();
        for r in &roots {
            std::fs::create_dir(r).unwrap();
            made.dirs.push(r.clone());
        }
        for i in 0..n {
            let child = spawn(i);
            for r in &roots {
                let d = r.join(format!("c{i}"));
                std::fs::create_dir(&d).unwrap();
                std::fs::write(d.join("cgroup.procs"), child.id().to_string()).unwrap();
                made.dirs.push(d);
            }
            made.children.push(child);
        }
        made
    }
}

/// User and system CPU time of this process, µs.
pub fn cpu() -> (i64, i64) {
    // SAFETY: `u` is a valid place for one rusage.
    let u = unsafe {
        let mut u: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut u);
        u
    };
    let us = |t: libc::timeval| t.tv_sec * 1_000_000 + t.tv_usec;
    (us(u.ru_utime), us(u.ru_stime))
}

pub fn print_times(what: &str, times: &mut [Duration]) {
    times.sort();
    println!(
        "{what}: median {:?}, p99 {:?}, longest {:?}",
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        times[times.len() - 1]
    );
}
