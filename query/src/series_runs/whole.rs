//! Both stages of an aggregation at once where all its rows are hot.
//!
//! Between two stages the states of all groups are made into columns, hashed into partitions and looked up once more. That
//! pays where many rows became few states in several places; hot rows are merged in one place, so their states have
//! nowhere to go. Whether a table has files within the asked times is known when the plan runs, so both ways are kept.

use std::{fmt, sync::Arc};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{
    common::{
        Result,
        config::ConfigOptions,
        internal_err,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_optimizer::PhysicalOptimizerRule,
    physical_plan::{
        DisplayAs, DisplayFormatType, Distribution, ExecutionPlan, Partitioning, PlanProperties,
        aggregates::{AggregateExec, AggregateMode},
        execution_plan::{Boundedness, EmissionType},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{TryStreamExt, stream};

use super::{
    SeriesRunsExec, Stage, fits,
    hot::Hot,
    question::{Flat, is_alone},
};

/// Puts a [`WholeExec`] above last stages whose first stage may find all its rows in memory.
///
/// Runs before partitions are settled: what it makes is one partition, and whoever needs more says so.
#[derive(Debug)]
pub(crate) struct Whole;

impl PhysicalOptimizerRule for Whole {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let wrapped = plan.transform_up(|plan| {
            let Some(last) = plan.downcast_ref::<AggregateExec>() else {
                return Ok(Transformed::no(plan));
            };
            let first = last.input().downcast_ref::<AggregateExec>();
            let is_last =
                matches!(last.mode(), AggregateMode::Final | AggregateMode::FinalPartitioned);
            let may_be_whole = is_last
                && last.limit_options().is_none()
                && first.is_some_and(|first| fits(first) && Flat::may_be_whole(first));
            Ok(match may_be_whole {
                true => Transformed::yes(Arc::new(WholeExec::new(plan)) as _),
                false => Transformed::no(plan),
            })
        });
        Ok(wrapped?.data)
    }

    fn name(&self) -> &'static str {
        "tapio_whole"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct WholeExec {
    /// The aggregation in stages.
    stages: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl WholeExec {
    fn new(stages: Arc<dyn ExecutionPlan>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(stages.schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self { stages, properties: Arc::new(properties) }
    }

    /// The first stage, if it takes hot rows.
    fn first_stage(&self) -> Option<SeriesRunsExec> {
        let mut plan = &self.stages;
        loop {
            if let Some(first) = plan.downcast_ref::<SeriesRunsExec>() {
                return Some(first.clone());
            }
            let [below] = plan.children()[..] else { return None };
            plan = below;
        }
    }
}

impl DisplayAs for WholeExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WholeExec: at once if all rows are hot")
    }
}

impl ExecutionPlan for WholeExec {
    fn name(&self) -> &str {
        "WholeExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.stages]
    }

    fn required_input_distribution(&self) -> Vec<Distribution> {
        vec![Distribution::SinglePartition]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(match children.pop() {
            Some(stages) => Arc::new(Self::new(stages)),
            None => self,
        })
    }

    fn execute(
        &self,
        _partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        if self.stages.properties().output_partitioning().partition_count() != 1 {
            return internal_err!("{} needs one partition", self.name());
        }
        let (schema, stages, first) = (self.schema(), self.stages.clone(), self.first_stage());
        let answer = schema.clone();
        let rows = async move {
            if let Some(first) = first
                && let Some(batches) = first.whole(&answer, &context).await?
            {
                let batches = stream::iter(batches.into_iter().map(Ok));
                return Ok(Box::pin(RecordBatchStreamAdapter::new(answer, batches)) as _);
            }
            stages.execute(0, context)
        };
        let rows = stream::once(rows).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

impl SeriesRunsExec {
    /// The answers of all groups, in the schema of the last stage; `None` if not all rows are hot, or their groups do not fit
    /// into memory at once.
    async fn whole(
        &self,
        schema: &SchemaRef,
        context: &Arc<TaskContext>,
    ) -> Result<Option<Vec<RecordBatch>>> {
        let a = self.aggregate()?;
        let Some(flat) = Flat::taken(a) else { return Ok(None) };
        if !is_alone(a.input()) || !flat.leaf.is_all_hot(context).await? {
            return Ok(None);
        }
        let mut stage = Stage::new(a, schema.clone(), flat.leaf.kept().orders(), 0, context)?;
        let mut hot = Hot::new(flat, a, context, &mut stage.groups).await?;
        while hot.add_next(a, &mut stage.groups)? {
            if stage.is_too_large() {
                return Ok(None);
            }
            // A statement that nobody waits for any more ends here.
            tokio::task::yield_now().await;
        }
        stage.answers().map(Some)
    }
}
