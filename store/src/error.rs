//! Errors of the store, split by what the caller does next.

/// What can go wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL or path of the store cannot be used: tell the user.
    #[error("store {url}: {message}")]
    Location {
        /// As given.
        url: String,
        /// What was tried and what to do.
        message: String,
    },
    /// An object cannot be read or written: retry later, keep the rows.
    #[error("{path}: {source}")]
    Io {
        /// The object.
        path: String,
        /// The reason.
        source: object_store::Error,
    },
    /// A local file or folder cannot be synced: the rows are not durable, keep the write-ahead log.
    #[error("cannot sync {path}: {source}")]
    Sync {
        /// The file or folder.
        path: String,
        /// The reason.
        source: std::io::Error,
    },
    /// A log entry or data file is damaged or not ours: name it, go on with the rest.
    #[error("{path}: damaged or foreign: {message}")]
    Damaged {
        /// The object.
        path: String,
        /// What does not fit.
        message: String,
    },
    /// A path that this commit replaces is gone: someone else compacted; start again from a new snapshot.
    #[error("table {table}: {path} was replaced by another writer")]
    Conflict {
        /// The table.
        table: String,
        /// The path that is gone.
        path: String,
    },
    /// The table was written by a newer Tapio: reading is safe, writing is refused.
    #[error(
        "table {table} has schema version {found}, this binary writes {known}: use a newer tapio to write here (reading works)"
    )]
    NewerSchema {
        /// The table.
        table: String,
        /// Version in the log.
        found: u32,
        /// Version compiled in.
        known: u32,
    },
    /// Rows cannot be encoded; a bug or a wrong batch.
    #[error("table {table}: cannot encode rows: {message}")]
    Encode {
        /// The table.
        table: String,
        /// The reason.
        message: String,
    },
}

impl StoreError {
    pub(crate) fn io(path: &object_store::path::Path, source: object_store::Error) -> Self {
        Self::Io { path: path.to_string(), source }
    }

    pub(crate) fn damaged(path: impl std::fmt::Display, message: impl std::fmt::Display) -> Self {
        Self::Damaged { path: path.to_string(), message: message.to_string() }
    }
}
