//! What the relations answer, as values: decoded from record batches, ready to render.

use arrow::array::RecordBatch;
use serde_json::{Map, Value};
use tapio_sql::words::is_of_bytes;

use crate::cell::{Row, rows};

/// How many observed outcomes a confidence needs (DESIGN §6).
pub const CONFIDENCE_MIN_N: i64 = 30;

/// Where an answer came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// `server`, `store` or `live`.
    pub source: &'static str,
    /// Address, URL or length of the observation, for humans.
    pub detail: String,
    /// Time that the answer is about, µs.
    pub as_of: Option<i64>,
    /// Newest data that could be in it, µs.
    pub data_through: Option<i64>,
}

/// A subject of the series table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Subject {
    pub series_id: i64,
    pub workload_id: i64,
    pub kind: String,
    pub namespace: Option<String>,
    pub name: String,
    pub container: Option<String>,
    pub node: Option<String>,
    pub cgroup: Option<String>,
    pub unit: Option<String>,
    pub pid: Option<i64>,
    pub workload: Option<String>,
    pub active: Option<bool>,
    /// Of a certificate: its file, with #N for all but the first in it.
    pub path: Option<String>,
}

impl Subject {
    fn read(row: Row<'_>) -> Self {
        Self {
            series_id: row.int("series_id").unwrap_or_default(),
            workload_id: row.int("workload_id").unwrap_or_default(),
            kind: row.text("subject_kind").unwrap_or_default(),
            namespace: label(row, "namespace"),
            name: row.text("name").unwrap_or_default(),
            container: label(row, "container"),
            node: label(row, "node"),
            cgroup: label(row, "cgroup"),
            unit: label(row, "unit"),
            pid: row.int("pid"),
            workload: label(row, "workload"),
            active: row.bool("active"),
            path: label(row, "path"),
        }
    }

    /// What a sentence calls it: `Pod`, `Cgroup`, `Unit`.
    pub fn noun(&self) -> String {
        let mut chars = self.kind.chars();
        chars.next().map_or_else(|| "Subject".into(), |c| c.to_uppercase().chain(chars).collect())
    }

    /// The target that names exactly this subject, as far as the grammar can.
    pub fn as_target(&self) -> String {
        if let Some(path) = &self.path {
            return format!("cert:{path}");
        }
        match (&self.pid, &self.cgroup, &self.namespace) {
            _ if self.kind == "filesystem" => format!("disk:{}", self.name),
            (Some(pid), _, _) => format!("pid:{pid}"),
            (None, Some(cgroup), _) => cgroup.clone(),
            (None, None, Some(ns)) => format!("{ns}/{}", self.name),
            _ => self.name.clone(),
        }
    }
}

/// An empty label means "not known".
fn label(row: Row<'_>, name: &str) -> Option<String> {
    row.text(name).filter(|t| !t.is_empty())
}

/// The newest numbers of a subject.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Resources {
    pub memory_usage_bytes: Option<i64>,
    pub memory_working_set_bytes: Option<i64>,
    pub memory_rss_bytes: Option<i64>,
    pub memory_level_bytes: Option<i64>,
    pub memory_limit_bytes: Option<i64>,
    pub memory_headroom_bytes: Option<i64>,
    pub cpu_percent: Option<f64>,
    pub pids: Option<i64>,
    pub pids_limit: Option<i64>,
    pub restarts: Option<i64>,
    pub oom_kills: Option<i64>,
    pub fds: Option<i64>,
    pub fds_limit: Option<i64>,
    pub heap_limit_bytes: Option<i64>,
    pub disk_used_bytes: Option<i64>,
    pub disk_available_bytes: Option<i64>,
    pub inodes_used: Option<i64>,
    pub inodes_limit: Option<i64>,
    /// µs.
    pub not_before: Option<i64>,
    /// µs.
    pub not_after: Option<i64>,
}

/// A prediction; `None` = cannot say.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Prediction {
    pub kind: String,
    pub eta_seconds: Option<f64>,
    pub eta_low_seconds: Option<f64>,
    pub eta_high_seconds: Option<f64>,
    pub eta_low99_seconds: Option<f64>,
    pub eta_high99_seconds: Option<f64>,
    pub probability: Option<f64>,
    pub horizon_seconds: Option<f64>,
    pub confidence_rate: Option<f64>,
    pub confidence_n: Option<i64>,
    pub model: Option<String>,
    pub window_seconds: Option<f64>,
    pub samples: Option<i64>,
    /// In bytes for `oom`, `heap` and `disk_full`, in things for the rest.
    pub slope_per_second: Option<f64>,
    pub cannot_say: Option<String>,
}

impl Prediction {
    /// Whether it is no forecast but a date that is known.
    pub fn is_date(&self) -> bool {
        self.kind == "cert_expiry"
    }

