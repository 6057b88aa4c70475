//! The largest processes outside containers, and, wherever they are, those with many open files and those with a limit of
//! their own on their heap. Those in plain cgroups and in units count as outside.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::{
    attribution::attribute,
    files::{Budget, Pinned, Read, read_path},
    ids::Ids,
    node::clock_tick_us,
    parse,
    runtime_cap::{self, RuntimeCap},
    sample::*,
};
use crate::Severity;

/// At most so many processes are followed,
const MOST: usize = 64;
/// of those that hold at least this much.
const SMALLEST: i64 = 16 << 20;
/// and so many of those that have
const MOST_OPEN: usize = 32;
/// at least this many descriptors: a quarter of the usual limit of 1,024.
const FEWEST_OPEN: i64 = 256;
/// Of the large ones that limit their own heap, so many wherever they are.
const MOST_CAPPED: usize = 64;
/// All processes are looked through every so many ticks; the chosen ones are read each tick.
const SCAN_EVERY: u32 = 5;

/// The processes that are followed.
#[derive(Debug)]
pub(crate) struct Processes {
    proc_root: PathBuf,
    filter: Option<String>,
    budget: Budget,
    followed: BTreeMap<i64, Process>,
    /// Large processes that were asked for a limit of their own and have none.
    uncapped: BTreeSet<i64>,
    ticks: u32,
    tick_us: i64,
    page: i64,
}

/// What is known of the cgroup that a process is in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Above {
    pub series_id: Option<i64>,
    /// The lowest memory limit there and above, or the memory of the machine.
    pub memory_limit: Option<i64>,
}

#[derive(Debug)]
struct Process {
    series_id: i64,
    start: i64,
    status: Pinned,
    stat: Pinned,
    /// `/proc/PID/fd`: its size is the number of open descriptors, since Linux 6.2 (fs/proc/fd.c).
    fds: PathBuf,
    limits: Option<Pinned>,
    heap_limit: Option<i64>,
}

impl Processes {
    pub(crate) fn new(proc_root: &Path, filter: Option<String>, budget: Budget) -> Self {
        Self {
            proc_root: proc_root.to_owned(),
            filter,
            budget,
            followed: BTreeMap::new(),
            uncapped: BTreeSet::new(),
            ticks: 0,
            tick_us: clock_tick_us(),
            page: rustix_page_size(),
        }
    }

    pub(crate) fn read(
        &mut self,
        ids: &mut Ids,
        around: impl Fn(&str) -> Above,
        samples: &mut Vec<Sample>,
        buffer: &mut Vec<u8>,
    ) {
        if self.ticks.is_multiple_of(SCAN_EVERY) {
            self.scan(ids, around, buffer);
        }
        self.ticks = self.ticks.wrapping_add(1);
        let mut gone = Vec::new();
        for (pid, p) in &self.followed {
            match p.sample(self.tick_us, buffer) {
                Some(sample) => samples.push(sample),
                None => gone.push(*pid),
            }
        }
        for pid in gone {
            self.forget(pid, ids);
        }
    }

    /// The followed processes: pid, start in clock ticks since boot, series.
    pub(crate) fn followed(&self) -> impl Iterator<Item = (i64, i64, i64)> {
        self.followed.iter().map(|(pid, p)| (*pid, p.start, p.series_id))
    }

    fn forget(&mut self, pid: i64, ids: &mut Ids) {
        if let Some(p) = self.followed.remove(&pid) {
            ids.retire(p.series_id);
        }
    }

