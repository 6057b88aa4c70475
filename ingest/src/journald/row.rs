//! From an entry to a row of `events`.

use std::collections::VecDeque;

use arrow::array::Float64Array;
use tapio_sql::{BatchError, TableBatch, TableDef, derived_id};

use super::{
    entry::{Entry, VALUE_BYTES, cut},
    kernel::OomLines,
    kubernetes,
    systemd::{self, SUPPRESSED},
};
use crate::{
    attribute,
    rows::{Columns, ints, labels, maps, texts, times},
};

/// Boots that are remembered as told.
const BOOTS: usize = 16;

/// What a text says beyond being a log line.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Finding {
    pub kind: &'static str,
    /// Syslog priority, if the text says it; it then replaces that of the entry.
    pub priority: Option<i64>,
    pub namespace: String,
    pub pod: String,
    pub container: String,
    pub cgroup: String,
    pub pid: Option<i64>,
    pub comm: String,
    /// The number the event is about, and its unit (UCUM).
    pub value: Option<(f64, &'static str)>,
    pub attributes: Vec<(&'static str, String)>,
}

impl Finding {
    pub(crate) fn new(kind: &'static str) -> Self {
        Self { kind, ..Self::default() }
    }

    /// Adds an attribute; empty ones are left out.
    pub(crate) fn tell(&mut self, name: &'static str, value: impl AsRef<str>) {
        let value = value.as_ref();
        if !value.is_empty() {
            self.attributes.push((name, cut(value, VALUE_BYTES).to_owned()));
        }
    }

    /// The first attribute of that name.
    #[cfg(test)]
    pub(crate) fn told(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str())
    }

    /// Takes the pod from `NAMESPACE/NAME`, or from `NAME_NAMESPACE(UID)…`, which tells the uid too.
    pub(crate) fn subject(&mut self, text: &str) {
        if let Some((name, rest)) = text.split_once('_')
            && let Some((namespace, rest)) = rest.split_once('(')
            && let Some((uid, _)) = rest.split_once(')')
            && ![name, namespace, uid].iter().any(|t| t.is_empty() || t.contains([' ', '"', '/']))
        {
            (self.namespace, self.pod) = (namespace.to_owned(), name.to_owned());
            self.tell("pod_uid", uid);
        } else if let Some((namespace, name)) = text.split_once('/') {
            (self.namespace, self.pod) = (namespace.to_owned(), name.to_owned());
        }
    }
}

/// A row of `events`. Empty text is not known.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Row {
    pub id: String,
    pub ts: i64,
    pub severity: &'static str,
    pub message: String,
    pub finding: Finding,
}

impl Row {
    /// Bytes of its texts, for the bound of a batch.
    pub(crate) fn bytes(&self) -> usize {
        let f = &self.finding;
        let attributes: usize = f.attributes.iter().map(|(_, v)| v.len()).sum();
        self.message.len() + attributes + f.cgroup.len() + 256
    }

    /// Whether it is held back last when lines are too many: a warning or worse, or not a plain line.
    pub(crate) fn is_high(&self) -> bool {
        self.finding.kind != "log" || !matches!(self.severity, "debug" | "info")
    }
}

/// Makes rows of entries in their order.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    oom: OomLines,
    /// Boots that were seen, the newest last.
    boots: VecDeque<String>,
}

impl Reader {
    /// The boot of the last entry that was stored before: what comes from it is no new boot.
    pub(crate) fn resume(&mut self, boot: &str) {
        self.remember(boot);
    }

    /// The row of an entry.
    pub(crate) fn row(&mut self, entry: &Entry) -> Row {
        let mut f = self.find(entry);
        let priority = f.priority.or_else(|| entry.number("PRIORITY"));
        if speaks_for_itself(f.kind) {
            f.cgroup = entry.text("_SYSTEMD_CGROUP").to_owned();
            f.pid = f.pid.or_else(|| entry.number("_PID"));
            if f.comm.is_empty() {
                f.comm = entry.text("_COMM").to_owned();
            }
        }
        let mut of_cgroup = attribute(&f.cgroup);
        // A container's line that its runtime passed on: the cgroup is the runtime's.
        let container = entry.text("CONTAINER_ID_FULL");
        if !container.is_empty() {
            of_cgroup = crate::Attribution::default();
            f.cgroup = String::new();
            f.tell("container_id", container);
            f.container = entry.text("CONTAINER_NAME").to_owned();
        }
        // Whoever reports another's trouble is not its unit. The key `unit` is that of `value`.
        let about = [
            entry.text("UNIT"),
            entry.text("USER_UNIT"),
            entry.text("COREDUMP_UNIT"),
            &of_cgroup.unit,
        ];
        let unit = about.iter().find(|u| !u.is_empty()).copied().unwrap_or_default();
        f.tell("systemd_unit", unit);
        if unit != entry.text("_SYSTEMD_UNIT") {
            f.tell("reporter_unit", entry.text("_SYSTEMD_UNIT"));
        }
        f.tell("pod_uid", &of_cgroup.pod_uid);
        f.tell("container_id", &of_cgroup.container_id);
        for (name, field) in [
            ("identifier", "SYSLOG_IDENTIFIER"),
            ("transport", "_TRANSPORT"),
            ("message_id", "MESSAGE_ID"),
            ("result", "UNIT_RESULT"),
            ("exit_code", "EXIT_CODE"),
            ("exit_status", "EXIT_STATUS"),
            ("job_type", "JOB_TYPE"),
            ("job_result", "JOB_RESULT"),
            ("executable", "EXECUTABLE"),
            ("signal", "COREDUMP_SIGNAL_NAME"),
        ] {
            f.tell(name, entry.text(field));
        }
        f.tell("boot_id", &entry.boot_id);
        let message = entry.value("MESSAGE").cloned().unwrap_or_default();
        if message.is_cut() {
            // What journalctl left out has no length.
            f.tell(
                "message_bytes",
                if message.left_out { "unknown".into() } else { message.bytes.to_string() },
            );
        }
        if let Some((_, unit)) = f.value {
            f.tell("unit", unit);
        }
        Row {
            id: derived_id(&["journald", &entry.cursor]),
            ts: entry.ts_us(),
            severity: severity(priority),
            message: message.text,
            finding: f,
        }
    }

