//! The pipeline: append → write-ahead log → hot buffer → files.

mod flush;
mod open;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use tapio_sql::TableBatch;
use tapio_store::{HotSource, HotTable, RowSink, SinkError, Store, TableLog};
use tokio::{sync::Notify, task::JoinHandle};

pub use flush::FlushReport;
pub use open::RecoveryReport;

use crate::{
    Clock, Health, IngestError, Severity, SystemClock,
    hot::Hot,
    rows::bytes_of,
    wal::{WalDir, WalHandle, encode_payload},
};

/// How the pipeline works. All sizes are limits of one process.
#[derive(Debug, Clone)]
pub struct IngestOptions {
    /// Where files go.
    pub store: Store,
    /// Directory of the write-ahead log; one process at a time.
    pub wal_dir: PathBuf,
    /// Node name in `health` rows.
    pub node: String,
    /// Longest time between two flushes (default 15 min).
    pub flush_interval: Duration,
    /// Flush when so many rows are hot (default 2 million).
    pub flush_rows: usize,
    /// Flush when so many bytes are hot (default 64 MiB).
    pub flush_bytes: usize,
    /// Flush when the log is this long (default 256 MiB).
    pub flush_wal_bytes: u64,
    /// A segment of the log is closed at this length (default 32 MiB).
    pub wal_segment_bytes: u64,
    /// Appends are refused ([`SinkError::Full`]) beyond this many hot bytes while nothing can be flushed
    /// (default 256 MiB).
    pub max_hot_bytes: usize,
    /// How often changed health counters are stored (default 1 min).
    pub health_interval: Duration,
    /// First and longest pause after a failed flush (default 1 s and 60 s).
    pub retry: (Duration, Duration),
    /// The time of `health` rows.
    pub clock: Arc<dyn Clock>,
    /// Where losses are counted; for a collector that is made before the pipeline.
    pub health: Arc<Health>,
}

impl IngestOptions {
    /// The defaults for a store and a write-ahead directory.
    pub fn new(store: Store, wal_dir: impl Into<PathBuf>) -> Self {
        Self {
            store,
            wal_dir: wal_dir.into(),
            node: crate::collect::hostname(),
            flush_interval: Duration::from_secs(15 * 60),
            flush_rows: 2_000_000,
            flush_bytes: 64 << 20,
            flush_wal_bytes: 256 << 20,
            wal_segment_bytes: 32 << 20,
            max_hot_bytes: 256 << 20,
            health_interval: Duration::from_secs(60),
            retry: (Duration::from_secs(1), Duration::from_secs(60)),
            clock: Arc::new(SystemClock),
            health: Arc::default(),
        }
    }
}

/// The pipeline. Clones share it; end it with [`Ingest::shutdown`].
///
/// Dropping the last clone without that loses nothing: what is acknowledged stands in the log.
#[derive(Debug, Clone)]
pub struct Ingest {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: IngestOptions,
    writer: String,
    logs: BTreeMap<String, TableLog>,
    hot: Arc<Hot>,
    health: Arc<Health>,
    wal: WalHandle,
    cursors: Mutex<BTreeMap<String, String>>,
    recovery: RecoveryReport,
    flushing: tokio::sync::Mutex<()>,
    /// Why the last flush failed, until one succeeds.
    failing: Mutex<Option<String>>,
    wake: Arc<Notify>,
    stop: Arc<Notify>,
    closed: AtomicBool,
    background: Mutex<Option<JoinHandle<()>>>,
    // Last, so that the lock outlives the writer.
    dir: Arc<WalDir>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(task) = self.background.lock().ok().and_then(|mut t| t.take()) {
            task.abort();
        }
        // The lock of the directory must not be given up while the thread can still write.
        let _ = self.wal.stop();
    }
}

impl Ingest {
    /// Locks the write-ahead directory, brings back what it holds, starts the writer and the background flush.
    ///
    /// # Errors
    /// [`IngestError::Locked`] naming the holder's pid, [`IngestError::Wal`] for an unusable directory,
    /// [`IngestError::Foreign`], [`IngestError::Store`] if the store's logs cannot be read (they say which rows are in
    /// files already).
    pub async fn open(options: IngestOptions) -> Result<Self, IngestError> {
        open::open(options).await
    }

