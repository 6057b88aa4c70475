//! A version of a table: its files, with what the log knows of their content, and the writers' progress.

use std::collections::{BTreeMap, HashMap};

use arrow::{
    array::{Array, AsArray, RecordBatch},
    compute::{max, min},
    datatypes::{DataType, Int64Type, TimestampMicrosecondType},
};
use serde_json::Value;
use tapio_sql::{DATE_COLUMN, TableDef};

use crate::delta::{Action, Add, SCHEMA_VERSION_KEY, Stats};

/// Lowest and highest value of a column in a file; times in µs. Both are safe bounds, not always exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColumnRange {
    /// Lower bound.
    pub min: i64,
    /// Upper bound.
    pub max: i64,
}

/// A file of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    /// Path below the table's folder.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// Partition, `YYYY-MM-DD`.
    pub date: Option<String>,
    /// Milliseconds since the epoch.
    pub modified_ms: i64,
    /// Rows, where the log knows.
    pub rows: Option<u64>,
    /// Ranges of the columns that the log has statistics for.
    pub ranges: BTreeMap<String, ColumnRange>,
}

impl DataFile {
    /// Whether a row with `column` within [lo, hi] can be in this file.
    pub fn may_contain(&self, column: &str, lo: i64, hi: i64) -> bool {
        self.ranges.get(column).is_none_or(|r| r.min <= hi && r.max >= lo)
    }

    /// Ranges of the integer and time columns of `batch`.
    pub(crate) fn ranges_of(def: &TableDef, batch: &RecordBatch) -> BTreeMap<String, ColumnRange> {
        let mut ranges = BTreeMap::new();
        for (c, values) in def.columns.iter().zip(batch.columns()) {
            let range = match values.data_type() {
                DataType::Int64 => {
                    let v = values.as_primitive::<Int64Type>();
                    min(v).zip(max(v))
                }
                DataType::Timestamp(..) => {
                    let v = values.as_primitive::<TimestampMicrosecondType>();
                    min(v).zip(max(v))
                }
                _ => None,
            };
            if let Some((min, max)) = range {
                ranges.insert(c.name.clone(), ColumnRange { min, max });
            }
        }
        ranges
    }

    pub(crate) fn to_add(
        &self,
        def: &TableDef,
        batch_nulls: &BTreeMap<String, usize>,
        data_change: bool,
    ) -> Add {
        let mut stats = Stats { num_records: self.rows.unwrap_or(0) as i64, ..Stats::default() };
        for c in &def.columns {
            if let Some(n) = batch_nulls.get(&c.name) {
                stats.null_count.insert(c.name.clone(), Value::from(*n as i64));
            }
            let Some(r) = self.ranges.get(&c.name) else { continue };
            let value = |v: i64| match c.ty {
                tapio_sql::ColumnType::Timestamp => Value::from(format_ms(v.div_euclid(1000))),
                _ => Value::from(v),
            };
            stats.min_values.insert(c.name.clone(), value(r.min));
            stats.max_values.insert(c.name.clone(), value(r.max));
        }
        Add {
            path: self.path.clone(),
            partition_values: [(DATE_COLUMN.to_owned(), self.date.clone())].into(),
            size: self.size as i64,
            modification_time: self.modified_ms,
            data_change,
            stats: serde_json::to_string(&stats).ok(),
        }
    }

    fn from_add(add: Add) -> Self {
        let stats: Option<Stats> = add.stats.as_deref().and_then(|s| serde_json::from_str(s).ok());
        let mut ranges = BTreeMap::new();
        if let Some(s) = &stats {
            for (column, lo) in &s.min_values {
                let (lo, hi) = (bound(lo, 0), s.max_values.get(column).and_then(|v| bound(v, 999)));
                if let (Some(min), Some(max)) = (lo, hi) {
                    ranges.insert(column.clone(), ColumnRange { min, max });
                }
            }
        }
        Self {
            path: add.path,
            size: add.size.max(0) as u64,
            date: add.partition_values.get(DATE_COLUMN).cloned().flatten(),
            modified_ms: add.modification_time,
            rows: stats.map(|s| s.num_records.max(0) as u64),
            ranges,
        }
    }
}

