//! Collectors, write-ahead log, hot buffer and flush.
//!
//! # The path of a fact
//!
//! 1. [`Collector::tick`] reads every cgroup, the largest processes and the node once, into [`TableBatch`]es that are
//!    validated against their table: one `ts` per tick, nothing interpolated (T1). [`journald::run`] follows the journal.
//! 2. [`Ingest::append_tick`], [`Ingest::append_with_cursor`] and (for everyone else) [`RowSink::append`] turn the
//!    batches of a tick and the cursor of their source into **one frame** of the write-ahead log. A writer thread takes
//!    all waiting frames, writes them with one `write` and one `fdatasync`, and answers: from then on the rows survive
//!    `kill -9` and power loss (T2, T5).
//! 3. Before it answers, the rows are in the hot buffer, where [`HotSource::hot`] shows them to queries.
//! 4. [`Ingest::flush`] (by time, rows, bytes or log size) seals the hot rows, splits them by date, writes sorted Parquet
//!    files and makes them visible with one commit per table that carries `txn{writer, last sequence}` (T3, T4).
//! 5. Then the hot rows are dropped and the log segments that all tables have passed are deleted. A crash anywhere
//!    between leaves the rows in the log, in files, or in both; `txn` tells which, so each is counted once.
//!
//! What was lost or could not be read on the way is counted in [`Health`] and stored in the `health` table (T8).
//!
//! [`TableBatch`]: tapio_sql::TableBatch
//! [`RowSink::append`]: tapio_store::RowSink::append
//! [`HotSource::hot`]: tapio_store::HotSource::hot
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod clock;
mod collect;
mod error;
mod health;
mod hot;
pub mod journald;
mod kernel;
mod pipeline;
mod rows;
mod wal;

pub use clock::{Clock, SystemClock};
pub use collect::{
    Attribution, CertificateOptions, Collector, CollectorError, CollectorOptions, Filesystems,
    Tick, attribute, run,
};
pub use error::IngestError;
pub use health::{Health, HealthEntry, Severity};
pub use kernel::drop_loading_capabilities;
pub use pipeline::{FlushReport, Ingest, IngestOptions, RecoveryReport};
pub use tapio_ebpf::LoadOptions as KernelOptions;
