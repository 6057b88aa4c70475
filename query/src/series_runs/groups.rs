//! Groups by one integer key and their aggregates.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array, new_empty_array},
    compute::take,
    datatypes::Int64Type,
};
use datafusion::{
    common::{Result, cast::as_boolean_array, internal_err},
    logical_expr::{EmitTo, GroupsAccumulator},
    physical_expr::{PhysicalExpr, aggregate::AggregateFunctionExpr},
    physical_plan::aggregates::{
        AggregateExec, group_values::new_group_values, order::GroupOrdering,
    },
};

use super::keys::{Keys, Orders};

type Expr = Arc<dyn PhysicalExpr>;

/// What the aggregates are fed.
#[derive(Debug)]
pub(super) struct Inputs {
    pub(super) key: Expr,
    /// Arguments and filter of each aggregate.
    pub(super) fed: Vec<(Vec<Expr>, Option<Expr>)>,
}

impl Inputs {
    pub(super) fn of(a: &AggregateExec) -> Result<Self> {
        let [(key, _)] = a.group_expr().expr() else {
            return internal_err!("an aggregation by one column");
        };
        let fed = a.aggr_expr().iter().zip(a.filter_expr());
        let fed = fed.map(|(f, filter)| (f.expressions(), filter.clone())).collect();
        Ok(Self { key: key.clone(), fed })
    }
}

struct Aggregate {
    function: Arc<AggregateFunctionExpr>,
    accumulator: Box<dyn GroupsAccumulator>,
}

pub(super) struct Groups {
    keys: Keys,
    aggregates: Vec<Aggregate>,
    /// Group of every row of a batch.
    of_rows: Vec<usize>,
}

impl Groups {
    /// Of these aggregates of an aggregation. `orders`: of keys that may come again.
    pub(super) fn new(
        a: &AggregateExec,
        which: impl Iterator<Item = usize>,
        orders: Arc<Orders>,
    ) -> Result<Self> {
        let key_schema = a.group_expr().group_schema(&a.input_schema())?;
        let aggregates = which.map(|i| {
            let function = a.aggr_expr()[i].clone();
            Ok(Aggregate { accumulator: function.create_groups_accumulator()?, function })
        });
        Ok(Self {
            keys: Keys::new(new_group_values(key_schema, &GroupOrdering::None)?, orders),
            aggregates: aggregates.collect::<Result<_>>()?,
            of_rows: Vec::new(),
        })
    }

    /// Adds rows to all groups, and to those aggregates that want them.
    pub(super) fn add(
        &mut self,
        inputs: &Inputs,
        batch: &RecordBatch,
        wants: impl Fn(usize) -> bool,
    ) -> Result<()> {
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(());
        }
        let key = inputs.key.evaluate(batch)?.into_array(rows)?;
        let firsts = firsts_of_runs(&key);
        let heads = match firsts.len() == rows {
            true => key,
            false => take(&key, &UInt32Array::from_iter_values(firsts.iter().copied()), None)?,
        };
        let of_runs = self.keys.groups_of(&heads, false)?;
        self.of_rows.clear();
        let ends = firsts.iter().skip(1).map(|f| *f as usize).chain([rows]);
        for (group, end) in of_runs.iter().zip(ends) {
            self.of_rows.resize(end, *group);
        }
        let groups = self.keys.len();
        for (i, (arguments, filter)) in inputs.fed.iter().enumerate().filter(|(i, _)| wants(*i)) {
            let of = |e: &Expr| e.evaluate(batch)?.into_array(rows);
            let values = arguments.iter().map(of).collect::<Result<Vec<ArrayRef>>>()?;
            let filter = filter.as_ref().map(of).transpose()?;
            let filter = filter.as_ref().map(|f| as_boolean_array(f)).transpose()?;
            let accumulator = &mut self.aggregates[i].accumulator;
            accumulator.update_batch(&values, &self.of_rows, filter, groups)?;
        }
        Ok(())
    }

    /// Adds the states of groups with these distinct keys, each to one aggregate.
    pub(super) fn merge<'a>(
        &mut self,
        keys: &ArrayRef,
        states: impl Iterator<Item = (usize, &'a [ArrayRef])>,
    ) -> Result<()> {
        let groups = self.keys.groups_of(keys, true)?;
        for (i, state) in states {
            self.aggregates[i].accumulator.merge_batch(state, &groups, self.keys.len())?;
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.len() == 0
    }

    pub(super) fn bytes(&self) -> usize {
        let states = self.aggregates.iter().map(|a| a.accumulator.size());
        self.keys.bytes() + states.sum::<usize>()
    }

    /// Keys and states of all groups so far; none are left.
    pub(super) fn take(&mut self) -> Result<(ArrayRef, Vec<Vec<ArrayRef>>)> {
        self.take_with(|accumulator| accumulator.state(EmitTo::All))
    }

    /// Keys and answers of all groups so far; none are left.
    pub(super) fn evaluate(&mut self) -> Result<(ArrayRef, Vec<ArrayRef>)> {
        self.take_with(|accumulator| accumulator.evaluate(EmitTo::All))
    }

    fn take_with<T>(
        &mut self,
        mut what: impl FnMut(&mut dyn GroupsAccumulator) -> Result<T>,
    ) -> Result<(ArrayRef, Vec<T>)> {
        let groups = self.keys.len();
        let states = self.aggregates.iter_mut().map(|a| {
            // One that wanted no row of the newest groups has not heard of them.
            let fields = a.function.state_fields()?;
            let nothing: Vec<_> = fields.iter().map(|f| new_empty_array(f.data_type())).collect();
            a.accumulator.merge_batch(&nothing, &[], groups)?;
            what(&mut *a.accumulator)
        });
        let states = states.collect::<Result<_>>()?;
        Ok((self.keys.take()?, states))
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
