//! What the kernel programs of `tapio-ebpf` tell, as rows and events of the collector's tick.
//!
//! Tables in the kernel are read once per tick, as what was added since the tick before. Ring buffers are polled by a thread
//! of [`watch::Watch`] every 50 ms. A record names cgroups by id; [`subjects::Subjects`] knows whose series that is.

mod block;
mod dns;
mod edges;
mod flows;
mod http;
mod life;
mod listeners;
mod oom;
mod repeats;
mod report;
mod rights;
mod subjects;
mod waits;
mod watch;

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use tapio_ebpf::{CgroupIds, ConnectFailure, FailedConnect, OomVictim, ProcessMemory};
use tapio_sql::{BatchError, TableBatch, derived_id};

use crate::{
    CollectorOptions, Health, KernelOptions, Severity,
    collect::{
        ids::Ids,
        mounts::Mounts,
        node::clock_tick_us,
        process::Processes,
        sample::{Event, MEMORY_PEAK, Sample},
        tree::Tree,
    },
};
pub use rights::drop_loading_capabilities;

use edges::{Call, Edges};
use life::Lives;
use oom::Victims;
use repeats::Repeats;
use subjects::{Subject, Subjects};
use waits::Waits;
use watch::{Records, Watch};

/// Ticks between two readings of what the programs lost.
const REPORT_EVERY: u64 = 10;

type Connects = Repeats<(i64, SocketAddr, ConnectFailure)>;

/// The kernel programs, and what was made of their records.
#[derive(Debug)]
pub(crate) struct Kernel {
    watch: Watch,
    health: Arc<Health>,
    subjects: Subjects,
    records: Records,
    tables: Tables,
    edges: Edges,
    waits: Waits,
    lives: Lives,
    victims: Victims,
    connects: Connects,
    queries: Repeats<(i64, Option<String>, Option<u8>)>,
    ticks: u64,
}

/// What the collector knows at a tick.
pub(crate) struct Around<'a> {
    pub ids: &'a mut Ids,
    pub tree: Option<&'a Tree>,
    /// The node's series, for what no cgroup is known for; `None`: only a part of the node is collected.
    pub node: Option<i64>,
    pub processes: &'a Processes,
    pub ts: i64,
    /// The same moment, µs since boot.
    pub boot_us: i64,
    pub samples: &'a mut [Sample],
    pub events: &'a mut Vec<Event>,
}

/// Rows of one tick that are not Arrow yet.
#[derive(Debug, Default)]
struct Tables {
    http: http::Rows,
    flows: flows::Rows,
    dns: dns::Rows,
    block: block::Rows,
    edges: Vec<edges::Row>,
}

/// Turns a time of the kernel programs into that of an event.
#[derive(Debug, Clone, Copy)]
struct Moment {
    ts: i64,
    boot_us: i64,
}

impl Moment {
    /// CLOCK_BOOTTIME to the clock of the rows: never later than the tick, never before 1970.
    fn of(self, boot_ns: u64) -> i64 {
        let ago = self.boot_us - i64::try_from(boot_ns / 1_000).unwrap_or(i64::MAX);
        (self.ts - ago.max(0)).max(0)
    }
}

impl Kernel {
    /// Loads what is asked for and says in [`Health`] what could not be loaded. Never fails as a whole.
    pub(crate) fn load(
        load: &KernelOptions,
        options: &CollectorOptions,
        mounts: &Mounts,
        boot_id: &str,
    ) -> Self {
        let health = options.health.clone();
        let (programs, missing) = tapio_ebpf::Programs::load(load);
        report::loaded(&health, load, &missing);
        let watched_cpu = programs.cpu.is_some();
        Self {
            watch: Watch::start(programs, &health),
            subjects: Subjects::new(mounts, &options.proc_root),
            records: Records::default(),
            tables: Tables::default(),
            edges: Edges::default(),
            waits: Waits::watched(watched_cpu),
            lives: Lives::new(boot_id, options.clock.boot_us()),
            victims: Victims::new(boot_id),
            connects: Repeats::default(),
            queries: Repeats::default(),
            health,
            ticks: 0,
        }
    }

