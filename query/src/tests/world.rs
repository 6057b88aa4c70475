//! Small worlds to ask about: rows as a collector would have stored them.

use std::{collections::HashMap, sync::Arc, sync::Mutex};

use arrow::{
    array::{
        ArrayRef, Float64Array, Int64Array, MapBuilder, RecordBatch, StringArray, StringBuilder,
        TimestampMicrosecondArray, new_null_array,
    },
    compute::cast,
};
use tapio_sql::{SeriesIdentity, catalog, date_of, derived_id};
use tapio_store::{Commit, HotBatch, HotSource, HotTable, Store};

use crate::{Engine, EngineOptions};

/// 2026-11-23T10:00:00Z.
pub(crate) const T0: i64 = 1_795_428_000_000_000;
pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const MB: i64 = 1_000_000;

#[derive(Debug, Clone)]
pub(crate) struct Row(pub(crate) HashMap<&'static str, Value>);

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Int(i64),
    Text(String),
    Real(f64),
    Map(Vec<(String, String)>),
}

impl From<i64> for Value {
    fn from(v: i64) -> Self {
        Self::Int(v)
    }
}
impl From<f64> for Value {
    fn from(v: f64) -> Self {
        Self::Real(v)
    }
}
impl From<&str> for Value {
    fn from(v: &str) -> Self {
        Self::Text(v.into())
    }
}
impl From<String> for Value {
    fn from(v: String) -> Self {
        Self::Text(v)
    }
}

macro_rules! row {
    ($($name:ident : $value:expr),* $(,)?) => {
        $crate::tests::world::Row(std::collections::HashMap::from([$((stringify!($name), $value.into())),*]))
    };
}
pub(crate) use row;

pub(crate) fn batch(table: &str, rows: &[Row]) -> RecordBatch {
    let def = catalog().get(table).unwrap();
    let columns = def
        .columns
        .iter()
        .map(|c| {
            let get = |r: &Row| r.0.get(c.name.as_str()).cloned();
            if !rows.iter().any(|r| r.0.contains_key(c.name.as_str())) {
                return new_null_array(&c.ty.arrow(), rows.len());
            }
            let column: ArrayRef = match c.ty {
                tapio_sql::ColumnType::Timestamp => {
                    let v = rows.iter().map(|r| match get(r) {
                        Some(Value::Int(v)) => Some(v),
                        _ => None,
                    });
                    Arc::new(v.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
                }
                tapio_sql::ColumnType::Int64 => {
                    let v = rows.iter().map(|r| match get(r) {
                        Some(Value::Int(v)) => Some(v),
                        _ => None,
                    });
                    Arc::new(v.collect::<Int64Array>())
                }
                tapio_sql::ColumnType::Float64 => {
                    let v = rows.iter().map(|r| match get(r) {
                        Some(Value::Real(v)) => Some(v),
                        _ => None,
                    });
                    Arc::new(v.collect::<Float64Array>())
                }
                tapio_sql::ColumnType::Map => {
                    let mut b = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
                    for r in rows {
                        if let Some(Value::Map(m)) = get(r) {
                            for (k, v) in m {
                                b.keys().append_value(k);
                                b.values().append_value(v);
                            }
                            b.append(true).unwrap();
                        } else {
                            b.append(false).unwrap();
                        }
                    }
                    Arc::new(b.finish())
                }
                _ => {
                    let v = rows.iter().map(|r| match get(r) {
                        Some(Value::Text(v)) => Some(v),
                        _ => None,
                    });
                    Arc::new(v.collect::<StringArray>())
                }
            };
            cast(&column, &c.ty.arrow()).unwrap()
        })
        .collect();
    RecordBatch::try_new(def.schema(), columns).unwrap()
}

/// Hot rows that a test put there.
#[derive(Debug, Default)]
pub(crate) struct Hot {
    pub(crate) tables: Mutex<HashMap<String, HotTable>>,
    pub(crate) through: Mutex<Option<i64>>,
}

impl Hot {
    pub(crate) fn put(&self, table: &str, first_seq: i64, last_seq: i64, rows: &[Row]) {
        let mut tables = self.tables.lock().unwrap();
        let hot = tables.entry(table.into()).or_default();
        hot.writer = "w".into();
        hot.batches.push(HotBatch::new(first_seq, last_seq, batch(table, rows)));
    }
}

impl HotSource for Hot {
    fn hot(&self, table: &str) -> HotTable {
        self.tables.lock().unwrap().get(table).cloned().unwrap_or_default()
    }

    fn data_through_us(&self) -> Option<i64> {
        *self.through.lock().unwrap()
    }
}

#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) series: Vec<Row>,
    pub(crate) resources: Vec<Row>,
    pub(crate) events: Vec<Row>,
}

