//! The engine: statements in, rows out.

use std::{sync::Arc, time::Duration};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{
    execution::{
        SendableRecordBatchStream, SessionState, SessionStateBuilder,
        context::{SQLOptions, SessionContext},
        memory_pool::{FairSpillPool, MemoryPool, TrackConsumersPool},
        object_store::ObjectStoreUrl,
        runtime_env::RuntimeEnvBuilder,
    },
    logical_expr::LogicalPlan,
    physical_plan::{execute_stream, stream::RecordBatchStreamAdapter},
    prelude::SessionConfig,
};
use futures::{StreamExt, TryStreamExt};
use tapio_sql::PatternCatalog;
use tapio_store::{HotSource, NoHotRows, Store};
use url::Url;

use crate::{
    QueryError,
    degraded::{Degraded, DegradedRow},
    error::Names,
    relation::Home,
    series_runs::{Kept, SeriesRuns, Whole},
    table::{Footers, Shared},
    udf,
};

/// How many consumers of memory an error about memory names.
const NAMED_CONSUMERS: std::num::NonZeroUsize = std::num::NonZeroUsize::new(3).unwrap();

/// States of hot batches that are kept, together, but no more than this share of a limit.
const KEPT_BYTES: usize = 128 << 20;
const KEPT_SHARE: usize = 4;

/// Rules that cost a fifth of a `tapio check` and find nothing to do in our relations: projections have been
/// pushed into the scans by the logical rules already, and no scan of ours has nested columns to take leaves from.
const COSTLY_RULES: [&str; 3] =
    ["ProjectionPushdown", "extract_leaf_expressions", "push_down_leaf_projections"];

/// Before this rule it is open in how many partitions a node gives its rows.
const SETTLES_PARTITIONS: &str = "EnsureRequirements";

fn with_our_rules(state: SessionState) -> SessionState {
    let keep = |name: &str| !COSTLY_RULES.contains(&name);
    let mut physical: Vec<_> =
        state.physical_optimizers().iter().filter(|r| keep(r.name())).cloned().collect();
    let settled = physical.iter().position(|r| r.name() == SETTLES_PARTITIONS);
    physical.insert(settled.unwrap_or(0), Arc::new(Whole));
    physical.push(Arc::new(SeriesRuns));
    let logical = state.optimizer().rules.iter().filter(|r| keep(r.name())).cloned().collect();
    SessionStateBuilder::new_from_existing(state)
        .with_physical_optimizer_rules(physical)
        .with_optimizer_rules(logical)
        .build()
}

/// What an engine is made of.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Where the files are.
    pub store: Store,
    /// Rows that are not in files yet.
    pub hot: Arc<dyn HotSource>,
    /// The patterns.
    pub patterns: PatternCatalog,
    /// Partitions of a query that run at the same time; answers do not depend on it (T6).
    pub threads: usize,
    /// Bytes that queries together may hold; `None`: no limit.
    pub memory_limit: Option<usize>,
    /// Time a statement may take; `None`: no limit.
    pub time_limit: Option<Duration>,
}

impl EngineOptions {
    /// A reader of `store` alone, with two threads and without limits.
    pub fn new(store: Store, patterns: PatternCatalog) -> Self {
        Self {
            store,
            hot: Arc::new(NoHotRows),
            patterns,
            threads: 2,
            memory_limit: None,
            time_limit: None,
        }
    }
}

/// Answers SQL over a store and the hot rows of this process. Statements are read-only.
#[derive(Debug)]
pub struct Engine {
    home: Arc<Home>,
    time_limit: Option<Duration>,
}

