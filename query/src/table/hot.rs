//! The hot rows of a table as part of a plan.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{
    common::{Result, tree_node::TreeNodeRecursion},
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
        execution_plan::{Boundedness, EmissionType},
        stream::RecordBatchStreamAdapter,
    },
};

use crate::series_runs::Kept;

/// Rows of one hot batch.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    /// In the table's schema.
    pub(crate) batch: RecordBatch,
    /// First and last `ts` (µs); `None` if it cannot be said.
    pub(crate) ts_range: Option<(i64, i64)>,
    /// That of the hot batch; `None` if some of its rows are left out.
    pub(crate) token: Option<Weak<()>>,
}

/// Yields the rows as they are, spread over its partitions.
#[derive(Debug, Clone)]
pub(crate) struct HotScan {
    table: String,
    kept: Arc<Kept>,
    pieces: Arc<[Piece]>,
    projection: Option<Vec<usize>>,
    is_taken: bool,
    properties: Arc<PlanProperties>,
}

impl HotScan {
    /// `schema` is that of the table after the projection.
    pub(super) fn new(
        table: &str,
        kept: Arc<Kept>,
        pieces: Arc<[Piece]>,
        schema: SchemaRef,
        projection: Option<&Vec<usize>>,
        partitions: usize,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(partitions.max(1)),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self {
            table: table.to_owned(),
            kept,
            pieces,
            projection: projection.cloned(),
            is_taken: false,
            properties: Arc::new(properties),
        }
    }

    /// Yields nothing: the plan above takes the pieces themselves.
    pub(crate) fn taken(&self) -> Self {
        Self { is_taken: true, ..self.clone() }
    }

    pub(crate) fn is_taken(&self) -> bool {
        self.is_taken
    }

    pub(crate) fn table(&self) -> &str {
        &self.table
    }

    pub(crate) fn kept(&self) -> &Arc<Kept> {
        &self.kept
    }

    pub(crate) fn pieces(&self) -> &Arc<[Piece]> {
        &self.pieces
    }

    pub(crate) fn projection(&self) -> Option<&Vec<usize>> {
        self.projection.as_ref()
    }
}

impl DisplayAs for HotScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let where_to = if self.is_taken { ", merged above" } else { "" };
        write!(f, "HotScan: {}, {} batches{where_to}", self.table, self.pieces.len())
    }
}

impl ExecutionPlan for HotScan {
    fn name(&self) -> &str {
        "HotScan"
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
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let rows = context.session_config().batch_size().max(1);
        let step = self.properties.output_partitioning().partition_count();
        let (pieces, projection) = (self.pieces.clone(), self.projection.clone());
        let mine = if self.is_taken { 0 } else { pieces.len() };
        let batches = (partition..mine).step_by(step).flat_map(move |i| {
            let batch = pieces[i].batch.clone();
            let batch = match &projection {
                Some(p) => batch.project(p),
                None => Ok(batch),
            };
            let starts = (0..pieces[i].batch.num_rows()).step_by(rows);
            starts.map(move |at| match &batch {
                Ok(b) => Ok(b.slice(at, rows.min(b.num_rows() - at))),
                Err(e) => Err(arrow::error::ArrowError::SchemaError(e.to_string()).into()),
            })
        });
        let stream = futures::stream::iter(batches);
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), stream)))
    }
}
