//! The cheap screen: exact least squares by integer sums, for all series at once.
//!
//! The sums are those of [`tapio_models::Moments`], laid out so that they travel between the stages of an aggregation
//! as a fixed-size column; the tests hold the two to the same bits. Adding is exact and modulo 2^128, so neither the
//! order of rows nor the number of threads matters (T6).

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, FixedSizeBinaryArray, Float64Array, new_empty_array,
    },
    datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type, TimestampMicrosecondType},
};
use datafusion::{
    common::{Result, exec_err},
    logical_expr::{
        Accumulator, AggregateUDFImpl, Documentation, EmitTo, GroupsAccumulator, Signature,
        Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
        scalar_doc_sections::DOC_SECTION_OTHER,
    },
};

use super::{
    single::{Empty, Single},
    time_type,
};

/// Times are summed relative to 2025-01-01, so that their squares stay small.
const ORIGIN_US: i64 = 1_735_689_600_000_000;
const STATE_BYTES: usize = 88;

/// Sums over the rows of one group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    n: u64,
    t: i128,
    v: i128,
    tt: i128,
    tv: i128,
    /// Bitwise or of all |t| and |v| (one's complement): bounds every row.
    t_bits: u64,
    v_bits: u64,
}

impl Sums {
    #[inline(always)]
    fn push(&mut self, ts_us: i64, value: i64) {
        let t = ts_us.wrapping_sub(ORIGIN_US);
        // A difference that does not fit poisons the bound instead of the sums.
        let lost = ((ts_us ^ ORIGIN_US) & (ts_us ^ t)) >> 63;
        self.n += 1;
        self.t += i128::from(t);
        self.v += i128::from(value);
        self.tt = self.tt.wrapping_add(i128::from(t) * i128::from(t));
        self.tv = self.tv.wrapping_add(i128::from(t) * i128::from(value));
        self.t_bits |= (t ^ (t >> 63)).cast_unsigned() | lost.cast_unsigned();
        self.v_bits |= (value ^ (value >> 63)).cast_unsigned();
    }

    fn merge(&mut self, o: &Self) {
        self.n += o.n;
        self.t = self.t.wrapping_add(o.t);
        self.v = self.v.wrapping_add(o.v);
        self.tt = self.tt.wrapping_add(o.tt);
        self.tv = self.tv.wrapping_add(o.tv);
        self.t_bits |= o.t_bits;
        self.v_bits |= o.v_bits;
    }

    fn to_bytes(self) -> [u8; STATE_BYTES] {
        let mut b = [0; STATE_BYTES];
        b[..8].copy_from_slice(&self.n.to_le_bytes());
        b[8..16].copy_from_slice(&self.t_bits.to_le_bytes());
        b[16..24].copy_from_slice(&self.v_bits.to_le_bytes());
        for (i, s) in [self.t, self.v, self.tt, self.tv].into_iter().enumerate() {
            b[24 + 16 * i..40 + 16 * i].copy_from_slice(&s.to_le_bytes());
        }
        b
    }

    fn from_bytes(b: &[u8]) -> Self {
        let word = |i: usize| {
            let mut w = [0; 8];
            w.copy_from_slice(&b[i..i + 8]);
            u64::from_le_bytes(w)
        };
        let sum = |i: usize| {
            let (low, high) = (word(24 + 16 * i), word(32 + 16 * i));
            ((u128::from(high) << 64) | u128::from(low)).cast_signed()
        };
        Self {
            n: word(0),
            t_bits: word(8),
            v_bits: word(16),
            t: sum(0),
            v: sum(1),
            tt: sum(2),
            tv: sum(3),
        }
    }

