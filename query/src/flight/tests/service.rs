//! The service as another vendor's Flight SQL client sees it.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use arrow_flight::FlightInfo;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{
    CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys,
    CommandGetPrimaryKeys, CommandGetTables, CommandGetXdbcTypeInfo, SqlInfo,
};
use futures::TryStreamExt;
use tonic::transport::{Channel, Endpoint};

use super::fixture::{Server, start};
use crate::flight::{AS_OF_HEADER, Credentials, FlightOptions, ServeError, serve};

type Foreign = FlightSqlServiceClient<Channel>;

async fn foreign(server: &Server) -> Foreign {
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
    FlightSqlServiceClient::new(endpoint.connect().await.unwrap())
}

async fn fetch(client: &mut Foreign, info: FlightInfo) -> (SchemaRef, Vec<RecordBatch>) {
    let promised = Arc::new(info.clone().try_decode_schema().unwrap());
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let mut stream = client.do_get(ticket).await.unwrap();
    let mut batches = Vec::new();
    while let Some(batch) = stream.try_next().await.unwrap() {
        assert_eq!(batch.schema(), promised, "FlightInfo and rows have one schema");
        batches.push(batch);
    }
    assert_eq!(stream.schema(), Some(&promised));
    (promised, batches)
}

async fn select(client: &mut Foreign, sql: &str) -> (SchemaRef, Vec<RecordBatch>) {
    let info = client.execute(sql.to_owned(), None).await.unwrap();
    fetch(client, info).await
}

fn texts(batches: &[RecordBatch], column: &str) -> Vec<String> {
    let column = |batch: &RecordBatch| batch.column_by_name(column).unwrap().clone();
    let values = batches.iter().map(column).flat_map(|values: ArrayRef| {
        values.as_string::<i32>().iter().flatten().map(str::to_owned).collect::<Vec<_>>()
    });
    values.collect()
}

#[tokio::test]
async fn select_promises_and_sends_one_schema() {
    let server = start(FlightOptions::default()).await;
    let mut client = foreign(&server).await;
    let (schema, batches) =
        select(&mut client, "select n, name from numbers where n < 3 order by n").await;
    assert!(!schema.field(0).is_nullable());
    assert_eq!(texts(&batches, "name"), ["name-0", "name-1", "name-2"]);
    for sql in [
        "select count(*) c, max(name) from numbers",
        "select n % 2 p, array_agg(name) from numbers group by p",
        "select * from kinds",
        "select coalesce(ts, to_timestamp_micros(0)) from kinds union all select null",
        "select 1 as a union all select null",
        "explain select 1",
        "show tables",
        "values (1, 'a')",
    ] {
        select(&mut client, sql).await;
    }
    let (schema, batches) = select(&mut client, "select * from kinds where false").await;
    assert_eq!((schema.fields().len(), batches.iter().map(RecordBatch::num_rows).sum()), (5, 0));
}

#[tokio::test]
async fn prepared_statements_carry_their_parameters() {
    let server = start(FlightOptions::default()).await;
    let mut client = foreign(&server).await;
    let sql = "select n from numbers where n > $1 and name <> $2 order by n limit 2";
    for sql in [sql, &sql.replace("$1", "?").replace("$2", "?")] {
        let mut prepared = client.prepare(sql.to_owned(), None).await.unwrap();
        let parameters = prepared.parameter_schema().unwrap();
        let names: Vec<_> = parameters.fields().iter().map(|f| f.name().as_str()).collect();
        assert_eq!(names, ["$1", "$2"]);
        assert_eq!(parameters.field(0).data_type(), &DataType::Int64);
        assert_eq!(prepared.dataset_schema().unwrap().field(0).name(), "n");
        let first: ArrayRef = Arc::new(Int64Array::from(vec![41]));
        let second: ArrayRef = Arc::new(StringArray::from(vec!["name-42"]));
        // By position, and by name in another order.
        let rows = [
            RecordBatch::try_from_iter([("0", first.clone()), ("1", second.clone())]).unwrap(),
            RecordBatch::try_from_iter([("$2", second), ("$1", first)]).unwrap(),
        ];
        for row in rows {
            prepared.set_parameters(row).unwrap();
            let info = prepared.execute().await.unwrap();
            let (_, batches) = fetch(&mut client, info).await;
            let n = batches[0].column(0).as_primitive::<Int64Type>();
            assert_eq!(n.values(), &[43, 44]);
        }
        prepared.close().await.unwrap();
    }
    // More than nine parameters keep their order; an unbound one is named.
    let many = (1..=11).map(|i| format!("n = ${i}")).collect::<Vec<_>>().join(" or ");
    let many = format!("select n from numbers where {many}");
    let mut prepared = client.prepare(many, None).await.unwrap();
    let last = prepared.parameter_schema().unwrap().field(10).name().clone();
    assert_eq!(last, "$11");
    let info = prepared.execute().await.unwrap();
    let error = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("no value for parameter $1"), "{error}");
}

