//! From hot rows to files.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak, atomic::Ordering::SeqCst},
};

use arrow::{
    array::{AsArray, BooleanArray, RecordBatch},
    compute::filter_record_batch,
    datatypes::TimestampMicrosecondType,
};
use tapio_sql::date_of;
use tapio_store::{Commit, Store, StoreError, TableLog};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::Inner;
use crate::{IngestError, Severity, hot::Chunk};

const DAY_US: i64 = 86_400_000_000;

/// What a flush did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FlushReport {
    /// Rows that are in files now.
    pub rows: usize,
    /// Files written.
    pub files: usize,
    /// Tables committed to.
    pub tables: usize,
}

impl Inner {
    pub(super) async fn flush(&self) -> Result<FlushReport, IngestError> {
        let _one = self.flushing.lock().await;
        let sealed = self.hot.seal();
        let mut report = FlushReport::default();
        let mut failed: Option<StoreError> = None;
        for (def, chunks) in &sealed.tables {
            let Some(log) = self.logs.get(&def.name) else { continue };
            match self.flush_table(log, chunks, sealed.last_seq).await {
                Ok((rows, files)) => {
                    report.rows += rows;
                    report.files += files;
                    report.tables += usize::from(files > 0);
                    self.hot.drop_through(&def.name, sealed.last_seq);
                }
                Err(e) => {
                    let detail = format!("table {}: {e}; its rows stay in the log", def.name);
                    tracing::warn!("flush: {detail}");
                    self.health.count("flush", "failures", 1, Severity::Error, detail);
                    failed = Some(e);
                }
            }
        }
        if !sealed.tables.is_empty()
            && let Err(e) = self.wal.release(self.hot.released_through()).await
        {
            // The rows are in files; the log is only longer than it need be.
            self.health.count("wal", "release_failures", 1, Severity::Warning, e);
        }
        if let Ok(mut failing) = self.failing.lock() {
            *failing = failed.as_ref().map(ToString::to_string);
        }
        failed.map_or(Ok(report), |e| Err(e.into()))
    }

    async fn flush_table(
        &self,
        log: &TableLog,
        chunks: &[Chunk],
        last_seq: i64,
    ) -> Result<(usize, usize), StoreError> {
        // An earlier try may have gone through although its answer was lost: what it took is not written again.
        let snapshot = log.snapshot().await?;
        let done = snapshot.txn.get(&self.writer).copied().unwrap_or(i64::MIN);
        let batches: Vec<_> =
            chunks.iter().filter(|c| c.hot.last_seq > done).map(|c| c.hot.batch.clone()).collect();
        if batches.len() < chunks.len() {
            sync_store(log.store()).await?;
        }
        if batches.is_empty() {
            return Ok((0, 0));
        }
        let rows = batches.iter().map(RecordBatch::num_rows).sum();
        let mut add = Vec::new();
        for (date, batches) in by_date(&batches) {
            add.push(write_file(log.clone(), date, batches).await?);
        }
        let files = add.len();
        let commit = Commit {
            add,
            txn: Some((self.writer.clone(), last_seq)),
            data_change: true,
            operation: "WRITE".into(),
            ..Commit::default()
        };
        log.commit(commit).await?;
        Ok((rows, files))
    }
}

/// Sorting and encoding take a core for a while, so they do not run on the threads that serve.
async fn write_file(
    log: TableLog,
    date: String,
    batches: Vec<RecordBatch>,
) -> Result<tapio_store::DataFile, StoreError> {
    let runtime = tokio::runtime::Handle::current();
    let table = log.def().name.clone();
    tokio::task::spawn_blocking(move || runtime.block_on(log.write_file(&date, &batches)))
        .await
        .map_err(|e| StoreError::Encode { table, message: e.to_string() })?
}

/// The rows by the UTC date of their `ts`.
fn by_date(batches: &[RecordBatch]) -> BTreeMap<String, Vec<RecordBatch>> {
    let mut dates: BTreeMap<String, Vec<RecordBatch>> = BTreeMap::new();
    for batch in batches {
        let Some(ts) = batch
            .column_by_name("ts")
            .and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>())
        else {
            continue;
        };
        let days: Vec<i64> = ts.values().iter().map(|t| t.div_euclid(DAY_US)).collect();
        let mut distinct = days.clone();
        distinct.sort_unstable();
        distinct.dedup();
        for day in &distinct {
            let part = if distinct.len() == 1 {
                batch.clone()
            } else {
                let of_day: BooleanArray = days.iter().map(|d| Some(d == day)).collect();
                match filter_record_batch(batch, &of_day) {
                    Ok(part) => part,
                    // Lengths agree by construction.
                    Err(_) => continue,
                }
            };
            dates.entry(date_of(day * DAY_US)).or_default().push(part);
        }
    }
    dates
}

/// Makes everything in a local store durable; others are by their answer.
pub(super) async fn sync_store(store: &Store) -> Result<(), StoreError> {
    let Some(path) = store.local_path().map(ToOwned::to_owned) else { return Ok(()) };
    let name = path.display().to_string();
    let fail = |source| StoreError::Sync { path: name.clone(), source };
    tokio::task::spawn_blocking(move || {
        rustix::fs::syncfs(std::fs::File::open(&path)?)?;
        Ok(())
    })
    .await
    .map_err(|e| fail(std::io::Error::other(e)))?
    .map_err(fail)
}

/// Flushes by time, rows, bytes and log size; tries again after a failure; stores health counters.
pub(super) async fn background(inner: Weak<Inner>, stop: Arc<Notify>, wake: Arc<Notify>) {
    let (mut next_flush, mut next_health, mut backoff) = {
        let Some(i) = inner.upgrade() else { return };
        let now = Instant::now();
        // What was found at start is told soon.
        let first_health = i.options.health_interval.min(std::time::Duration::from_secs(2));
        (now + i.options.flush_interval, now + first_health, i.options.retry.0)
    };
    let mut retry_at: Option<Instant> = None;
    loop {
        // Nothing of the pipeline is held while waiting, so that it can be dropped.
        let due_now = {
            let Some(i) = inner.upgrade() else { return };
            if i.closed.load(SeqCst) {
                return;
            }
            retry_at.is_none() && i.wants_flush()
        };
        if !due_now {
            tokio::select! {
                () = stop.notified() => return,
                () = wake.notified() => {}
                () = sleep_until(retry_at.unwrap_or(next_flush).min(next_health)) => {}
            }
        }
        let Some(i) = inner.upgrade() else { return };
        let now = Instant::now();
        if now >= next_health {
            next_health = now + i.options.health_interval;
            i.store_health().await;
        }
        let due = match retry_at {
            Some(at) => now >= at,
            None => now >= next_flush || i.wants_flush(),
        };
        if due && !i.closed.load(SeqCst) {
            match i.flush().await {
                Ok(_) => {
                    retry_at = None;
                    backoff = i.options.retry.0;
                    next_flush = Instant::now() + i.options.flush_interval;
                }
                Err(_) => {
                    retry_at = Some(Instant::now() + backoff);
                    backoff = (backoff * 2).min(i.options.retry.1);
                }
            }
        }
    }
}