    /// Means of time (whole µs after the origin, and the rest) and value, and slope per µs; `None` with fewer than two
    /// times, or where the bound does not prove that the sums are exact.
    fn line(&self) -> Option<Line> {
        let width = |bits: u64| u64::BITS - bits.leading_zeros() + 1;
        let rows = u64::BITS - self.n.leading_zeros();
        let (t, v) = (width(self.t_bits), width(self.v_bits));
        if self.n < 2 || self.t_bits == u64::MAX || rows + t + t.max(v) + 3 > i128::BITS - 1 {
            return None;
        }
        let n = i128::from(self.n);
        let (mt, mv) = (self.t.div_euclid(n), self.v.div_euclid(n));
        let (rt, rv) = (self.t - n * mt, self.v - n * mv);
        let tt = self.tt - 2 * mt * self.t + n * mt * mt;
        let tv = self.tv - mt * self.v - mv * self.t + n * mt * mv;
        let m = n as f64;
        let sxx = tt as f64 - rt as f64 * (rt as f64 / m);
        let sxy = tv as f64 - rt as f64 * (rv as f64 / m);
        (sxx > 0.0).then(|| Line {
            centre_us: i128::from(ORIGIN_US) + mt,
            centre_rest_us: rt as f64 / m,
            mean: mv as f64 + rv as f64 / m,
            slope_per_us: sxy / sxx,
        })
    }
}

struct Line {
    centre_us: i128,
    centre_rest_us: f64,
    mean: f64,
    slope_per_us: f64,
}

impl Line {
    fn crossing_s(&self, threshold: f64, at_us: i64) -> Option<f64> {
        let dt = (i128::from(at_us) - self.centre_us) as f64 - self.centre_rest_us;
        let us = (threshold - (self.mean + self.slope_per_us * dt)) / self.slope_per_us;
        (us.is_finite() && us >= 0.0).then_some(us * 1e-6)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Slope,
    Crossing,
}

/// Sums per group; for a crossing also threshold and time, which are those of the group's newest row.
#[derive(Debug)]
struct LinearGroups {
    answer: Answer,
    sums: Vec<Sums>,
    /// Newest time, then the largest (threshold, as_of) at it.
    newest: Vec<(i64, f64, i64)>,
}

const NO_ROW: (i64, f64, i64) = (i64::MIN, f64::NAN, i64::MIN);

fn newer(a: (i64, f64, i64), b: (i64, f64, i64)) -> (i64, f64, i64) {
    let order = a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2));
    if order.is_lt() { b } else { a }
}

impl LinearGroups {
    fn new(answer: Answer) -> Self {
        Self { answer, sums: Vec::new(), newest: Vec::new() }
    }

    fn grow(&mut self, groups: usize) {
        if self.sums.len() < groups {
            self.sums.resize(groups, Sums::default());
            if self.answer == Answer::Crossing {
                self.newest.resize(groups, NO_ROW);
            }
        }
    }

    fn take(&mut self, emit: EmitTo) -> (Vec<Sums>, Vec<(i64, f64, i64)>) {
        (emit.take_needed(&mut self.sums), emit.take_needed(&mut self.newest))
    }
}

/// Calls `run(group, start, end)` for every run of rows of one group: rows come sorted by series, so sums stay in
/// registers for the length of a run.
#[inline(always)]
fn runs(groups: &[usize], mut run: impl FnMut(usize, usize, usize)) {
    let mut start = 0;
    while start < groups.len() {
        let group = groups[start];
        let mut end = start + 1;
        while end < groups.len() && groups[end] == group {
            end += 1;
        }
        run(group, start, end);
        start = end;
    }
}

