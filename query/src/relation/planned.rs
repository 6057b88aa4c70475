//! A relation within a statement: planned where it is called, computed once a run, however often it is read.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    common::{DataFusionError, Result, tree_node::TreeNodeRecursion},
    execution::{SendableRecordBatchStream, SessionState, TaskContext},
    logical_expr::{Expr, LogicalPlan, TableType},
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, collect,
        execution_plan::{Boundedness, EmissionType, reset_plan_states},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::TryStreamExt;
use tokio::{runtime::Handle, task::JoinHandle};

use super::pool::Lease;
use crate::clock::{Clock, without_time};

/// A planned relation. Its clock may be that of the relation around it.
pub(super) struct Planned {
    name: String,
    schema: SchemaRef,
    logical: LogicalPlan,
    state: SessionState,
    physical: Mutex<Physical>,
    clock: Arc<Clock>,
    /// Where a run of the clock keeps the rows.
    slot: usize,
}

enum Physical {
    None,
    /// Planning began when the relation was named, beside the planning of the statement around it.
    Begun(JoinHandle<Result<Arc<dyn ExecutionPlan>>>),
    Ready(Arc<dyn ExecutionPlan>),
}

impl Planned {
    pub(super) fn new(
        name: &str,
        logical: LogicalPlan,
        state: SessionState,
        clock: Arc<Clock>,
    ) -> Self {
        let schema = Arc::new(logical.schema().as_arrow().clone());
        let physical = match Handle::try_current() {
            Ok(runtime) => {
                let (state, plan) = (state.clone(), logical.clone());
                let planning = async move { state.create_physical_plan(&plan).await };
                Physical::Begun(runtime.spawn(without_time(planning)))
            }
            Err(_) => Physical::None,
        };
        let slot = clock.slot();
        let physical = Mutex::new(physical);
        Self { name: name.to_owned(), schema, logical, state, physical, clock, slot }
    }

    pub(super) fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    fn swap(&self, with: Physical) -> Physical {
        let mut physical = self.physical.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *physical, with)
    }

    /// The plan, which is the caller's until it is put back.
    async fn take(&self) -> Result<Arc<dyn ExecutionPlan>> {
        match self.swap(Physical::None) {
            Physical::Ready(plan) => Ok(plan),
            Physical::Begun(task) => {
                task.await.map_err(|e| DataFusionError::External(Box::new(e)))?
            }
            Physical::None => without_time(self.state.create_physical_plan(&self.logical)).await,
        }
    }

    /// All rows. A run that fails or is given up loses its plan; the next one plans again.
    async fn compute(&self, context: Arc<TaskContext>) -> Result<Vec<RecordBatch>> {
        let plan = self.take().await?;
        let batches = collect(plan.clone(), context).await?;
        if !self.clock.is_once_only() {
            // What is made anew may be simplified anew.
            let plan = without_time(async { reset_plan_states(plan) }).await?;
            self.swap(Physical::Ready(plan));
        }
        // Nullability as planned: operators may promise more than the plan says.
        let as_planned =
            |b: RecordBatch| RecordBatch::try_new(self.schema.clone(), b.columns().to_vec());
        Ok(batches.into_iter().map(as_planned).collect::<Result<_, _>>()?)
    }
}

impl fmt::Debug for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Planned").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Drop for Planned {
    fn drop(&mut self) {
        if let Physical::Begun(task) = self.swap(Physical::None) {
            task.abort();
        }
    }
}

/// A relation as a table: its own plan, borrowed for a statement, or one within the plan of another relation.
#[derive(Debug, Clone)]
pub(super) enum Relation {
    Borrowed(Arc<Lease>),
    Within(Arc<Planned>),
}

impl Relation {
    fn planned(&self) -> &Planned {
        match self {
            Self::Borrowed(lease) => lease.planned(),
            Self::Within(planned) => planned,
        }
    }

    async fn rows(&self, context: Arc<TaskContext>) -> Result<Vec<RecordBatch>> {
        match self {
            Self::Borrowed(lease) => {
                let rows = lease.rows().get_or_try_init(async || {
                    lease.planned().clock.set(lease.as_of());
                    let rows = lease.planned().compute(context).await;
                    lease.planned().clock.clear();
                    rows
                });
                rows.await.cloned()
            }
            Self::Within(planned) => {
                let rows = planned.clock.once::<Vec<RecordBatch>>(planned.slot);
                rows.get_or_try_init(|| planned.compute(context)).await.cloned()
            }
        }
    }
}

#[async_trait]
impl TableProvider for Relation {
    fn schema(&self) -> SchemaRef {
        self.planned().schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = match projection {
            Some(p) => Arc::new(self.schema().project(p)?),
            None => self.schema(),
        };
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Ok(Arc::new(RelationExec {
            relation: self.clone(),
            projection: projection.cloned(),
            properties: Arc::new(properties),
        }))
    }
}

#[derive(Debug)]
struct RelationExec {
    relation: Relation,
    projection: Option<Vec<usize>>,
    properties: Arc<PlanProperties>,
}

impl DisplayAs for RelationExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "RelationExec: {}", self.relation.planned().name)
    }
}

impl ExecutionPlan for RelationExec {
    fn name(&self) -> &str {
        "RelationExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(
        &self,
        _partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let (relation, projection) = (self.relation.clone(), self.projection.clone());
        let batches = async move {
            let batches = relation.rows(context).await?.into_iter();
            let projected = batches.map(move |b| match &projection {
                Some(p) => Ok(b.project(p)?),
                None => Ok(b),
            });
            Ok::<_, DataFusionError>(futures::stream::iter(projected))
        };
        let stream = futures::stream::once(batches).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            self.properties.eq_properties.schema().clone(),
            stream,
        )))
    }
}
