//! What `query` needs from `ingest` without knowing it: rows not yet in a file, and a place to put rows.

use std::sync::Arc;

use arrow::{
    array::{Array, AsArray, RecordBatch},
    compute::{max, min},
    datatypes::TimestampMicrosecondType,
};
use async_trait::async_trait;
use tapio_sql::TableBatch;

/// Rows that are acknowledged but not yet in a file, from one or several write-ahead sequences.
#[derive(Debug, Clone)]
pub struct HotBatch {
    /// Lowest write-ahead sequence in the batch.
    pub first_seq: i64,
    /// Highest write-ahead sequence in the batch.
    pub last_seq: i64,
    /// The rows, in the table's schema.
    pub batch: RecordBatch,
    latest_us: i64,
    ts_range: Option<(i64, i64)>,
    token: Arc<()>,
}

impl HotBatch {
    /// Rows of these sequences.
    pub fn new(first_seq: i64, last_seq: i64, batch: RecordBatch) -> Self {
        let times =
            |column| batch.column_by_name(column)?.as_primitive_opt::<TimestampMicrosecondType>();
        let latest = |column| {
            let times = times(column)?;
            match times.null_count() {
                // Several times as fast as the kernel that minds NULLs.
                0 => times.values().iter().copied().max(),
                _ => max(times),
            }
        };
        let latest_us = latest("ts").max(latest("observed_at")).unwrap_or(i64::MIN);
        let ts_range = times("ts").filter(|t| t.null_count() == 0).and_then(|t| min(t).zip(max(t)));
        Self { first_seq, last_seq, batch, latest_us, ts_range, token: Arc::default() }
    }

    /// The latest `ts` or `observed_at`, µs; before it rows are missing (T7). `i64::MIN` without either.
    pub fn latest_us(&self) -> i64 {
        self.latest_us
    }

    /// The first and the last `ts`, µs; `None` without rows and where a `ts` is NULL.
    pub fn ts_range(&self) -> Option<(i64, i64)> {
        self.ts_range
    }

    /// Stands for these rows: clones have it, nothing else ever does. Who keeps what it computed from the rows keeps a
    /// `Weak` of it, and so knows the rows again and when they are gone.
    pub fn token(&self) -> &Arc<()> {
        &self.token
    }
}

/// The hot rows of one table.
#[derive(Debug, Clone, Default)]
pub struct HotTable {
    /// The writer's name in `txn`; rows with a sequence at or below `snapshot.txn[writer]` are in files already.
    pub writer: String,
    /// The rows.
    pub batches: Vec<HotBatch>,
}

/// Where rows are before they are in a file.
///
/// A reader takes the hot rows *before* it loads the snapshot and drops those that the snapshot's `txn` covers, so
/// that it sees every row once (T3).
pub trait HotSource: Send + Sync + std::fmt::Debug {
    /// The hot rows of a table; empty for a table that has none.
    fn hot(&self, table: &str) -> HotTable;

    /// `observed_at` (µs) of the newest acknowledged tick: an evaluation as of this time is reproducible.
    fn data_through_us(&self) -> Option<i64>;
}

/// A source without rows: for readers of a store that another process writes.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHotRows;

impl HotSource for NoHotRows {
    fn hot(&self, _table: &str) -> HotTable {
        HotTable::default()
    }

    fn data_through_us(&self) -> Option<i64> {
        None
    }
}

/// Why rows were not accepted.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The write-ahead log cannot be written: the rows are not acknowledged; the caller keeps them or counts them lost.
    #[error("write-ahead log: {0}")]
    Wal(String),
    /// The bounded buffer is full because nothing can be flushed: the caller keeps the rows or counts them lost.
    #[error("the hot buffer is full ({rows} rows, {bytes} bytes) and cannot be flushed: {reason}")]
    Full {
        /// Rows held.
        rows: usize,
        /// Bytes held.
        bytes: usize,
        /// Why the last flush failed.
        reason: String,
    },
    /// The sink is shut down.
    #[error("the writer is shut down")]
    Closed,
}

/// A place that stores rows durably.
#[async_trait]
pub trait RowSink: Send + Sync {
    /// Stores the batches together; when it answers, they survive `kill -9` and power loss (T2).
    /// Returns the write-ahead sequence.
    async fn append(&self, batches: Vec<TableBatch>) -> Result<i64, SinkError>;
}
