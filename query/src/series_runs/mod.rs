//! Aggregation by series over rows that come in runs.
//!
//! Stored and hot rows are sorted by series and time, so neighbouring rows mostly have the same key. DataFusion's hash
//! aggregation looks up the group of every row, which was a quarter of the CPU time of a screen over hot rows; here it
//! is looked up once per run. Rows in any other order give the same answer, at the cost of one run per row.
//!
//! A question that is asked again and again, each time as of a later tick, meets the same hot batches. What exact
//! aggregates make of a batch that lies wholly within the times that count is kept while the batch is there, and merged;
//! where the times begin within a batch, so is what it holds from each of its times on. Rows are read only where that is not
//! enough (or where a batch arrived in part only, T7). The hot buffer merges small batches into large ones, so that there are
//! few of them however many ticks came. Merging exact states gives the same bytes as adding the rows (T6).

mod groups;
mod hot;
mod kept;
mod keys;
mod question;
mod suffixes;
mod whole;

use std::{fmt, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::{DataType, SchemaRef},
};
use datafusion::{
    common::{
        Result,
        config::ConfigOptions,
        internal_err,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    execution::{
        SendableRecordBatchStream, TaskContext,
        memory_pool::{MemoryConsumer, MemoryReservation},
    },
    physical_expr::{PhysicalExpr, expressions::Column},
    physical_optimizer::PhysicalOptimizerRule,
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
        aggregates::{AggregateExec, AggregateMode},
        execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{StreamExt, TryStreamExt, stream};

use groups::{Groups, Inputs};
use hot::Hot;
pub(crate) use kept::Kept;
use keys::Orders;
use question::{Flat, with_children};
pub(crate) use whole::Whole;

/// Takes the place of the first stage of aggregations by one integer column.
#[derive(Debug)]
pub(crate) struct SeriesRuns;

impl PhysicalOptimizerRule for SeriesRuns {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let replaced = plan.transform_up(|plan| {
            Ok(match plan.downcast_ref::<AggregateExec>() {
                Some(a) if fits(a) => {
                    let plan = match Flat::take(a)? {
                        Some(input) => with_children(&plan, vec![input])?,
                        None => plan,
                    };
                    Transformed::yes(Arc::new(SeriesRunsExec { plan }) as _)
                }
                _ => Transformed::no(plan),
            })
        });
        Ok(replaced?.data)
    }

    fn name(&self) -> &'static str {
        "tapio_series_runs"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// A later stage brings together what this one hands on in several pieces, so only first stages fit.
fn fits(a: &AggregateExec) -> bool {
    let key = a.group_expr();
    let integer = || {
        let [(expr, _)] = key.expr() else { return false };
        expr.downcast_ref::<Column>().is_some()
            && expr.data_type(&a.input_schema()).is_ok_and(|t| t == DataType::Int64)
    };
    *a.mode() == AggregateMode::Partial
        && key.is_single()
        && integer()
        && a.limit_options().is_none()
        && a.dynamic_expressions_produced().is_empty()
        && a.aggr_expr()
            .iter()
            .all(|f| f.groups_accumulator_supported() && f.order_bys().is_empty())
}

#[derive(Debug, Clone)]
struct SeriesRunsExec {
    /// The [`AggregateExec`] that is done here.
    plan: Arc<dyn ExecutionPlan>,
}

impl SeriesRunsExec {
    fn aggregate(&self) -> Result<&AggregateExec> {
        match self.plan.downcast_ref::<AggregateExec>() {
            Some(a) => Ok(a),
            None => internal_err!("{} is no aggregation", self.plan.name()),
        }
    }
}

impl DisplayAs for SeriesRunsExec {
    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SeriesRunsExec: ")?;
        match self.aggregate() {
            Ok(a) => a.fmt_as(t, f),
            Err(e) => write!(f, "{e}"),
        }
    }
}

impl ExecutionPlan for SeriesRunsExec {
    fn name(&self) -> &str {
        "SeriesRunsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.plan.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.plan.children()
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.plan.apply_expressions(f)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self { plan: self.plan.clone().replace_children(children, options)? }))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(
            children,
            ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute),
        )
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let a = self.aggregate()?;
        // States are merged in one place: their cost is that of the groups, not of the rows.
        let flat = (partition == 0).then(|| Flat::taken(a)).flatten();
        let orders = flat.as_ref().map_or_else(Orders::none, |f| f.leaf.kept().orders());
        let run = Run {
            flat,
            hot: None,
            inputs: Inputs::of(a)?,
            input: a.input().execute(partition, context.clone())?,
            stage: Some(Stage::new(a, self.schema(), orders, partition, &context)?),
            plan: self.clone(),
            context,
        };
        let pieces = stream::try_unfold(run, Run::next);
        let rows = pieces.map_ok(|piece| stream::iter(piece).map(Ok)).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}