pub(crate) fn identity(kind: &str, cgroup: &str, life: &str) -> SeriesIdentity {
    SeriesIdentity {
        kind: kind.into(),
        node: "n1".into(),
        boot_id: "b1".into(),
        cgroup: cgroup.into(),
        incarnation: life.into(),
        ..SeriesIdentity::default()
    }
}

impl World {
    pub(crate) fn add(&mut self, id: &SeriesIdentity, ts: i64, parent: Option<i64>) -> i64 {
        self.add_pid(id, ts, parent, None)
    }

    pub(crate) fn add_pid(
        &mut self,
        id: &SeriesIdentity,
        ts: i64,
        parent: Option<i64>,
        pid: Option<i64>,
    ) -> i64 {
        let some = |s: &str| (!s.is_empty()).then(|| Value::from(s));
        let leaf = id.cgroup.rsplit('/').next().unwrap_or_default();
        let name = [&id.comm, &id.unit, &id.container, &id.pod].into_iter().find(|s| !s.is_empty());
        let name = match name {
            Some(n) => n.as_str(),
            None if id.kind == "node" => &id.node,
            None => leaf,
        };
        let mut row = row! {
            series_id: id.series_id(), workload_id: id.workload_id(), ts: ts, observed_at: ts,
            kind: id.kind.as_str(), name: name, node: id.node.as_str(), boot_id: id.boot_id.as_str(),
            incarnation: id.incarnation.as_str(),
            cgroup_fs: format!("/sys/fs/cgroup/memory{}", id.cgroup), cgroup_version: 1_i64,
        };
        for (k, v) in [
            ("namespace", some(&id.namespace)),
            ("workload", some(&id.workload)),
            ("pod", some(&id.pod)),
            ("container", some(&id.container)),
            ("unit", some(&id.unit)),
            ("cgroup", some(&id.cgroup)),
            ("parent_id", parent.map(Value::Int)),
            ("pid", pid.map(Value::Int)),
        ] {
            if let Some(v) = v {
                row.0.insert(k, v);
            }
        }
        self.series.push(row);
        id.series_id()
    }

    pub(crate) fn memory(&mut self, series: i64, ts: i64, level: i64, limit: Option<i64>) {
        let mut row = row! {
            series_id: series, ts: ts, observed_at: ts, memory_usage_bytes: level,
            memory_working_set_bytes: level, memory_rss_bytes: level, memory_level_bytes: level,
            cpu_usage_us: (ts - T0) / 2, pids: 1_i64, oom_kills: 0_i64,
        };
        if let Some(limit) = limit {
            row.0.insert("memory_limit_bytes", limit.into());
            row.0.insert("memory_headroom_bytes", (limit - level).into());
        }
        self.resources.push(row);
    }

    pub(crate) fn event(
        &mut self,
        kind: &str,
        series: i64,
        ts: i64,
        value: f64,
        message: &str,
    ) -> String {
        self.event_with(kind, series, ts, value, message, &[])
    }

