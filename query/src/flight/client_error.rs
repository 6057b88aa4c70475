//! Errors of the client, split by what the caller does next.

use std::error::Error;
use std::time::Duration;

use arrow_flight::error::FlightError;
use tonic::{Code, Status};

use super::guard::VERSION_HEADER;
use super::problem::SqlProblem;
use super::run::RETRY_HEADER;

/// Why a question to a server has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address cannot be used: tell the user.
    #[error("{0}")]
    Address(String),
    /// Nobody is there, nothing was asked: answer from the store, or tell the user to start the server.
    #[error(
        "no server at {url}: {message}; start one with `tapio-server`, or name another with --server"
    )]
    Unreachable {
        /// Where it was tried.
        url: String,
        /// What happened.
        message: String,
    },
    /// Something listens, but no Tapio server: as good as absent, with a hint.
    #[error("{url} is no Tapio server: {hint}")]
    NotTapio {
        /// Where it was tried.
        url: String,
        /// What listens there and what to do.
        hint: String,
    },
    /// The server went away while it answered: what arrived is not all there is.
    #[error(
        "the server at {url} went away after {rows} rows ({message}): the answer is incomplete and was not used; run it again, and if the server stays away look into its log or read the store itself with --store"
    )]
    Gone {
        /// Where it was.
        url: String,
        /// Rows that had arrived.
        rows: u64,
        /// What happened.
        message: String,
    },
    /// The server wants credentials, or others: ask the user.
    #[error("{url} refused: {message}")]
    Unauthenticated {
        /// Where it was tried.
        url: String,
        /// What the server says.
        message: String,
        /// The version of the server, if it is a Tapio server.
        version: Option<String>,
    },
    /// The statement is wrong: show it with its place.
    #[error("{0}")]
    Sql(SqlProblem),
    /// A limit of the server: wait, or ask for less.
    #[error("{message}")]
    Exhausted {
        /// What ran out and what to do.
        message: String,
        /// When to try again, if waiting helps.
        retry_after: Option<Duration>,
    },
    /// A fault of the server or of this client: report it.
    #[error("{url}: {message} ({code})")]
    Server {
        /// The server.
        url: String,
        /// The gRPC code.
        code: Code,
        /// What it says.
        message: String,
    },
}

impl ClientError {
    /// Sorts what came instead of an answer, or in the midst of it after `rows` rows.
    pub(super) fn from_status(url: &str, rows: u64, status: &Status) -> Self {
        let url = url.to_owned();
        // A status that the server sent has no source; one that this side made of a broken connection has.
        if let Some(cause) = cause(status) {
            if rows == 0 && cause.refused {
                return Self::Unreachable { url, message: cause.text };
            }
            return Self::Gone { url, rows, message: cause.text };
        }
        let message = status.message().to_owned();
        let header = |name| status.metadata().get(name).and_then(|v| v.to_str().ok());
        match status.code() {
            Code::InvalidArgument | Code::Unimplemented => {
                Self::Sql(SqlProblem::from_status(status))
            }
            Code::ResourceExhausted | Code::DeadlineExceeded => {
                let millis = header(RETRY_HEADER).and_then(|v| v.parse().ok());
                Self::Exhausted { message, retry_after: millis.map(Duration::from_millis) }
            }
            Code::Unauthenticated | Code::PermissionDenied => Self::Unauthenticated {
                url,
                message,
                version: header(VERSION_HEADER).map(Into::into),
            },
            Code::Unavailable => Self::Gone { url, rows, message },
            code => Self::Server { url, code, message },
        }
    }

    pub(super) fn from_flight(url: &str, rows: u64, error: &FlightError) -> Self {
        match error {
            FlightError::Tonic(status) => Self::from_status(url, rows, status),
            other => Self::Server {
                url: url.to_owned(),
                code: Code::DataLoss,
                message: format!("the answer cannot be read after {rows} rows: {other}"),
            },
        }
    }
}

struct Cause {
    text: String,
    /// The connection did not even come about.
    refused: bool,
}

/// The innermost reason of a broken connection.
fn cause(status: &Status) -> Option<Cause> {
    let mut error = status.source()?;
    loop {
        let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        let refused = kind == Some(std::io::ErrorKind::ConnectionRefused);
        match error.source() {
            Some(inner) if !refused => error = inner,
            _ => return Some(Cause { text: error.to_string(), refused }),
        }
    }
}
