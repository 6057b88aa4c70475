//! A scan whose time is known only when it runs.

use std::{fmt, sync::Arc};

use arrow::{array::RecordBatch, datatypes::Schema};
use datafusion::{
    common::{
        DFSchema, DataFusionError, Result,
        config::ConfigOptions,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    execution::{SendableRecordBatchStream, TaskContext},
    logical_expr::{
        ColumnarValue, Expr, execution_props::ExecutionProps,
        physical_planning_context::PhysicalPlanningContext,
    },
    physical_expr::{
        EquivalenceProperties, PhysicalExpr, create_physical_expr,
        expressions::{Column, Literal},
        utils::{collect_columns, reassign_expr_columns},
    },
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
        execution_plan::{Boundedness, EmissionType},
        filter_pushdown::{
            ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation, PushedDown,
        },
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{StreamExt, TryStreamExt};

use super::{
    TapioTable,
    filter::{bounds, infallible, integer},
};
use crate::clock::Clock;

/// Whether the expression has one value for all rows of a run.
pub(super) fn is_fixed(e: &Expr) -> bool {
    !e.any_column_refs() && !e.is_volatile()
}

/// Scans a table as of the time of a clock: files and hot rows are looked up when it runs.
#[derive(Clone)]
pub(super) struct LateScan {
    table: TapioTable,
    clock: Arc<Clock>,
    /// Where a run of the clock keeps what was looked up.
    slot: usize,
    projection: Option<Vec<usize>>,
    /// What the plan around it filters by again: used to read less.
    filters: Vec<Expr>,
    predicates: Vec<Arc<dyn PhysicalExpr>>,
    properties: Arc<PlanProperties>,
}

impl LateScan {
    pub(super) fn new(
        table: TapioTable,
        clock: Arc<Clock>,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        partitions: usize,
    ) -> Result<Self> {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(table.projected(projection)?),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let slot = clock.slot();
        Ok(Self {
            table,
            clock,
            slot,
            projection: projection.cloned(),
            filters: filters.to_vec(),
            predicates: Vec::new(),
            properties: Arc::new(properties),
        })
    }

    /// The scan as of the clock's time.
    async fn look_up(&self, context: &TaskContext) -> Result<Arc<dyn ExecutionPlan>> {
        let as_of = self.clock.as_of()?;
        let nothing = DFSchema::empty();
        let (props, planning) = (ExecutionProps::new(), PhysicalPlanningContext::default());
        let value = |e: &Expr| {
            let fixed = is_fixed(e)
                .then(|| create_physical_expr(e, &nothing, &props, &planning).ok())??;
            integer(Literal::value(constant(&fixed)?.downcast_ref::<Literal>()?))
        };
        let bounds = bounds(&self.filters, value);
        let schema = datafusion::catalog::TableProvider::schema(&self.table);
        let mut predicates = Vec::new();
        for p in &self.predicates {
            let p = p.clone().transform_down(|e| {
                Ok(match constant(&e) {
                    Some(value) => Transformed::new(value, true, TreeNodeRecursion::Jump),
                    None => Transformed::no(e),
                })
            })?;
            if infallible(&p.data) {
                predicates.push(reassign_expr_columns(p.data, &schema)?);
            }
        }
        let projection = self.projection.as_ref();
        let config = context.session_config();
        self.table.scan_now(config, projection, Some(as_of), bounds, predicates).await
    }
}

/// The value of an expression without columns, as a literal.
fn constant(e: &Arc<dyn PhysicalExpr>) -> Option<Arc<dyn PhysicalExpr>> {
    if e.downcast_ref::<Column>().is_some() || !collect_columns(e).is_empty() {
        return None;
    }
    let row = RecordBatch::try_new_with_options(
        Arc::new(Schema::empty()),
        vec![],
        &arrow::array::RecordBatchOptions::new().with_row_count(Some(1)),
    );
    let value = match e.evaluate(&row.ok()?).ok()? {
        ColumnarValue::Scalar(v) => v,
        ColumnarValue::Array(a) => datafusion::common::ScalarValue::try_from_array(&a, 0).ok()?,
    };
    Some(Arc::new(Literal::new(value)))
}

impl fmt::Debug for LateScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LateScan")
            .field("table", &self.table.log.def().name)
            .finish_non_exhaustive()
    }
}

impl DisplayAs for LateScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "LateScan: {}", self.table.log.def().name)
    }
}

impl ExecutionPlan for LateScan {
    fn name(&self) -> &str {
        "LateScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        let mut next = TreeNodeRecursion::Continue;
        for p in &self.predicates {
            next = next.visit_sibling(|| f(p))?;
        }
        Ok(next)
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    /// Keeps filters as hints: nothing is promised, so the plan above still filters. Filters that a join makes while it
    /// runs are not taken, they would outlive the run.
    fn handle_child_pushdown_result(
        &self,
        phase: FilterPushdownPhase,
        result: ChildPushdownResult,
        _config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        let refused = vec![PushedDown::No; result.parent_filters.len()];
        let answer = FilterPushdownPropagation::with_parent_pushdown_result(refused);
        if phase != FilterPushdownPhase::Pre || result.parent_filters.is_empty() {
            return Ok(answer);
        }
        let mut scan = self.clone();
        scan.predicates.extend(result.parent_filters.into_iter().map(|f| f.filter));
        Ok(answer.with_updated_node(Arc::new(scan)))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let (scan, step) = (self.clone(), self.properties.output_partitioning().partition_count());
        let rows = async move {
            let cell = scan.clock.once::<Arc<dyn ExecutionPlan>>(scan.slot);
            let plan = cell.get_or_try_init(|| scan.look_up(&context)).await?.clone();
            let parts = plan.properties().output_partitioning().partition_count();
            let parts = (partition..parts).step_by(step).collect::<Vec<_>>();
            let streams =
                futures::stream::iter(parts).map(move |i| plan.execute(i, context.clone()));
            Ok::<_, DataFusionError>(streams.try_flatten())
        };
        let rows = futures::stream::once(rows).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}