impl Engine {
    /// Prepares an engine; nothing is read yet.
    ///
    /// # Errors
    /// [`QueryError::Pattern`] if a pattern does not plan or breaks its contract, [`QueryError::Internal`].
    pub fn new(options: EngineOptions) -> Result<Arc<Self>, QueryError> {
        let none = Names::default();
        let wrong = |e: datafusion::common::DataFusionError| QueryError::of(&e, "", &none);
        let mut config = SessionConfig::new()
            .with_target_partitions(options.threads.max(1))
            .with_default_catalog_and_schema(crate::relation::CATALOG, crate::relation::SCHEMA)
            .with_create_default_catalog_and_schema(false)
            .with_information_schema(true)
            .with_collect_statistics(false);
        let o = config.options_mut();
        o.execution.time_zone = Some("UTC".into());
        o.execution.parquet.pushdown_filters = true;
        o.execution.parquet.reorder_filters = true;
        // Stored and computed text is one type, so that hot and stored rows, and every client, see the same.
        o.execution.parquet.schema_force_view_types = false;
        o.sql_parser.map_string_types_to_utf8view = false;
        o.sql_parser.collect_spans = true;
        // Our relations are deep; later passes find nothing in them and cost as much as the first.
        o.optimizer.max_passes = 1;
        let mut runtime = RuntimeEnvBuilder::new();
        if let Some(limit) = options.memory_limit {
            let pool: Arc<dyn MemoryPool> =
                Arc::new(TrackConsumersPool::new(FairSpillPool::new(limit), NAMED_CONSUMERS));
            runtime = runtime.with_memory_pool(pool);
        }
        let runtime = runtime.build_arc().map_err(wrong)?;
        // The store's own URL may carry credentials or a path; queries know it by this name.
        let store_url = "tapio-store://store";
        let url = Url::parse(store_url).map_err(|e| QueryError::Internal(e.to_string()))?;
        runtime.register_object_store(&url, options.store.objects().clone());
        let base = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(runtime)
            .with_default_features()
            .build();
        let base = with_our_rules(base);
        let ctx = SessionContext::new_with_state(base);
        udf::register(&ctx);
        let base = ctx.state();
        let most = options.memory_limit.map_or(KEPT_BYTES, |l| KEPT_BYTES.min(l / KEPT_SHARE));
        let shared = Shared {
            hot: options.hot,
            kept: Arc::new(Kept::new(most, &base.runtime_env().memory_pool)),
            footers: Arc::new(Footers::default()),
            degraded: Arc::new(Degraded::default()),
            store_url: ObjectStoreUrl::parse(store_url).map_err(wrong)?,
        };
        let logs = tapio_sql::catalog().iter().map(|d| options.store.table(d)).collect();
        let patterns = options.patterns;
        let home = Arc::new_cyclic(|me| Home {
            base,
            logs,
            shared,
            patterns,
            pool: Arc::default(),
            me: me.clone(),
        });
        let engine = Arc::new(Self { home, time_limit: options.time_limit });
        engine.check_patterns()?;
        Ok(engine)
    }

    /// Plans every pattern, so that a wrong one is named before it is needed.
    fn check_patterns(&self) -> Result<(), QueryError> {
        let state = self.home.state(Some(0), 0);
        for p in self.home.patterns.iter() {
            let sql = format!("SELECT * FROM {}()", p.name);
            let plan = futures::FutureExt::now_or_never(state.create_logical_plan(&sql));
            if let Some(Err(e)) = plan {
                return Err(QueryError::of(&e, &sql, &self.home.names()));
            }
        }
        Ok(())
    }

    /// The time (µs) that statements look at unless they say otherwise: the newest acknowledged tick of this process,
    /// else the newest `observed_at` in the store; 0 if there is no row at all.
    ///
    /// # Errors
    /// [`QueryError::Storage`].
    pub async fn default_as_of(&self) -> Result<i64, QueryError> {
        if let Some(us) = self.home.shared.hot.data_through_us() {
            return Ok(us);
        }
        let mut newest = 0;
        for log in &self.home.logs {
            let snapshot = log.snapshot().await?;
            let latest =
                snapshot.files.values().filter_map(|f| f.ranges.get("observed_at")).map(|r| r.max);
            newest = newest.max(latest.max().unwrap_or(0));
        }
        Ok(newest)
    }

    /// A session. With `as_of` (µs) tables hold only what was known then; without, they hold everything and relations
    /// speak about [`Engine::default_as_of`]. Cheap; make one per statement.
    ///
    /// # Errors
    /// [`QueryError::Storage`].
    pub async fn context(&self, as_of: Option<i64>) -> Result<SessionContext, QueryError> {
        let at = match as_of {
            Some(t) => t,
            None => self.default_as_of().await?,
        };
        Ok(SessionContext::new_with_state(self.home.state(as_of, at)))
    }

