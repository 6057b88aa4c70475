//! Counters of everything that was lost, unreadable or given up (T8).

use std::{borrow::Cow, collections::BTreeMap, sync::Mutex};

use tapio_sql::{TableBatch, catalog};

use crate::rows::{Columns, labels, texts, times};

/// How bad a count is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; no answer suffers.
    Info,
    /// Some answers are poorer.
    Warning,
    /// Rows are lost or cannot be stored.
    Error,
}

impl Severity {
    /// As the `health` table has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthEntry {
    /// For example `wal` or `collector.cgroup`.
    pub component: Cow<'static, str>,
    /// What is counted, for example `rows_lost`.
    pub metric: Cow<'static, str>,
    /// Count since this process started (for a gauge: the last value).
    pub value: i64,
    /// How bad.
    pub severity: Severity,
    /// What happened last and what it means for answers.
    pub detail: String,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<(Cow<'static, str>, Cow<'static, str>), (HealthEntry, bool)>,
}

/// The counters of a process; shared by pipeline and collectors.
#[derive(Debug, Default)]
pub struct Health {
    state: Mutex<State>,
}

impl Health {
    /// Adds `n` to a counter; `detail` replaces the sentence that stood there. `n` = 0 changes nothing.
    pub fn count(
        &self,
        component: impl Into<Cow<'static, str>>,
        metric: impl Into<Cow<'static, str>>,
        n: i64,
        severity: Severity,
        detail: impl Into<String>,
    ) {
        if n != 0 {
            let key = (component.into(), metric.into());
            self.change(key, severity, detail.into(), |v| v.saturating_add(n));
        }
    }

    /// Sets a gauge.
    pub fn set(
        &self,
        component: impl Into<Cow<'static, str>>,
        metric: impl Into<Cow<'static, str>>,
        value: i64,
        severity: Severity,
        detail: impl Into<String>,
    ) {
        self.change((component.into(), metric.into()), severity, detail.into(), |_| value);
    }

    fn change(
        &self,
        key: (Cow<'static, str>, Cow<'static, str>),
        severity: Severity,
        detail: String,
        f: impl Fn(i64) -> i64,
    ) {
        let Ok(mut state) = self.state.lock() else { return };
        let (component, metric) = key.clone();
        let entry = HealthEntry { component, metric, value: 0, severity, detail: String::new() };
        let (entry, fresh) = state.entries.entry(key).or_insert_with(|| (entry, true));
        let value = f(entry.value);
        *fresh |= value != entry.value;
        entry.value = value;
        entry.severity = severity;
        entry.detail = detail;
    }

    /// All counters, by component and metric.
    pub fn entries(&self) -> Vec<HealthEntry> {
        self.state
            .lock()
            .map(|s| s.entries.values().map(|(e, _)| e.clone()).collect())
            .unwrap_or_default()
    }

    /// The value of a counter; 0 if nothing was counted.
    pub fn value(&self, component: &str, metric: &str) -> i64 {
        self.entries()
            .iter()
            .find(|e| e.component == component && e.metric == metric)
            .map_or(0, |e| e.value)
    }

    /// Rows of the `health` table for the counters that changed since the last call; `None` if none did.
    pub fn drain(&self, node: &str, now_us: i64) -> Option<TableBatch> {
        let changed: Vec<HealthEntry> = {
            let mut state = self.state.lock().ok()?;
            let changed = state.entries.values_mut().filter(|(_, fresh)| *fresh);
            changed
                .map(|(e, fresh)| {
                    *fresh = false;
                    e.clone()
                })
                .collect()
        };
        if changed.is_empty() {
            return None;
        }
        let n = changed.len();
        let mut c = Columns::new(catalog().get("health")?, n);
        c.set("ts", times(vec![now_us; n]));
        c.set("observed_at", times(vec![now_us; n]));
        c.set("node", labels(std::iter::repeat_n(Some(node), n)));
        c.set("component", labels(changed.iter().map(|e| Some(&*e.component))));
        c.set("metric", labels(changed.iter().map(|e| Some(&*e.metric))));
        c.set("value", crate::rows::ints(changed.iter().map(|e| Some(e.value))));
        c.set("severity", labels(changed.iter().map(|e| Some(e.severity.as_str()))));
        c.set("detail", texts(changed.iter().map(|e| Some(e.detail.as_str()))));
        match c.finish() {
            Ok(batch) => Some(batch),
            Err(e) => {
                tracing::error!("{e}");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_drained() {
        let h = Health::default();
        assert!(h.drain("n", 1_000).is_none());
        h.count("wal", "frames_damaged", 2, Severity::Error, "tail");
        h.count("wal", "frames_damaged", 1, Severity::Error, "tail again");
        h.count("wal", "nothing", 0, Severity::Error, "");
        assert_eq!(h.drain("n", 1_000).unwrap().num_rows(), 1);
        assert!(h.drain("n", 2_000).is_none());
        assert_eq!(h.value("wal", "frames_damaged"), 3);
        assert_eq!(h.entries()[0].detail, "tail again");
    }
}
