//! Building a [`TableBatch`] column by column.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, BooleanArray, DictionaryArray, Int64Array, Int64Builder, ListBuilder,
        MapBuilder, RecordBatch, StringArray, StringBuilder, TimestampMicrosecondArray,
        new_null_array,
    },
    datatypes::{DataType, Field, Int32Type},
};
use tapio_sql::{BatchError, TableBatch, TableDef, catalog};

/// Columns by name; those not set are NULL.
pub(crate) struct Columns {
    def: Arc<TableDef>,
    rows: usize,
    columns: HashMap<&'static str, ArrayRef>,
}

impl Columns {
    pub(crate) fn new(def: &Arc<TableDef>, rows: usize) -> Self {
        Self { def: def.clone(), rows, columns: HashMap::new() }
    }

    /// Of the built-in table of that name.
    pub(crate) fn of(table: &str, rows: usize) -> Result<Self, BatchError> {
        let def = catalog().get(table).ok_or_else(|| BatchError::Column {
            table: table.to_owned(),
            position: 0,
            expected: "a table".into(),
            got: String::new(),
        })?;
        Ok(Self::new(def, rows))
    }

    /// As [`Columns::of`], with the same two times in all rows.
    pub(crate) fn at(table: &str, rows: usize, ts: i64, observed: i64) -> Result<Self, BatchError> {
        let mut columns = Self::of(table, rows)?;
        columns.set("ts", times(vec![ts; rows]));
        columns.set("observed_at", times(vec![observed; rows]));
        Ok(columns)
    }

    pub(crate) fn set(&mut self, name: &'static str, values: ArrayRef) {
        self.columns.insert(name, values);
    }

    pub(crate) fn finish(mut self) -> Result<TableBatch, BatchError> {
        let columns = self
            .def
            .columns
            .iter()
            .map(|c| {
                self.columns
                    .remove(c.name.as_str())
                    .unwrap_or_else(|| new_null_array(&c.ty.arrow(), self.rows))
            })
            .collect();
        to_batch(&self.def, columns)
    }
}

fn to_batch(def: &Arc<TableDef>, columns: Vec<ArrayRef>) -> Result<TableBatch, BatchError> {
    let fields: Vec<_> = def
        .schema()
        .fields()
        .iter()
        .zip(&columns)
        .map(|(f, c)| f.as_ref().clone().with_nullable(true).with_data_type(c.data_type().clone()))
        .collect();
    let schema = Arc::new(arrow::datatypes::Schema::new(fields));
    let batch = RecordBatch::try_new(schema, columns).map_err(|e| BatchError::Type {
        table: def.name.clone(),
        column: String::new(),
        expected: "columns of one length".into(),
        got: e.to_string(),
    })?;
    TableBatch::try_new(def.clone(), batch)
}

/// Rows of an older layout of the table in its present one: columns it lacks are NULL, columns beyond are dropped.
pub(crate) fn conform(def: &Arc<TableDef>, batch: RecordBatch) -> Result<TableBatch, BatchError> {
    if batch.schema().fields() == def.schema().fields() {
        return TableBatch::try_new(def.clone(), batch);
    }
    let columns = def
        .columns
        .iter()
        .map(|c| match batch.column_by_name(&c.name) {
            Some(v) => v.clone(),
            None => new_null_array(&c.ty.arrow(), batch.num_rows()),
        })
        .collect();
    to_batch(def, columns)
}

pub(crate) fn times(v: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(v).with_timezone("UTC"))
}

pub(crate) fn ints(v: impl IntoIterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(v.into_iter().collect::<Int64Array>())
}

/// As [`times`], where some are not known.
pub(crate) fn maybe_times(v: impl IntoIterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(v.into_iter().collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

pub(crate) fn bools(v: impl IntoIterator<Item = bool>) -> ArrayRef {
    Arc::new(BooleanArray::from_iter(v.into_iter().map(Some)))
}

/// Counters of the kernel; beyond i64 they stay at its maximum.
pub(crate) fn counts(v: impl IntoIterator<Item = u64>) -> ArrayRef {
    ints(v.into_iter().map(|v| Some(i64::try_from(v).unwrap_or(i64::MAX))))
}

/// As [`counts`], one list per row.
pub(crate) fn count_lists<'a>(rows: impl IntoIterator<Item = &'a [u64]>) -> ArrayRef {
    let element = Field::new("element", DataType::Int64, false);
    let mut b = ListBuilder::new(Int64Builder::new()).with_field(element);
    for row in rows {
        row.iter().for_each(|v| b.values().append_value(i64::try_from(*v).unwrap_or(i64::MAX)));
        b.append(true);
    }
    Arc::new(b.finish())
}

/// Empty text counts as not known.
pub(crate) fn labels<'a>(v: impl IntoIterator<Item = Option<&'a str>>) -> ArrayRef {
    let v = v.into_iter().map(|t| t.filter(|t| !t.is_empty()));
    Arc::new(v.collect::<DictionaryArray<Int32Type>>())
}

pub(crate) fn texts<'a>(v: impl IntoIterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(v.into_iter().collect::<StringArray>())
}

pub(crate) fn maps(rows: &[Vec<(&'static str, String)>]) -> ArrayRef {
    let mut b = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for row in rows {
        for (k, v) in row {
            b.keys().append_value(k);
            b.values().append_value(v);
        }
        // Fails only if keys and values differ in number, which they cannot here.
        let _ = b.append(true);
    }
    Arc::new(b.finish())
}

/// Bytes that the rows hold, without counting a buffer that columns share more than once.
pub(crate) fn bytes_of(batch: &RecordBatch) -> usize {
    batch
        .columns()
        .iter()
        .map(|c| {
            let data = c.to_data();
            data.get_slice_memory_size().unwrap_or_else(|_| data.get_array_memory_size()) + 128
        })
        .sum()
}
