//! Limits and credentials of the service, as values.

use std::time::Duration;

use super::Credentials;

/// Settings of the Flight SQL service.
#[derive(Debug, Clone)]
pub struct FlightOptions {
    /// Who may ask; `None` = anybody who reaches the port, which is allowed on loopback only.
    pub credentials: Option<Credentials>,
    /// Serve without credentials on an address that other machines reach. Off by default.
    pub allow_open: bool,
    /// Queries that may run at once; one more is answered with resource exhausted.
    pub max_concurrent_queries: usize,
    /// What the refused client is told to wait before it tries again.
    pub retry_after: Duration,
    /// A query (with the sending of its rows) that takes longer is cancelled; `None` = no limit.
    pub query_timeout: Option<Duration>,
    /// Largest message accepted or sent, in bytes. Results are cut into messages of about 2 MB; only a single row
    /// larger than this cannot be sent.
    pub max_message_bytes: usize,
    /// How long running queries may go on after the shutdown began.
    pub shutdown_grace: Duration,
}

impl Default for FlightOptions {
    fn default() -> Self {
        Self {
            credentials: None,
            allow_open: false,
            max_concurrent_queries: 16,
            retry_after: Duration::from_secs(1),
            query_timeout: Some(Duration::from_secs(300)),
            max_message_bytes: 64 << 20,
            shutdown_grace: Duration::from_secs(5),
        }
    }
}
