//! A record batch that has been checked against its table.

use std::sync::Arc;

use arrow_array::{
    Array, RecordBatch, TimestampMicrosecondArray, cast::AsArray, types::TimestampMicrosecondType,
};

use crate::TableDef;

/// Why a batch does not fit its table.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BatchError {
    /// A column is missing, superfluous or misplaced.
    #[error("table {table}: column {position} must be {expected:?}, got {got:?}")]
    Column {
        /// The table.
        table: String,
        /// Position, from 0.
        position: usize,
        /// What the definition says (empty: no column).
        expected: String,
        /// What the batch has (empty: no column).
        got: String,
    },
    /// A column has the wrong type.
    #[error("table {table}: column {column:?} must be {expected}, got {got}")]
    Type {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// Arrow type by definition.
        expected: String,
        /// Arrow type in the batch.
        got: String,
    },
    /// A NULL where the definition forbids it.
    #[error("table {table}: column {column:?} has {count} NULL(s), but is not nullable")]
    Null {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// How many.
        count: usize,
    },
    /// A time outside of 1970-01-01 to 2200-01-01, most often a wrong unit.
    #[error("table {table}: column {column:?} row {row}: {value} is no time in µs since the epoch")]
    Time {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// Row number, from 0.
        row: usize,
        /// The value.
        value: i64,
    },
}

const YEAR_2200_US: i64 = 7_258_118_400_000_000;

/// Rows of one table, with exactly its columns, types and nullability.
#[derive(Debug, Clone)]
pub struct TableBatch {
    def: Arc<TableDef>,
    batch: RecordBatch,
}

impl TableBatch {
    /// Checks `batch` against `def`.
    ///
    /// # Errors
    /// Names the table and the first column that does not fit.
    pub fn try_new(def: Arc<TableDef>, batch: RecordBatch) -> Result<Self, BatchError> {
        let schema = def.schema();
        let got = batch.schema();
        for position in 0..schema.fields().len().max(got.fields().len()) {
            let name = |s: &arrow_schema::Schema| {
                s.fields().get(position).map(|f| f.name().clone()).unwrap_or_default()
            };
            let (expected, got) = (name(&schema), name(&got));
            if expected != got {
                return Err(BatchError::Column {
                    table: def.name.clone(),
                    position,
                    expected,
                    got,
                });
            }
        }
        let fields = schema.fields().iter().zip(&def.columns).zip(batch.columns());
        for ((field, defined), column) in fields {
            if field.data_type() != column.data_type() {
                return Err(BatchError::Type {
                    table: def.name.clone(),
                    column: field.name().clone(),
                    expected: field.data_type().to_string(),
                    got: column.data_type().to_string(),
                });
            }
            if !field.is_nullable() && column.logical_null_count() > 0 {
                return Err(BatchError::Null {
                    table: def.name.clone(),
                    column: field.name().clone(),
                    count: column.logical_null_count(),
                });
            }
            if !defined.any_date
                && let Some(times) = column.as_primitive_opt::<TimestampMicrosecondType>()
                && let Some((row, value)) = first_bad_time(times)
            {
                return Err(BatchError::Time {
                    table: def.name.clone(),
                    column: field.name().clone(),
                    row,
                    value,
                });
            }
        }
        // Nullability and metadata as defined, whatever the producer declared.
        let batch = RecordBatch::try_new(schema, batch.columns().to_vec()).map_err(|e| {
            BatchError::Type {
                table: def.name.clone(),
                column: String::new(),
                expected: "the table's schema".into(),
                got: e.to_string(),
            }
        })?;
        Ok(Self { def, batch })
    }

    /// The table.
    pub fn def(&self) -> &Arc<TableDef> {
        &self.def
    }

    /// The rows.
    pub fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    /// The rows, without the table.
    pub fn into_batch(self) -> RecordBatch {
        self.batch
    }

    /// Number of rows.
    pub fn num_rows(&self) -> usize {
        self.batch.num_rows()
    }
}

