//! What happens when the peer is gone, silent or somebody else.

use std::time::{Duration, Instant};

use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::fixture::{backend, start};
use crate::flight::{ClientError, FlightClient, FlightOptions, Probe, probe, serve};

const PROBE: Duration = Duration::from_millis(200);

/// A server in a runtime of its own, so that dropping the runtime closes its sockets as a killed process does.
fn doomed() -> (String, tokio::runtime::Runtime) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = listener.local_addr().unwrap().to_string();
    runtime.spawn(async move {
        let listener = TcpListener::from_std(listener).unwrap();
        serve(listener, backend(), FlightOptions::default(), std::future::pending()).await
    });
    (url, runtime)
}

#[tokio::test]
async fn a_killed_server_is_said_with_the_rows_that_had_arrived() {
    for table in ["endless", "stuck"] {
        let (url, runtime) = doomed();
        let client = FlightClient::connect(&url, Duration::from_secs(10)).await.unwrap();
        let mut stream =
            client.query_stream(format!("select n from {table}").as_str()).await.unwrap();
        let mut rows = 0;
        if table == "endless" {
            while rows < 100_000 {
                rows += stream.next().await.unwrap().unwrap().num_rows() as u64;
            }
        }
        runtime.shutdown_background();
        let error = loop {
            match stream.next().await {
                Some(Ok(batch)) => rows += batch.num_rows() as u64,
                Some(Err(error)) => break error,
                None => panic!("a cut stream must not look complete"),
            }
        };
        let ClientError::Gone { rows: told, .. } = &error else { panic!("{error:?}") };
        assert_eq!(*told, rows);
        let text = error.to_string();
        assert!(
            text.contains(&format!("after {rows} rows")) && text.contains("run it again"),
            "{text}"
        );
        let error = client.query("select 1").await.unwrap_err();
        assert!(
            matches!(error, ClientError::Unreachable { .. } | ClientError::Gone { rows: 0, .. }),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_tapio_server_is_found_in_every_form() {
    let server = start(FlightOptions::default()).await;
    let port = server.address.port();
    for url in [
        format!("localhost:{port}"),
        format!("127.0.0.1:{port}"),
        format!("http://localhost:{port}"),
        format!("grpc://127.0.0.1:{port}/"),
    ] {
        let found = probe(&url, Duration::from_secs(10)).await;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        assert_eq!(found, Probe::Tapio { version, auth_required: false }, "{url}");
    }
}

#[tokio::test]
async fn a_closed_port_is_absent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = listener.local_addr().unwrap().to_string();
    drop(listener);
    let Probe::Absent(reason) = probe(&url, PROBE).await else { panic!() };
    assert!(reason.contains("nothing listens"), "{reason}");
    let error = FlightClient::connect(&url, PROBE).await.unwrap_err();
    assert!(matches!(&error, ClientError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("tapio-server"), "{error}");
    assert!(matches!(probe("ftp://x", PROBE).await, Probe::Absent(_)));
}

/// Accepts for ever; `answer` = what is said to the first bytes, `None` = nothing.
async fn listener(answer: Option<&'static [u8]>) -> (String, mpsc::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = listener.local_addr().unwrap().to_string();
    let (stop, mut stopped) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut kept = Vec::new();
        loop {
            let mut socket = tokio::select! {
                accepted = listener.accept() => accepted.unwrap().0,
                _ = stopped.recv() => return,
            };
            if let Some(answer) = answer {
                let mut request = [0; 64];
                let _ = socket.read(&mut request).await;
                let _ = socket.write_all(answer).await;
            } else {
                kept.push(socket);
            }
        }
    });
    (url, stop)
}

#[tokio::test]
async fn others_count_as_absent_with_a_hint() {
    let http1: &[u8] =
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let cases: [(Option<&'static [u8]>, &str); 5] = [
        (Some(http1), "Prometheus"),
        (Some(b"\x15\x03\x01\x00\x02\x02\x46"), "TLS"),
        (Some(b"SSH-2.0-OpenSSH_9.2\r\n"), "SSH-2.0"),
        (Some(b""), "without an answer"),
        (None, "did not answer within"),
    ];
    for (answer, hint) in cases {
        let (url, _stop) = listener(answer).await;
        let begun = Instant::now();
        let found = probe(&url, PROBE).await;
        let took = begun.elapsed();
        let Probe::NotFlight { hint: told } = &found else { panic!("{hint}: {found:?}") };
        assert!(told.contains(hint), "{told}");
        // The deadline holds; generous, since test machines are busy.
        assert!(took < PROBE * 10, "{took:?}");
        let error = FlightClient::connect(&url, PROBE).await.unwrap_err();
        assert!(matches!(&error, ClientError::NotTapio { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn http2_without_flight_is_not_tapio() {
    // A gRPC server that knows no Flight answers every call with "unimplemented".
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = listener.local_addr().unwrap().to_string();
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let routes = tonic::service::Routes::default();
    tokio::spawn(
        tonic::transport::Server::builder().add_routes(routes).serve_with_incoming(incoming),
    );
    let found = probe(&url, Duration::from_secs(10)).await;
    let Probe::NotFlight { hint } = found else { panic!("{found:?}") };
    assert!(hint.contains("no Arrow Flight"), "{hint}");
    // One that opens HTTP/2 and then says nothing.
    let (url, _stop) = self::listener(Some(b"\0\0\0\x04\0\0\0\0\0")).await;
    assert!(matches!(probe(&url, PROBE).await, Probe::NotFlight { .. }));
}
