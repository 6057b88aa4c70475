//! One tick's rows before they are Arrow.

use tapio_sql::{BatchError, SeriesIdentity, TableBatch, derived_id};

use crate::rows::{Columns, ints, labels, maps, texts, times};

/// The value columns of `resources`, by position in [`Sample::values`].
const VALUES: [&str; 29] = [
    "memory_usage_bytes",
    "memory_working_set_bytes",
    "memory_rss_bytes",
    "memory_cache_bytes",
    "memory_level_bytes",
    "memory_limit_bytes",
    "memory_headroom_bytes",
    "cpu_usage_us",
    "cpu_throttled_us",
    "cpu_periods",
    "cpu_throttled_periods",
    "pids",
    "pids_limit",
    "oom_kills",
    "restarts",
    "io_read_bytes",
    "io_write_bytes",
    "psi_cpu_some_us",
    "psi_cpu_full_us",
    "psi_memory_some_us",
    "psi_memory_full_us",
    "psi_io_some_us",
    "psi_io_full_us",
    "fds",
    "fds_limit",
    "cpu_wait_us",
    "cpu_waits",
    "memory_peak_bytes",
    "heap_limit_bytes",
];
pub(crate) const USAGE: usize = 0;
pub(crate) const WORKING_SET: usize = 1;
pub(crate) const RSS: usize = 2;
pub(crate) const CACHE: usize = 3;
pub(crate) const LEVEL: usize = 4;
pub(crate) const LIMIT: usize = 5;
pub(crate) const HEADROOM: usize = 6;
pub(crate) const CPU_USAGE: usize = 7;
pub(crate) const CPU_THROTTLED: usize = 8;
pub(crate) const CPU_PERIODS: usize = 9;
pub(crate) const CPU_THROTTLED_PERIODS: usize = 10;
pub(crate) const PIDS: usize = 11;
pub(crate) const PIDS_LIMIT: usize = 12;
pub(crate) const OOM_KILLS: usize = 13;
pub(crate) const IO_READ: usize = 15;
pub(crate) const IO_WRITE: usize = 16;
/// cpu, memory, io: `some` here, `full` in the next.
pub(crate) const PSI: [usize; 3] = [17, 19, 21];
pub(crate) const FDS: usize = 23;
pub(crate) const FDS_LIMIT: usize = 24;
pub(crate) const CPU_WAIT: usize = 25;
pub(crate) const CPU_WAITS: usize = 26;
pub(crate) const MEMORY_PEAK: usize = 27;
pub(crate) const HEAP_LIMIT: usize = 28;

/// A row of `resources`; `None` = could not be read, or unlimited where the column says so.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample {
    pub series_id: i64,
    pub values: [Option<i64>; VALUES.len()],
}

pub(crate) fn resources(
    samples: &[Sample],
    ts: i64,
    observed: i64,
) -> Result<TableBatch, BatchError> {
    let mut c = Columns::at("resources", samples.len(), ts, observed)?;
    c.set("series_id", ints(samples.iter().map(|s| Some(s.series_id))));
    for (i, name) in VALUES.iter().enumerate() {
        c.set(name, ints(samples.iter().map(|s| s.values[i])));
    }
    c.finish()
}

/// A row of `series`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Series {
    pub identity: SeriesIdentity,
    pub name: String,
    pub cgroup_fs: String,
    pub cgroup_version: Option<i64>,
    pub parent_id: Option<i64>,
    pub pid: Option<i64>,
    pub device: String,
    pub filesystem_type: String,
    pub runtime: &'static str,
    pub heap_limit_option: String,
}

