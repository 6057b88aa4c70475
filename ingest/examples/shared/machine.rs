//! Cgroups with a process in each, for the cost examples.

use std::{path::PathBuf, process::Child};

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
