//! Keeps one damaged file from failing a query: its stream ends where the damage is, and that is counted (T8).

use std::{any::Any, error::Error, fmt, panic::AssertUnwindSafe, sync::Arc};

use arrow::{array::RecordBatch, error::ArrowError};
use datafusion::{
    common::{DataFusionError, Result, config::ConfigOptions, tree_node::TreeNodeRecursion},
    datasource::{
        listing::PartitionedFile,
        physical_plan::{FileOpener, FileScanConfig, FileSource},
        table_schema::TableSchema,
    },
    physical_expr::{
        EquivalenceProperties, PhysicalExpr, PhysicalSortExpr, projection::ProjectionExprs,
    },
    physical_plan::{
        DisplayFormatType, SortOrderPushdownResult,
        filter_pushdown::{FilterPushdownPropagation, PushedDown},
        metrics::ExecutionPlanMetricsSet,
    },
};
use datafusion_datasource::morsel::{Morsel, MorselPlan, MorselPlanner, Morselizer};
use futures::{FutureExt, StreamExt, stream::BoxStream};
use object_store::ObjectStore;
use parquet::errors::ParquetError;

use super::filter::infallible;
use crate::degraded::Degraded;

/// The Parquet source of one scan, guarded.
#[derive(Clone)]
pub(super) struct GuardedSource {
    inner: Arc<dyn FileSource>,
    degraded: Arc<Degraded>,
}

impl GuardedSource {
    pub(super) fn new(inner: Arc<dyn FileSource>, degraded: Arc<Degraded>) -> Self {
        Self { inner, degraded }
    }

    fn wrap(&self, inner: Arc<dyn FileSource>) -> Arc<dyn FileSource> {
        Arc::new(Self { inner, degraded: self.degraded.clone() })
    }
}

impl FileSource for GuardedSource {
    fn create_file_opener(
        &self,
        object_store: Arc<dyn ObjectStore>,
        base_config: &FileScanConfig,
        partition: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        self.inner.create_file_opener(object_store, base_config, partition)
    }

    fn create_morselizer(
        &self,
        object_store: Arc<dyn ObjectStore>,
        base_config: &FileScanConfig,
        partition: usize,
    ) -> Result<Box<dyn Morselizer>> {
        let inner = self.inner.create_morselizer(object_store, base_config, partition)?;
        Ok(Box::new(GuardedMorselizer { inner, degraded: self.degraded.clone() }))
    }

    fn table_schema(&self) -> &TableSchema {
        self.inner.table_schema()
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        self.wrap(self.inner.with_batch_size(batch_size))
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        self.inner.filter()
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        self.inner.projection()
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        self.inner.metrics()
    }

    fn file_type(&self) -> &str {
        self.inner.file_type()
    }

    fn fmt_extra(&self, t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        self.inner.fmt_extra(t, f)
    }

    /// Takes only filters that cannot fail: an error within the stream is then damage, never the user's predicate.
    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn FileSource>>> {
        let safe: Vec<bool> = filters.iter().map(infallible).collect();
        let taken =
            filters.iter().zip(&safe).filter(|(_, s)| **s).map(|(f, _)| f.clone()).collect();
        let answer = self.inner.try_pushdown_filters(taken, config)?;
        let mut inner = answer.filters.into_iter();
        let filters = safe
            .into_iter()
            .map(|s| if s { inner.next().unwrap_or(PushedDown::No) } else { PushedDown::No })
            .collect();
        Ok(FilterPushdownPropagation {
            filters,
            updated_node: answer.updated_node.map(|n| self.wrap(n)),
        })
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
        eq_properties: &EquivalenceProperties,
    ) -> Result<SortOrderPushdownResult<Arc<dyn FileSource>>> {
        Ok(match self.inner.try_pushdown_sort(order, eq_properties)? {
            SortOrderPushdownResult::Exact { inner } => {
                SortOrderPushdownResult::Exact { inner: self.wrap(inner) }
            }
            SortOrderPushdownResult::Inexact { inner } => {
                SortOrderPushdownResult::Inexact { inner: self.wrap(inner) }
            }
            SortOrderPushdownResult::Unsupported => SortOrderPushdownResult::Unsupported,
        })
    }

    fn reorder_files(&self, files: Vec<PartitionedFile>) -> Vec<PartitionedFile> {
        self.inner.reorder_files(files)
    }

    fn try_pushdown_projection(
        &self,
        projection: &ProjectionExprs,
    ) -> Result<Option<Arc<dyn FileSource>>> {
        Ok(self.inner.try_pushdown_projection(projection)?.map(|inner| self.wrap(inner)))
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.inner.apply_expressions(f)
    }
}

#[derive(Debug)]
struct GuardedMorselizer {
    inner: Box<dyn Morselizer>,
    degraded: Arc<Degraded>,
}