impl GroupsAccumulator for LinearGroups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.grow(total);
        let ts = values[0].as_primitive::<TimestampMicrosecondType>();
        let value = values[1].as_primitive::<Int64Type>();
        let plain = filter.is_none() && ts.null_count() == 0 && value.null_count() == 0;
        let (t, v) = (&ts.values()[..groups.len()], &value.values()[..groups.len()]);
        let keep = |i: usize| {
            plain
                || (ts.is_valid(i)
                    && value.is_valid(i)
                    && filter.is_none_or(|f| f.is_valid(i) && f.value(i)))
        };
        if plain {
            runs(groups, |g, start, end| {
                let mut sums = self.sums[g];
                for (t, v) in t[start..end].iter().zip(&v[start..end]) {
                    sums.push(*t, *v);
                }
                self.sums[g] = sums;
            });
        } else {
            for (i, g) in groups.iter().enumerate() {
                if keep(i) {
                    self.sums[*g].push(t[i], v[i]);
                }
            }
        }
        if self.answer == Answer::Crossing {
            let threshold = values[2].as_primitive::<Float64Type>();
            let as_of = values[3].as_primitive::<TimestampMicrosecondType>();
            for (i, g) in groups.iter().enumerate() {
                // Cheap for sorted rows: only a row that is not older can be the newest.
                if t[i] >= self.newest[*g].0 && keep(i) {
                    let limit = if threshold.is_valid(i) { threshold.value(i) } else { f64::NAN };
                    let at = if as_of.is_valid(i) { as_of.value(i) } else { t[i] };
                    self.newest[*g] = newer(self.newest[*g], (t[i], limit, at));
                }
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let (sums, newest) = self.take(emit);
        let answers: Float64Array = match self.answer {
            Answer::Slope => sums.iter().map(|s| s.line().map(|l| l.slope_per_us * 1e6)).collect(),
            Answer::Crossing => sums
                .iter()
                .zip(newest)
                .map(|(s, (_, threshold, at))| s.line()?.crossing_s(threshold, at))
                .collect(),
        };
        Ok(Arc::new(answers))
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let (sums, newest) = self.take(emit);
        let bytes = sums.iter().map(|s| s.to_bytes());
        let mut state: Vec<ArrayRef> = vec![Arc::new(if sums.is_empty() {
            FixedSizeBinaryArray::new_null(STATE_BYTES as i32, 0)
        } else {
            FixedSizeBinaryArray::try_from_iter(bytes)?
        })];
        if self.answer == Answer::Crossing {
            state.push(Arc::new(arrow::array::Int64Array::from_iter_values(
                newest.iter().map(|n| n.0),
            )));
            state.push(Arc::new(Float64Array::from_iter_values(newest.iter().map(|n| n.1))));
            state.push(Arc::new(arrow::array::Int64Array::from_iter_values(
                newest.iter().map(|n| n.2),
            )));
        }
        Ok(state)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.grow(total);
        let sums = values[0].as_fixed_size_binary();
        for (i, g) in groups.iter().enumerate() {
            self.sums[*g].merge(&Sums::from_bytes(sums.value(i)));
        }
        if self.answer == Answer::Crossing {
            let ts = values[1].as_primitive::<Int64Type>();
            let threshold = values[2].as_primitive::<Float64Type>();
            let at = values[3].as_primitive::<Int64Type>();
            for (i, g) in groups.iter().enumerate() {
                let row = (ts.value(i), threshold.value(i), at.value(i));
                self.newest[*g] = newer(self.newest[*g], row);
            }
        }
        Ok(())
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let rows = values[0].len();
        let mut each = Self::new(self.answer);
        let groups: Vec<usize> = (0..rows).collect();
        each.update_batch(values, &groups, filter, rows)?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<Sums>()
            + self.newest.capacity() * size_of::<(i64, f64, i64)>()
    }
}

impl Empty for LinearGroups {
    fn empty_arguments(&self) -> Vec<ArrayRef> {
        arguments(self.answer).iter().map(new_empty_array).collect()
    }
}

fn arguments(answer: Answer) -> Vec<DataType> {
    match answer {
        Answer::Slope => vec![time_type(), DataType::Int64],
        Answer::Crossing => vec![time_type(), DataType::Int64, DataType::Float64, time_type()],
    }
}

fn state_fields(answer: Answer, name: &str) -> Vec<FieldRef> {
    let field = |part: &str, ty| Arc::new(Field::new(format!("{name}[{part}]"), ty, true));
    let mut fields = vec![field("sums", DataType::FixedSizeBinary(STATE_BYTES as i32))];
    if answer == Answer::Crossing {
        fields.push(field("newest", DataType::Int64));
        fields.push(field("threshold", DataType::Float64));
        fields.push(field("as_of", DataType::Int64));
    }
    fields
}

