//! Ticks of a collector, and their rows as JSON.

use std::{collections::HashMap, sync::Arc};

use arrow::{compute::cast, datatypes::DataType, record_batch::RecordBatch};
use serde_json::Value;
use tapio_ingest::{
    Clock, Collector, CollectorOptions, Health, KernelOptions, Severity, SystemClock,
};
use tapio_sql::TableBatch;

use crate::lab::{Cgroup, wait};

/// A collector of the whole machine and all rows that it told.
pub struct Watched {
    pub collector: Collector,
    pub health: Arc<Health>,
    pub batches: Vec<TableBatch>,
    rows: HashMap<String, Vec<Value>>,
}

impl Watched {
    /// What is asked for must load.
    pub fn start(kernel: KernelOptions) -> Self {
        Self::only(kernel, None)
    }

    /// As [`Watched::start`], of one cgroup.
    pub fn only(kernel: KernelOptions, filter: Option<String>) -> Self {
        let health = Arc::new(Health::default());
        let options = CollectorOptions {
            kernel: Some(kernel),
            health: health.clone(),
            filter,
            ..CollectorOptions::default()
        };
        let collector = Collector::new(options).unwrap();
        let entries = health.entries().into_iter();
        let missing: Vec<_> = entries
            .filter(|e| e.component == "collector.ebpf" && e.severity > Severity::Info)
            .collect();
        assert!(missing.is_empty(), "{missing:#?}");
        let (batches, rows) = (Vec::new(), HashMap::new());
        let mut watched = Self { collector, health, batches, rows };
        watched.tick();
        watched
    }

    pub fn tick(&mut self) {
        let batches = self.collector.tick(SystemClock.now_us()).batches;
        batches.into_iter().for_each(|b| self.keep(b));
    }

    fn keep(&mut self, batch: TableBatch) {
        self.rows.entry(batch.def().name.clone()).or_default().extend(json(&batch));
        self.batches.push(batch);
    }

    /// What the collector tells between ticks, once there is something; all of `events`.
    pub fn urgent(&mut self) -> Vec<Value> {
        let batch = wait("what does not wait for a tick", || self.collector.urgent());
        self.keep(batch);
        self.rows("events")
    }

    /// All rows of a table so far.
    pub fn rows(&self, table: &str) -> Vec<Value> {
        self.rows.get(table).cloned().unwrap_or_default()
    }

    /// Ticks until the rows of a table are what is waited for.
    pub fn until(
        &mut self,
        what: &str,
        table: &str,
        enough: impl Fn(&[Value]) -> bool,
    ) -> Vec<Value> {
        wait(what, || {
            self.tick();
            let rows = self.rows(table);
            enough(&rows).then_some(rows)
        })
    }

    /// The series of a cgroup; it must have been told.
    pub fn series(&self, cgroup: &Cgroup) -> i64 {
        let path = format!("/{}", cgroup.name());
        let rows = self.rows("series");
        let found = rows.iter().find(|r| text(r, "cgroup") == path && text(r, "kind") != "process");
        int(found.unwrap_or_else(|| panic!("no series of {path}")), "series_id")
    }
}

/// Times are µs since the epoch.
fn json(batch: &TableBatch) -> Vec<Value> {
    let (schema, columns, _) = batch.batch().clone().into_parts();
    let columns = schema.fields().iter().zip(columns).map(|(f, c)| match c.data_type() {
        DataType::Timestamp(..) => (f.name(), cast(&c, &DataType::Int64).unwrap()),
        _ => (f.name(), c),
    });
    let plain = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = arrow::json::ArrayWriter::new(Vec::new());
    writer.write(&plain).unwrap();
    writer.finish().unwrap();
    serde_json::from_slice(&writer.into_inner()).unwrap()
}

/// A column of text; NULL is empty.
pub fn text<'a>(row: &'a Value, column: &str) -> &'a str {
    row.get(column).and_then(Value::as_str).unwrap_or_default()
}

/// A column of integers, or an attribute that is one; NULL is 0.
pub fn int(row: &Value, column: &str) -> i64 {
    row.get(column).and_then(Value::as_i64).unwrap_or_default()
}

pub fn attribute<'a>(row: &'a Value, name: &str) -> &'a str {
    row.get("attributes").map(|a| text(a, name)).unwrap_or_default()
}
