//! The hot rows of a first stage: states that are kept where a batch lies within the times that count, rows elsewhere.

use std::sync::Arc;

use arrow::{
    array::{Array, AsArray, BooleanArray, RecordBatch, UInt32Array},
    buffer::BooleanBuffer,
    compute::{filter_record_batch, take_record_batch},
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
    suffixes::{Suffix, Suffixes, starts},
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
                None => self.add_part(a, piece, self.timed.within, groups, is_left)?,
            }
        }
        let mut done: Vec<Times> = Vec::new();
        for own in times.iter().filter(|t| t.side(range) == Side::Across) {
            if !done.contains(own) {
                done.push(*own);
                let part = self.timed.within.and(*own);
                self.add_part(a, piece, part, groups, |i| times[i] == *own)?;
            }
        }
        Ok(true)
    }

    /// Adds the rows within these times to those aggregates that want them.
    fn add_part(
        &mut self,
        a: &AggregateExec,
        piece: &Piece,
        mut times: Times,
        groups: &mut Groups,
        wants: impl Fn(usize) -> bool,
    ) -> Result<()> {
        if let Some(suffixes) = self.suffixes(a, piece, times)?
            && let Some(suffix) = suffixes.from(times.first)
        {
            let wanting = (0..self.timed.times.len()).filter(|i| wants(*i));
            groups.merge(&suffix.state.keys, self.timed.columns(&suffix.state, wanting))?;
            if suffix.before < times.first {
                return Ok(());
            }
            times.last = suffix.before;
        }
        let rows = self.rows(piece, times)?;
        groups.add(&self.timed.inputs, &rows, wants)
    }

    /// What the batch holds from each of its times on, if its end is within these times; `None` if that is not kept.
    fn suffixes(
        &mut self,
        a: &AggregateExec,
        piece: &Piece,
        times: Times,
    ) -> Result<Option<Arc<Suffixes>>> {
        let (Some(name), Some(token)) = (self.name, &piece.token) else { return Ok(None) };
        let Some((first, last)) = piece.ts_range else { return Ok(None) };
        let Some(ts) = piece.batch.column_by_name("ts") else { return Ok(None) };
        if times.first <= first || times.last < last {
            return Ok(None);
        }
        let kept = self.flat.leaf.kept().clone();
        if let Some(suffixes) = kept.suffixes(name, token) {
            return Ok(Some(suffixes));
        }
        if self.is_full {
            return Ok(None);
        }
        let ts = ts.as_primitive::<TimestampMicrosecondType>();
        let starts = starts(ts.iter().flatten(), times.first);
        let mut places = vec![Vec::new(); starts.len() + 1];
        for (row, t) in ts.iter().enumerate() {
            if let Some(t) = t {
                places[starts.partition_point(|(start, _)| *start <= t)].push(row as u32);
            }
        }
        let all = self.flat.leaf.project(&piece.batch)?;
        let mut groups = self.distinct_groups(a)?;
        let (mut parts, mut bytes, room) = (Vec::new(), 0, kept.room_for_suffixes());
        let mut left = starts.len();
        for ((start, before), places) in starts.into_iter().zip(places.drain(1..)).rev() {
            let rows = take_record_batch(&all, &UInt32Array::from(places))?;
            groups.add(&self.timed.distinct_inputs, &self.that_hold(rows)?, |_| true)?;
            let (keys, columns) = groups.take()?;
            let state = Arc::new(State { keys, columns });
            groups.merge(&state.keys, state.columns.iter().map(Vec::as_slice).enumerate())?;
            // Those that are left are no smaller.
            if bytes + left * state.bytes() > room {
                kept.put_suffixes(name, token, &Arc::default());
                return Ok(None);
            }
            bytes += state.bytes();
            left -= 1;
            parts.push(Suffix { start, before, state });
        }
        parts.reverse();
        let suffixes = Arc::new(Suffixes::new(parts));
        kept.put_suffixes(name, token, &suffixes);
        Ok(Some(suffixes))
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
        self.that_hold(rows)
    }

    /// Those that meet the conditions.
    fn that_hold(&self, mut rows: RecordBatch) -> Result<RecordBatch> {
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
