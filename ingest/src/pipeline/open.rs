//! Opening: lock, recovery, threads.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, atomic::AtomicBool},
};

use arrow::{
    array::{AsArray, RecordBatch},
    compute::max,
    datatypes::TimestampMicrosecondType,
};
use tapio_sql::{TableBatch, catalog};
use tokio::sync::Notify;

use super::{Ingest, IngestOptions, Inner, flush};
use crate::{
    Health, IngestError, Severity,
    hot::{Hot, table_def},
    rows::conform,
    wal::{Recovered, Sink, WalDir, WalHandle, recover},
};

/// What the write-ahead log held at start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Whole frames.
    pub frames: u64,
    /// Rows that are hot again.
    pub rows: u64,
    /// Rows in the log that were in files already.
    pub rows_in_files: u64,
    /// Bytes cut off the end of the newest segment: most often a write that was under way and not acknowledged.
    pub tail_bytes: u64,
    /// Damaged bytes elsewhere.
    pub damaged_bytes: u64,
    /// Frames that damage took, by their missing sequence numbers.
    pub damaged_frames: u64,
    /// Batches whose table this binary does not know or whose columns it cannot take.
    pub batches_unknown: u64,
}

struct HotSink(Arc<Hot>);

impl Sink for HotSink {
    fn durable(&self, seq: i64, batches: Vec<TableBatch>, through_us: Option<i64>) {
        self.0.insert(seq, batches, through_us);
    }

    fn skipped(&self, seq: i64) {
        self.0.insert(seq, Vec::new(), None);
    }

    fn idle(&self) {
        self.0.coalesce();
    }
}

pub(super) async fn open(options: IngestOptions) -> Result<Ingest, IngestError> {
    let wal_dir = options.wal_dir.clone();
    let (dir, recovered) = tokio::task::spawn_blocking(move || {
        let dir = WalDir::open(&wal_dir)?;
        let recovered = recover(&dir)?;
        Ok::<_, IngestError>((Arc::new(dir), recovered))
    })
    .await
    .map_err(|_| IngestError::Thread("recovery"))??;

    let writer = dir.writer.to_string();
    let mut logs = BTreeMap::new();
    let mut in_files: HashMap<String, i64> = HashMap::new();
    for def in catalog().iter() {
        let log = options.store.table(def);
        if let Some(seq) = log.snapshot().await?.txn.get(&writer) {
            in_files.insert(def.name.clone(), *seq);
        }
        logs.insert(def.name.clone(), log);
    }

    let health = options.health.clone();
    let hot = Arc::new(Hot::default());
    let Recovered { frames, segments, next_seq, .. } = &recovered;
    let next_seq = in_files.values().fold(*next_seq, |n, seq| n.max(seq + 1));
    let mut report = RecoveryReport {
        frames: frames.len() as u64,
        tail_bytes: recovered.tail_bytes,
        damaged_bytes: recovered.damaged_bytes,
        damaged_frames: recovered.damaged_frames,
        ..RecoveryReport::default()
    };
    let mut cursors = BTreeMap::new();
    for (seq, payload) in frames {
        cursors.extend(payload.cursors.iter().cloned());
        let mut batches = Vec::new();
        let mut through = None;
        for (table, rows) in &payload.tables {
            if in_files.get(table).is_some_and(|done| seq <= done) {
                report.rows_in_files += rows.iter().map(|b| b.num_rows() as u64).sum::<u64>();
                continue;
            }
            for rows in rows {
                match table_def(table).map(|def| conform(&def, rows.clone())) {
                    Some(Ok(batch)) => {
                        if table == "resources" {
                            through = through.max(newest(batch.batch()));
                        }
                        report.rows += batch.num_rows() as u64;
                        batches.push(batch);
                    }
                    Some(Err(e)) => unknown(&mut report, &health, &e.to_string()),
                    None => unknown(&mut report, &health, &format!("no table {table:?}")),
                }
            }
        }
        hot.insert(*seq, batches, through);
    }
    hot.coalesce();
    hot.start_at(next_seq - 1);
    tell(&report, &health);
    if report.rows_in_files > 0 {
        // The commit that these rows are in may have been seen before it was synced.
        flush::sync_store(&options.store).await?;
    }

    let wal = WalHandle::start(
        dir.clone(),
        segments.clone(),
        next_seq,
        cursors.clone(),
        options.wal_segment_bytes,
        health.clone(),
        HotSink(hot.clone()),
    )?;
    let inner = Arc::new(Inner {
        options,
        writer,
        logs,
        hot,
        health,
        wal,
        cursors: Mutex::new(cursors),
        recovery: report,
        flushing: tokio::sync::Mutex::default(),
        failing: Mutex::default(),
        wake: Arc::new(Notify::new()),
        stop: Arc::new(Notify::new()),
        closed: AtomicBool::new(false),
        background: Mutex::default(),
        dir,
    });
    let (stop, wake) = (inner.stop.clone(), inner.wake.clone());
    let task = tokio::spawn(flush::background(Arc::downgrade(&inner), stop, wake));
    if let Ok(mut background) = inner.background.lock() {
        *background = Some(task);
    }
    Ok(Ingest { inner })
}

fn newest(batch: &RecordBatch) -> Option<i64> {
    let column = batch.column_by_name("observed_at")?;
    max(column.as_primitive_opt::<TimestampMicrosecondType>()?)
}

fn unknown(report: &mut RecoveryReport, health: &Health, why: &str) {
    report.batches_unknown += 1;
    let detail = format!("rows in the log cannot be taken over: {why}");
    health.count("wal", "batches_unknown", 1, Severity::Error, detail);
}

fn tell(report: &RecoveryReport, health: &Health) {
    if report.frames > 0 {
        tracing::info!(
            "write-ahead log: {} frames, {} rows recovered, {} rows were in files already",
            report.frames,
            report.rows,
            report.rows_in_files
        );
    }
    let counts = [
        (
            "tail_bytes",
            report.tail_bytes,
            Severity::Warning,
            "cut off the end of the log; a write was under way when the last process ended, or the disk is damaged",
        ),
        (
            "damaged_bytes",
            report.damaged_bytes,
            Severity::Error,
            "of the log are damaged; the whole frames around them came back",
        ),
        (
            "frames_damaged",
            report.damaged_frames,
            Severity::Error,
            "frames of the log are missing or damaged; their rows are lost",
        ),
    ];
    for (metric, n, severity, sentence) in counts {
        if n > 0 {
            let detail = format!("{n} {sentence}");
            tracing::warn!("write-ahead log: {metric}: {detail}");
            health.count("wal", metric, i64::try_from(n).unwrap_or(i64::MAX), severity, detail);
        }
    }
}