    fn scan(&mut self, ids: &mut Ids, around: impl Fn(&str) -> Above, buffer: &mut Vec<u8>) {
        let Ok(entries) = std::fs::read_dir(&self.proc_root) else {
            let detail = format!("cannot list {}", self.proc_root.display());
            ids.health.count("collector.process", "scan_failures", 1, Severity::Warning, detail);
            return;
        };
        let mut large: Vec<(i64, i64)> = Vec::new();
        let mut open: Vec<(i64, i64)> = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(pid) = parse::number(name.as_encoded_bytes()) else { continue };
            let statm = self.proc_root.join(&name).join("statm");
            let Some(b) = read_path(&statm, buffer).bytes() else { continue };
            let mut words = b.split(|b| *b == b' ');
            let Some(pages) = words.nth(1).and_then(parse::number) else { continue };
            let rss = pages.saturating_mul(self.page);
            if rss >= SMALLEST {
                large.push((rss, pid));
            }
            // On kernels that do not tell the number cheaply, only the largest processes' descriptors are counted.
            let fds = rustix::fs::stat(self.proc_root.join(&name).join("fd"));
            if let Some(n) = fds.ok().map(|s| s.st_size).filter(|n| *n >= FEWEST_OPEN) {
                open.push((n, pid));
            }
        }
        let capped = self.capped(&large, buffer);
        let mut keep = Vec::new();
        let kinds = [(open, MOST_OPEN, true), (capped, MOST_CAPPED, true), (large, MOST, false)];
        for (mut found, most, anywhere) in kinds {
            found.sort_unstable_by(|a, b| b.cmp(a));
            let most = keep.len() + most;
            for (_, pid) in found {
                if keep.len() == most {
                    break;
                }
                if keep.contains(&pid) {
                    continue;
                }
                let known = self.followed.contains_key(&pid);
                if known || self.follow(pid, anywhere, ids, &around, buffer) {
                    keep.push(pid);
                }
            }
        }
        let dropped: Vec<i64> =
            self.followed.keys().filter(|p| !keep.contains(p)).copied().collect();
        for pid in dropped {
            self.forget(pid, ids);
        }
    }

    /// Those of the large processes that limit their own heap. Each is asked once.
    fn capped(&mut self, large: &[(i64, i64)], buffer: &mut Vec<u8>) -> Vec<(i64, i64)> {
        let before = std::mem::take(&mut self.uncapped);
        let mut capped = Vec::new();
        for (rss, pid) in large {
            let has = match self.followed.get(pid) {
                Some(p) => p.heap_limit.is_some(),
                None if before.contains(pid) => false,
                // A share of any memory is a limit: how much it is does not matter here.
                None => {
                    let dir = self.proc_root.join(pid.to_string());
                    runtime_cap::of_process(&dir, Some(i64::MAX), buffer).is_some()
                }
            };
            if has {
                capped.push((*rss, *pid));
            } else {
                self.uncapped.insert(*pid);
            }
        }
        capped
    }

    /// Whether the process is to be followed, and is now; `anywhere`: also inside of a container.
    fn follow(
        &mut self,
        pid: i64,
        anywhere: bool,
        ids: &mut Ids,
        around: &impl Fn(&str) -> Above,
        buffer: &mut Vec<u8>,
    ) -> bool {
        let dir = self.proc_root.join(pid.to_string());
        let Some(b) = read_path(&dir.join("cgroup"), buffer).bytes() else { return false };
        let paths = Paths::parse(&String::from_utf8_lossy(b));
        if paths.in_container && !anywhere {
            return false;
        }
        if let Some(filter) = &self.filter
            && !paths
                .memory
                .strip_prefix(filter.as_str())
                .is_some_and(|r| r.is_empty() || r.starts_with('/'))
        {
            return false;
        }
        let (Some(status), Some(stat)) = (
            Pinned::open(dir.join("status"), &self.budget),
            Pinned::open(dir.join("stat"), &self.budget),
        ) else {
            return false;
        };
        let limits = Pinned::open(dir.join("limits"), &self.budget);
        let Some((comm, _, start)) = stat.read(buffer).bytes().and_then(parse::process_stat) else {
            return false;
        };
        let mut identity = ids.identity("process");
        identity.unit = paths.unit;
        identity.cgroup.clone_from(&paths.memory);
        identity.comm.clone_from(&comm);
        identity.incarnation = format!("{pid}:{start}");
        let above = around(&paths.memory);
        let cap = runtime_cap::of_process(&dir, above.memory_limit, buffer);
        let heap_limit = cap.as_ref().map(|c| c.bytes);
        let (runtime, heap_limit_option) =
            cap.map(|RuntimeCap { runtime, option, .. }| (runtime, option)).unwrap_or_default();
        let series = Series {
            identity,
            name: comm,
            parent_id: above.series_id,
            pid: Some(pid),
            runtime,
            heap_limit_option,
            ..Series::default()
        };
        let Some(series_id) = ids.register(series) else { return false };
        let fds = dir.join("fd");
        let process = Process { series_id, start, status, stat, fds, limits, heap_limit };
        self.followed.insert(pid, process);
        true
    }
}

