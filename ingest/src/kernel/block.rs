//! Rows of `block`.

use std::collections::BTreeMap;

use tapio_ebpf::{BlockOperation, BlockRequests, LATENCY_BUCKETS, LatencyBuckets};
use tapio_sql::{BatchError, TableBatch};

use super::merge;
use crate::rows::{Columns, count_lists, counts, ints, labels};

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    series_id: i64,
    disk: String,
    device: (u32, u32),
    operation: BlockOperation,
}

#[derive(Debug)]
struct Sums {
    requests: u64,
    errors: u64,
    bytes: u64,
    latency_ns: u64,
    latency: LatencyBuckets,
}

/// What was counted, by what makes a row.
#[derive(Debug, Default)]
pub(super) struct Rows(BTreeMap<Key, Sums>);

impl Rows {
    pub(super) fn add(&mut self, r: &BlockRequests, series_id: i64) {
        let key = Key { series_id, disk: r.disk.clone(), device: r.device, operation: r.operation };
        let latency = [0; LATENCY_BUCKETS];
        let sums = self.0.entry(key).or_insert(Sums {
            requests: 0,
            errors: 0,
            bytes: 0,
            latency_ns: 0,
            latency,
        });
        sums.requests += r.requests;
        sums.errors += r.errors;
        sums.bytes += r.bytes;
        sums.latency_ns += r.latency_ns;
        merge(&mut sums.latency, &r.latency);
    }

    pub(super) fn batch(self, ts: i64, observed: i64) -> Result<TableBatch, BatchError> {
        let rows = &self.0;
        let mut c = Columns::at("block", rows.len(), ts, observed)?;
        let text = |of: fn(&Key) -> String| rows.keys().map(of).collect::<Vec<String>>();
        let devices = text(|k| format!("{}:{}", k.device.0, k.device.1));
        let operations = text(|k| operation(k.operation));
        c.set("series_id", ints(rows.keys().map(|k| Some(k.series_id))));
        c.set("disk", labels(rows.keys().map(|k| Some(disk(k)))));
        c.set("device", labels(devices.iter().map(|d| Some(d.as_str()))));
        c.set("operation", labels(operations.iter().map(|o| Some(o.as_str()))));
        c.set("requests", counts(rows.values().map(|s| s.requests)));
        c.set("errors", counts(rows.values().map(|s| s.errors)));
        c.set("bytes", counts(rows.values().map(|s| s.bytes)));
        c.set("latency_us", counts(rows.values().map(|s| s.latency_ns / 1_000)));
        c.set("latency_buckets", count_lists(rows.values().map(|s| s.latency.as_slice())));
        c.finish()
    }
}

/// A disk without a name is told all the same.
fn disk(key: &Key) -> &str {
    if key.disk.is_empty() { "unknown" } else { &key.disk }
}

fn operation(operation: BlockOperation) -> String {
    match operation {
        BlockOperation::Read => "read".into(),
        BlockOperation::Write => "write".into(),
        BlockOperation::Flush => "flush".into(),
        BlockOperation::Discard => "discard".into(),
        BlockOperation::Other(number) => number.to_string(),
    }
}
