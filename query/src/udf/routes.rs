//! `tapio_route_retention`: which routes of a service keep the memory that it gains.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, Float64Array, Float64Builder, Int64Array, Int64Builder,
        ListArray, StringArray, StringBuilder, StructArray,
    },
    buffer::OffsetBuffer,
    datatypes::{
        DataType, Field, FieldRef, Fields, Float64Type, Int64Type, TimestampMicrosecondType,
    },
};
use datafusion::{
    common::{Result, ScalarValue, exec_err},
    logical_expr::{
        Accumulator, AggregateUDFImpl, Documentation, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
        scalar_doc_sections::DOC_SECTION_OTHER,
    },
};
use tapio_models::attribution::{RouteWindows, attribute};

use super::time_type;

/// So many windows are made where the time allows,
const WINDOWS: i64 = 120;
/// none shorter or longer than this, µs.
const SHORTEST: i64 = 5_000_000;
const LONGEST: i64 = 300_000_000;
/// Routes beyond the most called ones are one column together.
const ROUTES: usize = 30;
const OTHERS: &str = "(all other routes)";

/// `tapio_route_retention(ts, level, route, requests)`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct RouteRetention {
    signature: Signature,
    documentation: Documentation,
}

impl RouteRetention {
    pub(super) fn new() -> Self {
        let text = "Which routes retain memory, from two kinds of rows: readings of the level (route NULL), and requests of a \
            route since the tick before (level NULL). A list of structs, one per route, by name: route, bytes_per_request \
            with its 95 % interval (low, high; NULL where it cannot be estimated), requests, windows, windows_called, \
            windows_agree, share_of_growth, and no_claim: why it is not said to retain memory, NULL where it is. The time \
            is cut into windows of at least 5 seconds. Empty without two readings; one struct without route where nothing \
            can be said. Rows without time are left out. Example: SELECT tapio_route_retention(ts, level, route, n) FROM \
            (SELECT ts, memory_level_bytes AS level, NULL AS route, NULL AS n FROM resources UNION ALL SELECT ts, NULL, \
            route, count FROM http)";
        let types = vec![time_type(), DataType::Float64, DataType::Utf8, DataType::Float64];
        Self {
            signature: Signature::exact(types, Volatility::Immutable),
            documentation: Documentation::builder(
                DOC_SECTION_OTHER,
                text,
                "tapio_route_retention(ts, level, route, requests)",
            )
            .build(),
        }
    }
}

fn answer_fields() -> Fields {
    let real = |name: &str| Field::new(name, DataType::Float64, true);
    let whole = |name: &str| Field::new(name, DataType::Int64, true);
    Fields::from(vec![
        Field::new("route", DataType::Utf8, true),
        real("bytes_per_request"),
        real("low"),
        real("high"),
        real("requests"),
        whole("windows"),
        whole("windows_called"),
        whole("windows_agree"),
        real("share_of_growth"),
        Field::new("no_claim", DataType::Utf8, true),
    ])
}

fn item() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Struct(answer_fields()), true))
}