    /// Reads everything once. Rows come with [`Kernel::batches`], OOM victims with [`Kernel::victims`].
    pub(crate) fn read(&mut self, around: Around<'_>) {
        let Around { ids, tree, node, processes, ts, boot_us, samples, events } = around;
        let moment = Moment { ts, boot_us };
        self.watch.take(&mut self.records, &self.health);
        self.subjects.refresh(tree, node);
        let records = &mut self.records;
        let subjects = &mut self.subjects;

        let victims = records.victims.drain(..);
        self.victims.tell(victims, subjects, ids, tree, moment, events);
        self.lives.tell(&records.life, subjects, moment, &self.health, events);
        self.waits.add(records.waits.drain(..), subjects);
        self.waits.enter(samples, subjects);
        peaks(&records.processes, processes, samples);

        let tables = &mut self.tables;
        for t in records.http.drain(..) {
            let Some(subject) = subjects.of(t.cgroups, http::port(&t)) else { continue };
            let target = http::target(&t, subjects);
            if let Some(call) = Call::http(&t, subject.series_id, target) {
                tables.edges.extend(self.edges.called(call, ts));
            }
            tables.http.add(t, subject.series_id, target);
        }
        for f in records.flows.drain(..) {
            let Some(subject) = subjects.of(f.cgroups, flows::port(&f)) else { continue };
            let target = flows::target(&f, subjects);
            if let Some(call) = Call::tcp(&f, subject.series_id, target) {
                tables.edges.extend(self.edges.called(call, ts));
            }
            tables.flows.add(f, subject.series_id, target);
        }
        for a in records.dns.drain(..) {
            let Some(subject) = subjects.of(a.cgroups, None) else { continue };
            tables.dns.answered(&a, subject.series_id);
        }
        for f in records.dns_failed.drain(..) {
            let Some(subject) = subjects.of(f.cgroups, None) else { continue };
            tables.dns.failed(&f, subject.series_id);
            let key = (subject.series_id, f.name.clone(), f.rcode);
            if let Some(n) = self.queries.seen(key, ts) {
                events.push(dns::event(&f, &subject, n, ids, moment));
            }
        }
        let failed = records.connects.drain(..);
        refused(failed, &mut self.connects, subjects, ids, moment, events);
        for b in records.block.drain(..) {
            let Some(series_id) = subjects.of_io(b.cgroup) else { continue };
            tables.block.add(&b, series_id);
        }
        let dropped = self.edges.dropped() + self.connects.dropped() + self.queries.dropped();
        self.health.count(
            report::COMPONENT,
            "connections_untold",
            dropped,
            Severity::Info,
            "edges, failed connects and failed DNS queries beyond the number that is kept apart; the sums are in flows and dns",
        );
        if self.ticks.is_multiple_of(REPORT_EVERY) {
            report::losses(&self.health, &self.watch);
            report::subjects(&self.health, &mut self.subjects);
        }
        self.ticks += 1;
    }

    /// Tells OOM victims and failed connects between two ticks. Those of cgroups that came since the tick before wait for the
    /// next one, which will know them.
    pub(crate) fn urgent(
        &mut self,
        ids: &mut Ids,
        tree: Option<&Tree>,
        (ts, boot_us): (i64, i64),
    ) -> Vec<Event> {
        let moment = Moment { ts, boot_us };
        let mut events = Vec::new();
        let (records, subjects) = (&mut self.records, &mut self.subjects);
        self.watch.take_urgent(records);
        let unknown = |c: CgroupIds| subjects.cgroup(c.memory).is_none();
        let (later, now) = records.victims.drain(..).partition(|v| unknown(v.cgroups));
        let (connects_later, connects) =
            records.connects.drain(..).partition(|f| unknown(f.cgroups));
        (records.victims, records.connects) = (later, connects_later);
        let now: Vec<OomVictim> = now;
        self.victims.tell(now.into_iter(), subjects, ids, tree, moment, &mut events);
        let connects: Vec<FailedConnect> = connects;
        refused(connects.into_iter(), &mut self.connects, subjects, ids, moment, &mut events);
        events
    }