impl Morselizer for GuardedMorselizer {
    fn plan_file(&self, file: PartitionedFile) -> Result<Box<dyn MorselPlanner>> {
        let guard = Guard { path: file.path().to_string(), degraded: self.degraded.clone() };
        match self.inner.plan_file(file) {
            Ok(inner) => Ok(Box::new(GuardedPlanner { inner: Some(inner), guard })),
            Err(e) => {
                guard.excuse(e)?;
                Ok(Box::new(GuardedPlanner { inner: None, guard }))
            }
        }
    }
}

/// What to do with an error in one file.
#[derive(Debug, Clone)]
struct Guard {
    path: String,
    degraded: Arc<Degraded>,
}

impl Guard {
    /// Records damage and says it is dealt with; gives any other error back.
    fn excuse(&self, error: DataFusionError) -> Result<()> {
        match damage(&error) {
            Some(detail) => {
                self.skip(&detail);
                Ok(())
            }
            None => Err(error.context(self.path.clone())),
        }
    }

    fn skip(&self, detail: &str) {
        let detail = format!("{detail}; its remaining rows are left out of answers");
        self.degraded.record("store", &self.path, &detail);
    }
}

#[derive(Debug)]
struct GuardedPlanner {
    inner: Option<Box<dyn MorselPlanner>>,
    guard: Guard,
}

impl MorselPlanner for GuardedPlanner {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        let Self { inner, guard } = *self;
        let Some(inner) = inner else { return Ok(None) };
        let mut plan = match inner.plan() {
            Ok(Some(plan)) => plan,
            Ok(None) => return Ok(None),
            Err(e) => return guard.excuse(e).map(|()| None),
        };
        let wrap = |inner| {
            Box::new(GuardedPlanner { inner, guard: guard.clone() }) as Box<dyn MorselPlanner>
        };
        let morsels = plan
            .take_morsels()
            .into_iter()
            .map(|inner| Box::new(GuardedMorsel { inner, guard: guard.clone() }) as Box<dyn Morsel>)
            .collect();
        let planners = plan.take_ready_planners().into_iter().map(|p| wrap(Some(p))).collect();
        let mut guarded = MorselPlan::new().with_morsels(morsels).with_planners(planners);
        if let Some(pending) = plan.take_pending_planner() {
            let guard = guard.clone();
            guarded.set_pending_planner(async move {
                let inner = match pending.await {
                    Ok(inner) => Some(inner),
                    Err(e) => guard.excuse(e).map(|()| None)?,
                };
                Ok(Box::new(GuardedPlanner { inner, guard }) as Box<dyn MorselPlanner>)
            });
        }
        Ok(Some(guarded))
    }
}

#[derive(Debug)]
struct GuardedMorsel {
    inner: Box<dyn Morsel>,
    guard: Guard,
}

impl Morsel for GuardedMorsel {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<RecordBatch>> {
        let Self { inner, guard } = *self;
        futures::stream::unfold(Some(inner.into_stream()), move |stream| {
            let guard = guard.clone();
            async move {
                let mut stream = stream?;
                // Decoders of damaged pages may panic instead of answering an error.
                match AssertUnwindSafe(stream.next()).catch_unwind().await {
                    Ok(None) => None,
                    Ok(Some(Ok(batch))) => Some((Ok(batch), Some(stream))),
                    Ok(Some(Err(e))) => guard.excuse(e).err().map(|e| (Err(e), None)),
                    Err(panic) => {
                        guard.skip(&format!("damaged or foreign: {}", panic_text(&*panic)));
                        None
                    }
                }
            }
        })
        .boxed()
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("cannot be decoded").to_owned()
}

/// What is wrong with the file, if the error says that something is wrong with it. A store that does not answer is no
/// damage: the same query may succeed a moment later, so it must not pass for a smaller answer.
fn damage(error: &DataFusionError) -> Option<String> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    let mut verdict = None;
    while let Some(e) = next {
        if let Some(e) = e.downcast_ref::<object_store::Error>() {
            return match e {
                object_store::Error::NotFound { .. } => {
                    Some("is named in the table log, but gone".into())
                }
                _ => None,
            };
        }
        if let Some(e) = e.downcast_ref::<DataFusionError>() {
            match e {
                DataFusionError::ParquetError(p) => {
                    verdict = verdict.or_else(|| Some(p.to_string()))
                }
                DataFusionError::ArrowError(a, _) => {
                    verdict = verdict.or_else(|| Some(a.to_string()));
                }
                DataFusionError::ResourcesExhausted(_) => return None,
                _ => {}
            }
        } else if let Some(e) = e.downcast_ref::<ParquetError>() {
            verdict = verdict.or_else(|| Some(e.to_string()));
        } else if let Some(e) = e.downcast_ref::<ArrowError>() {
            verdict = verdict.or_else(|| Some(e.to_string()));
        }
        next = match e.downcast_ref::<ParquetError>() {
            // `source()` of these skips the boxed error itself.
            Some(ParquetError::External(inner)) => Some(inner.as_ref()),
            _ => e.source(),
        };
    }
    verdict.map(|v| format!("damaged or foreign: {v}"))
}
