//! Our client against our service.

use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use futures::StreamExt;

use super::fixture::{BATCH, eventually, kinds, start};
use crate::flight::ClientOptions;
use crate::flight::{ClientError, Credentials, FlightClient, FlightOptions, Probe, Query, probe};

fn count(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::num_rows).sum()
}

#[tokio::test]
async fn rows_of_every_kind_come_back_as_they_were() {
    let server = start(FlightOptions::default()).await;
    let client = server.client().await;
    let (schema, batches) = client.query("select * from kinds").await.unwrap();
    let sent = kinds();
    assert_eq!(batches.len(), 1);
    for (i, field) in sent.schema().fields().iter().enumerate() {
        let got = batches[0].column(i);
        assert_eq!(schema.field(i).data_type(), got.data_type());
        if field.name() == "node" {
            // Dictionaries are sent as what they mean.
            assert_eq!(got.data_type(), &DataType::Utf8);
            assert_eq!(got, &cast(sent.column(i), &DataType::Utf8).unwrap());
        } else {
            assert_eq!(got, sent.column(i), "{}", field.name());
        }
    }
    let (schema, batches) = client.query("select ts from kinds where false").await.unwrap();
    assert_eq!((schema.field(0).name().as_str(), count(&batches)), ("ts", 0));
}

#[tokio::test]
async fn parameters_and_as_of_are_bound() {
    let server = start(FlightOptions::default()).await;
    let client = server.client().await;
    let query = Query::new("select n from numbers where name = $1 and n < $2")
        .bind("name-7")
        .bind(9i64)
        .as_of_us(5);
    let (_, batches) = client.query(query).await.unwrap();
    assert_eq!(batches[0].column(0).as_primitive::<Int64Type>().values(), &[7]);
    assert_eq!(*server.backend.as_of.lock().unwrap(), [Some(5)]);
    // What looks like SQL in a value stays a value.
    let query = Query::new("select n from numbers where name = $1").bind("x' or '1'='1");
    assert_eq!(count(&client.query(query).await.unwrap().1), 0);
}

#[tokio::test]
async fn mistakes_keep_their_place() {
    let server = start(FlightOptions::default()).await;
    let client = server.client().await;
    let cases = [
        ("selct 1", (1, 1), "SQL statement", None),
        ("select 1\nfrom numbers\nlimit )", (3, 7), "Expected", None),
        ("select n,\n  nmae from numbers", (2, 3), "nmae", Some("name")),
        ("select * from numbrs", (1, 15), "numbrs", Some("did you mean numbers?")),
        ("select abss(n) from numbers", (1, 8), "abss", Some("abs")),
    ];
    for (sql, place, text, hint) in cases {
        let error = client.query(sql).await.unwrap_err();
        let ClientError::Sql(problem) = &error else { panic!("{sql}: {error:?}") };
        assert_eq!((problem.line, problem.column), (Some(place.0), Some(place.1)), "{problem}");
        assert!(problem.message.contains(text), "{problem}");
        if let Some(hint) = hint {
            assert!(problem.hint.as_ref().is_some_and(|h| h.contains(hint)), "{problem:?}");
        }
        assert!(error.to_string().contains(&format!("Line: {}, Column: {}", place.0, place.1)));
    }
    for sql in [
        "",
        "select 1; select 2",
        "select 1/0",
        "begin",
        "select cast(name as bigint) from numbers",
    ] {
        let error = client.query(sql).await.unwrap_err();
        assert!(matches!(error, ClientError::Sql(_)), "{sql}: {error:?}");
    }
}

#[tokio::test]
async fn the_engine_words_its_own_errors() {
    let server = start(FlightOptions::default()).await;
    let client = server.client().await;
    let mut stream = client.query_stream("select * from damaged").await.unwrap();
    let mut error = None;
    while let Some(item) = stream.next().await {
        error = item.err();
    }
    let Some(ClientError::Server { message, code, .. }) = error else { panic!("{error:?}") };
    assert_eq!((message.as_str(), code), ("the store is damaged", tonic::Code::FailedPrecondition));
}

#[tokio::test]
async fn a_big_result_is_streamed() {
    let server = start(FlightOptions::default()).await;
    let client = server.client().await;
    // 100 million rows would never fit into the message limit, and are not waited for.
    let sql = "select a.n, b.name from numbers a cross join numbers b";
    let mut stream = client.query_stream(sql).await.unwrap();
    let mut rows = 0;
    while rows < 1_000_000 {
        rows += stream.next().await.unwrap().unwrap().num_rows();
    }
    assert_eq!(stream.rows(), rows as u64);
    let sql = "select a.n from numbers a cross join (select * from numbers limit 50) b";
    assert_eq!(count(&client.query(sql).await.unwrap().1), 500_000);
}