    /// The rows of the tick; nothing of it is kept.
    pub(crate) fn batches(
        &mut self,
        ts: i64,
        observed: i64,
    ) -> Vec<Result<TableBatch, BatchError>> {
        self.victims.settled();
        let t = std::mem::take(&mut self.tables);
        let batches = [
            t.http.batch(ts, observed),
            t.flows.batch(ts, observed),
            t.dns.batch(ts, observed),
            t.block.batch(ts, observed),
            edges::batch(&t.edges, ts, observed),
        ];
        batches.into_iter().filter(|b| b.as_ref().map_or(true, |b| b.num_rows() > 0)).collect()
    }

    /// Memory cgroups of the OOM victims since the tick before, one entry per victim; `None`: nobody watches.
    pub(crate) fn victims(&self) -> Option<&[u64]> {
        self.watch.has_oom().then(|| self.victims.cgroups())
    }
}

/// Adds counters to counters.
fn merge(to: &mut [u64], from: &[u64]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
}

/// The largest that the followed processes were, from the kernel's table.
fn peaks(seen: &[ProcessMemory], processes: &Processes, samples: &mut [Sample]) {
    if seen.is_empty() {
        return;
    }
    let tick_ns = clock_tick_us() * 1_000;
    let by_pid: HashMap<i64, &ProcessMemory> =
        seen.iter().map(|p| (i64::from(p.tgid), p)).collect();
    let mut peaks = HashMap::new();
    for (pid, start, series_id) in processes.followed() {
        let Some(p) = by_pid.get(&pid) else { continue };
        if i64::try_from(p.start_ns).is_ok_and(|ns| ns / tick_ns == start) {
            peaks.insert(series_id, i64::try_from(p.peak_rss_bytes).unwrap_or(i64::MAX));
        }
    }
    for s in samples {
        if let Some(peak) = peaks.get(&s.series_id) {
            s.values[MEMORY_PEAK] = Some(*peak);
        }
    }
}

/// Tells failed connects, the same ones once a minute.
fn refused(
    failed: impl Iterator<Item = FailedConnect>,
    repeats: &mut Connects,
    subjects: &mut Subjects,
    ids: &Ids,
    moment: Moment,
    events: &mut Vec<Event>,
) {
    for f in failed {
        let Some(subject) = subjects.of(f.cgroups, None) else { continue };
        if let Some(n) = repeats.seen((subject.series_id, f.server, f.failure), moment.ts) {
            events.push(connect_failed(&f, &subject, n, ids, moment));
        }
    }
}

/// One `net.connect_failed`; `n` such connects failed since the event before.
fn connect_failed(f: &FailedConnect, subject: &Subject, n: u64, ids: &Ids, m: Moment) -> Event {
    use ConnectFailure::*;
    let (how, words, severity) = match f.failure {
        Refused => ("refused", "nobody listens there", "warning"),
        TimedOut => ("timed_out", "there was no answer", "warning"),
        Unreachable => ("unreachable", "there is no way to it", "warning"),
        Abandoned => ("abandoned", "the process gave up before there was an answer", "info"),
        Other => ("other", "the kernel reported an error", "warning"),
    };
    let pid = f.tgid.to_string();
    let who =
        if f.comm.is_empty() { format!("process {pid}") } else { format!("{} ({pid})", f.comm) };
    let message = format!("{who} could not connect to {}: {words}", f.server);
    Event {
        id: derived_id(&["net.connect_failed", &ids.boot_id, &pid, &f.boot_ns.to_string(), how]),
        ts: Some(m.of(f.boot_ns)),
        kind: "net.connect_failed",
        severity,
        pid: Some(i64::from(f.tgid)),
        comm: f.comm.clone(),
        message,
        value: Some(n as f64),
        attributes: vec![
            ("server", f.server.to_string()),
            ("failure", how.into()),
            ("errno", f.errno.to_string()),
            ("took_us", f.took.as_micros().to_string()),
            ("unit", "{connect}".into()),
        ],
        ..subject.event()
    }
}