    /// Plans a statement; it must be a query (or EXPLAIN, SHOW, DESCRIBE).
    ///
    /// # Errors
    /// [`QueryError::Sql`] with position and hint, [`QueryError::Storage`].
    pub async fn plan(
        &self,
        sql: &str,
        as_of: Option<i64>,
    ) -> Result<(SessionContext, LogicalPlan), QueryError> {
        let ctx = self.context(as_of).await?;
        let read_only = SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false);
        let plan = async {
            let plan = ctx.state().create_logical_plan(sql).await?;
            read_only.verify_plan(&plan)?;
            Ok(plan)
        };
        let plan = plan.await.map_err(|e| self.explain(&e, sql))?;
        Ok((ctx, plan))
    }

    /// Runs a planned statement (see [`Engine::plan`]); dropping the stream ends the work. Errors that arise later come
    /// through the stream; [`Engine::explain`] tells them apart.
    ///
    /// # Errors
    /// All of [`QueryError`].
    pub async fn run(
        &self,
        ctx: &SessionContext,
        plan: LogicalPlan,
        sql: &str,
    ) -> Result<SendableRecordBatchStream, QueryError> {
        let start = tokio::time::Instant::now();
        let started = async {
            let physical = ctx.state().create_physical_plan(&plan).await?;
            execute_stream(physical, ctx.task_ctx())
        };
        let Some(limit) = self.time_limit else {
            return started.await.map_err(|e| self.explain(&e, sql));
        };
        let deadline = start + limit;
        let late = move || {
            datafusion::common::DataFusionError::ResourcesExhausted(format!(
                "the statement took longer than {} s",
                limit.as_secs_f64()
            ))
        };
        let stream = tokio::time::timeout_at(deadline, started)
            .await
            .unwrap_or_else(|_| Err(late()))
            .map_err(|e| self.explain(&e, sql))?;
        let schema = stream.schema();
        let limited = futures::stream::unfold(Some(stream), move |stream| async move {
            let mut stream = stream?;
            match tokio::time::timeout_at(deadline, stream.next()).await {
                Ok(Some(batch)) => Some((batch, Some(stream))),
                Ok(None) => None,
                Err(_) => Some((Err(late()), None)),
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, limited)))
    }

    /// Plans and runs a statement.
    ///
    /// # Errors
    /// As [`Engine::plan`] and [`Engine::run`].
    pub async fn stream(
        &self,
        sql: &str,
        as_of: Option<i64>,
    ) -> Result<SendableRecordBatchStream, QueryError> {
        let (ctx, plan) = self.plan(sql, as_of).await?;
        self.run(&ctx, plan, sql).await
    }

    /// All rows of a statement, and their schema also where there are none.
    ///
    /// # Errors
    /// As [`Engine::stream`].
    pub async fn sql(
        &self,
        sql: &str,
        as_of: Option<i64>,
    ) -> Result<(SchemaRef, Vec<RecordBatch>), QueryError> {
        let stream = self.stream(sql, as_of).await?;
        let schema = stream.schema();
        let batches = stream.try_collect().await.map_err(|e| self.explain(&e, sql))?;
        Ok((schema, batches))
    }

    /// An error of DataFusion as one of ours; `sql` is the statement it belongs to.
    pub fn explain(&self, error: &datafusion::common::DataFusionError, sql: &str) -> QueryError {
        QueryError::of(error, sql, &self.home.names())
    }

    /// What could not be read since this engine was made.
    pub fn degraded(&self) -> Vec<DegradedRow> {
        self.home.shared.degraded.rows()
    }

    /// States of hot batches that are kept, and their bytes.
    #[cfg(test)]
    pub(crate) fn kept_states(&self) -> (usize, usize) {
        self.home.shared.kept.size()
    }

    /// The patterns.
    pub fn patterns(&self) -> &PatternCatalog {
        &self.home.patterns
    }
}
