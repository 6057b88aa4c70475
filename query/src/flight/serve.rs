//! The listening server: limits, keep-alive, and an end that running queries survive for a while.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use super::guard::Guard;
use super::run::Runner;
use super::service::Service;
use super::{FlightOptions, SqlBackend};

/// A peer that does not answer pings for this long is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// How long connections may take to close after their queries were ended.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// Why the server does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Anybody could read everything: set credentials or listen on loopback.
    #[error(
        "refusing to serve {address} without credentials, since other machines reach it: listen on 127.0.0.1, set a user and password, or allow open access explicitly"
    )]
    Open {
        /// Where it listens.
        address: SocketAddr,
    },
    /// The listener does not work.
    #[error("the listening socket does not work: {0}")]
    Listener(#[from] std::io::Error),
    /// The service cannot be set up; a bug.
    #[error("the Flight SQL service cannot be set up: {0}")]
    Service(Box<tonic::Status>),
    /// The transport failed.
    #[error("the Flight SQL server stopped: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Serves Flight SQL on `listener` until `shutdown` is ready, then stops accepting, lets running queries go on for
/// `options.shutdown_grace`, ends those that are left with "unavailable", and returns.
///
/// # Errors
/// [`ServeError::Open`] for a listener that other machines reach, without credentials; else what the socket says.
pub async fn serve(
    listener: TcpListener,
    backend: Arc<dyn SqlBackend>,
    options: FlightOptions,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let address = listener.local_addr()?;
    if options.credentials.is_none() && !options.allow_open && !address.ip().is_loopback() {
        return Err(ServeError::Open { address });
    }
    let options = Arc::new(options);
    let (close, closing) = watch::channel(false);
    let service = Service::new(Runner::new(backend, options.clone(), closing))
        .map_err(|status| ServeError::Service(Box::new(status)))?;
    let service = FlightServiceServer::new(Guard::new(service, options.credentials.clone()))
        .max_decoding_message_size(options.max_message_bytes)
        .max_encoding_message_size(options.max_message_bytes);

    let (begun, mut beginning) = watch::channel(false);
    let shutdown = async {
        shutdown.await;
        let _ = begun.send(true);
    };
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .add_service(service)
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            shutdown,
        );
    let deadline = async {
        let _ = beginning.wait_for(|begun| *begun).await;
        tokio::time::sleep(options.shutdown_grace).await;
        // Queries end with an error that says why, then their connections close.
        let _ = close.send(true);
        tokio::time::sleep(CLOSE_GRACE).await;
    };
    tokio::select! {
        result = server => Ok(result?),
        () = deadline => {
            tracing::warn!(%address, "connections did not close in time and were dropped");
            Ok(())
        }
    }
}
