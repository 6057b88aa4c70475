//! One cgroup: its files and what they say.
//!
//! Kills are taken from v1 `memory.oom_control` (`oom_kill`) and v2 `memory.events.local` (before 5.2: `memory.events`):
//! both count victims that lived in this very cgroup, so that a kill is counted once in the tree, also when it was the
//! limit of an ancestor that was hit.

use std::path::{Path, PathBuf};

use super::{
    attribution::{Attribution, attribute},
    files::{Budget, Pinned, Read},
    mounts::Mounts,
    parse,
    sample::*,
};

/// A cgroup that is being read.
#[derive(Debug)]
pub(crate) struct Cgroup {
    pub fs: PathBuf,
    pub inode: u64,
    /// Links of the directory when its children were listed last; kernfs counts subdirectories in it.
    pub links: u64,
    pub attribution: Attribution,
    /// `None`: its id collides, so it is read for its descendants' headroom only.
    pub series_id: Option<i64>,
    pub last_oom_kills: Option<i64>,
    pub last_limit: Option<Option<i64>>,
    files: Files,
}

#[derive(Debug)]
struct Files {
    v2: bool,
    usage: Option<Pinned>,
    stat: Option<Pinned>,
    limit: Option<Pinned>,
    oom: Option<Pinned>,
    /// v1 memory.memsw.limit_in_bytes, v2 memory.swap.max.
    swap_limit: Option<Pinned>,
    swap_now: Option<Pinned>,
    cpu_usage: Option<Pinned>,
    cpu_stat: Option<Pinned>,
    pids: Option<Pinned>,
    pids_limit: Option<Pinned>,
    io: Option<Pinned>,
    pressure: [Option<Pinned>; 3],
}

/// What one reading came to.
#[derive(Debug)]
pub(crate) struct Reading {
    pub sample: Sample,
    /// The limit: `None` unreadable, `Some(None)` unlimited.
    pub limit: Option<Option<i64>>,
    /// v1: limit of memory and swap together; v2: of swap alone.
    pub swap_limit: Option<i64>,
    pub swap_used: Option<i64>,
    /// Files that are there and cannot be read or understood.
    pub unreadable: i64,
}

impl Cgroup {
    pub(crate) fn open(
        mounts: &Mounts,
        v2: bool,
        root: &Path,
        path: &str,
        inode: u64,
        budget: &Budget,
    ) -> Self {
        let fs = root.join(path.trim_start_matches('/'));
        let own = |name: &str| Pinned::open(fs.join(name), budget);
        let other = |mount: &Option<PathBuf>, name: &str| {
            let dir = mount.as_ref()?.join(path.trim_start_matches('/'));
            Pinned::open(dir.join(name), budget)
        };
        let pressure = |name: &str| other(&mounts.v2, name);
        let files = if v2 {
            Files {
                v2,
                usage: own("memory.current"),
                stat: own("memory.stat"),
                limit: own("memory.max"),
                oom: own("memory.events.local").or_else(|| own("memory.events")),
                swap_limit: own("memory.swap.max"),
                swap_now: own("memory.swap.current"),
                cpu_usage: None,
                cpu_stat: own("cpu.stat"),
                pids: own("pids.current"),
                pids_limit: own("pids.max"),
                io: own("io.stat"),
                pressure: ["cpu.pressure", "memory.pressure", "io.pressure"].map(pressure),
            }
        } else {
            let blkio = |name: &str| other(&mounts.v1_blkio, name);
            Files {
                v2,
                usage: own("memory.usage_in_bytes"),
                stat: own("memory.stat"),
                limit: own("memory.limit_in_bytes"),
                oom: own("memory.oom_control"),
                swap_limit: own("memory.memsw.limit_in_bytes"),
                swap_now: None,
                cpu_usage: other(&mounts.v1_cpuacct, "cpuacct.usage"),
                cpu_stat: other(&mounts.v1_cpu, "cpu.stat"),
                pids: other(&mounts.v1_pids, "pids.current"),
                pids_limit: other(&mounts.v1_pids, "pids.max"),
                // Memory is charged up the tree, so is what is compared with it.
                io: blkio("blkio.throttle.io_service_bytes_recursive")
                    .or_else(|| blkio("blkio.throttle.io_service_bytes")),
                pressure: ["cpu.pressure", "memory.pressure", "io.pressure"].map(pressure),
            }
        };
        Self {
            fs,
            inode,
            links: 0,
            attribution: attribute(path),
            series_id: None,
            last_oom_kills: None,
            last_limit: None,
            files,
        }
    }

