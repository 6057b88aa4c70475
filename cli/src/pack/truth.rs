//! What really happened in a recording: read from the kernel itself, faster than the ticks.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use tapio_ingest::{Clock, SystemClock};

use super::{manifest::Truth, write::Rows};
use crate::{cage::Cage, cell::rows, time::rfc3339};

/// How often the kernel is asked, to know the time of an event better than a tick does.
const CADENCE: Duration = Duration::from_millis(20);

/// A filesystem with less room, in bytes, is full: ext4 without reserved blocks refuses to write with some of them left.
const NO_ROOM: u64 = 64 << 10;

/// What is watched for.
pub(super) struct Watch<'a> {
    /// Kills and refused forks in it.
    pub cage: &'a Cage,
    /// Its running out of bytes or inodes.
    pub filesystem: Option<&'a Path>,
    /// The command: its running out of file descriptors.
    pub pid: Option<u32>,
}

/// A count of the kernel's that tells of an event when it rises.
struct Counter<F> {
    ty: &'static str,
    subject: String,
    name: &'static str,
    read: F,
    before: u64,
}

impl Watch<'_> {
    /// Writes down every rise of every counter until `done`.
    pub(super) fn run(&self, truth: &Mutex<Vec<Truth>>, done: &AtomicBool) {
        let disk = |of: fn(&rustix::fs::StatVfs) -> bool| {
            let full = move || Some(u64::from(of(&rustix::fs::statvfs(self.filesystem?).ok()?)));
            Box::new(full) as Box<dyn Fn() -> Option<u64> + '_>
        };
        let mount = self.filesystem.map(|p| p.display().to_string()).unwrap_or_default();
        let counter =
            |ty, subject: String, name, read| Counter { ty, subject, name, read, before: 0 };
        let cgroup = self.cage.path();
        let mut counters = vec![
            counter(
                "oom",
                cgroup.clone(),
                self.cage.kills_name(),
                Box::new(|| self.cage.oom_kills().ok()) as Box<dyn Fn() -> Option<u64>>,
            ),
            counter("pids", cgroup, "pids.events max", Box::new(|| self.cage.forks_refused())),
            counter(
                "disk_full",
                mount.clone(),
                "statvfs f_bavail < 64 KiB",
                disk(|s| s.f_bavail * s.f_frsize < NO_ROOM),
            ),
            counter(
                "inodes",
                mount,
                "statvfs f_favail = 0",
                disk(|s| s.f_files > 0 && s.f_favail == 0),
            ),
        ];
        if let Some(pid) = self.pid {
            let full = move || Some(u64::from(fds_left(pid)? == 0));
            let name = "/proc/PID/fd = RLIMIT_NOFILE";
            counters.push(counter("fds", format!("pid:{pid}"), name, Box::new(full)));
        }
        let clock = SystemClock;
        loop {
            let last = done.load(Ordering::Relaxed);
            for c in &mut counters {
                let Some(now) = (c.read)() else { continue };
                if now > c.before
                    && let Ok(mut truth) = truth.lock()
                {
                    truth.push(Truth {
                        ty: c.ty.into(),
                        at: rfc3339(clock.now_us()),
                        subject: c.subject.clone(),
                        counter: format!("{} {} → {now}", c.name, c.before),
                    });
                }
                c.before = now;
            }
            if last {
                return;
            }
            thread::sleep(CADENCE);
        }
    }
}

/// How many descriptors the process may still open.
fn fds_left(pid: u32) -> Option<u64> {
    let dir = PathBuf::from(format!("/proc/{pid}"));
    let limits = fs::read_to_string(dir.join("limits")).ok()?;
    let line = limits.lines().find_map(|l| l.strip_prefix("Max open files"))?;
    let limit: u64 = line.split_whitespace().next()?.parse().ok()?;
    let open = fs::read_dir(dir.join("fd")).ok()?.count() as u64;
    Some(limit.saturating_sub(open))
}

/// The kills that the collector saw in the same counters. Where one cgroup is recorded, kills elsewhere (its ancestors
/// and the node are in the pack, too) are not about it.
pub(super) fn kills(recorded: &Rows, cgroup: Option<&str>) -> Vec<Truth> {
    let events = recorded.table("events");
    let cgroup = cgroup.map(|c| format!("/{}", c.trim_matches('/')));
    let is_inside = |subject: &str| {
        let Some(c) = &cgroup else { return true };
        subject
            .strip_prefix(c.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            || c == "/"
    };
    let mut truth: Vec<Truth> = rows(events)
        .filter(|r| r.text("kind").as_deref() == Some("oom.kill"))
        .filter_map(|r| {
            Some(Truth {
                ty: "oom".into(),
                at: rfc3339(r.time("ts")?),
                subject: r.text("cgroup").or_else(|| r.text("node"))?,
                counter: r.text("message").unwrap_or_default(),
            })
        })
        .filter(|t| is_inside(&t.subject))
        .collect();
    truth.sort_by(|a, b| (&a.at, &a.subject).cmp(&(&b.at, &b.subject)));
    truth
}