    fn find(&mut self, entry: &Entry) -> Finding {
        let message = entry.text("MESSAGE");
        if entry.text("_TRANSPORT") == "kernel" {
            return self.oom.read(message).unwrap_or_else(|| Finding::new("log"));
        }
        let Some(known) = systemd::lookup(entry.text("MESSAGE_ID")) else {
            let found = kubernetes::read(entry.text("SYSLOG_IDENTIFIER"), message);
            return found.unwrap_or_else(|| Finding::new("log"));
        };
        let mut f = Finding::new(known.kind);
        // An entry without a priority is as bad as its kind.
        f.priority =
            Some(entry.number("PRIORITY").map_or(known.priority, |p| p.min(known.priority)));
        if let Some((field, unit)) = known.value {
            f.value = entry.number(field).map(|n| (n as f64, unit));
        }
        f.pid = entry.number("COREDUMP_PID");
        f.comm = entry.text("COREDUMP_COMM").to_owned();
        f.cgroup = entry.text("COREDUMP_CGROUP").to_owned();
        f
    }

    /// A row that says that the machine was booted, if the entry is the first of a boot and one before is known.
    ///
    /// Told by the journal's first entry of the boot; its id is that of the boot, whatever entry comes first.
    pub(crate) fn boot(&mut self, entry: &Entry) -> Option<Row> {
        let boot = entry.boot_id.as_str();
        if boot.is_empty() || self.boots.iter().any(|b| b == boot) {
            return None;
        }
        let before = self.boots.back().cloned();
        self.remember(boot);
        let before = before?;
        let mut f = Finding::new("node.boot");
        f.tell("boot_id", boot);
        f.tell("previous_boot_id", &before);
        Some(Row {
            id: derived_id(&["journald", "boot", boot]),
            ts: entry.ts_us(),
            severity: "info",
            message: format!(
                "the machine was booted: the journal goes on with boot {boot} after {before}"
            ),
            finding: f,
        })
    }

    fn remember(&mut self, boot: &str) {
        if boot.is_empty() || self.boots.iter().any(|b| b == boot) {
            return;
        }
        if self.boots.len() == BOOTS {
            self.boots.pop_front();
        }
        self.boots.push_back(boot.to_owned());
    }
}

/// Whether the process that wrote the line is what the line is about. A known kind is about a unit, a victim, a pod.
fn speaks_for_itself(kind: &str) -> bool {
    matches!(kind, "log" | "journal.start" | "oom.invoked_log")
}

/// Of a syslog priority (RFC 5424 §6.2.1); a line without one is journald's default, info.
fn severity(priority: Option<i64>) -> &'static str {
    match priority {
        Some(0..=2) => "critical",
        Some(3) => "error",
        Some(4) => "warning",
        Some(7) => "debug",
        _ => "info",
    }
}

/// Rows as a batch of `events`; `observed_at` is `now_us`, but never before the row's `ts`.
///
/// # Errors
/// If a column does not fit the table: a bug.
pub(crate) fn batch(
    def: &std::sync::Arc<TableDef>,
    rows: &[Row],
    node: &str,
    now_us: i64,
) -> Result<TableBatch, BatchError> {
    let mut c = Columns::new(def, rows.len());
    c.set("id", texts(rows.iter().map(|r| Some(r.id.as_str()))));
    c.set("ts", times(rows.iter().map(|r| r.ts).collect()));
    c.set("observed_at", times(rows.iter().map(|r| now_us.max(r.ts)).collect()));
    type Label = fn(&Row) -> &str;
    let text: [(&'static str, Label); 8] = [
        ("source", |_| "journald"),
        ("kind", |r| r.finding.kind),
        ("severity", |r| r.severity),
        ("namespace", |r| &r.finding.namespace),
        ("pod", |r| &r.finding.pod),
        ("container", |r| &r.finding.container),
        ("cgroup", |r| &r.finding.cgroup),
        ("comm", |r| &r.finding.comm),
    ];
    for (name, get) in text {
        c.set(name, labels(rows.iter().map(|r| Some(get(r)))));
    }
    c.set("node", labels(rows.iter().map(|_| Some(node))));
    c.set("pid", ints(rows.iter().map(|r| r.finding.pid)));
    c.set("message", texts(rows.iter().map(|r| Some(r.message.as_str()))));
    let values: Float64Array = rows.iter().map(|r| r.finding.value.map(|(v, _)| v)).collect();
    c.set("value", std::sync::Arc::new(values));
    let attributes: Vec<_> = rows.iter().map(|r| r.finding.attributes.clone()).collect();
    c.set("attributes", maps(&attributes));
    c.finish()
}

/// Lines that journald says it refused of a service, in this row.
pub(crate) fn suppressed(row: &Row) -> i64 {
    match (row.finding.kind, row.finding.value) {
        (SUPPRESSED, Some((n, _))) => n as i64,
        _ => 0,
    }
}
