//! The cheap screen: exact least squares by integer sums, for all series at once.
//!
//! The sums are [`Moments`]; they travel between the stages of an aggregation as a fixed-size column. Adding is exact, so
//! neither the order of rows nor the number of threads matters (T6).

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, FixedSizeBinaryArray, Float64Array, new_empty_array,
    },
    datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type, TimestampMicrosecondType},
};
use datafusion::{
    common::{Result, ScalarValue, exec_err},
    logical_expr::{
        Accumulator, AggregateUDFImpl, Documentation, EmitTo, GroupsAccumulator, Signature,
        Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
        scalar_doc_sections::DOC_SECTION_OTHER,
    },
    physical_expr::expressions::Literal,
};

use tapio_models::{Moments, linear_crossing_s};

use super::{
    CROSSING, TREND,
    single::{Empty, Single},
    time_type,
};
use crate::fixed::constant;

/// Times are summed relative to 2025-01-01, so that their squares stay small.
const ORIGIN_US: i64 = 1_735_689_600_000_000;
/// Which argument of a crossing is the time that it asks about.
const AS_OF: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Slope,
    Crossing,
}

/// Sums per group; for a crossing also threshold and time, which are those of the group's newest row.
#[derive(Debug)]
struct LinearGroups {
    answer: Answer,
    /// The time (µs) that all rows ask about, if it is one: states do not hold it then.
    as_of: Option<i64>,
    sums: Vec<Moments>,
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
        Self { answer, as_of: None, sums: Vec::new(), newest: Vec::new() }
    }

    /// For a call with these arguments.
    fn of(answer: Answer, args: &AccumulatorArgs) -> Self {
        let fixed = args.exprs.get(AS_OF).and_then(constant);
        let as_of = fixed.and_then(|e| match e.downcast_ref::<Literal>()?.value() {
            ScalarValue::TimestampMicrosecond(t, _) => *t,
            _ => None,
        });
        Self { as_of, ..Self::new(answer) }
    }

    fn grow(&mut self, groups: usize) {
        if self.sums.len() < groups {
            self.sums.resize(groups, Moments::new(ORIGIN_US));
            if self.answer == Answer::Crossing {
                self.newest.resize(groups, NO_ROW);
            }
        }
    }

    fn take(&mut self, emit: EmitTo) -> (Vec<Moments>, Vec<(i64, f64, i64)>) {
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

/// Whether each time is later than the one before. Without an early end, so that it is done for many at once.
fn rises(t: &[i64]) -> bool {
    t.iter().zip(t.iter().skip(1)).fold(true, |rises, (a, b)| rises & (a < b))
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
        let crossing = (self.answer == Answer::Crossing).then(|| {
            let threshold = values[2].as_primitive::<Float64Type>();
            (threshold, values[3].as_primitive::<TimestampMicrosecondType>())
        });
        runs(groups, |g, start, end| {
            if plain {
                self.sums[g].extend(&t[start..end], &v[start..end]);
            } else {
                for i in (start..end).filter(|i| keep(*i)) {
                    self.sums[g].push(t[i], v[i]);
                }
            }
            let Some((threshold, as_of)) = &crossing else { return };
            let mut newest = self.newest[g];
            // Rows mostly come in order of time: then only the last one can be the newest.
            let first = if plain && rises(&t[start..end]) { end - 1 } else { start };
            let least = newest.0;
            for i in (first..end).filter(|i| t[*i] >= least && keep(*i)) {
                let limit = if threshold.is_valid(i) { threshold.value(i) } else { f64::NAN };
                let at = match self.as_of {
                    Some(_) => i64::MIN,
                    None if as_of.is_valid(i) => as_of.value(i),
                    None => t[i],
                };
                newest = newer(newest, (t[i], limit, at));
            }
            self.newest[g] = newest;
        });
        Ok(())
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let (sums, newest) = self.take(emit);
        let answers: Float64Array = match self.answer {
            Answer::Slope => sums.iter().map(Moments::slope).collect(),
            Answer::Crossing => sums
                .iter()
                .zip(newest)
                .map(|(s, (_, threshold, at))| {
                    linear_crossing_s(s, threshold, self.as_of.unwrap_or(at))
                })
                .collect(),
        };
        Ok(Arc::new(answers))
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let (sums, newest) = self.take(emit);
        let bytes = sums.iter().map(|s| s.to_bytes());
        let mut state: Vec<ArrayRef> = vec![Arc::new(if sums.is_empty() {
            FixedSizeBinaryArray::new_null(Moments::BYTES as i32, 0)
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
        let (each, rest) = sums.value_data().as_chunks();
        if each.len() != groups.len() || !rest.is_empty() {
            return exec_err!("the state of a sum has {} bytes", sums.value_length());
        }
        for (bytes, g) in each.iter().zip(groups) {
            self.sums[*g].merge(&Moments::from_bytes(ORIGIN_US, bytes));
        }
        if self.answer == Answer::Crossing {
            let ts = values[1].as_primitive::<Int64Type>().values();
            let threshold = values[2].as_primitive::<Float64Type>().values();
            let at = values[3].as_primitive::<Int64Type>().values();
            let rows = ts.iter().zip(threshold).zip(at).map(|((t, limit), at)| (*t, *limit, *at));
            for (row, g) in rows.zip(groups) {
                let newest = &mut self.newest[*g];
                // Mostly states come in the order of time.
                *newest = if row.0 > newest.0 { row } else { newer(*newest, row) };
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
        let mut each = Self { as_of: self.as_of, ..Self::new(self.answer) };
        let groups: Vec<usize> = (0..rows).collect();
        each.update_batch(values, &groups, filter, rows)?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<Moments>()
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
    let mut fields = vec![field("sums", DataType::FixedSizeBinary(Moments::BYTES as i32))];
    if answer == Answer::Crossing {
        fields.push(field("newest", DataType::Int64));
        fields.push(field("threshold", DataType::Float64));
        fields.push(field("as_of", DataType::Int64));
    }
    fields
}

macro_rules! linear_udaf {
    ($(#[$doc:meta])* $type:ident, $name:expr, $answer:expr, $syntax:literal, $text:literal) => {
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
                Ok(Box::new(Single::new(LinearGroups::of($answer, &args))))
            }

            fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
                Ok(state_fields($answer, args.name))
            }

            fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
                !args.is_distinct
            }

            fn create_groups_accumulator(
                &self,
                args: AccumulatorArgs,
            ) -> Result<Box<dyn GroupsAccumulator>> {
                Ok(Box::new(LinearGroups::of($answer, &args)))
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
    TREND,
    Answer::Slope,
    "tapio_trend(ts, value)",
    "Least-squares slope of integer values over time, in units per second. Rows with a NULL are left out; NULL with \
     fewer than two different times. Exact, whatever the order of the rows. \
     Example: SELECT series_id, tapio_trend(ts, memory_level_bytes) FROM resources GROUP BY series_id"
);
linear_udaf!(
    /// `tapio_linear_crossing(ts, value, threshold, as_of)`: seconds until the least-squares line meets the threshold.
    Crossing,
    CROSSING,
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
    use arrow::array::{Int64Array, TimestampMicrosecondArray};
    use proptest::prelude::*;

    fn columns(rows: &[(i64, i64)], threshold: f64) -> Vec<ArrayRef> {
        let ts: Vec<i64> = rows.iter().map(|r| r.0).collect();
        let time = |v: Vec<i64>| Arc::new(TimestampMicrosecondArray::from(v).with_timezone("UTC"));
        vec![
            time(ts),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.1))),
            Arc::new(Float64Array::from(vec![threshold; rows.len()])),
            time(vec![17; rows.len()]),
        ]
    }

    proptest! {
        #[test]
        fn stages_answer_as_the_model_does(
            rows in proptest::collection::vec((0..1_i64 << 50, -1_i64 << 45..1_i64 << 45), 1..40),
            cut in 0_usize..40,
            threshold in -1e15..1e15_f64,
        ) {
            let cut = cut.min(rows.len());
            let mut model = Moments::new(0);
            rows.iter().for_each(|(t, v)| model.push(*t, *v));
            for (answer, expected) in [
                (Answer::Slope, model.slope()),
                (Answer::Crossing, linear_crossing_s(&model, threshold, 17)),
            ] {
                let mut whole = LinearGroups::new(answer);
                let part = columns(&rows[cut..], threshold);
                whole.update_batch(&part, &vec![0; rows.len() - cut], None, 1).unwrap();
                let each = whole.convert_to_state(&columns(&rows[..cut], threshold), None).unwrap();
                whole.merge_batch(&each, &vec![0; cut], 1).unwrap();
                let got = whole.evaluate(EmitTo::All).unwrap();
                let got = got.as_primitive::<Float64Type>();
                prop_assert_eq!(got.is_valid(0).then(|| got.value(0)), expected);
            }
        }
    }
}
