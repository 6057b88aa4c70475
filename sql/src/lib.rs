//! The contract of Tapio's data: tables, partition paths, patterns and relations, without any I/O.
//!
//! A table is defined once, in `tables/NAME.toml`; Arrow schemas, validation and documentation derive from it.
//! A pattern is one file in `patterns/`, a relation (what `tapio check` and its kin select) one file in `relations/`.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod batch;
mod id;
mod pattern;
mod table;
pub mod words;

pub use batch::{BatchError, TableBatch};
pub use id::{SeriesIdentity, derived_id, series_id};
pub use pattern::{
    Parameter, ParameterType, ParameterValue, Pattern, PatternCatalog, PatternError, Relation,
    relations,
};
pub use table::{
    Catalog, ColumnDef, ColumnType, DATE_COLUMN, TableDef, TableError, catalog, date_of,
    partition_path,
};

mod embedded {
    include!(concat!(env!("OUT_DIR"), "/embedded.rs"));
}
