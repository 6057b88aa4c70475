//! Building a [`TableBatch`] column by column.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, DictionaryArray, Int64Array, MapBuilder, RecordBatch, StringArray,
        StringBuilder, TimestampMicrosecondArray, new_null_array,
    },
    datatypes::Int32Type,
};
use tapio_sql::{BatchError, TableBatch, TableDef};

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
