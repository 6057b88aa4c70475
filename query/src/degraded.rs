//! What could not be read: counted and visible (T8).

use std::{collections::BTreeMap, sync::Mutex};

/// One thing that could not be read since the process started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DegradedRow {
    /// Who noticed: `store` for data files.
    pub component: String,
    /// What it is about: the path of the file.
    pub subject: String,
    /// Why, and what it means for answers.
    pub detail: String,
    /// How often a query had to do without it.
    pub count: i64,
}

/// Collects [`DegradedRow`]s; shared by all queries of an engine.
#[derive(Debug, Default)]
pub(crate) struct Degraded {
    rows: Mutex<BTreeMap<(String, String), (String, i64)>>,
}

impl Degraded {
    /// Counts one more time that `subject` could not be read.
    pub(crate) fn record(&self, component: &str, subject: &str, detail: &str) {
        tracing::warn!(component, subject, detail, "skipped");
        let mut rows = match self.rows.lock() {
            Ok(rows) => rows,
            Err(poisoned) => poisoned.into_inner(),
        };
        let row = rows
            .entry((component.to_owned(), subject.to_owned()))
            .or_insert_with(|| (String::new(), 0));
        detail.clone_into(&mut row.0);
        row.1 += 1;
    }

    /// All of it, by component and subject.
    pub(crate) fn rows(&self) -> Vec<DegradedRow> {
        let rows = match self.rows.lock() {
            Ok(rows) => rows,
            Err(poisoned) => poisoned.into_inner(),
        };
        rows.iter()
            .map(|((component, subject), (detail, count))| DegradedRow {
                component: component.clone(),
                subject: subject.clone(),
                detail: detail.clone(),
                count: *count,
            })
            .collect()
    }
}