    /// Reads all files; `None` if the cgroup is gone.
    pub(crate) fn read(&self, swap: bool, buffer: &mut Vec<u8>) -> Option<Reading> {
        let f = &self.files;
        let mut r = Reading {
            sample: Sample { series_id: self.series_id.unwrap_or_default(), ..Sample::default() },
            limit: None,
            swap_limit: None,
            swap_used: None,
            unreadable: 0,
        };
        let usage = match f.usage.as_ref().map(|p| p.read(buffer)) {
            Some(Read::Gone) => return None,
            read => value(read, parse::number, &mut r.unreadable),
        };
        let stat = match f.stat.as_ref().map(|p| p.read(buffer)) {
            Some(Read::Gone) => return None,
            Some(Read::Bytes(b)) if f.v2 => {
                let keys = ["anon", "file", "inactive_file", "active_file", "slab_reclaimable"];
                parse::keyed(b, keys)
            }
            Some(Read::Bytes(b)) => {
                let keys = [
                    "total_cache",
                    "total_rss",
                    "total_swap",
                    "total_inactive_file",
                    "total_active_file",
                ];
                let [cache, rss, swapped, inactive, active] = parse::keyed(b, keys);
                r.swap_used = swapped;
                // v1 does not tell slab in memory.stat.
                [rss, cache, inactive, active, Some(0)]
            }
            _ => [None; 5],
        };
        let missing = stat.iter().filter(|v| v.is_none()).count() as i64;
        r.unreadable += missing;
        let [rss, cache, inactive, active, slab] = stat;
        let v = &mut r.sample.values;
        v[USAGE] = usage;
        v[RSS] = rss;
        v[CACHE] = cache;
        // Usage and the statistics are read one after the other, so the difference can fall short by a little.
        v[WORKING_SET] = usage.zip(inactive).map(|(u, i)| (u - i).max(0));
        v[LEVEL] = (|| Some((usage? - inactive? - active? - slab?).max(0)))();
        let bad = &mut r.unreadable;
        r.limit = value(f.limit.as_ref().map(|p| p.read(buffer)), parse::limit, bad);
        v[LIMIT] = r.limit.flatten();
        v[OOM_KILLS] = value(f.oom.as_ref().map(|p| p.read(buffer)), one("oom_kill"), bad);
        if swap {
            let limit = f.swap_limit.as_ref().map(|p| p.read(buffer));
            r.swap_limit = value(limit, parse::limit, bad).flatten();
            if f.v2 {
                r.swap_used =
                    value(f.swap_now.as_ref().map(|p| p.read(buffer)), parse::number, bad);
            }
        }
        if let Some(read) = f.cpu_stat.as_ref().map(|p| p.read(buffer)) {
            let keys =
                ["usage_usec", "nr_periods", "nr_throttled", "throttled_usec", "throttled_time"];
            let [us, periods, throttled, throttled_us, throttled_ns] =
                read.bytes().map_or([None; 5], |b| parse::keyed(b, keys));
            v[CPU_USAGE] = us;
            v[CPU_PERIODS] = periods;
            v[CPU_THROTTLED_PERIODS] = throttled;
            v[CPU_THROTTLED] = throttled_us.or(throttled_ns.map(|ns| ns / 1000));
        }
        if let Some(usage) = &f.cpu_usage {
            v[CPU_USAGE] = value(Some(usage.read(buffer)), parse::number, bad).map(|ns| ns / 1000);
        }
        v[PIDS] = value(f.pids.as_ref().map(|p| p.read(buffer)), parse::number, bad);
        v[PIDS_LIMIT] =
            value(f.pids_limit.as_ref().map(|p| p.read(buffer)), parse::limit, bad).flatten();
        if let Some((read, write)) =
            value(f.io.as_ref().map(|p| p.read(buffer)), parse::io_bytes, bad)
        {
            v[IO_READ] = Some(read);
            v[IO_WRITE] = Some(write);
        }
        for (file, column) in f.pressure.iter().zip(PSI) {
            // Pressure may be switched off (EOPNOTSUPP), which is no fault.
            let Some(b) = file.as_ref().and_then(|p| p.read(buffer).bytes()) else { continue };
            (v[column], v[column + 1]) = parse::pressure(b);
        }
        Some(r)
    }
}

fn one(key: &'static str) -> impl Fn(&[u8]) -> Option<i64> {
    move |b| parse::keyed(b, [key])[0]
}

fn value<T>(
    read: Option<Read<'_>>,
    parse: impl Fn(&[u8]) -> Option<T>,
    unreadable: &mut i64,
) -> Option<T> {
    let value = match read? {
        Read::Bytes(b) => parse(b),
        Read::Gone => return None,
        Read::Failed => None,
    };
    *unreadable += i64::from(value.is_none());
    value
}