fn first_bad_time(times: &TimestampMicrosecondArray) -> Option<(usize, i64)> {
    times
        .iter()
        .enumerate()
        .find_map(|(row, v)| v.filter(|v| !(0..YEAR_2200_US).contains(v)).map(|v| (row, v)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog;
    use arrow_array::{ArrayRef, new_null_array, types::Int32Type};

    fn times(v: Vec<i64>) -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(v).with_timezone("UTC"))
    }

    fn batch(ts: Vec<i64>) -> (Arc<TableDef>, RecordBatch) {
        let def = catalog().get("resources").unwrap().clone();
        let n = ts.len();
        let columns = def
            .columns
            .iter()
            .map(|c| match c.name.as_str() {
                "series_id" => Arc::new(arrow_array::Int64Array::from(vec![7; n])) as ArrayRef,
                "ts" | "observed_at" => times(ts.clone()),
                _ => new_null_array(&c.ty.arrow(), n),
            })
            .collect();
        let b = RecordBatch::try_new(def.schema(), columns).unwrap();
        (def, b)
    }

    #[test]
    fn accepts_what_fits() {
        let (def, b) = batch(vec![1_000, 2_000]);
        assert_eq!(TableBatch::try_new(def, b).unwrap().num_rows(), 2);
    }

    #[test]
    fn dates_that_others_wrote_may_lie_anywhere() {
        let def = catalog().get("certificates").unwrap().clone();
        let rows = |ts: i64, date: i64| {
            let columns = def.columns.iter().map(|c| -> ArrayRef {
                match c.name.as_str() {
                    "ts" | "observed_at" => times(vec![ts]),
                    "not_before" | "not_after" => times(vec![date]),
                    "series_id" | "position" => Arc::new(arrow_array::Int64Array::from(vec![1])),
                    "is_ca" => Arc::new(arrow_array::BooleanArray::from(vec![true])),
                    "serial" => Arc::new(arrow_array::StringArray::from(vec!["01"])),
                    _ => {
                        let label: arrow_array::DictionaryArray<Int32Type> =
                            ["x"].into_iter().collect();
                        Arc::new(label)
                    }
                }
            });
            let b = RecordBatch::try_new(def.schema(), columns.collect()).unwrap();
            TableBatch::try_new(def.clone(), b)
        };
        // The last that nanoseconds can say, and a day before 1970.
        assert!(rows(5, i64::MAX / 1000).is_ok());
        assert!(rows(5, -86_400_000_000).is_ok());
        assert!(rows(-5, 5).unwrap_err().to_string().contains("\"ts\" row 0"));
    }

    #[test]
    fn names_the_column_that_does_not_fit() {
        let (def, b) = batch(vec![1_000]);
        let short = b.project(&(0..b.num_columns() - 1).collect::<Vec<_>>()).unwrap();
        let e = TableBatch::try_new(def.clone(), short).unwrap_err().to_string();
        assert!(e.contains("column 31 must be \"heap_limit_bytes\", got \"\""), "{e}");

        let (_, b) = batch(vec![-1]);
        let e = TableBatch::try_new(def.clone(), b).unwrap_err().to_string();
        assert!(e.contains("\"ts\" row 0: -1 is no time"), "{e}");

        let schema = Arc::new(arrow_schema::Schema::new(
            def.schema()
                .fields()
                .iter()
                .map(|f| f.as_ref().clone().with_nullable(true))
                .collect::<Vec<_>>(),
        ));
        let (_, b) = batch(vec![5]);
        let mut columns = b.columns().to_vec();
        columns[0] = new_null_array(&arrow_schema::DataType::Int64, 1);
        let b = RecordBatch::try_new(schema, columns).unwrap();
        let e = TableBatch::try_new(def, b).unwrap_err().to_string();
        assert!(e.contains("column \"series_id\" has 1 NULL(s)"), "{e}");
    }
}