    /// Whether its amounts are bytes.
    pub fn is_of_bytes(&self) -> bool {
        is_of_bytes(&self.kind)
    }
}

/// One fact behind a finding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Evidence {
    pub event_id: Option<String>,
    pub ts: Option<String>,
    pub fact: String,
}

impl Evidence {
    fn read(mut map: Map<String, Value>) -> Self {
        let mut text = |key: &str| match map.remove(key) {
            Some(Value::String(s)) => Some(s),
            _ => None,
        };
        Self { event_id: text("event_id"), ts: text("ts"), fact: text("fact").unwrap_or_default() }
    }
}

/// A finding of a pattern.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Insight {
    pub id: String,
    pub pattern: String,
    pub severity: String,
    pub score: Option<f64>,
    pub title: String,
    pub detail: Option<String>,
    pub evidence: Vec<Evidence>,
}

/// All that `tapio_check` says about one subject.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs)]
pub struct SubjectReport {
    pub subject: Subject,
    /// Time of the newest row, µs.
    pub ts: Option<i64>,
    pub age_seconds: Option<f64>,
    pub resources: Resources,
    /// `healthy`, `degraded`, `unhealthy` or `unknown`.
    pub status: String,
    pub predictions: Vec<Prediction>,
    pub insights: Vec<Insight>,
}

/// Ranks a status: the higher, the worse; `unknown` is worse than healthy, but hides nothing that is known to be bad.
pub fn status_rank(status: &str) -> u8 {
    match status {
        "unhealthy" => 3,
        "degraded" => 2,
        "unknown" => 1,
        _ => 0,
    }
}

/// The worst of the statuses; `unknown` if there is none.
pub fn worst_status(reports: &[SubjectReport]) -> &str {
    reports.iter().map(|r| r.status.as_str()).max_by_key(|s| status_rank(s)).unwrap_or("unknown")
}

/// The subjects that a target names.
pub fn subjects(batches: &[RecordBatch]) -> Vec<Subject> {
    rows(batches).map(Subject::read).collect()
}

/// Rows of `tapio_check`, gathered by subject, in the order of the relation.
pub fn check_reports(batches: &[RecordBatch]) -> Vec<SubjectReport> {
    let mut reports: Vec<SubjectReport> = Vec::new();
    let mut position = std::collections::HashMap::new();
    for row in rows(batches) {
        let subject = Subject::read(row);
        let at = *position.entry(subject.series_id).or_insert_with(|| {
            reports.push(SubjectReport {
                subject,
                ts: row.time("ts"),
                age_seconds: row.float("age_seconds"),
                resources: resources(row),
                status: row.text("status").unwrap_or_else(|| "unknown".into()),
                ..SubjectReport::default()
            });
            reports.len() - 1
        });
        let report = &mut reports[at];
        if let Some(p) = prediction(row)
            && !report.predictions.contains(&p)
        {
            report.predictions.push(p);
        }
        if let Some(i) = insight(row) {
            report.insights.push(i);
        }
        let status = row.text("status").unwrap_or_default();
        if status_rank(&status) > status_rank(&report.status) {
            report.status = status;
        }
    }
    reports
}

fn resources(row: Row<'_>) -> Resources {
    Resources {
        memory_usage_bytes: row.int("memory_usage_bytes"),
        memory_working_set_bytes: row.int("memory_working_set_bytes"),
        memory_rss_bytes: row.int("memory_rss_bytes"),
        memory_level_bytes: row.int("memory_level_bytes"),
        memory_limit_bytes: row.int("memory_limit_bytes"),
        memory_headroom_bytes: row.int("memory_headroom_bytes"),
        cpu_percent: row.float("cpu_percent"),
        pids: row.int("pids"),
        pids_limit: row.int("pids_limit"),
        restarts: row.int("restarts"),
        oom_kills: row.int("oom_kills"),
        fds: row.int("fds"),
        fds_limit: row.int("fds_limit"),
        heap_limit_bytes: row.int("heap_limit_bytes"),
        disk_used_bytes: row.int("disk_used_bytes"),
        disk_available_bytes: row.int("disk_available_bytes"),
        inodes_used: row.int("inodes_used"),
        inodes_limit: row.int("inodes_limit"),
        not_before: row.time("not_before"),
        not_after: row.time("not_after"),
    }
}

fn prediction(row: Row<'_>) -> Option<Prediction> {
    let cannot_say = label(row, "cannot_say");
    // A reason for silence counts as an answer also where the relation names no type.
    let kind = label(row, "type").or_else(|| cannot_say.as_ref().map(|_| "oom".to_owned()))?;
    Some(Prediction {
        kind,
        eta_seconds: row.float("eta_seconds"),
        eta_low_seconds: row.float("eta_low_seconds"),
        eta_high_seconds: row.float("eta_high_seconds"),
        eta_low99_seconds: row.float("eta_low99_seconds"),
        eta_high99_seconds: row.float("eta_high99_seconds"),
        probability: row.float("probability"),
        horizon_seconds: row.float("horizon_seconds"),
        confidence_rate: row.float("confidence_rate"),
        confidence_n: row.int("confidence_n"),
        model: label(row, "model"),
        window_seconds: row.float("window_seconds"),
        samples: row.int("samples"),
        slope_per_second: row.float("slope_per_second"),
        cannot_say,
    })
}

