//! Errors of opening and flushing, split by what the caller does next. Appending answers `SinkError`.

use std::path::{Path, PathBuf};

use tapio_store::StoreError;

/// What can go wrong when the pipeline is opened or flushed.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// Another process owns the directory: tell the user, do not retry.
    #[error(
        "write-ahead directory {} is in use by process {pid}: stop that process, or give this one its own directory (storage.wal_dir)",
        dir.display()
    )]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// Process id of the holder as it wrote it down, or "unknown".
        pid: String,
    },
    /// A file of the write-ahead log cannot be read or written: tell the user.
    #[error(
        "write-ahead log: cannot {action} {}: {source}; check space and permissions, or choose another directory with storage.wal_dir",
        path.display()
    )]
    Wal {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A segment was written by another writer: its rows have other sequence numbers, so they cannot be taken over.
    #[error(
        "write-ahead log: {} was written by {found}, but this directory belongs to writer {own}: move the segment to a directory of its own",
        path.display()
    )]
    Foreign {
        /// The segment.
        path: PathBuf,
        /// Writer in its header.
        found: String,
        /// Writer of the directory.
        own: String,
    },
    /// The store cannot be read or written: the rows stay in the write-ahead log, retry later.
    #[error("store: {0}")]
    Store(#[from] StoreError),
    /// The pipeline is shut down.
    #[error("the writer is shut down")]
    Closed,
    /// A background thread ended by a panic; a bug.
    #[error(
        "{0} ended unexpectedly; this is a bug, restart the process (acknowledged rows are safe)"
    )]
    Thread(&'static str),
}

impl IngestError {
    pub(crate) fn wal(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Wal { action, path: path.to_owned(), source }
    }
}
