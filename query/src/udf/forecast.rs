//! `tapio_forecast`: time to threshold of every group.
//!
//! Rows are collected in flat vectors and sorted when the answer is made: an `array_agg(… ORDER BY ts)` for the same
//! purpose costs sixty times as much, and sorting here makes the order of arrival, and so the number of threads,
//! irrelevant (T6).

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, Float64Array, Float64Builder, Int64Array,
        Int64Builder, ListArray, StringBuilder, StructArray, TimestampMicrosecondBuilder,
        new_empty_array,
    },
    buffer::OffsetBuffer,
    datatypes::{
        DataType, Field, FieldRef, Fields, Float64Type, Int64Type, TimestampMicrosecondType,
    },
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
use tapio_models::{Interval, Options, Series, seed_of, time_to_threshold};

use super::{
    single::{Empty, Single},
    time_type,
};

/// `tapio_forecast(series_id, ts, value, threshold, as_of, horizon_seconds)`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Forecast {
    signature: Signature,
    documentation: Documentation,
}

impl Forecast {
    pub(super) fn new() -> Self {
        let text = "When the values of a group reach their threshold: a struct of eta_seconds (median, if the growth goes \
            on), the ends of the 50, 80, 95 and 99 % intervals (a NULL high end is open), probability of a hit within \
            horizon_seconds, model, window_seconds, samples, slope_per_second, residual_scale, level, threshold, \
            segment_start, segment_reason, and cannot_say: why there is no forecast (all else is NULL then). Rows with a \
            NULL time or value are left out; a NULL threshold is no limit at that row. series_id and as_of seed the \
            simulated paths and are those of the newest row; rows after as_of are not looked at. Example: SELECT \
            tapio_forecast(series_id, ts, memory_level_bytes, memory_limit_bytes, TIMESTAMP '2026-11-23T10:00:00Z', 900) \
            FROM resources GROUP BY series_id";
        Self {
            signature: Signature::exact(arguments(), Volatility::Immutable),
            documentation: Documentation::builder(
                DOC_SECTION_OTHER,
                text,
                "tapio_forecast(series_id, ts, value, threshold, as_of, horizon_seconds)",
            )
            .build(),
        }
    }
}

fn arguments() -> Vec<DataType> {
    vec![
        DataType::Int64,
        time_type(),
        DataType::Float64,
        DataType::Float64,
        time_type(),
        DataType::Float64,
    ]
}

const INTERVALS: [&str; 4] = ["50", "80", "95", "99"];

fn answer_fields() -> Fields {
    let real = |name: &str| Field::new(name, DataType::Float64, true);
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let mut fields = vec![real("eta_seconds")];
    for p in INTERVALS {
        fields.push(real(&format!("eta_low{p}_seconds")));
        fields.push(real(&format!("eta_high{p}_seconds")));
    }
    fields.extend([
        real("probability"),
        real("horizon_seconds"),
        text("model"),
        real("window_seconds"),
        Field::new("samples", DataType::Int64, true),
        real("slope_per_second"),
        real("residual_scale"),
        real("level"),
        real("threshold"),
        Field::new("segment_start", time_type(), true),
        text("segment_reason"),
        text("cannot_say"),
    ]);
    Fields::from(fields)
}

fn list_of(ty: DataType) -> FieldRef {
    Arc::new(Field::new_list_field(ty, true))
}

fn state_types() -> [(&'static str, DataType); 6] {
    [
        ("ts", DataType::List(list_of(DataType::Int64))),
        ("value", DataType::List(list_of(DataType::Float64))),
        ("threshold", DataType::List(list_of(DataType::Float64))),
        ("series_id", DataType::Int64),
        ("as_of", DataType::Int64),
        ("horizon", DataType::Float64),
    ]
}

impl AggregateUDFImpl for Forecast {
    fn name(&self) -> &str {
        "tapio_forecast"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(answer_fields()))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return exec_err!("tapio_forecast does not take DISTINCT");
        }
        Ok(Box::new(Single::new(ForecastGroups::default())))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |(part, ty)| Arc::new(Field::new(format!("{}[{part}]", args.name), ty, true));
        Ok(state_types().into_iter().map(field).collect())
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(ForecastGroups::default()))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

/// What is asked of one group: taken from its newest row, the largest of equal ones.
#[derive(Debug, Clone, Copy)]
struct Asked {
    ts: i64,
    series_id: i64,
    as_of: i64,
    horizon: f64,
}

const NOTHING: Asked =
    Asked { ts: i64::MIN, series_id: i64::MIN, as_of: i64::MIN, horizon: f64::NAN };

impl Asked {
    fn or_newer(self, o: Self) -> Self {
        let order = self
            .ts
            .cmp(&o.ts)
            .then(self.series_id.cmp(&o.series_id))
            .then(self.as_of.cmp(&o.as_of))
            .then(self.horizon.total_cmp(&o.horizon));
        if order.is_lt() { o } else { self }
    }
}

/// Rows of all groups in order of arrival.
#[derive(Debug, Default)]
struct ForecastGroups {
    group: Vec<usize>,
    ts: Vec<i64>,
    value: Vec<f64>,
    /// NaN: no threshold at that row.
    threshold: Vec<f64>,
    asked: Vec<Asked>,
}