#[tokio::test]
async fn wrong_parameters_are_the_users_fault() {
    let server = start(FlightOptions::default()).await;
    let mut client = foreign(&server).await;
    let mut prepared =
        client.prepare("select n from numbers where n = $1".into(), None).await.unwrap();
    let two: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    prepared.set_parameters(RecordBatch::try_from_iter([("0", two)]).unwrap()).unwrap();
    let error = prepared.execute().await.unwrap_err().to_string();
    assert!(error.contains("exactly one row"), "{error}");
    let ticket = arrow_flight::Ticket::new(b"nonsense".to_vec());
    assert!(client.do_get(ticket).await.is_err());
}

#[tokio::test]
async fn metadata_is_listed() {
    let server = start(FlightOptions::default()).await;
    let mut client = foreign(&server).await;

    let info = client.get_catalogs().await.unwrap();
    let (_, batches) = fetch(&mut client, info).await;
    assert_eq!(texts(&batches, "catalog_name"), ["tapio"]);

    let info = client.get_db_schemas(CommandGetDbSchemas::default()).await.unwrap();
    let (_, batches) = fetch(&mut client, info).await;
    assert!(texts(&batches, "db_schema_name").contains(&"public".to_owned()));

    let query = CommandGetTables {
        catalog: Some(String::new()),
        table_name_filter_pattern: Some("%n%s".into()),
        table_types: vec!["BASE TABLE".into()],
        include_schema: true,
        ..CommandGetTables::default()
    };
    let info = client.get_tables(query).await.unwrap();
    let (_, batches) = fetch(&mut client, info).await;
    assert_eq!(texts(&batches, "table_name"), ["kinds", "numbers"]);
    let all = CommandGetTables { include_schema: true, ..CommandGetTables::default() };
    let info = client.get_tables(all).await.unwrap();
    let (_, batches) = fetch(&mut client, info).await;
    let names = texts(&batches, "table_name");
    assert!(names.contains(&"endless".to_owned()), "{names:?}");
    let elsewhere = CommandGetTables { catalog: Some("no".into()), ..Default::default() };
    let info = client.get_tables(elsewhere).await.unwrap();
    assert!(texts(&fetch(&mut client, info).await.1, "table_name").is_empty());

    let info = client.get_table_types().await.unwrap();
    assert!(!fetch(&mut client, info).await.1.is_empty());
    let wanted = vec![SqlInfo::FlightSqlServerName, SqlInfo::FlightSqlServerReadOnly];
    let info = client.get_sql_info(wanted).await.unwrap();
    assert_eq!(fetch(&mut client, info).await.1[0].num_rows(), 2);

    let infos = [
        client.get_primary_keys(CommandGetPrimaryKeys::default()).await.unwrap(),
        client.get_exported_keys(CommandGetExportedKeys::default()).await.unwrap(),
        client.get_imported_keys(CommandGetImportedKeys::default()).await.unwrap(),
        client.get_cross_reference(CommandGetCrossReference::default()).await.unwrap(),
        client.get_xdbc_type_info(CommandGetXdbcTypeInfo::default()).await.unwrap(),
    ];
    for info in infos {
        let (schema, batches) = fetch(&mut client, info).await;
        assert!(!schema.fields().is_empty());
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 0);
    }
}