    /// What came back from the log at start.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.inner.recovery
    }

    /// The writer's name in the table logs (`txn.appId`).
    pub fn writer_id(&self) -> &str {
        &self.inner.writer
    }

    /// The write-ahead directory, absolute.
    pub fn wal_dir(&self) -> &std::path::Path {
        &self.inner.dir.path
    }

    /// The counters of this pipeline; collectors add theirs.
    pub fn health(&self) -> &Arc<Health> {
        &self.inner.health
    }

    /// Why the last flush failed; `None` while flushing works.
    pub fn failing(&self) -> Option<String> {
        self.inner.failing.lock().ok().and_then(|f| f.clone())
    }

    /// Rows and bytes that are hot, bytes in the write-ahead log.
    pub fn size(&self) -> (usize, usize, u64) {
        let (rows, bytes) = self.inner.hot.size();
        (rows, bytes, self.inner.wal.bytes())
    }

    /// Stores the batches and the position of their source in one frame (T2, T5).
    ///
    /// # Errors
    /// As [`RowSink::append`].
    pub async fn append_with_cursor(
        &self,
        source: &str,
        cursor: &str,
        batches: Vec<TableBatch>,
    ) -> Result<i64, SinkError> {
        self.inner.append(batches, vec![(source.to_owned(), cursor.to_owned())], None).await
    }

    /// Stores the batches of a collection tick; once acknowledged, [`HotSource::data_through_us`] is `through_us`.
    ///
    /// # Errors
    /// As [`RowSink::append`].
    pub async fn append_tick(
        &self,
        batches: Vec<TableBatch>,
        through_us: i64,
    ) -> Result<i64, SinkError> {
        self.inner.append(batches, Vec::new(), Some(through_us)).await
    }

    /// The last acknowledged cursor of a source, also across restarts.
    pub fn cursor(&self, source: &str) -> Option<String> {
        self.inner.cursors.lock().ok()?.get(source).cloned()
    }

    /// Writes all hot rows to files and forgets their log segments.
    ///
    /// # Errors
    /// [`IngestError::Store`]: the rows stay hot and in the log, and the flush is tried again in the background.
    pub async fn flush(&self) -> Result<FlushReport, IngestError> {
        self.inner.flush().await
    }

    /// Refuses further rows, flushes, ends the threads and releases the directory's lock with the last clone.
    ///
    /// # Errors
    /// If the last flush fails: nothing is lost, the rows come back from the log at the next start.
    pub async fn shutdown(&self) -> Result<FlushReport, IngestError> {
        if self.inner.closed.swap(true, SeqCst) {
            return Ok(FlushReport::default());
        }
        self.inner.stop.notify_one();
        let task = self.inner.background.lock().ok().and_then(|mut t| t.take());
        if let Some(task) = task {
            let _ = task.await;
        }
        self.inner.store_health().await;
        let flushed = self.inner.flush().await;
        let inner = self.inner.clone();
        tokio::task::spawn_blocking(move || inner.wal.stop())
            .await
            .map_err(|_| IngestError::Thread("the log's writer"))??;
        flushed
    }
}

impl Inner {
    async fn append(
        &self,
        batches: Vec<TableBatch>,
        cursors: Vec<(String, String)>,
        through_us: Option<i64>,
    ) -> Result<i64, SinkError> {
        if self.closed.load(SeqCst) {
            return Err(SinkError::Closed);
        }
        if let Some(b) = batches.iter().find(|b| !self.logs.contains_key(&b.def().name)) {
            let message = format!("table {:?} is not in the catalogue", b.def().name);
            return Err(SinkError::Wal(message));
        }
        self.make_room(batches.iter().map(|b| bytes_of(b.batch())).sum()).await?;
        self.append_unbounded(batches, cursors, through_us).await
    }

    async fn append_unbounded(
        &self,
        batches: Vec<TableBatch>,
        cursors: Vec<(String, String)>,
        through_us: Option<i64>,
    ) -> Result<i64, SinkError> {
        let payload = encode_payload(&batches, &cursors).map_err(SinkError::Wal)?;
        let seq = self.wal.append(payload, batches, cursors.clone(), through_us).await?;
        if !cursors.is_empty()
            && let Ok(mut known) = self.cursors.lock()
        {
            known.extend(cursors);
        }
        if self.wants_flush() {
            self.wake.notify_one();
        }
        Ok(seq)
    }

    async fn make_room(&self, more: usize) -> Result<(), SinkError> {
        let (rows, bytes) = self.hot.size();
        if bytes == 0 || bytes + more <= self.options.max_hot_bytes {
            return Ok(());
        }
        let failing = self.failing.lock().ok().and_then(|f| f.clone());
        // While the store fails the background tries again at its own pace; a caller must not wait for that.
        let reason = match failing {
            Some(reason) => reason,
            None => match self.flush().await {
                Ok(_) => return Ok(()),
                Err(e) => e.to_string(),
            },
        };
        self.health.count("ingest", "appends_refused", 1, Severity::Error, &reason);
        Err(SinkError::Full { rows, bytes, reason })
    }

    fn wants_flush(&self) -> bool {
        let (rows, bytes) = self.hot.size();
        rows > 0
            && (rows >= self.options.flush_rows
                || bytes >= self.options.flush_bytes
                || self.wal.bytes() >= self.options.flush_wal_bytes)
    }

    /// Counters are few and are what explains a full buffer, so they are stored beyond the bound.
    async fn store_health(&self) {
        let now = self.options.clock.now_us();
        if let Some(rows) = self.health.drain(&self.options.node, now)
            && let Err(e) = self.append_unbounded(vec![rows], Vec::new(), None).await
        {
            tracing::warn!("cannot store health counters: {e}");
        }
    }
}

#[async_trait]
impl RowSink for Ingest {
    async fn append(&self, batches: Vec<TableBatch>) -> Result<i64, SinkError> {
        self.inner.append(batches, Vec::new(), None).await
    }
}

impl HotSource for Ingest {
    fn hot(&self, table: &str) -> HotTable {
        HotTable { writer: self.inner.writer.clone(), batches: self.inner.hot.batches(table) }
    }

    fn data_through_us(&self) -> Option<i64> {
        self.inner.hot.through_us()
    }
}
