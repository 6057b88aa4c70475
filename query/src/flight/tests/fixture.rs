//! A backend with small tables, an endless one and one that never yields a row; servers on free ports.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arrow::array::builder::{ListBuilder, MapBuilder, StringBuilder, StringDictionaryBuilder};
use arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use datafusion::catalog::MemTable;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::{Stream, StreamExt, stream};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::flight::{FlightClient, FlightOptions, ServeError, SqlBackend, serve};

/// Rows of a batch of the table `endless`.
pub const BATCH: usize = 1_000;

pub struct Backend {
    context: SessionContext,
    /// Streams of `endless` and `stuck` that live.
    pub running: Arc<AtomicUsize>,
    pub as_of: Mutex<Vec<Option<i64>>>,
}

#[async_trait::async_trait]
impl SqlBackend for Backend {
    async fn context(&self, as_of_us: Option<i64>) -> Result<SessionContext, DataFusionError> {
        self.as_of.lock().unwrap().push(as_of_us);
        Ok(self.context.clone())
    }

    fn status(&self, error: &DataFusionError) -> Option<tonic::Status> {
        matches!(error.find_root(), DataFusionError::External(_))
            .then(|| tonic::Status::failed_precondition("the store is damaged"))
    }
}

struct Counted<S> {
    inner: S,
    running: Arc<AtomicUsize>,
}

impl<S> Drop for Counted<S> {
    fn drop(&mut self) {
        self.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<S: Stream + Unpin> Stream for Counted<S> {
    type Item = S::Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<S::Item>> {
        self.inner.poll_next_unpin(cx)
    }
}

#[derive(Debug)]
enum Kind {
    Endless,
    Stuck,
    Damaged,
}

#[derive(Debug)]
struct Rows {
    kind: Kind,
    schema: SchemaRef,
    running: Arc<AtomicUsize>,
}

impl PartitionStream for Rows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = self.schema.clone();
        let batch = move || {
            let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..BATCH as i64));
            Ok(RecordBatch::try_new(schema.clone(), vec![column]).unwrap())
        };
        let inner = match self.kind {
            Kind::Endless => stream::repeat_with(batch).boxed(),
            Kind::Stuck => stream::pending().boxed(),
            Kind::Damaged => {
                let error = || DataFusionError::External("footer of part-1".into());
                stream::iter([batch(), Err(error())]).boxed()
            }
        };
        self.running.fetch_add(1, Ordering::SeqCst);
        let counted = Counted { inner, running: self.running.clone() };
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), counted))
    }
}

/// One row of every kind of column, and one of NULLs.
pub fn kinds() -> RecordBatch {
    let mut dictionary = StringDictionaryBuilder::<Int32Type>::new();
    dictionary.append_value("node-1");
    dictionary.append_null();
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    map.keys().append_value("field");
    map.values().append_value("memory_limit_bytes");
    map.append(true).unwrap();
    map.append(false).unwrap();
    let mut list = ListBuilder::new(StringBuilder::new());
    list.append_value([Some("a"), None]);
    list.append_null();
    let structs = StructArray::from(vec![
        (
            Arc::new(Field::new("event_id", DataType::Utf8, true)),
            Arc::new(StringArray::from(vec![Some("e1"), None])) as ArrayRef,
        ),
        (
            Arc::new(Field::new("value", DataType::Int64, true)),
            Arc::new(Int64Array::from(vec![Some(7), None])) as ArrayRef,
        ),
    ]);
    let times = TimestampMicrosecondArray::from(vec![Some(1_500_000), None]).with_timezone("UTC");
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("ts", Arc::new(times)),
        ("node", Arc::new(dictionary.finish())),
        ("attributes", Arc::new(map.finish())),
        ("list", Arc::new(list.finish())),
        ("record", Arc::new(structs)),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

pub fn backend() -> Arc<Backend> {
    let config = SessionConfig::new()
        .with_default_catalog_and_schema("tapio", "public")
        .with_information_schema(true)
        .with_target_partitions(2);
    let context = SessionContext::new_with_config(config);
    let running = Arc::new(AtomicUsize::new(0));
    let numbers = Arc::new(Schema::new(vec![
        Field::new("n", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
    ]));
    let rows = RecordBatch::try_new(
        numbers.clone(),
        vec![
            Arc::new(Int64Array::from_iter_values(0..10_000)),
            Arc::new(StringArray::from_iter_values((0..10_000).map(|n| format!("name-{n}")))),
        ],
    )
    .unwrap();
    let table = MemTable::try_new(numbers, vec![vec![rows]]).unwrap();
    context.register_table("numbers", Arc::new(table)).unwrap();
    let rows = kinds();
    let table = MemTable::try_new(rows.schema(), vec![vec![rows]]).unwrap();
    context.register_table("kinds", Arc::new(table)).unwrap();
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
    for (name, kind) in
        [("endless", Kind::Endless), ("stuck", Kind::Stuck), ("damaged", Kind::Damaged)]
    {
        let rows = Arc::new(Rows { kind, schema: schema.clone(), running: running.clone() });
        let table = StreamingTable::try_new(schema.clone(), vec![rows]).unwrap();
        context.register_table(name, Arc::new(table)).unwrap();
    }
    Arc::new(Backend { context, running, as_of: Mutex::new(Vec::new()) })
}

pub struct Server {
    pub url: String,
    pub address: SocketAddr,
    pub backend: Arc<Backend>,
    pub stop: oneshot::Sender<()>,
    pub task: tokio::task::JoinHandle<Result<(), ServeError>>,
}

impl Server {
    pub async fn client(&self) -> FlightClient {
        FlightClient::connect(&self.url, Duration::from_secs(10)).await.unwrap()
    }

    pub fn running(&self) -> usize {
        self.backend.running.load(Ordering::SeqCst)
    }
}

pub async fn start(options: FlightOptions) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let backend = backend();
    let (stop, stopped) = oneshot::channel();
    let shutdown = async {
        // A dropped handle stops the server as well.
        let _ = stopped.await;
    };
    let task = tokio::spawn(serve(listener, backend.clone(), options, shutdown));
    Server { url: format!("grpc://{address}"), address, backend, stop, task }
}

/// Waits until `reached`, at most ten seconds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut reached: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !reached().await {
        assert!(Instant::now() < deadline, "not reached in 10 s: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