macro_rules! linear_udaf {
    ($(#[$doc:meta])* $type:ident, $name:literal, $answer:expr, $syntax:literal, $text:literal) => {
        $(#[$doc])*
        #[derive(Debug, PartialEq, Eq, Hash)]
        pub(super) struct $type {
            signature: Signature,
            documentation: Documentation,
        }

        impl $type {
            pub(super) fn new() -> Self {
                Self {
                    signature: Signature::exact(arguments($answer), Volatility::Immutable),
                    documentation: Documentation::builder(DOC_SECTION_OTHER, $text, $syntax).build(),
                }
            }
        }

        impl AggregateUDFImpl for $type {
            fn name(&self) -> &str {
                $name
            }

            fn signature(&self) -> &Signature {
                &self.signature
            }

            fn return_type(&self, _: &[DataType]) -> Result<DataType> {
                Ok(DataType::Float64)
            }

            fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
                if args.is_distinct {
                    return exec_err!("{} does not take DISTINCT", $name);
                }
                Ok(Box::new(Single::new(LinearGroups::new($answer))))
            }

            fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
                Ok(state_fields($answer, args.name))
            }

            fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
                !args.is_distinct
            }

            fn create_groups_accumulator(
                &self,
                _: AccumulatorArgs,
            ) -> Result<Box<dyn GroupsAccumulator>> {
                Ok(Box::new(LinearGroups::new($answer)))
            }

            fn documentation(&self) -> Option<&Documentation> {
                Some(&self.documentation)
            }
        }
    };
}

linear_udaf!(
    /// `tapio_trend(ts, value)`: least-squares slope per second.
    Trend,
    "tapio_trend",
    Answer::Slope,
    "tapio_trend(ts, value)",
    "Least-squares slope of integer values over time, in units per second. Rows with a NULL are left out; NULL with \
     fewer than two different times. Exact, whatever the order of the rows. \
     Example: SELECT series_id, tapio_trend(ts, memory_level_bytes) FROM resources GROUP BY series_id"
);
linear_udaf!(
    /// `tapio_linear_crossing(ts, value, threshold, as_of)`: seconds until the least-squares line meets the threshold.
    Crossing,
    "tapio_linear_crossing",
    Answer::Crossing,
    "tapio_linear_crossing(ts, value, threshold, as_of)",
    "Seconds from as_of until the least-squares line of the values meets the threshold of the newest row. Rows with a \
     NULL time or value are left out; a NULL as_of stands for the newest row's time. NULL if the line does not head for \
     the threshold, has passed it, or the threshold is NULL. Example: SELECT series_id, tapio_linear_crossing(ts, \
     memory_level_bytes, memory_limit_bytes, TIMESTAMP '2026-11-23T10:00:00Z') FROM resources GROUP BY series_id"
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tapio_models::{Moments, linear_crossing_s};

    proptest! {
        #[test]
        fn same_bits_as_the_model_in_parts_and_through_bytes(
            rows in proptest::collection::vec((-1_i64 << 40..1_i64 << 50, -1_i64 << 45..1_i64 << 45), 0..40),
            cut in 0_usize..40,
            threshold in -1e15..1e15_f64,
        ) {
            let mut model = Moments::new(rows.first().map_or(0, |r| r.0));
            let (mut a, mut b) = (Sums::default(), Sums::default());
            for (i, (t, v)) in rows.iter().enumerate() {
                model.push(*t, *v);
                if i < cut { a.push(*t, *v) } else { b.push(*t, *v) }
            }
            b.merge(&Sums::from_bytes(&a.to_bytes()));
            prop_assert_eq!(model.slope(), b.line().map(|l| l.slope_per_us * 1e6));
            prop_assert_eq!(
                linear_crossing_s(&model, threshold, 17),
                b.line().and_then(|l| l.crossing_s(threshold, 17))
            );
        }

        #[test]
        fn extremes_are_refused_not_wrong(rows in proptest::collection::vec((any::<i64>(), any::<i64>()), 0..9)) {
            let mut s = Sums::default();
            for (t, v) in rows { s.push(t, v); }
            if let Some(l) = s.line() { prop_assert!(l.slope_per_us.is_finite()); }
        }
    }
}
