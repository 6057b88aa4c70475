//! Aggregates without GROUP BY: the grouped accumulator with one group.

use std::fmt::Debug;

use arrow::array::ArrayRef;
use datafusion::{
    common::{Result, ScalarValue},
    logical_expr::{Accumulator, EmitTo, GroupsAccumulator},
};

/// A grouped accumulator that sees one group only.
#[derive(Debug)]
pub(super) struct Single<G> {
    inner: G,
    zeros: Vec<usize>,
}

impl<G: GroupsAccumulator> Single<G> {
    pub(super) fn new(inner: G) -> Self {
        Self { inner, zeros: Vec::new() }
    }

    fn zeros(&mut self, n: usize) -> Vec<usize> {
        let mut zeros = std::mem::take(&mut self.zeros);
        zeros.resize(n, 0);
        zeros
    }

    /// Makes sure that the one group exists, also when there was no row.
    fn touch(&mut self, empty: &[ArrayRef]) -> Result<()> {
        self.inner.update_batch(empty, &[], None, 1)
    }
}

/// Grouped accumulators that [`Single`] can drive.
pub(super) trait Empty {
    /// Columns of the arguments, without rows.
    fn empty_arguments(&self) -> Vec<ArrayRef>;
}

impl<G: GroupsAccumulator + Empty + Debug + Sync> Accumulator for Single<G> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let groups = self.zeros(values.first().map_or(0, |v| v.len()));
        let done = self.inner.update_batch(values, &groups, None, 1);
        self.zeros = groups;
        done
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let empty = self.inner.empty_arguments();
        self.touch(&empty)?;
        ScalarValue::try_from_array(&self.inner.evaluate(EmitTo::All)?, 0)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.inner.size() + self.zeros.capacity() * size_of::<usize>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let empty = self.inner.empty_arguments();
        self.touch(&empty)?;
        let state = self.inner.state(EmitTo::All)?;
        state.iter().map(|s| ScalarValue::try_from_array(s, 0)).collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let groups = self.zeros(states.first().map_or(0, |v| v.len()));
        let done = self.inner.merge_batch(states, &groups, 1);
        self.zeros = groups;
        done
    }
}