impl Process {
    /// `None` if the process is gone.
    fn sample(&self, tick_us: i64, buffer: &mut Vec<u8>) -> Option<Sample> {
        let mut s = Sample { series_id: self.series_id, ..Sample::default() };
        let v = &mut s.values;
        // An open file of a dead process answers ESRCH; where it does not, the start time tells a reused pid.
        let (_, ticks, start) = self.stat.read(buffer).bytes().and_then(parse::process_stat)?;
        if start != self.start {
            return None;
        }
        v[CPU_USAGE] = ticks.checked_mul(tick_us);
        let Read::Bytes(b) = self.status.read(buffer) else { return None };
        let [rss, anon, shmem, threads] =
            parse::keyed(b, ["VmRSS", "RssAnon", "RssShmem", "Threads"]);
        let bytes = |kib: Option<i64>| kib.and_then(|k| k.checked_mul(1024));
        // A zombie has no memory any more.
        v[USAGE] = Some(bytes(rss)?);
        v[RSS] = bytes(anon).zip(bytes(shmem)).map(|(a, s)| a + s);
        v[LEVEL] = v[RSS];
        v[PIDS] = threads;
        v[FDS] = open_fds(&self.fds);
        v[HEAP_LIMIT] = self.heap_limit;
        let limits = self.limits.as_ref().and_then(|p| p.read(buffer).bytes());
        v[FDS_LIMIT] = limits.and_then(parse::open_files_limit).flatten();
        Some(s)
    }
}

/// How many descriptors the process has open; `None` if that may not be known (another user's process, without root).
fn open_fds(dir: &Path) -> Option<i64> {
    match rustix::fs::stat(dir).ok()?.st_size {
        // An older kernel says 0 of all, and so does one without a descriptor of its own.
        0 => i64::try_from(std::fs::read_dir(dir).ok()?.count()).ok(),
        n => Some(n),
    }
}

/// What `/proc/PID/cgroup` says.
pub(crate) struct Paths {
    /// In the hierarchy of the memory controller.
    pub memory: String,
    unit: String,
    in_container: bool,
}

impl Paths {
    pub(crate) fn parse(text: &str) -> Self {
        let (mut v1, mut unified, mut systemd) = (None, None, None);
        let mut in_container = false;
        for line in text.lines() {
            let mut parts = line.splitn(3, ':');
            let (_, controllers, path) = (parts.next(), parts.next(), parts.next());
            let (Some(controllers), Some(path)) = (controllers, path) else { continue };
            in_container |= attribute(path).in_container();
            if controllers.is_empty() {
                unified = Some(path);
            } else if controllers == "name=systemd" {
                systemd = Some(path);
            } else if controllers.split(',').any(|c| c == "memory") {
                v1 = Some(path);
            }
        }
        let memory = v1.or(unified).unwrap_or("/").to_owned();
        let units = [Some(memory.as_str()), systemd, unified].into_iter().flatten();
        let unit = units.map(|p| attribute(p).unit).find(|u| !u.is_empty()).unwrap_or_default();
        Self { memory, unit, in_container }
    }
}

fn rustix_page_size() -> i64 {
    // SAFETY: sysconf reads no memory of ours.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    if size > 0 { size } else { 4096 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_hybrid_and_unified_machines() {
        let p = Paths::parse("9:name=systemd:/system.slice/a.service\n4:memory:/m\n0::/\n");
        assert_eq!(
            (p.memory.as_str(), p.unit.as_str(), p.in_container),
            ("/m", "a.service", false)
        );
        let p = Paths::parse("0::/system.slice/b.service\n");
        assert_eq!((p.memory.as_str(), p.unit.as_str()), ("/system.slice/b.service", "b.service"));
        let id = "70b548ac11449612f7db5368a141ba1b3f440a4c339092bdede34b0748cfae1d";
        assert!(Paths::parse(&format!("4:memory:/docker/{id}\n0::/\n")).in_container);
        assert_eq!(Paths::parse("garbage").memory, "/");
    }
}
