//! Arrow Flight SQL: the service that answers queries of the CLI, notebooks and any SQL client, and our client.
//!
//! The service keeps nothing per query: a statement, its parameters and its `as_of` travel in the ticket or in the
//! handle of the prepared statement, so any server over the same store can answer it. What runs is bounded by a
//! number of permits and a time limit; a client that goes away takes its query with it.
//!
//! [`serve`] listens, [`FlightClient`] asks, [`probe`] tells whether a Tapio server is there at all.

mod address;
mod auth;
mod catalog;
mod client;
mod client_error;
mod guard;
mod options;
mod placeholders;
mod problem;
mod run;
mod serve;
mod service;
mod sniff;
mod statement;
mod wire;

#[cfg(test)]
mod tests;

pub use auth::Credentials;
pub use client::{ClientOptions, FlightClient, Probe, Query, QueryStream, probe};
pub use client_error::ClientError;
pub use options::FlightOptions;
pub use problem::SqlProblem;
pub use serve::{ServeError, serve};

use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;

/// The name by which a server says that it is a Tapio server (`FLIGHT_SQL_SERVER_NAME`).
pub const SERVER_NAME: &str = "Tapio";

/// Request header with the time as of which a statement is answered: RFC 3339, or microseconds since 1970 (UTC).
pub const AS_OF_HEADER: &str = "tapio-as-of";

/// What the service needs from the engine.
#[async_trait::async_trait]
pub trait SqlBackend: Send + Sync + 'static {
    /// A session for one request, with tables and functions registered, evaluated as of `as_of_us` (microseconds
    /// since 1970, UTC; `None` = the engine's default). The service never changes it and refuses all but queries.
    ///
    /// # Errors
    /// What keeps the engine from answering at all, e.g. a store that cannot be read.
    async fn context(&self, as_of_us: Option<i64>) -> Result<SessionContext, DataFusionError>;

    /// The answer to an error that only the engine can judge (its own errors inside
    /// [`DataFusionError::External`]); `None` leaves it to the service, which answers with the user's own mistakes as
    /// invalid argument, exhausted limits as such and the rest as internal.
    fn status(&self, error: &DataFusionError) -> Option<tonic::Status> {
        let _ = error;
        None
    }
}
