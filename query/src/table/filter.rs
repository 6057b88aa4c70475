//! Which filters a scan takes, and what they say about files.

use std::{collections::BTreeMap, sync::Arc};

use arrow::datatypes::DataType;
use datafusion::{
    common::ScalarValue,
    logical_expr::{Between, BinaryExpr, Expr, Operator, expr::InList},
    physical_expr::{PhysicalExpr, expressions},
};
use tapio_sql::date_of;
use tapio_store::DataFile;

/// Bounds (inclusive) that a row must keep to pass, by column; integers as they are, times in µs.
pub(super) type Bounds = BTreeMap<String, (i64, i64)>;

/// What the conjunction of `filters` says about integer and time columns that are compared with a `value`.
pub(super) fn bounds(filters: &[Expr], value: impl Fn(&Expr) -> Option<i64>) -> Bounds {
    let mut bounds = Bounds::new();
    for f in filters {
        add(&mut bounds, f, &value);
    }
    bounds
}

fn add(bounds: &mut Bounds, filter: &Expr, value_of: &impl Fn(&Expr) -> Option<i64>) {
    let mut narrow = |column: &Expr, lo: i64, hi: i64| {
        if let Expr::Column(c) = column {
            let b = bounds.entry(c.name.clone()).or_insert((i64::MIN, i64::MAX));
            *b = (b.0.max(lo), b.1.min(hi));
        }
    };
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            add(bounds, left, value_of);
            add(bounds, right, value_of);
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (column, op, value) = match (value_of(left), value_of(right)) {
                (None, Some(v)) => (left, *op, v),
                (Some(v), None) => match op.swap() {
                    Some(op) => (right, op, v),
                    None => return,
                },
                _ => return,
            };
            // Times are compared in µs, where a finer literal is cut: keep the bound itself in.
            match op {
                Operator::Eq => narrow(column, value, value),
                Operator::Lt | Operator::LtEq => narrow(column, i64::MIN, value),
                Operator::Gt | Operator::GtEq => narrow(column, value, i64::MAX),
                _ => {}
            }
        }
        Expr::Between(Between { expr, negated: false, low, high }) => {
            let (lo, hi) = (value_of(low), value_of(high));
            if lo.is_some() || hi.is_some() {
                narrow(expr, lo.unwrap_or(i64::MIN), hi.unwrap_or(i64::MAX));
            }
        }
        Expr::InList(InList { expr, list, negated: false }) => {
            let values: Option<Vec<i64>> = list.iter().map(value_of).collect();
            if let Some(values) = values
                && let (Some(lo), Some(hi)) = (values.iter().min(), values.iter().max())
            {
                narrow(expr, *lo, *hi);
            }
        }
        _ => {}
    }
}

/// The value of a literal, times in µs.
pub(super) fn literal(e: &Expr) -> Option<i64> {
    let Expr::Literal(v, _) = e else { return None };
    integer(v)
}

/// An integer, or a time in µs.
pub(super) fn integer(v: &ScalarValue) -> Option<i64> {
    match v {
        ScalarValue::Int64(v) | ScalarValue::TimestampMicrosecond(v, _) => *v,
        ScalarValue::TimestampNanosecond(v, _) => v.map(|v| v.div_euclid(1000)),
        ScalarValue::TimestampMillisecond(v, _) => v.and_then(|v| v.checked_mul(1_000)),
        ScalarValue::TimestampSecond(v, _) => v.and_then(|v| v.checked_mul(1_000_000)),
        _ => None,
    }
}

/// Whether the file can hold a row within the bounds.
pub(super) fn may_match(file: &DataFile, bounds: &Bounds) -> bool {
    let by_range = bounds.iter().all(|(c, (lo, hi))| lo <= hi && file.may_contain(c, *lo, *hi));
    let by_date = match (bounds.get("ts"), &file.date) {
        (Some((lo, hi)), Some(date)) => {
            let first = (*lo >= 0).then(|| date_of(*lo));
            // Beyond the year 9999 dates no longer sort as text.
            let last = (*hi < 253_402_300_800_000_000).then(|| date_of(*hi));
            first.is_none_or(|f| f <= *date) && last.is_none_or(|l| *date <= l)
        }
        _ => true,
    };
    by_range && by_date
}

