//! The node as a whole, from /proc.

use std::path::Path;

use super::{
    files::{Budget, Pinned},
    parse,
    sample::*,
};

/// The node's files.
#[derive(Debug)]
pub(crate) struct Node {
    meminfo: Option<Pinned>,
    stat: Option<Pinned>,
    vmstat: Option<Pinned>,
    loadavg: Option<Pinned>,
    pid_max: Option<Pinned>,
    threads_max: Option<Pinned>,
    file_nr: Option<Pinned>,
    pressure: [Option<Pinned>; 3],
    tick_us: i64,
}

impl Node {
    pub(crate) fn open(proc_root: &Path, budget: &Budget) -> Self {
        let open = |name: &str| Pinned::open(proc_root.join(name), budget);
        Self {
            meminfo: open("meminfo"),
            stat: open("stat"),
            vmstat: open("vmstat"),
            loadavg: open("loadavg"),
            pid_max: open("sys/kernel/pid_max"),
            threads_max: open("sys/kernel/threads-max"),
            file_nr: open("sys/fs/file-nr"),
            pressure: ["pressure/cpu", "pressure/memory", "pressure/io"].map(open),
            tick_us: clock_tick_us(),
        }
    }

    /// The node's row and its free swap; what cannot be read is `None`.
    pub(crate) fn read(&self, series_id: i64, buffer: &mut Vec<u8>) -> (Sample, Option<i64>) {
        let mut s = Sample { series_id, ..Sample::default() };
        let v = &mut s.values;
        let keys = [
            "MemTotal",
            "MemFree",
            "MemAvailable",
            "Cached",
            "AnonPages",
            "Inactive(file)",
            "SwapFree",
        ];
        let meminfo = self.meminfo.as_ref().and_then(|p| p.read(buffer).bytes());
        let kib = meminfo.map_or([None; 7], |b| parse::keyed(b, keys));
        let [total, free, available, cached, anon, inactive, swap_free] =
            kib.map(|v| v.and_then(|v| v.checked_mul(1024)));
        v[USAGE] = total.zip(free).map(|(t, f)| t - f);
        v[WORKING_SET] = v[USAGE].zip(inactive).map(|(u, i)| (u - i).max(0));
        v[RSS] = anon;
        v[CACHE] = cached;
        v[LEVEL] = total.zip(available).map(|(t, a)| t - a);
        v[LIMIT] = total;
        v[HEADROOM] = available.zip(swap_free).map(|(a, s)| a + s);
        let ticks = self.stat.as_ref().and_then(|p| parse::cpu_ticks(p.read(buffer).bytes()?));
        v[CPU_USAGE] = ticks.and_then(|t| t.checked_mul(self.tick_us));
        if let Some(b) = self.vmstat.as_ref().and_then(|p| p.read(buffer).bytes()) {
            // pgpgin and pgpgout are in KiB of block I/O.
            let [kills, read, write] = parse::keyed(b, ["oom_kill", "pgpgin", "pgpgout"]);
            v[OOM_KILLS] = kills;
            v[IO_READ] = read.and_then(|n| n.checked_mul(1024));
            v[IO_WRITE] = write.and_then(|n| n.checked_mul(1024));
        }
        v[PIDS] = self.loadavg.as_ref().and_then(|p| threads(p.read(buffer).bytes()?));
        let limits = [&self.pid_max, &self.threads_max].map(|p| {
            let p = p.as_ref()?;
            parse::number(p.read(buffer).bytes()?)
        });
        v[PIDS_LIMIT] = limits.into_iter().flatten().min();
        if let Some(b) = self.file_nr.as_ref().and_then(|p| p.read(buffer).bytes()) {
            (v[FDS], v[FDS_LIMIT]) = open_files(b);
        }
        for (file, column) in self.pressure.iter().zip(PSI) {
            let Some(b) = file.as_ref().and_then(|p| p.read(buffer).bytes()) else { continue };
            (v[column], v[column + 1]) = parse::pressure(b);
        }
        (s, swap_free)
    }
}

/// The second number of `0.10 0.20 0.30 2/345 6789`.
fn threads(loadavg: &[u8]) -> Option<i64> {
    let word = loadavg.split(|b| *b == b' ').nth(3)?;
    let slash = word.iter().position(|b| *b == b'/')?;
    parse::number(&word[slash + 1..])
}

/// Open files and their limit from `/proc/sys/fs/file-nr`: `760\t0\t2466170` (allocated, free, most).
fn open_files(text: &[u8]) -> (Option<i64>, Option<i64>) {
    let mut words = text.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty());
    let (allocated, free) =
        (words.next().and_then(parse::number), words.next().and_then(parse::number));
    let open = allocated.zip(free).map(|(a, f)| a - f);
    (open, words.next().and_then(parse::limit).flatten())
}

/// µs of one clock tick in /proc.
pub(crate) fn clock_tick_us() -> i64 {
    // SAFETY: sysconf reads no memory of ours.
    let hz = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    1_000_000 / if hz > 0 { hz } else { 100 }
}