/// The rows of the emitted groups, group after group, each sorted by time.
struct Sorted {
    offsets: Vec<usize>,
    ts: Vec<i64>,
    value: Vec<f64>,
    threshold: Vec<f64>,
    asked: Vec<Asked>,
}

impl ForecastGroups {
    fn push(&mut self, group: usize, ts: i64, value: f64, threshold: f64) {
        self.group.push(group);
        self.ts.push(ts);
        self.value.push(value);
        self.threshold.push(threshold);
    }

    fn take(&mut self, emit: EmitTo) -> Sorted {
        let asked = emit.take_needed(&mut self.asked);
        let groups = asked.len();
        let mut order: Vec<usize> =
            (0..self.group.len()).filter(|i| self.group[*i] < groups).collect();
        order.sort_unstable_by(|a, b| {
            let (a, b) = (*a, *b);
            self.group[a]
                .cmp(&self.group[b])
                .then(self.ts[a].cmp(&self.ts[b]))
                .then(self.value[a].total_cmp(&self.value[b]))
                .then(self.threshold[a].total_cmp(&self.threshold[b]))
        });
        let mut offsets = vec![0; groups + 1];
        for i in &order {
            offsets[self.group[*i] + 1] += 1;
        }
        for g in 0..groups {
            offsets[g + 1] += offsets[g];
        }
        let sorted = Sorted {
            offsets,
            ts: order.iter().map(|i| self.ts[*i]).collect(),
            value: order.iter().map(|i| self.value[*i]).collect(),
            threshold: order.iter().map(|i| self.threshold[*i]).collect(),
            asked,
        };
        // Rows of later groups stay, and their groups move down.
        let rest: Vec<usize> = (0..self.group.len()).filter(|i| self.group[*i] >= groups).collect();
        self.group = rest.iter().map(|i| self.group[*i] - groups).collect();
        self.ts = rest.iter().map(|i| self.ts[*i]).collect();
        self.value = rest.iter().map(|i| self.value[*i]).collect();
        self.threshold = rest.iter().map(|i| self.threshold[*i]).collect();
        sorted
    }
}

impl GroupsAccumulator for ForecastGroups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        if self.asked.len() < total {
            self.asked.resize(total, NOTHING);
        }
        let series = values[0].as_primitive::<Int64Type>();
        let ts = values[1].as_primitive::<TimestampMicrosecondType>();
        let value = values[2].as_primitive::<Float64Type>();
        let threshold = values[3].as_primitive::<Float64Type>();
        let as_of = values[4].as_primitive::<TimestampMicrosecondType>();
        let horizon = values[5].as_primitive::<Float64Type>();
        for (i, g) in groups.iter().enumerate() {
            if filter.is_some_and(|f| f.is_null(i) || !f.value(i))
                || ts.is_null(i)
                || value.is_null(i)
            {
                continue;
            }
            let t = ts.value(i);
            let limit = if threshold.is_valid(i) { threshold.value(i) } else { f64::NAN };
            self.push(*g, t, value.value(i), limit);
            self.asked[*g] = self.asked[*g].or_newer(Asked {
                ts: t,
                series_id: if series.is_valid(i) { series.value(i) } else { 0 },
                as_of: if as_of.is_valid(i) { as_of.value(i) } else { t },
                horizon: if horizon.is_valid(i) { horizon.value(i) } else { f64::NAN },
            });
        }
        Ok(())
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let sorted = self.take(emit);
        let mut answers = Answers::default();
        for (g, asked) in sorted.asked.iter().enumerate() {
            let rows = sorted.offsets[g]..sorted.offsets[g + 1];
            let series = Series {
                ts_us: &sorted.ts[rows.clone()],
                value: &sorted.value[rows.clone()],
                threshold: &sorted.threshold[rows],
            };
            let options = Options {
                as_of_us: asked.as_of,
                horizon_s: asked.horizon,
                seed: seed_of(asked.series_id, asked.as_of),
                // What has no rows while others have some has ended: a gap of all moves `as_of` as well.
                stale_share: 0.0,
                ..Options::default()
            };
            answers.push(&time_to_threshold(&series, &options));
        }
        answers.finish()
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let s = self.take(emit);
        let lengths = s.offsets.windows(2).map(|w| w[1] - w[0]);
        let offsets = OffsetBuffer::<i32>::from_lengths(lengths);
        let list = |ty, values: ArrayRef| -> Result<ArrayRef> {
            Ok(Arc::new(ListArray::try_new(list_of(ty), offsets.clone(), values, None)?))
        };
        let known = |a: &Asked| a.ts > i64::MIN;
        Ok(vec![
            list(DataType::Int64, Arc::new(Int64Array::from(s.ts)))?,
            list(DataType::Float64, Arc::new(Float64Array::from(s.value)))?,
            list(DataType::Float64, Arc::new(Float64Array::from(s.threshold)))?,
            Arc::new(
                s.asked.iter().map(|a| known(a).then_some(a.series_id)).collect::<Int64Array>(),
            ),
            Arc::new(s.asked.iter().map(|a| known(a).then_some(a.as_of)).collect::<Int64Array>()),
            Arc::new(
                s.asked.iter().map(|a| known(a).then_some(a.horizon)).collect::<Float64Array>(),
            ),
        ])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        if self.asked.len() < total {
            self.asked.resize(total, NOTHING);
        }
        let (ts, value, threshold) =
            (values[0].as_list::<i32>(), values[1].as_list::<i32>(), values[2].as_list::<i32>());
        let series = values[3].as_primitive::<Int64Type>();
        let as_of = values[4].as_primitive::<Int64Type>();
        let horizon = values[5].as_primitive::<Float64Type>();
        for (i, g) in groups.iter().enumerate() {
            if series.is_null(i) {
                continue;
            }
            let (t, v, l) = (ts.value(i), value.value(i), threshold.value(i));
            let t = t.as_primitive::<Int64Type>().values();
            let v = v.as_primitive::<Float64Type>().values();
            let l = l.as_primitive::<Float64Type>().values();
            for k in 0..t.len() {
                self.push(*g, t[k], v[k], l[k]);
            }
            self.asked[*g] = self.asked[*g].or_newer(Asked {
                ts: t.last().copied().unwrap_or(i64::MIN),
                series_id: series.value(i),
                as_of: as_of.value(i),
                horizon: horizon.value(i),
            });
        }
        Ok(())
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let rows = values[0].len();
        let mut each = Self::default();
        each.update_batch(values, &(0..rows).collect::<Vec<_>>(), filter, rows)?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.group.capacity() * size_of::<usize>()
            + (self.ts.capacity() + self.value.capacity() + self.threshold.capacity()) * 8
            + self.asked.capacity() * size_of::<Asked>()
    }
}