/// Whether evaluating the filter over rows of a file can never fail: comparisons of columns with literals and what
/// combines them. Filters that joins and top-k push down at run time are of this kind.
pub(super) fn infallible(filter: &Arc<dyn PhysicalExpr>) -> bool {
    let this: &dyn PhysicalExpr = filter.as_ref();
    let this = this as &dyn std::any::Any;
    if this.is::<expressions::DynamicFilterPhysicalExpr>() {
        return true;
    }
    let known = this.is::<expressions::Column>()
        || this.is::<expressions::Literal>()
        || this.is::<expressions::InListExpr>()
        || this.is::<expressions::IsNullExpr>()
        || this.is::<expressions::IsNotNullExpr>()
        || this.is::<expressions::NotExpr>()
        || this.downcast_ref::<expressions::BinaryExpr>().is_some_and(|b| {
            matches!(
                b.op(),
                Operator::Eq
                    | Operator::NotEq
                    | Operator::Lt
                    | Operator::LtEq
                    | Operator::Gt
                    | Operator::GtEq
                    | Operator::And
                    | Operator::Or
                    | Operator::IsDistinctFrom
                    | Operator::IsNotDistinctFrom
            )
        })
        || this.downcast_ref::<expressions::CastExpr>().is_some_and(|c| {
            // Out of a dictionary only; other casts may overflow.
            matches!(c.cast_type(), DataType::Utf8 | DataType::Utf8View)
        });
    known && filter.children().into_iter().all(infallible)
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::prelude::{col, lit};
    use tapio_store::ColumnRange;

    fn file(date: &str, series: (i64, i64), ts: (i64, i64)) -> DataFile {
        let range = |(min, max)| ColumnRange { min, max };
        DataFile {
            path: "x".into(),
            size: 1,
            date: Some(date.into()),
            modified_ms: 0,
            rows: None,
            ranges: [("series_id".into(), range(series)), ("ts".into(), range(ts))].into(),
        }
    }

    #[test]
    fn bounds_come_from_conjunctions_only() {
        let t = |v| lit(ScalarValue::TimestampMicrosecond(Some(v), Some("UTC".into())));
        let filters = [
            col("ts").gt(t(5)).and(t(9).gt_eq(col("ts"))),
            col("series_id").in_list(vec![lit(3_i64), lit(-2_i64)], false),
            col("pids").eq(lit(1_i64)).or(col("pids").eq(lit(2_i64))),
        ];
        let b = bounds(&filters, literal);
        assert_eq!(b, Bounds::from([("ts".into(), (5, 9)), ("series_id".into(), (-2, 3))]));
    }

    #[test]
    fn files_are_pruned_by_range_and_by_date() {
        let day = 86_400_000_000;
        let f = file("1970-01-02", (10, 20), (day, day + 5));
        let ok = |b: &[(&str, (i64, i64))]| {
            may_match(&f, &b.iter().map(|(c, r)| ((*c).to_owned(), *r)).collect())
        };
        assert!(ok(&[]));
        assert!(ok(&[("series_id", (20, 30)), ("ts", (0, day))]));
        assert!(!ok(&[("series_id", (21, 30))]));
        assert!(!ok(&[("ts", (0, day - 1))]));
        let bare = DataFile { ranges: BTreeMap::new(), ..f.clone() };
        let by_date = |r| may_match(&bare, &Bounds::from([("ts".to_owned(), r)]));
        assert!(by_date((day, day)) && by_date((i64::MIN, i64::MAX)));
        assert!(!by_date((0, day - 1)) && !by_date((2 * day, i64::MAX)));
    }
}