fn state_types() -> [(&'static str, DataType); 4] {
    [
        ("ts", DataType::Int64),
        ("level", DataType::Float64),
        ("route", DataType::Utf8),
        ("requests", DataType::Float64),
    ]
}

impl AggregateUDFImpl for RouteRetention {
    fn name(&self) -> &str {
        "tapio_route_retention"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::List(item()))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return exec_err!("tapio_route_retention does not take DISTINCT");
        }
        Ok(Box::new(Rows::default()))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |(part, ty): (&str, DataType)| {
            let list = DataType::List(Arc::new(Field::new_list_field(ty, true)));
            Arc::new(Field::new(format!("{}[{part}]", args.name), list, true))
        };
        Ok(state_types().into_iter().map(field).collect())
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

/// What was given, in order of arrival.
#[derive(Debug, Default)]
struct Rows {
    /// Time, level.
    levels: Vec<(i64, f64)>,
    /// Time, route, requests.
    requests: Vec<(i64, String, f64)>,
}

impl Rows {
    fn push(
        &mut self,
        ts: &Int64Array,
        level: &Float64Array,
        route: &StringArray,
        n: &Float64Array,
    ) {
        for i in 0..ts.len() {
            if ts.is_null(i) {
                continue;
            }
            if level.is_valid(i) && level.value(i).is_finite() {
                self.levels.push((ts.value(i), level.value(i)));
            }
            if route.is_valid(i) && n.is_valid(i) {
                self.requests.push((ts.value(i), route.value(i).to_owned(), n.value(i)));
            }
        }
    }

    /// Names of the columns, and per row the column; most called first into columns of their own.
    fn columns(&self) -> (Vec<String>, HashMap<String, usize>) {
        let mut totals: BTreeMap<&str, f64> = BTreeMap::new();
        for (_, route, n) in &self.requests {
            *totals.entry(route).or_default() += n.max(0.0);
        }
        let mut order: Vec<(&str, f64)> = totals.into_iter().collect();
        order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
        let most = if order.len() > ROUTES + 1 { ROUTES } else { order.len() };
        let mut names: Vec<String> =
            order.iter().take(most).map(|(r, _)| (*r).to_owned()).collect();
        names.sort_unstable();
        let mut of: HashMap<String, usize> =
            names.iter().enumerate().map(|(i, r)| (r.clone(), i)).collect();
        if most < order.len() {
            of.extend(order.iter().skip(most).map(|(r, _)| ((*r).to_owned(), most)));
            names.push(OTHERS.to_owned());
        }
        (names, of)
    }

    fn answer(&mut self) -> ArrayRef {
        // The order of arrival must not matter (T6).
        self.levels.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        self.levels.dedup_by_key(|l| l.0);
        let edges = edges(&self.levels);
        if edges.len() < 2 {
            return Answer::default().finish();
        }
        let windows = edges.len() - 1;
        let (names, of) = self.columns();
        let growth: Vec<f64> =
            edges.windows(2).map(|w| self.levels[w[1]].1 - self.levels[w[0]].1).collect();
        let times: Vec<i64> = edges.iter().map(|e| self.levels[*e].0).collect();
        let mut requests = vec![0.0; windows * names.len()];
        for (ts, route, n) in &self.requests {
            // Rows of a tick tell what was before it: a window ends with the tick of its last reading.
            let window = times.partition_point(|t| t < ts);
            if let (Some(column), 1..) = (of.get(route), window)
                && window <= windows
            {
                requests[(window - 1) * names.len() + column] += n;
            }
        }
        let table =
            RouteWindows { growth_bytes: &growth, requests: &requests, routes: names.len() };
        let mut answer = Answer::default();
        match attribute(&table) {
            Err(e) => answer.nothing(&e.to_string()),
            Ok(a) => {
                for (name, r) in names.iter().zip(&a.routes) {
                    answer.route.append_value(name);
                    answer.bytes.append_option(r.retained.map(|x| x.bytes_per_request));
                    answer.low.append_option(r.retained.map(|x| x.low));
                    answer.high.append_option(r.retained.map(|x| x.high));
                    answer.requests.append_value(r.requests);
                    answer.windows.append_value(a.windows as i64);
                    answer.called.append_value(r.windows_called as i64);
                    answer.agree.append_value(r.windows_agree as i64);
                    answer.share.append_option(r.share_of_growth);
                    answer.no_claim.append_option(r.no_claim.as_ref().map(ToString::to_string));
                }
            }
        }
        answer.finish()
    }
}

/// The readings at which windows begin and end: equally long as far as the readings allow.
fn edges(levels: &[(i64, f64)]) -> Vec<usize> {
    let (Some(first), Some(last)) = (levels.first(), levels.last()) else { return Vec::new() };
    let width = ((last.0 - first.0) / WINDOWS).clamp(SHORTEST, LONGEST);
    let mut edges = vec![0];
    let mut next = first.0 + width;
    for (i, (ts, _)) in levels.iter().enumerate().skip(1) {
        // A reading that comes a little early still ends the window.
        if *ts >= next - width / 20 {
            edges.push(i);
            next = ts + width;
        }
    }
    edges
}

#[derive(Debug, Default)]
struct Answer {
    route: StringBuilder,
    bytes: Float64Builder,
    low: Float64Builder,
    high: Float64Builder,
    requests: Float64Builder,
    windows: Int64Builder,
    called: Int64Builder,
    agree: Int64Builder,
    share: Float64Builder,
    no_claim: StringBuilder,
}

impl Answer {
    fn nothing(&mut self, why: &str) {
        self.route.append_null();
        for real in
            [&mut self.bytes, &mut self.low, &mut self.high, &mut self.requests, &mut self.share]
        {
            real.append_null();
        }
        for whole in [&mut self.windows, &mut self.called, &mut self.agree] {
            whole.append_null();
        }
        self.no_claim.append_value(why);
    }

    fn finish(mut self) -> ArrayRef {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.route.finish()),
            Arc::new(self.bytes.finish()),
            Arc::new(self.low.finish()),
            Arc::new(self.high.finish()),
            Arc::new(self.requests.finish()),
            Arc::new(self.windows.finish()),
            Arc::new(self.called.finish()),
            Arc::new(self.agree.finish()),
            Arc::new(self.share.finish()),
            Arc::new(self.no_claim.finish()),
        ];
        Arc::new(StructArray::new(answer_fields(), columns, None))
    }
}

fn list(values: ArrayRef) -> ScalarValue {
    let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths([values.len()]);
    ScalarValue::List(Arc::new(ListArray::new(field, offsets, values, None)))
}

