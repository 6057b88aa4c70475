//! The collector: cgroups (v1 and v2), the largest processes outside containers, filesystems, certificates, the
//! node.
//!
//! What cannot be read is NULL and counted, never 0 (T8). A cgroup that vanishes while it is read loses the row of that
//! tick; nothing is invented for it.

mod attribution;
mod certificate;
mod cgroup;
mod disk;
pub(crate) mod files;
pub(crate) mod ids;
mod kills;
pub(crate) mod mounts;
pub(crate) mod node;
mod parse;
pub(crate) mod process;
#[cfg(test)]
mod real_disk;
#[cfg(test)]
mod real_machine;
mod runner;
mod runtime_cap;
pub(crate) mod sample;
#[cfg(test)]
mod tests;
pub(crate) mod tree;

use std::{path::PathBuf, sync::Arc, time::Duration};

use tapio_sql::{BatchError, TableBatch};

pub use attribution::{Attribution, attribute};
pub use certificate::CertificateOptions;
pub use disk::Filesystems;
pub use runner::run;

use crate::{
    Clock, Health, KernelOptions, Severity, SystemClock,
    kernel::{Around, Kernel},
};
use certificate::Certificates;
use disk::Disks;
use files::Budget;
use ids::Ids;
use kills::{Kills, Known};
use mounts::Mounts;
use node::Node;
use process::{Above, Processes};
use sample::{LIMIT, OOM_KILLS, Series};
use tree::Tree;

/// The wall clock stepped if it is off by more than this against the time since boot.
const STEP_US: i64 = 500_000;

/// What to collect and where from.
#[derive(Debug, Clone)]
pub struct CollectorOptions {
    /// Where /proc is mounted; cgroup mounts are found in its `self/mountinfo`.
    pub proc_root: PathBuf,
    /// Node name (default: the host name).
    pub node: String,
    /// Cluster name, empty if there is none.
    pub cluster: String,
    /// Only this cgroup (path below the mount point, leading slash), what is below it, its ancestors and the node.
    pub filter: Option<String>,
    /// Which filesystems to read.
    pub filesystems: Filesystems,
    /// Time between two readings of the filesystems: whole ticks, at least one.
    pub filesystem_interval: Duration,
    /// Where to look for certificates; `None`: nowhere.
    pub certificates: Option<CertificateOptions>,
    /// Which kernel programs to load; `None`: none, everything is read from files.
    pub kernel: Option<KernelOptions>,
    /// Time between ticks of [`run`].
    pub interval: Duration,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where losses are counted; give it that of the pipeline.
    pub health: Arc<Health>,
}

impl Default for CollectorOptions {
    fn default() -> Self {
        Self {
            proc_root: "/proc".into(),
            node: hostname(),
            cluster: String::new(),
            filter: None,
            filesystems: Filesystems::default(),
            filesystem_interval: Duration::from_secs(5),
            certificates: None,
            kernel: None,
            interval: Duration::from_secs(1),
            clock: Arc::new(SystemClock),
            health: Arc::default(),
        }
    }
}

/// The host name; "localhost" if it has none.
pub(crate) fn hostname() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".into() } else { name }
}

