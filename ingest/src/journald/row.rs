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

    /// Adds an attribute. Empty ones are left out, and what was told first stays: readers of a map want each key once.
    pub(crate) fn tell(&mut self, name: &'static str, value: impl AsRef<str>) {
        let value = value.as_ref();
        if !value.is_empty() && !self.attributes.iter().any(|(n, _)| *n == name) {
            self.attributes.push((name, cut(value, VALUE_BYTES).to_owned()));
        }
    }

    /// The attribute of that name.
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
    c.set(
        "message",
        texts(rows.iter().map(|r| Some(r.message.as_str()).filter(|m| !m.is_empty()))),
    );
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

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(fields: &[(&str, &str)]) -> Entry {
        let mut all = serde_json::json!({
            "__CURSOR": "s=a;i=1;b=b1;m=1;t=1;x=1",
            "__REALTIME_TIMESTAMP": "1000000",
            "_BOOT_ID": "b1",
        });
        for (name, value) in fields {
            all[*name] = (*value).into();
        }
        Entry::parse(all.to_string().as_bytes(), 20).unwrap()
    }

    fn row(fields: &[(&str, &str)]) -> Row {
        Reader::default().row(&entry(fields))
    }

    #[test]
    fn priorities_become_severities() {
        let of = |p: &str| row(&[("PRIORITY", p)]).severity;
        assert_eq!(["0", "1", "2"].map(of), ["critical"; 3]);
        assert_eq!(
            ["3", "4", "5", "6", "7"].map(of),
            ["error", "warning", "info", "info", "debug"]
        );
        assert_eq!(["8", "-1", "x", ""].map(of), ["info"; 4]);
        assert_eq!(row(&[]).severity, "info");
    }

    #[test]
    fn a_line_is_about_its_process() {
        let uid = "223a155d_d7fe_467d_8c2b_b8f095a51526";
        let id = "70b548ac11449612f7db5368a141ba1b3f440a4c339092bdede34b0748cfae1d";
        let cgroup = format!("/kubepods.slice/kubepods-pod{uid}.slice/cri-containerd-{id}.scope");
        let r = row(&[
            ("MESSAGE", "hello"),
            ("_PID", "7"),
            ("_COMM", "app"),
            ("_SYSTEMD_CGROUP", &cgroup),
        ]);
        let f = &r.finding;
        assert_eq!(
            (f.kind, f.pid, f.comm.as_str(), f.cgroup.as_str()),
            ("log", Some(7), "app", cgroup.as_str())
        );
        assert_eq!(f.told("pod_uid"), Some(uid.replace('_', "-").as_str()));
        assert_eq!((f.told("container_id"), f.told("boot_id")), (Some(id), Some("b1")));
        assert_eq!((f.told("systemd_unit"), f.told("unit"), f.value), (None, None, None));
        assert_eq!(r.id, derived_id(&["journald", "s=a;i=1;b=b1;m=1;t=1;x=1"]));

        let unit = [
            ("_SYSTEMD_CGROUP", "/system.slice/nginx.service"),
            ("_SYSTEMD_UNIT", "nginx.service"),
        ];
        let f = row(&unit).finding;
        assert_eq!(
            (f.told("systemd_unit"), f.told("reporter_unit")),
            (Some("nginx.service"), None)
        );
    }

    #[test]
    fn a_report_is_about_another() {
        let reporter = [
            ("_PID", "1"),
            ("_COMM", "systemd"),
            ("_SYSTEMD_CGROUP", "/init.scope"),
            ("_SYSTEMD_UNIT", "init.scope"),
        ];
        let with = |more: &[(&str, &str)]| row(&[&reporter, more].concat());
        let r = with(&[
            ("MESSAGE_ID", "fe6faa94e7774663a0da52717891d8ef"),
            ("UNIT", "web.service"),
            ("PRIORITY", "5"),
        ]);
        let f = &r.finding;
        assert_eq!((f.kind, r.severity), ("unit.oom_killed", "error"));
        assert_eq!((f.pid, f.comm.as_str(), f.cgroup.as_str()), (None, "", ""));
        assert_eq!(
            (f.told("systemd_unit"), f.told("reporter_unit")),
            (Some("web.service"), Some("init.scope"))
        );
        // A kind does not make a worse priority better.
        let r = with(&[("MESSAGE_ID", "39f53479d3a045ac8e11786248231fbf"), ("PRIORITY", "2")]);
        assert_eq!((r.finding.kind, r.severity), ("unit.start", "critical"));

        let f = with(&[
            ("MESSAGE_ID", "fc2e22bc6ee647b6b90729ab34a250b1"),
            ("COREDUMP_PID", "9"),
            ("COREDUMP_COMM", "app"),
            ("COREDUMP_UNIT", "app.service"),
            ("COREDUMP_CGROUP", "/system.slice/app.service"),
        ])
        .finding;
        assert_eq!(
            (f.pid, f.comm.as_str(), f.cgroup.as_str()),
            (Some(9), "app", "/system.slice/app.service")
        );

        let f = with(&[
            ("SYSLOG_IDENTIFIER", "dockerd"),
            ("CONTAINER_ID_FULL", "abc"),
            ("CONTAINER_NAME", "web"),
        ])
        .finding;
        assert_eq!(
            (f.container.as_str(), f.cgroup.as_str(), f.told("container_id")),
            ("web", "", Some("abc"))
        );

        // Only the kernel's lines are the kernel's.
        let line = "Out of memory: Killed process 5 (a) total-vm:1kB, anon-rss:2kB";
        let line = |t| {
            Reader::default().find(&Entry::parse(serde_json::json!({
            "__CURSOR": "c", "__REALTIME_TIMESTAMP": "1", "MESSAGE": line, "_TRANSPORT": t,
        }).to_string().as_bytes(), 200).unwrap()).kind
        };
        assert_eq!((line("kernel"), line("stdout")), ("oom.kill_log", "log"));
    }

    #[test]
    fn each_attribute_is_told_once() {
        let line = r#"E0301 01:06:01.28 1 a.go:1] "Probe failed" pod="n/p" podUID=u podUID=v"#;
        let fields =
            [("MESSAGE", line), ("SYSLOG_IDENTIFIER", "kubelet"), ("_TRANSPORT", "stdout")];
        let mut all = serde_json::json!({"__CURSOR": "c", "__REALTIME_TIMESTAMP": "1"});
        for (name, value) in fields {
            all[name] = value.into();
        }
        let entry = Entry::parse(all.to_string().as_bytes(), 200).unwrap();
        let f = Reader::default().row(&entry).finding;
        let mut names: Vec<_> = f.attributes.iter().map(|(n, _)| *n).collect();
        names.sort_unstable();
        assert_eq!(names, ["identifier", "pod_uid", "transport"]);
        assert_eq!((f.kind, f.told("pod_uid"), f.pid), ("container.probe_failed", Some("u"), None));
    }

    #[test]
    fn what_is_cut_says_so() {
        let f = row(&[("MESSAGE", "0123456789012345678901234")]).finding;
        assert_eq!(f.told("message_bytes"), Some("25"));
        let long = "x".repeat(2_000);
        let f = row(&[("SYSLOG_IDENTIFIER", &long)]).finding;
        assert_eq!(f.told("identifier").map(str::len), Some(VALUE_BYTES));
    }

    #[test]
    fn a_boot_is_told_once() {
        let mut r = Reader::default();
        let of = |boot: &str| entry(&[("_BOOT_ID", boot)]);
        assert_eq!(r.boot(&of("b1")), None, "nothing is known of before");
        assert_eq!(r.boot(&of("b1")), None);
        let told = r.boot(&of("b2")).unwrap();
        assert_eq!(
            (told.finding.kind, told.finding.told("previous_boot_id")),
            ("node.boot", Some("b1"))
        );
        // Interleaved entries of the boot before are no boots.
        assert_eq!((r.boot(&of("b1")), r.boot(&of("b2")), r.boot(&of(""))), (None, None, None));
        let mut again = Reader::default();
        again.resume("b1");
        assert_eq!(again.boot(&of("b2")).map(|t| t.id), Some(told.id));
    }

    #[test]
    fn rows_make_a_batch() {
        let def = crate::hot::table_def("events").unwrap();
        let rows = [
            row(&[("MESSAGE", "a")]),
            row(&[("MESSAGE_ID", "a596d6fe7bfa4994828e72309e95d61e"), ("N_DROPPED", "12")]),
        ];
        assert_eq!(rows.each_ref().map(suppressed), [0, 12]);
        let b = batch(&def, &rows, "n", 5).unwrap();
        assert_eq!(b.num_rows(), 2);
        assert_eq!(batch(&def, &[], "n", 5).unwrap().num_rows(), 0);
    }
}