/// One partition while it runs.
struct Run {
    plan: SeriesRunsExec,
    context: Arc<TaskContext>,
    flat: Option<Flat>,
    hot: Option<Hot>,
    inputs: Inputs,
    input: SendableRecordBatchStream,
    /// None at the end.
    stage: Option<Stage>,
}

impl Run {
    /// All groups, in several pieces if there is no memory for them at once.
    async fn next(mut self) -> Result<Option<(Vec<RecordBatch>, Self)>> {
        let Some(mut stage) = self.stage.take() else { return Ok(None) };
        if let Some(flat) = self.flat.take() {
            let a = self.plan.aggregate()?;
            self.hot = Some(Hot::new(flat, a, &self.context, &mut stage.groups).await?);
        }
        while let Some(hot) = &mut self.hot
            && hot.add_next(self.plan.aggregate()?, &mut stage.groups)?
        {
            if stage.is_too_large() {
                let piece = stage.emit()?;
                return Ok(Some((piece, Self { stage: Some(stage), ..self })));
            }
            // A statement that nobody waits for any more ends here.
            tokio::task::yield_now().await;
        }
        self.hot = None;
        while let Some(batch) = self.input.next().await {
            stage.groups.add(&self.inputs, &batch?, |_| true)?;
            if stage.is_too_large() {
                let piece = stage.emit()?;
                return Ok(Some((piece, Self { stage: Some(stage), ..self })));
            }
        }
        Ok(Some((stage.emit()?, self)))
    }
}

/// The groups of one partition and the memory that they may have.
struct Stage {
    groups: Groups,
    schema: SchemaRef,
    batch_size: usize,
    memory: MemoryReservation,
}

impl Stage {
    fn new(
        a: &AggregateExec,
        schema: SchemaRef,
        orders: Arc<Orders>,
        partition: usize,
        context: &TaskContext,
    ) -> Result<Self> {
        Ok(Self {
            groups: Groups::new(a, 0..a.aggr_expr().len(), orders)?,
            schema,
            batch_size: context.session_config().batch_size().max(1),
            memory: MemoryConsumer::new(format!("SeriesRuns[{partition}]"))
                .register(context.memory_pool()),
        })
    }

    /// Whether the pool does not grant what is held.
    fn is_too_large(&mut self) -> bool {
        self.memory.try_resize(self.groups.bytes()).is_err()
    }

    /// All groups so far, with their states.
    fn emit(&mut self) -> Result<Vec<RecordBatch>> {
        if self.groups.is_empty() {
            return Ok(Vec::new());
        }
        let (key, states) = self.groups.take()?;
        self.batches(key, states.into_iter().flatten())
    }

    /// All groups, with what the aggregates say of them.
    fn answers(&mut self) -> Result<Vec<RecordBatch>> {
        if self.groups.is_empty() {
            return Ok(Vec::new());
        }
        let (key, answers) = self.groups.evaluate()?;
        self.batches(key, answers.into_iter())
    }

    fn batches(
        &mut self,
        key: ArrayRef,
        columns: impl Iterator<Item = ArrayRef>,
    ) -> Result<Vec<RecordBatch>> {
        self.memory.free();
        let columns = [key].into_iter().chain(columns).collect();
        let all = RecordBatch::try_new(self.schema.clone(), columns)?;
        let starts = (0..all.num_rows()).step_by(self.batch_size);
        Ok(starts.map(|at| all.slice(at, self.batch_size.min(all.num_rows() - at))).collect())
    }
}