/// Why nothing can be collected.
#[derive(Debug, thiserror::Error)]
pub enum CollectorError {
    /// /proc is not there or not readable: tell the user.
    #[error("cannot read {}: {source}; is /proc mounted and readable for this user?", path.display())]
    Proc {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// The collector panicked; a bug.
    #[error("the collector ended unexpectedly: {0}; this is a bug, rows stored so far are safe")]
    Ended(String),
}

/// The rows of one tick.
#[derive(Debug, Clone)]
pub struct Tick {
    /// `resources`, and `disks`, `certificates`, `series` and `events` if there are any; all with one `ts`.
    pub batches: Vec<TableBatch>,
    /// `observed_at` of the rows, µs: give it to [`Ingest::append_tick`](crate::Ingest::append_tick).
    pub through_us: i64,
}

/// Reads everything once per [`Collector::tick`].
#[derive(Debug)]
pub struct Collector {
    options: CollectorOptions,
    ids: Ids,
    node: Node,
    node_id: Option<i64>,
    tree: Option<Tree>,
    processes: Processes,
    disks: Disks,
    /// Time since boot of the last reading of the filesystems, µs.
    disks_at: Option<i64>,
    certificates: Option<Certificates>,
    /// Time since boot of the last look at the certificates, µs.
    certificates_at: Option<i64>,
    buffer: Vec<u8>,
    last: Option<Stamp>,
    kills: Kills,
    kernel: Option<Kernel>,
}

/// What is not read with every tick.
struct Due {
    boot_us: i64,
    slack_us: i64,
}

impl Due {
    /// Whether it is time again for what was done `last`; then it counts as done now.
    fn again(&self, last: &mut Option<i64>, every: Duration) -> bool {
        let every = every.as_micros() as i64;
        let due = last.is_none_or(|at| self.boot_us - at + self.slack_us >= every);
        if due {
            *last = Some(self.boot_us);
        }
        due
    }
}

#[derive(Debug, Clone, Copy)]
struct Stamp {
    ts: i64,
    wall: i64,
    boot: i64,
}

impl Collector {
    /// Finds the hierarchies. A machine without memory controller still gives the node and processes, and says so in
    /// [`Health`].
    ///
    /// Raises the soft limit of open files of this process to the hard one, because cgroup files stay open. Loads the kernel
    /// programs that are asked for; what cannot be loaded is in [`Health`] with what that costs, and is no error.
    ///
    /// # Errors
    /// [`CollectorError::Proc`] if /proc cannot be read.
    pub fn new(options: CollectorOptions) -> Result<Self, CollectorError> {
        let read = |name: &str| {
            let path = options.proc_root.join(name);
            std::fs::read_to_string(&path).map_err(|source| CollectorError::Proc { path, source })
        };
        let boot_id = read("sys/kernel/random/boot_id")?.trim().to_owned();
        let mounts = Mounts::parse(&read("self/mountinfo")?);
        let budget = Budget::new(files::open_files_budget());
        let memory = mounts.memory().map(|(v, p)| (v, p.to_owned()));
        let filter = options.filter.as_ref().map(|f| format!("/{}", f.trim_matches('/')));
        let filter = filter.filter(|f| f != "/");
        let health = options.health.clone();
        if memory.is_none() {
            let detail = "no cgroup hierarchy with the memory controller is mounted: only the node and processes are read";
            health.set("collector.cgroup", "no_memory_controller", 1, Severity::Warning, detail);
        }
        let kernel = options.kernel.as_ref().map(|k| Kernel::load(k, &options, &mounts, &boot_id));
        let tree =
            memory.map(|(v, root)| Tree::new(mounts, v, root, filter.clone(), budget.clone()));
        let node = Node::open(&options.proc_root, &budget);
        let processes = Processes::new(&options.proc_root, filter, budget);
        let disks = Disks::new(options.filesystems.clone(), &options.proc_root);
        let certificates = options.certificates.clone().map(Certificates::new);
        let mut ids = Ids::new(options.node.clone(), options.cluster.clone(), boot_id, health);
        let mut identity = ids.identity("node");
        identity.incarnation.clone_from(&ids.boot_id);
        let series = Series { identity, name: options.node.clone(), ..Series::default() };
        let node_id = ids.register(series);
        Ok(Self {
            options,
            ids,
            node,
            node_id,
            tree,
            processes,
            disks,
            disks_at: None,
            certificates,
            certificates_at: None,
            buffer: Vec::new(),
            last: None,
            kills: Kills::default(),
            kernel,
        })
    }

    /// What the collector was made with.
    pub fn options(&self) -> &CollectorOptions {
        &self.options
    }

    /// Cgroups that are followed.
    pub fn cgroups(&self) -> usize {
        self.tree.as_ref().map_or(0, Tree::len)
    }

    /// The labels of all living series come with the next tick again, and so do the certificates, whose next look would be
    /// far away: call it when a tick could not be stored.
    pub fn tell_series_again(&mut self) {
        self.ids.forget_announced();
        self.certificates_at = None;
    }

