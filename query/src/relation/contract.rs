//! What a pattern has to answer.

use arrow::datatypes::DataType;
use datafusion::{
    common::{DataFusionError, Result},
    logical_expr::{LogicalPlan, LogicalPlanBuilder, cast, lit},
    prelude::Expr,
    scalar::ScalarValue,
};
use std::sync::LazyLock;
use tapio_sql::PatternCatalog;

use crate::{
    QueryError,
    udf::{evidence_type, time_type},
};

/// A column of a pattern's output: name, type, whether a pattern must have it (what a pattern does not predict may be
/// missing and is NULL then).
pub(crate) struct FindingColumn {
    pub(crate) name: &'static str,
    pub(crate) ty: DataType,
    pub(crate) required: bool,
}

/// The contract: one row per subject, `severity` NULL where there is nothing to report about it.
pub(crate) static FINDING_COLUMNS: LazyLock<Vec<FindingColumn>> = LazyLock::new(|| {
    let required = |name, ty| FindingColumn { name, ty, required: true };
    let real = |name| FindingColumn { name, ty: DataType::Float64, required: false };
    let text = |name| FindingColumn { name, ty: DataType::Utf8, required: false };
    vec![
        required("series_id", DataType::Int64),
        required("window_start", time_type()),
        required("window_end", time_type()),
        required("severity", DataType::Utf8),
        required("score", DataType::Float64),
        required("title", DataType::Utf8),
        required("detail", DataType::Utf8),
        required("evidence", evidence_type()),
        text("type"),
        real("eta_seconds"),
        real("eta_low_seconds"),
        real("eta_high_seconds"),
        real("eta_low99_seconds"),
        real("eta_high99_seconds"),
        real("probability"),
        real("horizon_seconds"),
        text("model"),
        real("window_seconds"),
        FindingColumn { name: "samples", ty: DataType::Int64, required: false },
        real("slope_per_second"),
        text("cannot_say"),
    ]
});

/// The plan with exactly the columns of the contract.
pub(super) fn fit(pattern: &str, plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut columns = Vec::new();
    for c in FINDING_COLUMNS.iter() {
        let found = plan.schema().iter().find(|(_, f)| f.name() == c.name);
        let column = match found {
            Some((q, f)) if fits(f.data_type(), &c.ty) => {
                let column = Expr::from((q, f));
                if f.data_type() == &c.ty { column } else { cast(column, c.ty.clone()) }
            }
            Some((_, f)) => {
                return Err(wrong(
                    pattern,
                    format!("column {:?} must be {}, is {}", c.name, c.ty, f.data_type()),
                ));
            }
            None if c.required => {
                return Err(wrong(
                    pattern,
                    format!("column {:?} ({}) is missing in the output", c.name, c.ty),
                ));
            }
            None => lit(ScalarValue::try_from(&c.ty)?),
        };
        columns.push(column.alias(c.name));
    }
    LogicalPlanBuilder::from(plan).project(columns)?.build()
}

fn wrong(pattern: &str, message: String) -> DataFusionError {
    let file = format!("{pattern}.sql");
    DataFusionError::External(Box::new(QueryError::Pattern { file, message }))
}

fn fits(got: &DataType, wanted: &DataType) -> bool {
    let text = |t: &DataType| match t {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, v) => matches!(**v, DataType::Utf8 | DataType::LargeUtf8),
        _ => false,
    };
    match wanted {
        _ if got == wanted || got.is_null() => true,
        DataType::Utf8 => text(got),
        DataType::Float64 => got.is_numeric(),
        DataType::Int64 => got.is_integer(),
        DataType::Timestamp(..) => matches!(got, DataType::Timestamp(..)),
        DataType::List(_) => matches!(got, DataType::List(_) | DataType::LargeList(_)),
        _ => false,
    }
}

/// The statement of `tapio_findings()`.
pub(super) fn findings_sql(patterns: &PatternCatalog) -> String {
    let columns: Vec<&str> = FINDING_COLUMNS.iter().map(|c| c.name).collect();
    let columns = columns.iter().map(|c| format!("\"{c}\"")).collect::<Vec<_>>().join(", ");
    let each: Vec<String> = patterns
        .iter()
        .map(|p| {
            let name = p.name.replace('\'', "''");
            format!(
                "SELECT CASE WHEN severity IS NOT NULL THEN '{name}' END AS pattern, CASE WHEN severity IS NOT NULL \
                 THEN tapio_derived_id('{name}', CAST(series_id AS VARCHAR), coalesce(\"type\", ''), \
                 CAST(CAST(window_start AS BIGINT) AS VARCHAR)) END AS insight_id, '{name}' AS made_by, {columns} FROM {}()",
                p.name
            )
        })
        .collect();
    match each.is_empty() {
        false => each.join(" UNION ALL "),
        true => {
            let nulls: Vec<String> = FINDING_COLUMNS
                .iter()
                .map(|c| format!("arrow_cast(NULL, '{}') AS \"{}\"", c.ty, c.name))
                .collect();
            format!(
                "SELECT CAST(NULL AS VARCHAR) AS pattern, CAST(NULL AS VARCHAR) AS insight_id, CAST(NULL AS VARCHAR) AS \
                 made_by, {} WHERE false",
                nulls.join(", ")
            )
        }
    }
}
