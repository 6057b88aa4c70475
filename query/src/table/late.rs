//! A scan whose time is known only when it runs.

use std::{fmt, sync::Arc};

use datafusion::{
    common::{
        DFSchema, DataFusionError, Result, config::ConfigOptions, tree_node::TreeNodeRecursion,
    },
    execution::{SendableRecordBatchStream, TaskContext},
    logical_expr::{
        Expr, execution_props::ExecutionProps, physical_planning_context::PhysicalPlanningContext,
    },
    physical_expr::{
        EquivalenceProperties, PhysicalExpr, create_physical_expr, expressions::Literal,
        utils::reassign_expr_columns,
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
    Found, Piece, TapioTable,
    filter::{bounds, infallible, integer},
};
use crate::{
    clock::Clock,
    fixed::{constant, fold, is_fixed},
};

/// Scans a table as of the time of a clock: files and hot rows are looked up when it runs.
#[derive(Clone)]
pub(crate) struct LateScan {
    table: TapioTable,
    clock: Arc<Clock>,
    /// Where a run of the clock keeps what was looked up.
    slot: usize,
    projection: Option<Vec<usize>>,
    /// What the plan around it filters by again: used to read less.
    filters: Vec<Expr>,
    predicates: Vec<Arc<dyn PhysicalExpr>>,
    hot_is_taken: bool,
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
            hot_is_taken: false,
            properties: Arc::new(properties),
        })
    }

    /// The scan as of the clock's time.
    async fn look_up(&self, context: &TaskContext) -> Result<Found> {
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
            let p = fold(p.clone())?;
            if infallible(&p) {
                predicates.push(reassign_expr_columns(p, &schema)?);
            }
        }
        let projection = self.projection.as_ref();
        let config = context.session_config();
        self.table.scan_now(config, projection, Some(as_of), bounds, predicates).await
    }

    async fn looked_up(&self, context: &TaskContext) -> Result<Found> {
        let cell = self.clock.once::<Found>(self.slot);
        cell.get_or_try_init(|| self.look_up(context)).await.cloned()
    }

    /// Leaves the hot rows to the plan above, which asks for them by [`LateScan::hot`].
    pub(crate) fn without_hot(&self) -> Self {
        Self { hot_is_taken: true, ..self.clone() }
    }

    pub(crate) fn hot_is_taken(&self) -> bool {
        self.hot_is_taken
    }

    /// The hot rows of this run.
    pub(crate) async fn hot(&self, context: &TaskContext) -> Result<Arc<[Piece]>> {
        Ok(self.looked_up(context).await?.hot)
    }

    /// Whether this run finds no file.
    pub(crate) async fn is_all_hot(&self, context: &TaskContext) -> Result<bool> {
        Ok(self.looked_up(context).await?.files.is_none())
    }

    pub(crate) fn table(&self) -> &TapioTable {
        &self.table
    }

    pub(crate) fn projection(&self) -> Option<&Vec<usize>> {
        self.projection.as_ref()
    }
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
        let hot = if self.hot_is_taken { ", hot rows merged above" } else { "" };
        write!(f, "LateScan: {}{hot}", self.table.log.def().name)
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
            let found = scan.looked_up(&context).await?;
            let (projection, without_hot) = (scan.projection.as_ref(), scan.hot_is_taken);
            let plan = scan.table.plan(found, projection, step, without_hot)?;
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