impl Accumulator for Rows {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let ts = values[0].as_primitive::<TimestampMicrosecondType>();
        let ts: Int64Array = ts.reinterpret_cast();
        let (level, n) = (values[1].as_primitive(), values[3].as_primitive());
        self.push(&ts, level, values[2].as_string::<i32>(), n);
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(list(self.answer()))
    }

    fn size(&self) -> usize {
        let text: usize = self.requests.iter().map(|r| r.1.capacity()).sum();
        size_of::<Self>()
            + self.levels.capacity() * size_of::<(i64, f64)>()
            + self.requests.capacity() * size_of::<(i64, String, f64)>()
            + text
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let (levels, requests) = (&self.levels, &self.requests);
        let ts = levels.iter().map(|l| l.0).chain(requests.iter().map(|r| r.0));
        let level = levels.iter().map(|l| Some(l.1)).chain(requests.iter().map(|_| None));
        let route = levels.iter().map(|_| None).chain(requests.iter().map(|r| Some(r.1.as_str())));
        let n = levels.iter().map(|_| None).chain(requests.iter().map(|r| Some(r.2)));
        Ok(vec![
            list(Arc::new(Int64Array::from_iter_values(ts))),
            list(Arc::new(level.collect::<Float64Array>())),
            list(Arc::new(route.collect::<StringArray>())),
            list(Arc::new(n.collect::<Float64Array>())),
        ])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let lists: Vec<&ListArray> = states.iter().map(|s| s.as_list::<i32>()).collect();
        for row in 0..lists[0].len() {
            if lists.iter().any(|l| l.is_null(row)) {
                continue;
            }
            let part: Vec<ArrayRef> = lists.iter().map(|l| l.value(row)).collect();
            self.push(
                part[0].as_primitive::<Int64Type>(),
                part[1].as_primitive::<Float64Type>(),
                part[2].as_string::<i32>(),
                part[3].as_primitive::<Float64Type>(),
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A minute per entry: level at its end, and what was asked in it.
    fn rows(order: &[usize]) -> Rows {
        let mut rows = Rows::default();
        let mut level = 1e6;
        let mut told = vec![(0, Some(level), None)];
        for t in 1..=200_i64 {
            let (leaky, fine) = ((t * 7 % 13) as f64, (t * 5 % 11) as f64);
            level += 2_000.0 * leaky;
            told.push((t, Some(level), None));
            told.push((t, None, Some(("GET /leaky", leaky))));
            told.push((t, None, Some(("GET /fine", fine))));
        }
        for i in 0..told.len() {
            let (t, level, asked) = &told[order.get(i).copied().unwrap_or(i)];
            let ts = Int64Array::from(vec![t * 1_000_000]);
            let level = Float64Array::from(vec![*level]);
            let route = StringArray::from(vec![asked.map(|a| a.0)]);
            let n = Float64Array::from(vec![asked.map(|a| a.1)]);
            rows.push(&ts, &level, &route, &n);
        }
        rows
    }

    #[test]
    fn the_leaky_route_is_named_whatever_the_order_and_the_parts() {
        let straight = rows(&[]).answer();
        let s = straight.as_struct();
        let text = |c: &str, i: usize| {
            let c = s.column_by_name(c).unwrap().as_string::<i32>().clone();
            c.is_valid(i).then(|| c.value(i).to_owned())
        };
        let real =
            |c: &str, i: usize| s.column_by_name(c).unwrap().as_primitive::<Float64Type>().value(i);
        assert_eq!(
            (text("route", 0), text("route", 1)),
            (Some("GET /fine".into()), Some("GET /leaky".into()))
        );
        assert_eq!(text("no_claim", 1), None);
        assert!(text("no_claim", 0).is_some());
        assert!(
            (real("bytes_per_request", 1) - 2_000.0).abs() < 100.0,
            "{}",
            real("bytes_per_request", 1)
        );
        // Nothing is uncertain here but the last bits.
        assert!(real("low", 1) <= 2_000.1 && real("high", 1) >= 1_999.9);
        let reversed: Vec<usize> = (0..601).rev().collect();
        assert_eq!(rows(&reversed).answer().as_ref(), straight.as_ref());
        // Through the state of a partial aggregate as well.
        let state = rows(&[]).state().unwrap();
        let columns: Vec<ArrayRef> = state.iter().map(|s| s.to_array().unwrap()).collect();
        let mut merged = Rows::default();
        merged.merge_batch(&columns).unwrap();
        assert_eq!(merged.answer().as_ref(), straight.as_ref());
    }

    #[test]
    fn too_little_is_said_to_be_so() {
        assert_eq!(Rows::default().answer().len(), 0);
        let mut few = rows(&[]);
        few.levels.truncate(12);
        let answer = few.answer();
        let why = answer.as_struct().column_by_name("no_claim").unwrap().as_string::<i32>().clone();
        assert!(why.value(0).contains("windows"), "{}", why.value(0));
    }
}
