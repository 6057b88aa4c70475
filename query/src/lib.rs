//! SQL over a store of Tapio: tables as of a time, forecasting functions, relations and patterns as table functions.
//!
//! [`Engine`] answers statements. Tables are the files that the table log names plus the hot rows of this process,
//! never a row twice (T3); with an `as_of` they hold what was known then (T7). Damaged files are skipped, named and
//! counted ([`Engine::degraded`], `tapio_degraded()`).
//!
//! [`flight`] carries the answers over Arrow Flight SQL.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod clock;
mod degraded;
mod engine;
mod error;
mod findings;
mod fixed;
pub mod flight;
mod relation;
mod series_runs;
mod table;
#[cfg(test)]
mod tests;
mod udf;

pub use degraded::DegradedRow;
pub use engine::{Engine, EngineOptions};
pub use error::{Position, QueryError};
pub use findings::{NEGLIGIBLE_PROBABILITY, insights, predictions};