#[tokio::test]
async fn a_client_that_goes_takes_its_query_along() {
    let options = FlightOptions { max_concurrent_queries: 1, ..FlightOptions::default() };
    let server = start(options).await;
    let client = server.client().await;
    for table in ["endless", "stuck"] {
        let mut stream =
            client.query_stream(format!("select n from {table}").as_str()).await.unwrap();
        if table == "endless" {
            assert_eq!(stream.next().await.unwrap().unwrap().num_rows(), BATCH);
        }
        eventually("the query runs", async || server.running() == 1).await;
        drop(stream);
        eventually("the query is cancelled", async || server.running() == 0).await;
        // Its permit is free again.
        eventually("another may run", async || client.query("select 1").await.is_ok()).await;
    }
}

#[tokio::test]
async fn one_query_too_many_is_told_when_to_come_back() {
    let retry_after = Duration::from_millis(250);
    let options =
        FlightOptions { max_concurrent_queries: 2, retry_after, ..FlightOptions::default() };
    let server = start(options).await;
    let client = server.client().await;
    let one = client.query_stream("select n from stuck").await.unwrap();
    let _two = client.query_stream("select n from stuck").await.unwrap();
    let error = client.query("select 1").await.unwrap_err();
    let ClientError::Exhausted { message, retry_after: told } = error else { panic!("{error:?}") };
    assert_eq!(told, Some(retry_after), "{message}");
    drop(one);
    eventually("a permit is free", async || client.query("select 1").await.is_ok()).await;
}

#[tokio::test]
async fn a_query_ends_at_its_time_limit() {
    let options = FlightOptions {
        query_timeout: Some(Duration::from_millis(50)),
        ..FlightOptions::default()
    };
    let server = start(options).await;
    let client = server.client().await;
    let error = client.query("select n from stuck").await.unwrap_err();
    assert!(matches!(&error, ClientError::Exhausted { .. }), "{error:?}");
    assert!(error.to_string().contains("limits.query_seconds"));
    eventually("the query is cancelled", async || server.running() == 0).await;
    // A client that reads nothing cannot hold a query open either.
    let stalled = client.query_stream("select n from endless").await.unwrap();
    eventually("the stalled query is cancelled", async || server.running() == 0).await;
    drop(stalled);
}

#[tokio::test]
async fn memory_that_runs_out_is_said_as_such() {
    use crate::flight::problem::status_of;
    use datafusion::error::DataFusionError;
    let status = status_of(&DataFusionError::ResourcesExhausted("pool of 1 MB".into()), Vec::new);
    let error = ClientError::from_status("http://x", 0, &status);
    assert!(matches!(error, ClientError::Exhausted { retry_after: None, .. }), "{error:?}");
    assert!(error.to_string().contains("pool of 1 MB"));
}

#[tokio::test]
async fn shutdown_ends_running_queries_and_says_so() {
    let options =
        FlightOptions { shutdown_grace: Duration::from_millis(50), ..FlightOptions::default() };
    let server = start(options).await;
    let client = server.client().await;
    let mut stream = client.query_stream("select n from stuck").await.unwrap();
    server.stop.send(()).unwrap();
    let error = stream.next().await.unwrap().unwrap_err();
    assert!(
        matches!(&error, ClientError::Gone { rows: 0, message, .. } if message.contains("shutting down")),
        "{error:?}"
    );
    assert!(stream.next().await.is_none());
    server.task.await.unwrap().unwrap();
    let error = client.query("select 1").await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn credentials_of_the_client() {
    let credentials = Credentials::new("alice", "pässword").unwrap();
    let options = FlightOptions { credentials: Some(credentials), ..FlightOptions::default() };
    let server = start(options).await;
    let user = |password: &str| ClientOptions {
        user: Some(("alice".into(), password.into())),
        ..ClientOptions::default()
    };
    let client = FlightClient::connect_with(&server.url, &user("pässword")).await.unwrap();
    assert_eq!(count(&client.query("select 1").await.unwrap().1), 1);
    let error = FlightClient::connect_with(&server.url, &user("x")).await.unwrap_err();
    assert!(matches!(&error, ClientError::Unauthenticated { .. }), "{error:?}");
    let token = ClientOptions { token: Some("no such\n".into()), ..ClientOptions::default() };
    assert!(FlightClient::connect_with(&server.url, &token).await.is_err());
    let found = probe(&server.url, Duration::from_secs(10)).await;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    assert_eq!(found, Probe::Tapio { version, auth_required: true });
}
