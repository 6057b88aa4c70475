//! Aggregation by series over rows that come in runs.
//!
//! Stored and hot rows are sorted by series and time, so neighbouring rows mostly have the same key. DataFusion's hash
//! aggregation looks up the group of every row, which was a quarter of the CPU time of a screen over hot rows; here it
//! is looked up once per run. Rows in any other order give the same answer, at the cost of one run per row.

use std::{fmt, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array},
    compute::take,
    datatypes::{DataType, Int64Type, SchemaRef},
};
use datafusion::{
    common::{
        DataFusionError, Result,
        cast::as_boolean_array,
        config::ConfigOptions,
        internal_err,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    execution::{
        SendableRecordBatchStream, TaskContext,
        memory_pool::{MemoryConsumer, MemoryReservation},
    },
    logical_expr::{EmitTo, GroupsAccumulator},
    physical_expr::{PhysicalExpr, expressions::Column},
    physical_optimizer::PhysicalOptimizerRule,
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
        aggregates::{
            AggregateExec, AggregateMode,
            group_values::{GroupValues, new_group_values},
            order::GroupOrdering,
        },
        execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{StreamExt, TryStreamExt, stream};

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
                Some(a) if fits(a) => Transformed::yes(Arc::new(SeriesRunsExec { plan }) as _),
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

#[derive(Debug)]
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
        let input = a.input().execute(partition, context.clone())?;
        let groups = Groups::new(a, self.schema(), partition, &context)?;
        let pieces = stream::try_unfold(Some((input, groups)), |state| async move {
            let Some((mut input, mut groups)) = state else { return Ok(None) };
            while let Some(batch) = input.next().await {
                groups.add(&batch?)?;
                if groups.is_too_large() {
                    let piece = groups.emit()?;
                    return Ok::<_, DataFusionError>(Some((piece, Some((input, groups)))));
                }
            }
            Ok(Some((groups.emit()?, None)))
        });
        let rows = pieces.map_ok(|piece| stream::iter(piece).map(Ok)).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}

/// One aggregate with what it is fed.
struct Fed {
    accumulator: Box<dyn GroupsAccumulator>,
    arguments: Vec<Arc<dyn PhysicalExpr>>,
    filter: Option<Arc<dyn PhysicalExpr>>,
}

struct Groups {
    key: Arc<dyn PhysicalExpr>,
    keys: Box<dyn GroupValues>,
    fed: Vec<Fed>,
    schema: SchemaRef,
    batch_size: usize,
    memory: MemoryReservation,
    /// Group of every row of a batch, and of every run.
    of_rows: Vec<usize>,
    of_runs: Vec<usize>,
}

impl Groups {
    fn new(
        a: &AggregateExec,
        schema: SchemaRef,
        partition: usize,
        context: &TaskContext,
    ) -> Result<Self> {
        let [(key, _)] = a.group_expr().expr() else {
            return internal_err!("an aggregation by one column");
        };
        let key_schema = a.group_expr().group_schema(&a.input_schema())?;
        let fed = a.aggr_expr().iter().zip(a.filter_expr()).map(|(f, filter)| {
            Ok(Fed {
                accumulator: f.create_groups_accumulator()?,
                arguments: f.expressions(),
                filter: filter.clone(),
            })
        });
        Ok(Self {
            key: key.clone(),
            keys: new_group_values(key_schema, &GroupOrdering::None)?,
            fed: fed.collect::<Result<_>>()?,
            schema,
            batch_size: context.session_config().batch_size(),
            memory: MemoryConsumer::new(format!("SeriesRuns[{partition}]"))
                .register(context.memory_pool()),
            of_rows: Vec::new(),
            of_runs: Vec::new(),
        })
    }

    fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(());
        }
        let key = self.key.evaluate(batch)?.into_array(rows)?;
        let firsts = firsts_of_runs(&key);
        let heads = take(&key, &UInt32Array::from_iter_values(firsts.iter().copied()), None)?;
        self.keys.intern(&[heads], &mut self.of_runs)?;
        self.of_rows.clear();
        let ends = firsts.iter().skip(1).map(|f| *f as usize).chain([rows]);
        for (group, end) in self.of_runs.iter().zip(ends) {
            self.of_rows.resize(end, *group);
        }
        for f in &mut self.fed {
            let of = |e: &Arc<dyn PhysicalExpr>| e.evaluate(batch)?.into_array(rows);
            let values = f.arguments.iter().map(of).collect::<Result<Vec<ArrayRef>>>()?;
            let filter = f.filter.as_ref().map(of).transpose()?;
            let filter = filter.as_ref().map(|f| as_boolean_array(f)).transpose()?;
            f.accumulator.update_batch(&values, &self.of_rows, filter, self.keys.len())?;
        }
        Ok(())
    }

    /// Whether the pool does not grant what is held.
    fn is_too_large(&mut self) -> bool {
        let held = self.keys.size() + self.fed.iter().map(|f| f.accumulator.size()).sum::<usize>();
        self.memory.try_resize(held).is_err()
    }

    /// All groups so far, with their states.
    fn emit(&mut self) -> Result<Vec<RecordBatch>> {
        if self.keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut columns = self.keys.emit(EmitTo::All)?;
        for f in &mut self.fed {
            columns.extend(f.accumulator.state(EmitTo::All)?);
        }
        self.keys.clear_shrink(0);
        self.memory.free();
        let all = RecordBatch::try_new(self.schema.clone(), columns)?;
        let starts = (0..all.num_rows()).step_by(self.batch_size.max(1));
        Ok(starts.map(|at| all.slice(at, self.batch_size.min(all.num_rows() - at))).collect())
    }
}

/// The first row of every run of equal keys.
fn firsts_of_runs(key: &ArrayRef) -> Vec<u32> {
    let integers = key.as_primitive::<Int64Type>();
    let values = integers.values();
    let mut firsts = vec![0];
    match integers.nulls().filter(|n| n.null_count() > 0) {
        None => {
            for (at, pair) in values.windows(2).enumerate() {
                if pair[0] != pair[1] {
                    firsts.push(at as u32 + 1);
                }
            }
        }
        Some(nulls) => {
            let value = |at: usize| nulls.is_valid(at).then(|| values[at]);
            firsts.extend(
                (1..key.len()).filter(|at| value(*at) != value(at - 1)).map(|at| at as u32),
            );
        }
    }
    firsts
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;

    use super::*;

    #[test]
    fn runs_begin_where_the_key_changes() {
        let firsts = |key: Vec<Option<i64>>| {
            let key: ArrayRef = Arc::new(Int64Array::from(key));
            firsts_of_runs(&key)
        };
        assert_eq!(firsts(vec![Some(7)]), [0]);
        assert_eq!(firsts(vec![Some(7), Some(7), Some(8), Some(7)]), [0, 2, 3]);
        assert_eq!(firsts(vec![None, None, Some(0), Some(0), None]), [0, 2, 4]);
    }
}
