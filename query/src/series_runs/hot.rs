//! The hot rows of a first stage: states that are kept where a batch lies within the times that count, rows elsewhere.

use std::sync::Arc;

use arrow::{
    array::{Array, AsArray, BooleanArray, RecordBatch},
    buffer::BooleanBuffer,
    compute::filter_record_batch,
    datatypes::TimestampMicrosecondType,
};
use datafusion::{
    common::{Result, cast::as_boolean_array},
    execution::TaskContext,
    physical_plan::aggregates::AggregateExec,
};

use super::{
    groups::Groups,
    kept::{Name, State},
    question::{Flat, Side, Timed, Times},
};
use crate::table::Piece;

/// So many states are merged one by one before they become part of the merged one.
const APART: usize = 4;

/// The hot batches of one run, one after the other.
pub(super) struct Hot {
    flat: Flat,
    timed: Timed,
    /// Without one no states are kept.
    name: Option<Name>,
    /// Whether another state finds no room.
    is_full: bool,
    pieces: Arc<[Piece]>,
    next: usize,
    /// How many of the batches within the times are part of the merged state.
    merged: usize,
}

impl Hot {
    /// Begins with what is merged already.
    pub(super) async fn new(
        flat: Flat,
        a: &AggregateExec,
        context: &TaskContext,
        groups: &mut Groups,
    ) -> Result<Self> {
        let pieces = flat.leaf.pieces(context).await?;
        let (timed, question) = flat.question(a)?;
        let name = flat.leaf.kept().ask(question);
        let mut hot = Self { flat, timed, name, is_full: false, pieces, next: 0, merged: 0 };
        if let Some(state) = hot.merge(a)? {
            let all = (0..hot.timed.times.len()).filter(|i| hot.timed.times[*i] == Times::ALL);
            groups.merge(&state.keys, hot.timed.columns(&state, all))?;
        }
        Ok(hot)
    }

    /// The state of the first batches within the times.
    fn merge(&mut self, a: &AggregateExec) -> Result<Option<Arc<State>>> {
        let Some(name) = self.name else { return Ok(None) };
        let pieces = self.pieces.clone();
        let whole =
            |p: &&Piece| p.token.is_some() && self.timed.within.side(p.ts_range) == Side::Inside;
        let whole: Vec<&Piece> = pieces.iter().filter(whole).collect();
        let tokens: Vec<_> = whole.iter().filter_map(|p| p.token.as_ref()).collect();
        let before = self.flat.leaf.kept().merged(name, &tokens);
        let before = before.map(|(n, state)| {
            self.merged = n;
            state
        });
        if whole.len() - self.merged <= APART {
            return Ok(before);
        }
        let mut states: Vec<_> = before.iter().cloned().collect();
        for piece in &whole[self.merged..] {
            match self.state(a, piece)? {
                Some(state) => states.push(state),
                None => return Ok(before),
            }
        }
        let mut groups = self.distinct_groups(a)?;
        for state in states {
            let columns = state.columns.iter().map(Vec::as_slice).enumerate();
            groups.merge(&state.keys, columns)?;
        }
        let (keys, columns) = groups.take()?;
        let state = Arc::new(State { keys, columns });
        self.flat.leaf.kept().put_merged(name, &tokens, &state);
        self.merged = whole.len();
        Ok(Some(state))
    }

    /// Adds the next batch; false if there is none.
    pub(super) fn add_next(&mut self, a: &AggregateExec, groups: &mut Groups) -> Result<bool> {
        let pieces = self.pieces.clone();
        let Some(piece) = pieces.get(self.next) else { return Ok(false) };
        self.next += 1;
        let range = piece.ts_range;
        let within = self.timed.within.side(range);
        if within == Side::Outside {
            return Ok(true);
        }
        let is_merged = within == Side::Inside && piece.token.is_some() && self.merged > 0;
        self.merged -= usize::from(is_merged);
        let times = self.timed.times.clone();
        let is_left = |i: usize| {
            times[i].side(range) == Side::Inside && !(is_merged && times[i] == Times::ALL)
        };
        if !is_merged || (0..times.len()).any(is_left) {
            let state = match within {
                Side::Inside => self.state(a, piece)?,
                _ => None,
            };
            match state {
                Some(state) => {
                    let left = (0..times.len()).filter(|i| is_left(*i));
                    groups.merge(&state.keys, self.timed.columns(&state, left))?;
                }
                None => {
                    let rows = self.rows(piece, self.timed.within)?;
                    groups.add(&self.timed.inputs, &rows, is_left)?;
                }
            }
        }
        let mut done: Vec<Times> = Vec::new();
        for own in times.iter().filter(|t| t.side(range) == Side::Across) {
            if !done.contains(own) {
                done.push(*own);
                let rows = self.rows(piece, self.timed.within.and(*own))?;
                groups.add(&self.timed.inputs, &rows, |i| times[i] == *own)?;
            }
        }
        Ok(true)
    }

    /// Of what is asked apart from times.
    fn distinct_groups(&self, a: &AggregateExec) -> Result<Groups> {
        Groups::new(a, self.timed.distinct.iter().copied(), self.flat.leaf.kept().orders())
    }

    /// The state of all rows of the batch; `None` if it is not kept.
    fn state(&mut self, a: &AggregateExec, piece: &Piece) -> Result<Option<Arc<State>>> {
        let (Some(name), Some(token)) = (self.name, &piece.token) else { return Ok(None) };
        let kept = self.flat.leaf.kept();
        if let Some(state) = kept.get(name, token) {
            return Ok(Some(state));
        }
        if self.is_full {
            return Ok(None);
        }
        let mut groups = self.distinct_groups(a)?;
        let rows = self.rows(piece, Times::ALL)?;
        groups.add(&self.timed.distinct_inputs, &rows, |_| true)?;
        let (keys, columns) = groups.take()?;
        let state = Arc::new(State { keys, columns });
        self.is_full = !kept.put(name, token, &state);
        Ok(Some(state))
    }

    /// The rows within these times that meet the conditions.
    fn rows(&self, piece: &Piece, times: Times) -> Result<RecordBatch> {
        let mut rows = self.flat.leaf.project(&piece.batch)?;
        if times.side(piece.ts_range) != Side::Inside
            && let Some(ts) = piece.batch.column_by_name("ts")
        {
            let ts = ts.as_primitive::<TimestampMicrosecondType>();
            let values = ts.values();
            let counts = |i: usize| times.first <= values[i] && values[i] <= times.last;
            let counts = BooleanBuffer::collect_bool(values.len(), counts);
            // A NULL counts no more than a time outside.
            rows = filter_record_batch(&rows, &BooleanArray::new(counts, ts.nulls().cloned()))?;
        }
        if let Some(condition) = &self.timed.condition {
            let holds = condition.evaluate(&rows)?.into_array(rows.num_rows())?;
            let holds = as_boolean_array(&holds)?;
            if holds.null_count() > 0 || holds.has_false() {
                rows = filter_record_batch(&rows, holds)?;
            }
        }
        Ok(rows)
    }
}