    pub(crate) fn event_with(
        &mut self,
        kind: &str,
        series: i64,
        ts: i64,
        value: f64,
        message: &str,
        attributes: &[(&str, &str)],
    ) -> String {
        let id = derived_id(&[kind, &series.to_string(), &ts.to_string()]);
        let mut row = row! {
            id: id.as_str(), ts: ts, observed_at: ts, source: "cgroup", kind: kind, severity: "critical",
            series_id: series, message: message, value: value,
        };
        let map = attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        row.0.insert("attributes", Value::Map(map));
        self.events.push(row);
        id
    }

    pub(crate) fn tables(&self) -> [(&'static str, &[Row]); 3] {
        [("series", &self.series), ("resources", &self.resources), ("events", &self.events)]
    }

    /// Everything in files.
    pub(crate) async fn store(&self) -> Store {
        let store = Store::memory();
        for (table, rows) in self.tables() {
            write(&store, table, rows, 0).await;
        }
        store
    }

    pub(crate) async fn engine(&self, threads: usize) -> Arc<Engine> {
        engine(self.store().await, threads)
    }
}

/// One file per date, in one commit that covers the writer's sequence.
pub(crate) async fn write(store: &Store, table: &str, rows: &[Row], sequence: i64) {
    if rows.is_empty() {
        return;
    }
    let log = store.table(catalog().get(table).unwrap());
    let mut by_date: std::collections::BTreeMap<String, Vec<Row>> = Default::default();
    for r in rows {
        let Value::Int(ts) = r.0["ts"] else { panic!("ts") };
        by_date.entry(date_of(ts)).or_default().push(r.clone());
    }
    let mut add = Vec::new();
    for (date, rows) in by_date {
        add.push(log.write_file(&date, &[batch(table, &rows)]).await.unwrap());
    }
    let txn = (sequence > 0).then(|| ("w".to_owned(), sequence));
    log.commit(Commit { add, txn, data_change: true, ..Commit::default() }).await.unwrap();
}

pub(crate) fn engine(store: Store, threads: usize) -> Arc<Engine> {
    let mut options = EngineOptions::new(store, tapio_sql::PatternCatalog::builtin().unwrap());
    options.threads = threads;
    Engine::new(options).unwrap()
}

/// A leak of 2 MB/s by one process in `/jobs/leak`, 300 s old, 400 MB below its limit of 1 GB; a quiet neighbour.
pub(crate) fn leak() -> (World, i64, i64) {
    let mut w = World::default();
    let node =
        w.add(&SeriesIdentity { cgroup: String::new(), ..identity("node", "", "b1") }, T0, None);
    let jobs = w.add(&identity("cgroup", "/jobs", "1"), T0, Some(node));
    let leak = w.add(&identity("cgroup", "/jobs/leak", "2"), T0, Some(jobs));
    let quiet = w.add(&identity("cgroup", "/jobs/quiet", "3"), T0, Some(jobs));
    let free = w.add(&identity("cgroup", "/free", "4"), T0, None);
    let python =
        SeriesIdentity { comm: "python3".into(), ..identity("process", "/jobs/leak", "5") };
    let python = w.add_pid(&python, T0, Some(leak), Some(4242));
    let shell = SeriesIdentity { comm: "sh".into(), ..identity("process", "/jobs/leak", "6") };
    let shell = w.add_pid(&shell, T0, Some(leak), Some(4241));
    for i in 0..300 {
        let ts = T0 + i * SECOND;
        let wobble = (i * 7919 % 13) * 100_000;
        w.memory(leak, ts, 2 * MB * i + wobble + 5 * MB, Some(1_000 * MB));
        w.memory(python, ts, 2 * MB * i + wobble, None);
        w.memory(shell, ts, 5 * MB, None);
        w.memory(quiet, ts, 100 * MB + wobble, Some(1_000 * MB));
        w.memory(free, ts, 100 * MB + wobble, None);
        w.memory(jobs, ts, 2 * MB * i + wobble + 105 * MB, None);
    }
    (w, leak, quiet)
}

pub(crate) fn text(batches: &[RecordBatch]) -> String {
    arrow::util::pretty::pretty_format_batches(batches).unwrap().to_string()
}