/// A version of a table.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Version of the log; `None` = the table does not exist yet.
    pub version: Option<i64>,
    /// Files by path.
    pub files: BTreeMap<String, DataFile>,
    /// Last write-ahead sequence that each writer has in files.
    pub txn: HashMap<String, i64>,
    /// Schema version in the log (0: unknown).
    pub schema_version: u32,
    /// Lowest reader version that the log asks for.
    pub min_reader_version: u32,
    pub(crate) table_id: Option<String>,
}

impl Snapshot {
    /// Rows in all files, as far as the log knows.
    pub fn rows(&self) -> u64 {
        self.files.values().filter_map(|f| f.rows).sum()
    }

    pub(crate) fn apply(&mut self, version: i64, actions: Vec<Action>) {
        for a in actions {
            if let Some(p) = a.protocol {
                self.min_reader_version = p.min_reader_version;
            }
            if let Some(m) = a.meta_data {
                self.schema_version = m
                    .configuration
                    .get(SCHEMA_VERSION_KEY)
                    .and_then(|v| v.parse().ok())
                    .unwrap_or(0);
                self.table_id = Some(m.id);
            }
            if let Some(r) = a.remove {
                self.files.remove(&r.path);
            }
            if let Some(add) = a.add {
                self.files.insert(add.path.clone(), DataFile::from_add(add));
            }
            if let Some(t) = a.txn {
                self.txn.insert(t.app_id, t.version);
            }
        }
        self.version = Some(version);
    }
}

/// RFC 3339 in UTC with milliseconds, as Delta's statistics have it.
fn format_ms(ms: i64) -> String {
    let day_ms = ms.rem_euclid(86_400_000);
    let (h, m, s) = (day_ms / 3_600_000, day_ms / 60_000 % 60, day_ms / 1000 % 60);
    let date = tapio_sql::date_of(ms.saturating_mul(1000));
    format!("{date}T{h:02}:{m:02}:{s:02}.{:03}Z", day_ms % 1000)
}

/// A bound from the log's statistics: integers as they are, times in µs. `widen` is added to times, because they were
/// cut to milliseconds.
fn bound(v: &Value, widen: i64) -> Option<i64> {
    match v {
        Value::Number(n) => n.as_i64(),
        Value::String(s) => {
            let nanos = arrow::compute::kernels::cast_utils::string_to_timestamp_nanos(s).ok()?;
            Some(nanos.div_euclid(1000) + widen)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_survive_the_log_and_are_widened() {
        let def = tapio_sql::catalog().get("resources").unwrap();
        let file = DataFile {
            path: "date=2026-11-23/a.parquet".into(),
            size: 10,
            date: Some("2026-11-23".into()),
            modified_ms: 5,
            rows: Some(3),
            ranges: [
                ("series_id".to_owned(), ColumnRange { min: -9, max: i64::MAX }),
                (
                    "ts".to_owned(),
                    ColumnRange { min: 1_795_392_000_123_456, max: 1_795_392_001_123_456 },
                ),
            ]
            .into(),
        };
        let back = DataFile::from_add(file.to_add(def, &BTreeMap::new(), true));
        assert_eq!(back.ranges["series_id"], ColumnRange { min: -9, max: i64::MAX });
        assert_eq!(
            back.ranges["ts"],
            ColumnRange { min: 1_795_392_000_123_000, max: 1_795_392_001_123_999 }
        );
        assert!(back.may_contain("ts", 1_795_392_001_123_456, i64::MAX));
        assert!(!back.may_contain("ts", 1_795_392_002_000_000, i64::MAX));
        assert!(back.may_contain("unknown", 0, 0));
    }

    #[test]
    fn times_are_written_as_delta_does() {
        assert_eq!(format_ms(1_795_392_000_123), "2026-11-23T00:00:00.123Z");
        assert_eq!(format_ms(-1), "1969-12-31T23:59:59.999Z");
    }
}
