//! A relation within a statement: planned where it is called, computed once, however often it is read.

use std::{
    fmt,
    sync::{Arc, Mutex},
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
        execution_plan::{Boundedness, EmissionType},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::TryStreamExt;
use tokio::{runtime::Handle, sync::OnceCell, task::JoinHandle};

/// The rows of a planned relation. Computing it as a whole keeps its order and spares a second evaluation when a
/// statement reads it twice (DataFusion copies a CTE into every place that names it).
pub(super) struct SharedRelation {
    name: String,
    schema: SchemaRef,
    plan: LogicalPlan,
    state: SessionState,
    rows: Arc<Rows>,
}

type Planning = JoinHandle<Result<Arc<dyn ExecutionPlan>>>;

struct Rows {
    /// Planning that began when the relation was named, beside the planning of the statement around it.
    planning: Mutex<Option<Planning>>,
    plan: OnceCell<Arc<dyn ExecutionPlan>>,
    batches: OnceCell<Vec<RecordBatch>>,
}

impl SharedRelation {
    pub(super) fn new(name: &str, plan: LogicalPlan, state: SessionState) -> Self {
        let schema = Arc::new(plan.schema().as_arrow().clone());
        let planning = Handle::try_current().ok().map(|runtime| {
            let (state, plan) = (state.clone(), plan.clone());
            runtime.spawn(async move { state.create_physical_plan(&plan).await })
        });
        let rows = Arc::new(Rows {
            planning: Mutex::new(planning),
            plan: OnceCell::new(),
            batches: OnceCell::new(),
        });
        Self { name: name.to_owned(), schema, plan, state, rows }
    }

    async fn physical_plan(&self) -> Result<Arc<dyn ExecutionPlan>> {
        let begun = self.rows.planning.lock().ok().and_then(|mut p| p.take());
        match begun {
            Some(task) => task.await.map_err(|e| DataFusionError::External(Box::new(e)))?,
            None => self.state.create_physical_plan(&self.plan).await,
        }
    }
}

impl Drop for Rows {
    fn drop(&mut self) {
        // A statement that is given up, or only explained, needs no plan.
        if let Ok(mut planning) = self.planning.lock()
            && let Some(task) = planning.take()
        {
            task.abort();
        }
    }
}

impl fmt::Debug for SharedRelation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedRelation").field("name", &self.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for SharedRelation {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
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
        let plan = self.rows.plan.get_or_try_init(|| self.physical_plan()).await?;
        let schema = match projection {
            Some(p) => Arc::new(self.schema.project(p)?),
            None => self.schema.clone(),
        };
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Ok(Arc::new(SharedExec {
            name: self.name.clone(),
            plan: plan.clone(),
            schema: self.schema.clone(),
            projection: projection.cloned(),
            rows: self.rows.clone(),
            properties: Arc::new(properties),
        }))
    }
}

struct SharedExec {
    name: String,
    plan: Arc<dyn ExecutionPlan>,
    schema: SchemaRef,
    projection: Option<Vec<usize>>,
    rows: Arc<Rows>,
    properties: Arc<PlanProperties>,
}

impl fmt::Debug for SharedExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedExec").field("name", &self.name).finish_non_exhaustive()
    }
}

impl DisplayAs for SharedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "SharedExec: {}", self.name)
    }
}

impl ExecutionPlan for SharedExec {
    fn name(&self) -> &str {
        "SharedExec"
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
        let (rows, plan, schema) = (self.rows.clone(), self.plan.clone(), self.schema.clone());
        let projection = self.projection.clone();
        let batches = async move {
            let batches = rows.batches.get_or_try_init(|| collect(plan, context)).await?;
            let batches: Vec<Result<RecordBatch>> = batches
                .iter()
                .map(|b| {
                    // Nullability as planned: operators may promise more than the plan says.
                    let b = RecordBatch::try_new(schema.clone(), b.columns().to_vec())?;
                    Ok(match &projection {
                        Some(p) => b.project(p)?,
                        None => b,
                    })
                })
                .collect();
            Ok::<_, DataFusionError>(futures::stream::iter(batches))
        };
        let stream = futures::stream::once(batches).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            self.properties.eq_properties.schema().clone(),
            stream,
        )))
    }
}
