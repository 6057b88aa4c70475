//! Finds out what listens on a port, before a Flight client waits on something that will never answer.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::ClientError;
use super::address::Address;

/// The opening of an HTTP/2 connection with an empty SETTINGS frame.
const OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Length of a frame's head, of which the fourth byte is the type (4 = SETTINGS).
const FRAME_HEAD: usize = 9;

/// Returns if the listener at `address` opens HTTP/2, as gRPC needs.
pub(super) async fn speaks_http2(address: &Address, deadline: Instant) -> Result<(), ClientError> {
    let started = Instant::now();
    let within = || deadline.saturating_duration_since(started);
    let not_tapio = |hint: String| ClientError::NotTapio { url: address.url.clone(), hint };
    let silent = || not_tapio(silent_hint(within()));

    let connected = timeout_at(deadline, TcpStream::connect(&address.authority)).await;
    let mut stream = match connected {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            let message = match error.kind() {
                ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
                _ => error.to_string(),
            };
            return Err(ClientError::Unreachable { url: address.url.clone(), message });
        }
        Err(_) => {
            let message = format!("no connection within {} ms", within().as_millis());
            return Err(ClientError::Unreachable { url: address.url.clone(), message });
        }
    };
    let mut answer = [0u8; FRAME_HEAD];
    let mut length = 0;
    let exchange = async {
        stream.write_all(OPENING).await?;
        while length < answer.len() {
            match stream.read(&mut answer[length..]).await? {
                0 => break,
                read => length += read,
            }
        }
        Ok::<_, std::io::Error>(())
    };
    let outcome = timeout_at(deadline, exchange).await;
    let answer = &answer[..length];
    if length == FRAME_HEAD && answer[3] == 4 && answer[5..] == [0; 4] {
        return Ok(());
    }
    if answer.starts_with(b"HTTP/1") {
        return Err(not_tapio(
            "an HTTP/1 server listens there (Prometheus uses port 9090 too); if Tapio's server runs elsewhere, set correlation.server or --server"
                .into(),
        ));
    }
    if matches!(answer, [0x15 | 0x16, 3, ..]) {
        return Err(not_tapio("it speaks TLS; Tapio's server does not".into()));
    }
    if length > 0 {
        let shown = answer.escape_ascii();
        return Err(not_tapio(format!(
            "another protocol is spoken there (it begins with \"{shown}\")"
        )));
    }
    match outcome {
        Err(_) => Err(silent()),
        Ok(_) => Err(not_tapio("it closes the connection without an answer".into())),
    }
}

/// For a listener that accepts and says nothing.
pub(super) fn silent_hint(waited: Duration) -> String {
    format!(
        "it accepts connections but did not answer within {} ms; another program may listen there, or the server hangs",
        waited.as_millis()
    )
}