pub(crate) fn series(rows: &[Series], ts: i64, observed: i64) -> Result<TableBatch, BatchError> {
    let mut c = Columns::at("series", rows.len(), ts, observed)?;
    c.set("series_id", ints(rows.iter().map(|r| Some(r.identity.series_id()))));
    c.set("workload_id", ints(rows.iter().map(|r| Some(r.identity.workload_id()))));
    type Label = fn(&Series) -> &str;
    let text: [(&'static str, Label); 19] = [
        ("kind", |r| &r.identity.kind),
        ("name", |r| &r.name),
        ("cluster", |r| &r.identity.cluster),
        ("node", |r| &r.identity.node),
        ("boot_id", |r| &r.identity.boot_id),
        ("namespace", |r| &r.identity.namespace),
        ("workload", |r| &r.identity.workload),
        ("pod", |r| &r.identity.pod),
        ("pod_uid", |r| &r.identity.pod_uid),
        ("container", |r| &r.identity.container),
        ("container_id", |r| &r.identity.container_id),
        ("unit", |r| &r.identity.unit),
        ("cgroup", |r| &r.identity.cgroup),
        ("mount_point", |r| &r.identity.mount_point),
        ("device", |r| &r.device),
        ("filesystem_type", |r| &r.filesystem_type),
        ("path", |r| &r.identity.path),
        ("runtime", |r| r.runtime),
        ("heap_limit_option", |r| &r.heap_limit_option),
    ];
    for (name, get) in text {
        c.set(name, labels(rows.iter().map(|r| Some(get(r)))));
    }
    c.set("cgroup_fs", labels(rows.iter().map(|r| Some(r.cgroup_fs.as_str()))));
    c.set("cgroup_version", ints(rows.iter().map(|r| r.cgroup_version)));
    c.set("parent_id", ints(rows.iter().map(|r| r.parent_id)));
    c.set("pid", ints(rows.iter().map(|r| r.pid)));
    c.set("incarnation", texts(rows.iter().map(|r| Some(r.identity.incarnation.as_str()))));
    c.finish()
}

/// A row of `events` about a cgroup, a process or the node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Event {
    pub id: String,
    /// `None`: when the tick was read.
    pub ts: Option<i64>,
    pub source: &'static str,
    pub kind: &'static str,
    pub severity: &'static str,
    pub series_id: i64,
    pub cgroup: String,
    pub pid: Option<i64>,
    pub comm: String,
    pub message: String,
    pub value: Option<f64>,
    pub attributes: Vec<(&'static str, String)>,
}

/// What an event is about, for its id.
pub(crate) struct Subject<'a> {
    pub boot_id: &'a str,
    pub inode: u64,
    pub series_id: i64,
    pub cgroup: &'a str,
}

pub(crate) fn oom_kill(s: &Subject<'_>, before: i64, after: i64, message: String) -> Event {
    let n = after - before;
    Event {
        // The kernel's counter is the identity: a second reading of the same state gives the same id.
        id: derived_id(&["oom.kill", s.boot_id, &s.inode.to_string(), &after.to_string()]),
        source: "cgroup",
        kind: "oom.kill",
        severity: "critical",
        series_id: s.series_id,
        cgroup: s.cgroup.to_owned(),
        message,
        value: Some(n as f64),
        attributes: vec![
            ("counter_before", before.to_string()),
            ("counter_after", after.to_string()),
            ("unit", "{kill}".into()),
        ],
        ..Event::default()
    }
}

pub(crate) fn limit_change(
    s: &Subject<'_>,
    ts: i64,
    before: Option<i64>,
    after: Option<i64>,
) -> Event {
    let text = |v: Option<i64>| v.map_or("unlimited".to_owned(), |v| v.to_string());
    let (before, after_text) = (text(before), text(after));
    let inode = s.inode.to_string();
    let id = ["change.config", s.boot_id, &inode, &ts.to_string(), "memory_limit", &after_text];
    Event {
        id: derived_id(&id),
        source: "cgroup",
        kind: "change.config",
        severity: "info",
        series_id: s.series_id,
        cgroup: s.cgroup.to_owned(),
        message: format!(
            "memory limit of {} changed from {before} to {after_text} bytes",
            s.cgroup
        ),
        value: after.map(|v| v as f64),
        attributes: vec![
            ("field", "memory_limit_bytes".into()),
            ("before", before),
            ("after", after_text),
            ("unit", "By".into()),
        ],
        ..Event::default()
    }
}

pub(crate) fn events(
    rows: &[Event],
    node: &str,
    ts: i64,
    observed: i64,
) -> Result<TableBatch, BatchError> {
    let mut c = Columns::at("events", rows.len(), ts, observed)?;
    c.set("id", texts(rows.iter().map(|r| Some(r.id.as_str()))));
    c.set("ts", times(rows.iter().map(|r| r.ts.unwrap_or(ts)).collect()));
    c.set("source", labels(rows.iter().map(|r| Some(r.source))));
    c.set("kind", labels(rows.iter().map(|r| Some(r.kind))));
    c.set("severity", labels(rows.iter().map(|r| Some(r.severity))));
    c.set("series_id", ints(rows.iter().map(|r| Some(r.series_id))));
    c.set("node", labels(rows.iter().map(|_| Some(node))));
    c.set("cgroup", labels(rows.iter().map(|r| Some(r.cgroup.as_str()))));
    c.set("pid", ints(rows.iter().map(|r| r.pid)));
    c.set("comm", labels(rows.iter().map(|r| Some(r.comm.as_str()))));
    c.set("message", texts(rows.iter().map(|r| Some(r.message.as_str()))));
    let values: arrow::array::Float64Array = rows.iter().map(|r| r.value).collect();
    c.set("value", std::sync::Arc::new(values));
    let attributes: Vec<_> = rows.iter().map(|r| r.attributes.clone()).collect();
    c.set("attributes", maps(&attributes));
    c.finish()
}
