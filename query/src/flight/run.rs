//! One query: planned, refused if it is none, run in a task of its own within the limits.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::dataframe::DataFrame;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::{SQLOptions, SessionState};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tonic::Status;

use super::placeholders::numbered;
use super::problem::{SqlProblem, status_of};
use super::statement::Statement;
use super::wire::{DataStream, advertised, conform, encode};
use super::{FlightOptions, SqlBackend};

/// Batches that may wait for a slow client.
const QUEUED_BATCHES: usize = 2;

/// Plans and runs statements for all connections of one server.
#[derive(Clone)]
pub(super) struct Runner {
    backend: Arc<dyn SqlBackend>,
    permits: Arc<Semaphore>,
    options: Arc<FlightOptions>,
    /// Becomes true when running queries have to end.
    closing: watch::Receiver<bool>,
}

/// A statement that is a query, with its parameters bound.
pub(super) struct Planned {
    state: SessionState,
    plan: LogicalPlan,
}

impl Planned {
    /// What the rows will look like to the client.
    pub fn schema(&self) -> SchemaRef {
        advertised(&self.logical())
    }

    pub fn plan(&self) -> &LogicalPlan {
        &self.plan
    }

    fn logical(&self) -> SchemaRef {
        Arc::new(self.plan.schema().as_arrow().clone())
    }
}

impl Runner {
    pub fn new(
        backend: Arc<dyn SqlBackend>,
        options: Arc<FlightOptions>,
        closing: watch::Receiver<bool>,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(options.max_concurrent_queries.max(1)));
        Self { backend, permits, options, closing }
    }

    /// A session for the listing of tables.
    pub async fn context(&self, as_of_us: Option<i64>) -> Result<SessionContext, Status> {
        self.backend.context(as_of_us).await.map_err(|e| self.status(&e, None))
    }

    pub fn status(&self, error: &DataFusionError, state: Option<&SessionState>) -> Status {
        self.backend
            .status(error)
            .unwrap_or_else(|| status_of(error, || state.map(table_names).unwrap_or_default()))
    }

    /// Plans a statement; anything but a query is refused here, before it can do something.
    pub async fn plan(&self, statement: &Statement) -> Result<Planned, Status> {
        let mut state = self.context(statement.as_of_us).await?.state();
        // Without spans the planner does not say where in the statement a wrong name stands.
        state.config_mut().options_mut().sql_parser.collect_spans = true;
        let plan = match numbered(&statement.sql, state.config_options()) {
            Ok(Some(parsed)) => state.statement_to_plan(parsed).await,
            Ok(None) => state.create_logical_plan(&statement.sql).await,
            Err(error) => Err(error),
        };
        let plan = plan.map_err(|e| self.status(&e, Some(&state)))?;
        only_queries(&plan)?;
        let plan = match statement.values()? {
            Some(values) => {
                plan.with_param_values(values).map_err(|e| self.status(&e, Some(&state)))?
            }
            None => plan,
        };
        Ok(Planned { state, plan })
    }

    /// Starts a planned query and returns its rows as they come.
    pub async fn run(&self, planned: Planned) -> Result<DataStream, Status> {
        let permit = self.permit()?;
        let missing = planned.plan.get_parameter_names().unwrap_or_default();
        if !missing.is_empty() {
            let mut names: Vec<_> = missing.into_iter().collect();
            names.sort();
            return Err(SqlProblem::new(
                format!("no value for parameter {}", names.join(", ")),
                "placeholders are written $1, $2, … or $name, and a value is bound to each",
            )
            .to_status());
        }
        let schema = planned.logical();
        let frame = DataFrame::new(planned.state, planned.plan);
        let stream = frame.execute_stream().await.map_err(|e| self.status(&e, None))?;

        let (sender, mut receiver) = mpsc::channel(QUEUED_BATCHES);
        tokio::spawn(self.clone().produce(stream, schema.clone(), sender, permit));
        let batches = futures::stream::poll_fn(move |cx| receiver.poll_recv(cx));
        Ok(encode(schema, batches))
    }

    fn permit(&self) -> Result<OwnedSemaphorePermit, Status> {
        self.permits.clone().try_acquire_owned().map_err(|_| {
            let millis = self.options.retry_after.as_millis();
            let mut status = Status::resource_exhausted(format!(
                "{} queries are running, more are not allowed at once: try again in {millis} ms",
                self.options.max_concurrent_queries
            ));
            // gRPC clients with a retry policy heed this one.
            if let Ok(value) = millis.to_string().parse() {
                status.metadata_mut().insert(RETRY_HEADER, value);
            }
            status
        })
    }

    /// Drives the plan until it ends, fails, takes too long, the client goes or the server closes. Dropping the
    /// stream is what cancels a plan, so a plan that computes for long without a row must not hold this up: the
    /// permit is given back when the task ends.
    async fn produce(
        self,
        mut stream: SendableRecordBatchStream,
        schema: SchemaRef,
        sender: mpsc::Sender<Result<RecordBatch, Status>>,
        _permit: OwnedSemaphorePermit,
    ) {
        let limit = self.options.query_timeout;
        let mut closing = self.closing.clone();
        let forward = async {
            while let Some(batch) = stream.next().await {
                let batch = match batch {
                    Ok(batch) => conform(batch, &schema),
                    Err(error) => Err(self.status(&error, None)),
                };
                let failed = batch.is_err();
                if sender.send(batch).await.is_err() || failed {
                    return;
                }
            }
        };
        let end = tokio::select! {
            () = forward => return,
            () = sender.closed() => return,
            () = sleep(limit) => Status::deadline_exceeded(format!(
                "the query was cancelled after {} s (limits.query_seconds): select less, or a shorter time range",
                limit.unwrap_or_default().as_secs_f64()
            )),
            () = closed(&mut closing) => Status::unavailable("the server is shutting down"),
        };
        drop(stream);
        // A stalled client has its queue full; it shall not hold up the shutdown either.
        let _ = tokio::time::timeout(Duration::from_secs(1), sender.send(Err(end))).await;
    }
}

