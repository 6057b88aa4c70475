//! Continuous evaluation: what patterns answer, as rows of `predictions` and `insights`.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, TimestampMicrosecondArray,
    },
    compute::{cast, filter_record_batch},
    datatypes::{DataType, Float64Type, Int64Type, TimestampMicrosecondType},
};
use tapio_sql::{TableBatch, derived_id};

use crate::{Engine, QueryError};

/// Predictions below this probability are not stored.
pub const NEGLIGIBLE_PROBABILITY: f64 = 0.01;

impl Engine {
    /// Evaluates a pattern as of a time (µs): one row per subject, columns as the contract of patterns says, sorted by
    /// series_id.
    ///
    /// # Errors
    /// As [`Engine::sql`]; [`QueryError::Sql`] if there is no such pattern.
    pub async fn evaluate(
        &self,
        pattern: &str,
        as_of: i64,
    ) -> Result<Vec<RecordBatch>, QueryError> {
        let sql = format!("SELECT * FROM {pattern}() ORDER BY series_id, window_start, severity");
        Ok(self.sql(&sql, Some(as_of)).await?.1)
    }
}

/// The rows of [`Engine::evaluate`] that are predictions worth storing, as of `as_of` (µs), stored at `observed_at`.
///
/// # Errors
/// [`QueryError::Internal`] if the rows are not those of [`Engine::evaluate`].
pub fn predictions(
    pattern: &str,
    rows: &[RecordBatch],
    as_of: i64,
    observed_at: i64,
) -> Result<Option<TableBatch>, QueryError> {
    let keep = |batch: &RecordBatch| {
        let p = column(batch, "probability")?.as_primitive::<Float64Type>().clone();
        let ty = column(batch, "type")?.clone();
        Ok((0..batch.num_rows())
            .map(|i| {
                let said = ty.is_valid(i) && p.is_valid(i);
                Some(said && p.value(i) >= NEGLIGIBLE_PROBABILITY)
            })
            .collect::<BooleanArray>())
    };
    let at = as_of.to_string();
    stored("predictions", pattern, rows, keep, as_of, observed_at, |_, _| at.clone())
}

/// The rows of [`Engine::evaluate`] that report something, as of `as_of` (µs), stored at `observed_at`.
///
/// # Errors
/// [`QueryError::Internal`] if the rows are not those of [`Engine::evaluate`].
pub fn insights(
    pattern: &str,
    rows: &[RecordBatch],
    as_of: i64,
    observed_at: i64,
) -> Result<Option<TableBatch>, QueryError> {
    let keep = |batch: &RecordBatch| {
        let severity = column(batch, "severity")?;
        Ok((0..batch.num_rows()).map(|i| Some(severity.is_valid(i))).collect::<BooleanArray>())
    };
    stored("insights", pattern, rows, keep, as_of, observed_at, |batch, i| {
        let start = batch.column_by_name("window_start");
        let start = start.map(|s| s.as_primitive::<TimestampMicrosecondType>().value(i));
        start.unwrap_or_default().to_string()
    })
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, QueryError> {
    let missing = || QueryError::Internal(format!("a finding has no column {name:?}"));
    batch.column_by_name(name).ok_or_else(missing)
}

fn stored(
    table: &str,
    pattern: &str,
    rows: &[RecordBatch],
    keep: impl Fn(&RecordBatch) -> Result<BooleanArray, QueryError>,
    as_of: i64,
    observed_at: i64,
    part: impl Fn(&RecordBatch, usize) -> String,
) -> Result<Option<TableBatch>, QueryError> {
    let internal = |e: &dyn std::fmt::Display| QueryError::Internal(e.to_string());
    let def = tapio_sql::catalog()
        .get(table)
        .ok_or_else(|| QueryError::Internal(format!("there is no table {table}")))?;
    let mut kept = Vec::new();
    for batch in rows {
        let batch = filter_record_batch(batch, &keep(batch)?).map_err(|e| internal(&e))?;
        if batch.num_rows() > 0 {
            kept.push(batch);
        }
    }
    let Some(first) = kept.first() else { return Ok(None) };
    let all = arrow::compute::concat_batches(&first.schema(), &kept).map_err(|e| internal(&e))?;
    let n = all.num_rows();
    let times = |t: i64| -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(vec![t; n]).with_timezone("UTC"))
    };
    let series = column(&all, "series_id")?.as_primitive::<Int64Type>().clone();
    let ty = cast(column(&all, "type")?, &DataType::Utf8).map_err(|e| internal(&e))?;
    let ty = ty.as_string::<i32>();
    let mut columns = Vec::with_capacity(def.columns.len());
    for c in &def.columns {
        let values: ArrayRef = match c.name.as_str() {
            "id" => Arc::new(
                (0..n)
                    .map(|i| {
                        let series = series.value(i).to_string();
                        let ty = if ty.is_valid(i) { ty.value(i) } else { "" };
                        Some(derived_id(&[pattern, &series, ty, &part(&all, i)]))
                    })
                    .collect::<StringArray>(),
            ),
            "ts" => times(as_of),
            "observed_at" => times(observed_at),
            "pattern" => Arc::new(StringArray::from(vec![pattern; n])),
            name => column(&all, name)?.clone(),
        };
        columns.push(cast(&values, &c.ty.arrow()).map_err(|e| internal(&e))?);
    }
    let batch = RecordBatch::try_new(def.schema(), columns).map_err(|e| internal(&e))?;
    TableBatch::try_new(def.clone(), batch).map(Some).map_err(|e| internal(&e))
}