fn insight(row: Row<'_>) -> Option<Insight> {
    Some(Insight {
        id: label(row, "insight_id")?,
        pattern: row.text("pattern").unwrap_or_default(),
        severity: row.text("severity").unwrap_or_default(),
        score: row.float("score"),
        title: row.text("title").unwrap_or_default(),
        detail: label(row, "detail"),
        evidence: evidence(row),
    })
}

fn evidence(row: Row<'_>) -> Vec<Evidence> {
    row.structs("evidence").into_iter().map(Evidence::read).collect()
}

/// One row of `tapio_why`.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs)]
pub struct WhyEntry {
    pub rank: i64,
    pub subject: Subject,
    pub kind: Option<String>,
    pub title: String,
    pub score: Option<f64>,
    pub pattern: Option<String>,
    pub detail: Option<String>,
    pub evidence: Vec<Evidence>,
}

/// All of `tapio_why`.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs)]
pub struct WhyReport {
    /// `cause_found` or `no_cause_proven`.
    pub verdict: String,
    pub causes: Vec<WhyEntry>,
    pub chain: Vec<WhyEntry>,
    pub recommendations: Vec<WhyEntry>,
    pub pattern: Option<String>,
    /// Why no cause is proven, where the relation says so.
    pub remark: Option<String>,
}

/// Rows of `tapio_why` by section and rank.
pub fn why_report(batches: &[RecordBatch]) -> WhyReport {
    let mut report = WhyReport { verdict: "no_cause_proven".into(), ..WhyReport::default() };
    for row in rows(batches) {
        if row.text("verdict").as_deref() == Some("cause_found") {
            report.verdict = "cause_found".into();
        }
        let entry = WhyEntry {
            rank: row.int("rank").unwrap_or_default(),
            subject: Subject::read(row),
            kind: label(row, "kind"),
            title: row.text("title").unwrap_or_default(),
            score: row.float("score"),
            pattern: label(row, "pattern"),
            detail: label(row, "detail"),
            evidence: evidence(row),
        };
        if report.pattern.is_none() {
            report.pattern.clone_from(&entry.pattern);
        }
        match row.text("section").as_deref() {
            Some("cause") => report.causes.push(entry),
            Some("chain") => report.chain.push(entry),
            Some("recommendation") => report.recommendations.push(entry),
            _ => report.remark = report.remark.take().or(entry.detail).or(label(row, "title")),
        }
    }
    if report.verdict == "cause_found" {
        report.remark = None;
    }
    for section in [&mut report.causes, &mut report.chain, &mut report.recommendations] {
        section.sort_by_key(|e| e.rank);
    }
    report
}

/// One row of `tapio_fixes`.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Fix {
    pub rank: i64,
    pub subject: Subject,
    pub pattern: Option<String>,
    pub insight_id: Option<String>,
    pub description: String,
    pub command: String,
    pub undo_command: Option<String>,
    pub risk: String,
    pub impact: Option<String>,
    pub cost: Option<String>,
    pub buys: Option<String>,
}

/// Rows of `tapio_fixes`, best first.
pub fn fixes(batches: &[RecordBatch]) -> Vec<Fix> {
    let mut fixes: Vec<Fix> = rows(batches)
        .map(|row| Fix {
            rank: row.int("rank").unwrap_or_default(),
            subject: Subject::read(row),
            pattern: label(row, "pattern"),
            insight_id: label(row, "insight_id"),
            description: row.text("description").unwrap_or_default(),
            command: row.text("command").unwrap_or_default(),
            undo_command: label(row, "undo_command"),
            risk: row.text("risk").unwrap_or_default(),
            impact: label(row, "impact"),
            cost: label(row, "cost"),
            buys: label(row, "buys"),
        })
        .collect();
    fixes.sort_by_key(|f| f.rank);
    fixes
}

/// What could not be read, and so is missing from the answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Degraded {
    pub component: String,
    pub subject: Option<String>,
    pub detail: String,
    pub count: Option<i64>,
}

/// Rows of `tapio_degraded`.
pub fn degraded(batches: &[RecordBatch]) -> Vec<Degraded> {
    rows(batches)
        .map(|row| Degraded {
            component: row.text("component").unwrap_or_default(),
            subject: label(row, "subject"),
            detail: row.text("detail").unwrap_or_default(),
            count: row.int("count"),
        })
        .collect()
}