impl Empty for ForecastGroups {
    fn empty_arguments(&self) -> Vec<ArrayRef> {
        arguments().iter().map(new_empty_array).collect()
    }
}

#[derive(Default)]
struct Answers {
    eta: Float64Builder,
    ends: [(Float64Builder, Float64Builder); 4],
    probability: Float64Builder,
    horizon: Float64Builder,
    model: StringBuilder,
    window: Float64Builder,
    samples: Int64Builder,
    slope: Float64Builder,
    residual: Float64Builder,
    level: Float64Builder,
    threshold: Float64Builder,
    start: TimestampMicrosecondBuilder,
    reason: StringBuilder,
    cannot_say: StringBuilder,
}

impl Answers {
    fn push(
        &mut self,
        answer: &std::result::Result<tapio_models::Forecast, tapio_models::CannotSay>,
    ) {
        let f = answer.as_ref().ok();
        self.eta.append_option(f.and_then(|f| f.eta_s));
        let interval = |i: usize| -> Option<Interval> {
            let all = &f?.intervals;
            // Without a hit there is no interval either, only "later than".
            f?.eta_s?;
            Some([all.p50, all.p80, all.p95, all.p99][i])
        };
        for (i, (low, high)) in self.ends.iter_mut().enumerate() {
            low.append_option(interval(i).map(|i| i.low_s));
            high.append_option(interval(i).and_then(|i| i.high_s));
        }
        self.probability.append_option(f.map(|f| f.probability));
        self.horizon.append_option(f.map(|f| f.horizon_s));
        self.model.append_option(f.map(|f| f.model.as_str()));
        self.window.append_option(f.map(|f| f.window_s));
        self.samples.append_option(f.map(|f| f.samples as i64));
        self.slope.append_option(f.map(|f| f.slope_per_s));
        self.residual.append_option(f.map(|f| f.residual_scale));
        self.level.append_option(f.map(|f| f.level));
        self.threshold.append_option(f.map(|f| f.threshold));
        self.start.append_option(f.map(|f| f.segment_start_us));
        self.reason.append_option(f.map(|f| f.segment_reason.as_str()));
        self.cannot_say.append_option(answer.as_ref().err().map(ToString::to_string));
    }

    fn finish(mut self) -> Result<ArrayRef> {
        let mut columns: Vec<ArrayRef> = vec![Arc::new(self.eta.finish())];
        for (low, high) in &mut self.ends {
            columns.push(Arc::new(low.finish()));
            columns.push(Arc::new(high.finish()));
        }
        columns.push(Arc::new(self.probability.finish()));
        columns.push(Arc::new(self.horizon.finish()));
        columns.push(Arc::new(self.model.finish()));
        columns.push(Arc::new(self.window.finish()));
        columns.push(Arc::new(self.samples.finish()));
        columns.push(Arc::new(self.slope.finish()));
        columns.push(Arc::new(self.residual.finish()));
        columns.push(Arc::new(self.level.finish()));
        columns.push(Arc::new(self.threshold.finish()));
        columns.push(Arc::new(self.start.finish().with_timezone("UTC")));
        columns.push(Arc::new(self.reason.finish()));
        columns.push(Arc::new(self.cannot_say.finish()));
        Ok(Arc::new(StructArray::try_new(answer_fields(), columns, None)?))
    }
}