    /// Reads everything. `now_us` (wall clock) becomes the rows' `ts`, cut to whole milliseconds.
    ///
    /// `ts` rises from tick to tick. If the wall clock was set back, which is noticed against the time since boot and
    /// counted, `ts` goes on from where it was at nine tenths of real speed until the wall clock has caught up: rates
    /// stay right within a tenth, no row gets the time of an earlier one. `observed_at` is the time at the end of
    /// reading, never before `ts`.
    ///
    /// A batch that does not fit its table is a bug; it is left out and counted.
    pub fn tick(&mut self, now_us: i64) -> Tick {
        let ts = self.stamp(now_us);
        let mut samples = Vec::new();
        let mut events = Vec::new();
        let (node, swap_free) = self.node.read(self.node_id.unwrap_or_default(), &mut self.buffer);
        let (node_kills, node_memory) = (node.values[OOM_KILLS], node.values[LIMIT]);
        if self.node_id.is_some() {
            samples.push(node);
        }
        let mut counted = Vec::new();
        if let Some(tree) = &mut self.tree {
            tree.refresh(&mut self.ids, self.node_id);
            counted = tree.read(
                &mut self.ids,
                swap_free,
                ts,
                &mut samples,
                &mut events,
                &mut self.buffer,
            );
        }
        let (tree, node_id) = (&self.tree, self.node_id);
        let around = |path: &str| Above {
            series_id: match path {
                "/" => node_id,
                p => tree.as_ref().and_then(|t| t.series_of(p)),
            },
            memory_limit: tree.as_ref().and_then(|t| t.limit_of(path)).or(node_memory),
        };
        self.processes.read(&mut self.ids, around, &mut samples, &mut self.buffer);
        let due = self.due();
        let disks = match due.again(&mut self.disks_at, self.options.filesystem_interval) {
            true => self.disks.read(&mut self.ids, node_id),
            false => Vec::new(),
        };
        let certificates = match &mut self.certificates {
            Some(c) if due.again(&mut self.certificates_at, c.interval()) => {
                c.read(&mut self.ids, node_id)
            }
            _ => Vec::new(),
        };
        let whole = self.options.filter.is_none();
        if let Some(kernel) = &mut self.kernel {
            kernel.read(Around {
                ids: &mut self.ids,
                tree: self.tree.as_ref(),
                node: self.node_id.filter(|_| whole),
                processes: &self.processes,
                ts,
                boot_us: self.last.map_or(0, |l| l.boot),
                samples: &mut samples,
                events: &mut events,
            });
        }
        let known = Known {
            boot_id: &self.ids.boot_id,
            counted,
            victims: self.kernel.as_ref().and_then(Kernel::victims),
            node: node_kills.zip(self.node_id.filter(|_| whole)),
        };
        let tree = &self.tree;
        let alive = |inode| tree.iter().any(|t| t.has_inode(inode));
        events.extend(self.kills.tell(known, alive));
        let fresh = self.ids.fresh();

        let observed = self.options.clock.now_us().max(ts);
        let mut made = Vec::new();
        if !fresh.is_empty() {
            made.push(sample::series(&fresh, ts, observed));
        }
        if !samples.is_empty() {
            made.push(sample::resources(&samples, ts, observed));
        }
        if !disks.is_empty() {
            made.push(disk::disks(&disks, ts, observed));
        }
        if !certificates.is_empty() {
            made.push(certificate::certificates(&certificates, ts, observed));
        }
        if !events.is_empty() {
            made.push(sample::events(&events, &self.options.node, ts, observed));
        }
        if let Some(kernel) = &mut self.kernel {
            made.extend(kernel.batches(ts, observed));
        }
        let fits = made.into_iter().filter_map(|b| b.map_err(|e| self.invalid(&e)).ok());
        Tick { batches: fits.collect(), through_us: observed }
    }

    /// What the kernel told since the last tick and should not wait for the next one: OOM kills and failed connects, as
    /// `events`. `None` if there is nothing. Nothing is read for it.
    ///
    /// As with [`Collector::tick`], a batch that does not fit its table is left out and counted.
    pub fn urgent(&mut self) -> Option<TableBatch> {
        let (kernel, last) = (self.kernel.as_mut()?, self.last?);
        let clock = &self.options.clock;
        let boot = clock.boot_us();
        let ts = last.ts + (boot - last.boot).max(0);
        let events = kernel.urgent(&mut self.ids, self.tree.as_ref(), (ts, boot));
        if events.is_empty() {
            return None;
        }
        let batch = sample::events(&events, &self.options.node, ts, clock.now_us().max(ts));
        batch.map_err(|e| self.invalid(&e)).ok()
    }

    fn invalid(&self, e: &BatchError) {
        tracing::error!("{e}");
        let health = &self.options.health;
        health.count("collector", "batches_invalid", 1, Severity::Error, e.to_string());
    }

    fn due(&self) -> Due {
        // A tick that comes a little early still counts.
        let slack_us = self.options.interval.as_micros() as i64 / 2;
        Due { boot_us: self.options.clock.boot_us(), slack_us }
    }

    fn stamp(&mut self, now_us: i64) -> i64 {
        let boot = self.options.clock.boot_us();
        let wall = now_us.div_euclid(1_000) * 1_000;
        let mut ts = wall;
        if let Some(last) = self.last {
            let elapsed = (boot - last.boot).max(0);
            let step = now_us - last.wall - elapsed;
            let health = &self.options.health;
            if step.abs() > STEP_US {
                let detail = format!("the wall clock stepped by {:.3} s", step as f64 / 1e6);
                tracing::warn!("{detail}");
                health.count("collector.clock", "clock_steps", 1, Severity::Warning, detail);
            }
            let slow = (elapsed / 10 * 9).div_euclid(1_000) * 1_000;
            ts = wall.max(last.ts + slow.max(1_000));
            let ahead = ts - wall;
            if ahead > STEP_US || health.value("collector.clock", "ts_ahead_us") != 0 {
                let detail = "times of rows are ahead of the wall clock since it was set back";
                health.set("collector.clock", "ts_ahead_us", ahead, Severity::Warning, detail);
            }
        }
        self.last = Some(Stamp { ts, wall: now_us, boot });
        ts
    }
}