/// Metadata with the milliseconds after which to try again.
pub(super) const RETRY_HEADER: &str = "grpc-retry-pushback-ms";

async fn sleep(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

async fn closed(closing: &mut watch::Receiver<bool>) {
    // The sender is gone only when the server is.
    let _ = closing.wait_for(|closing| *closing).await;
}

/// Refuses all that would change something.
pub(super) fn only_queries(plan: &LogicalPlan) -> Result<(), Status> {
    let options =
        SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    options.verify_plan(plan).map_err(|_| {
        refused(match plan {
            LogicalPlan::Ddl(ddl) => ddl.name(),
            LogicalPlan::Dml(dml) => dml.op.name(),
            LogicalPlan::Copy(_) => "COPY",
            LogicalPlan::Statement(statement) => statement.name(),
            _ => "a statement that contains a change",
        })
    })
}

/// The answer to statements that are no queries.
pub(super) fn refused(what: impl std::fmt::Display) -> Status {
    SqlProblem::new(
        format!("only queries are answered here, not {what}"),
        "rows come in through collectors and `tapio import`; use SELECT, WITH, VALUES, EXPLAIN or SHOW",
    )
    .to_status()
}

fn table_names(state: &SessionState) -> Vec<String> {
    let catalogs = state.catalog_list();
    let mut names: Vec<String> = catalogs
        .catalog_names()
        .iter()
        .filter_map(|name| catalogs.catalog(name))
        .flat_map(|catalog| {
            let schemas = catalog.schema_names();
            schemas.into_iter().filter_map(move |name| catalog.schema(&name)).collect::<Vec<_>>()
        })
        .flat_map(|schema| schema.table_names())
        .collect();
    names.extend(state.table_functions().keys().cloned());
    names
}