#[tokio::test]
async fn changes_are_refused() {
    let server = start(FlightOptions::default()).await;
    let mut client = foreign(&server).await;
    for sql in [
        "create table x as select 1",
        "drop table numbers",
        "insert into numbers values (1, 'a')",
        "delete from numbers",
        "copy numbers to '/tmp/never.csv'",
        "create external table e stored as csv location '/etc/passwd'",
        "set datafusion.execution.batch_size = 1",
    ] {
        let error = client.execute(sql.into(), None).await.unwrap_err().to_string();
        assert!(error.contains("only queries"), "{sql}: {error}");
        let error = client.prepare(sql.into(), None).await.unwrap_err().to_string();
        assert!(error.contains("only queries"), "{sql}: {error}");
    }
    let error = client.execute_update("delete from numbers".into(), None).await.unwrap_err();
    assert!(error.to_string().contains("only queries"), "{error}");
    let (_, batches) = select(&mut client, "select count(*) c from numbers").await;
    assert_eq!(batches[0].column(0).as_primitive::<Int64Type>().value(0), 10_000);
}

#[tokio::test]
async fn as_of_travels_in_header_and_ticket() {
    let server = start(FlightOptions::default()).await;
    let mut client = foreign(&server).await;
    client.set_header(AS_OF_HEADER, "1970-01-01T00:00:02Z");
    let info = client.execute("select 1".into(), None).await.unwrap();
    client.set_header(AS_OF_HEADER, "7");
    fetch(&mut client, info).await;
    assert_eq!(*server.backend.as_of.lock().unwrap(), [Some(2_000_000), Some(2_000_000)]);
    client.set_header(AS_OF_HEADER, "soon");
    let error = client.execute("select 1".into(), None).await.unwrap_err();
    assert!(error.to_string().contains("RFC 3339"), "{error}");
}

#[tokio::test]
async fn credentials_are_asked_for_everywhere() {
    let credentials = Credentials::new("alice", "secret").unwrap();
    let options = FlightOptions { credentials: Some(credentials), ..FlightOptions::default() };
    let server = start(options).await;
    let mut client = foreign(&server).await;
    assert!(client.execute("select 1".into(), None).await.is_err());
    assert!(client.get_catalogs().await.is_err());
    assert!(client.do_get(arrow_flight::Ticket::new(vec![])).await.is_err());
    assert!(client.prepare("select 1".into(), None).await.is_err());
    assert!(client.execute_update("select 1".into(), None).await.is_err());
    assert!(client.handshake("alice", "wrong").await.is_err());
    client.handshake("alice", "secret").await.unwrap();
    assert_eq!(select(&mut client, "select 1").await.1[0].num_rows(), 1);
}

#[tokio::test]
async fn an_open_port_needs_credentials() {
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let backend = super::fixture::backend();
    let result = serve(listener, backend, FlightOptions::default(), std::future::pending());
    let result = tokio::time::timeout(Duration::from_secs(10), result).await.unwrap();
    assert!(matches!(result, Err(ServeError::Open { .. })));
}

#[tokio::test]
async fn get_schema_answers_without_running() {
    use arrow_flight::FlightDescriptor;
    use arrow_flight::sql::{CommandStatementQuery, ProstMessageExt};
    use prost::Message;

    let server = start(FlightOptions::default()).await;
    let mut client = foreign(&server).await;
    let command =
        CommandStatementQuery { query: "select n from stuck".into(), transaction_id: None };
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let answer = client.inner_mut().get_schema(descriptor).await.unwrap().into_inner();
    let schema = arrow::datatypes::Schema::try_from(&answer).unwrap();
    assert_eq!(schema.field(0).name(), "n");
    assert_eq!(server.running(), 0);
}
