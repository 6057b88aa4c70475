//! SQL functions of Tapio. Each is documented where it is defined: semantics, NULLs, an example.

mod evidence;
mod forecast;
mod last;
mod linear;
mod routes;
mod single;
mod text;

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::{
    execution::context::SessionContext,
    logical_expr::{AggregateUDF, ScalarUDF},
};

pub(crate) use evidence::evidence_type;

/// Aggregates whose states are exact: merging them is adding the rows.
pub(crate) const TREND: &str = "tapio_trend";
pub(crate) const CROSSING: &str = "tapio_linear_crossing";
pub(crate) const LAST: &str = "tapio_last";

/// Registers all functions.
pub(crate) fn register(ctx: &SessionContext) {
    for f in [
        ScalarUDF::from(text::FormatBytes::new()),
        ScalarUDF::from(text::FormatAmount::new()),
        ScalarUDF::from(text::FormatDuration::new()),
        ScalarUDF::from(text::DerivedId::new()),
        ScalarUDF::from(text::Ago::new()),
        ScalarUDF::from(text::Ancestors::new()),
        ScalarUDF::from(evidence::Fact::new()),
        ScalarUDF::from(evidence::Evidence::new()),
    ] {
        ctx.register_udf(f);
    }
    for f in [
        AggregateUDF::from(forecast::Forecast::new()),
        AggregateUDF::from(linear::Trend::new()),
        AggregateUDF::from(linear::Crossing::new()),
        AggregateUDF::from(last::Last::new()),
        AggregateUDF::from(routes::RouteRetention::new()),
    ] {
        ctx.register_udaf(f);
    }
}

/// The type of all times.
pub(crate) fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC")))
}
