//! How rows lie on `object_store`: a Delta table log per table, Parquet files, snapshots.
//!
//! `<store>/<table>/date=YYYY-MM-DD/part-*.parquet` hold the rows, `<store>/<table>/_delta_log/%020d.json` says
//! which of them count. A file becomes visible by one commit, whole or not at all (T3). The log is the plain subset
//! of the Delta protocol (reader version 1, writer version 2), so that other engines read the store as it is.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod delta;
mod error;
mod layout;
mod location;
mod log;
mod snapshot;
mod traits;

pub use error::StoreError;
pub use layout::{encode_parquet, read_parquet, sort_rows, writer_properties};
pub use location::Store;
pub use log::{Commit, Committed, TableLog};
pub use snapshot::{ColumnRange, DataFile, Snapshot};
pub use traits::{HotBatch, HotSource, HotTable, NoHotRows, RowSink, SinkError};
