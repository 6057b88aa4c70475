//! Parquet layout: sorted by the table's key, said so in the footer (T4), encodings as measured in DESIGN §3.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, UInt32Array},
    compute::{SortColumn, concat_batches, lexsort_to_indices, take_record_batch},
};
use bytes::Bytes;
use parquet::{
    arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder},
    basic::{Compression, Encoding, ZstdLevel},
    file::{
        metadata::{KeyValue, SortingColumn},
        properties::{EnabledStatistics, WriterProperties},
    },
    schema::types::ColumnPath,
};
use tapio_sql::{ColumnType, TableDef};

use crate::StoreError;

const ROWS_PER_GROUP: usize = 1 << 20;
const ROWS_PER_PAGE: usize = 16 << 10;

/// How files of this table are written: zstd 3, DELTA_BINARY_PACKED for times and counters, BYTE_STREAM_SPLIT for
/// gauges of memory and doubles, dictionaries for labels, the sort key in the footer.
///
/// # Errors
/// [`StoreError::Encode`] if the properties are refused.
pub fn writer_properties(def: &TableDef) -> Result<WriterProperties, StoreError> {
    let level = ZstdLevel::try_new(3).map_err(|e| encode(def, e))?;
    let sorting = def
        .sort_columns()
        .into_iter()
        .map(|(i, o)| SortingColumn {
            column_idx: i as i32,
            descending: o.descending,
            nulls_first: o.nulls_first,
        })
        .collect();
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(ROWS_PER_GROUP))
        .set_data_page_row_count_limit(ROWS_PER_PAGE)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_sorting_columns(Some(sorting))
        .set_created_by(concat!("tapio ", env!("CARGO_PKG_VERSION")).into())
        .set_key_value_metadata(Some(vec![
            KeyValue::new("tapio.table".into(), def.name.clone()),
            KeyValue::new("tapio.schema_version".into(), def.schema_version.to_string()),
        ]));
    for c in &def.columns {
        let encoding = match c.ty {
            ColumnType::Timestamp => Encoding::DELTA_BINARY_PACKED,
            // Limits hardly ever change: differences of zero take no room and no time.
            ColumnType::Int64 if c.name.starts_with("memory_") && !c.name.contains("_limit_") => {
                Encoding::BYTE_STREAM_SPLIT
            }
            ColumnType::Int64 => Encoding::DELTA_BINARY_PACKED,
            ColumnType::Float64 => Encoding::BYTE_STREAM_SPLIT,
            ColumnType::Bool
            | ColumnType::Text
            | ColumnType::Label
            | ColumnType::Map
            | ColumnType::Int64List => continue,
        };
        let path = ColumnPath::from(c.name.as_str());
        properties = properties
            .set_column_dictionary_enabled(path.clone(), false)
            .set_column_encoding(path, encoding);
    }
    Ok(properties.build())
}

/// Sorts the rows by the table's key; equal keys keep their order.
///
/// # Errors
/// [`StoreError::Encode`] if the batches do not have the schema of the table.
pub fn sort_rows(def: &TableDef, batches: &[RecordBatch]) -> Result<RecordBatch, StoreError> {
    let all = concat_batches(&def.schema(), batches).map_err(|e| encode(def, e))?;
    let mut columns: Vec<SortColumn> = def
        .sort_columns()
        .into_iter()
        .map(|(i, options)| SortColumn { values: all.column(i).clone(), options: Some(options) })
        .collect();
    // lexsort is not stable: the row number makes it so, and the bytes reproducible.
    let rows = UInt32Array::from_iter_values(0..all.num_rows() as u32);
    columns.push(SortColumn { values: Arc::new(rows) as ArrayRef, options: None });
    let order = lexsort_to_indices(&columns, None).map_err(|e| encode(def, e))?;
    take_record_batch(&all, &order).map_err(|e| encode(def, e))
}

/// The bytes of one file with these rows, sorted, and the sorted rows.
///
/// # Errors
/// [`StoreError::Encode`].
pub fn encode_parquet(
    def: &TableDef,
    batches: &[RecordBatch],
) -> Result<(Bytes, RecordBatch), StoreError> {
    let sorted = sort_rows(def, batches)?;
    let mut buffer = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut buffer, def.schema(), Some(writer_properties(def)?))
        .map_err(|e| encode(def, e))?;
    writer.write(&sorted).map_err(|e| encode(def, e))?;
    writer.close().map_err(|e| encode(def, e))?;
    Ok((Bytes::from(buffer), sorted))
}

/// All rows of a file, checked against the table: columns the file lacks are NULL, columns it has beyond are dropped.
///
/// # Errors
/// [`StoreError::Damaged`] naming `path`.
pub fn read_parquet(
    def: &TableDef,
    path: &str,
    bytes: Bytes,
) -> Result<Vec<RecordBatch>, StoreError> {
    let damaged = |e: &dyn std::fmt::Display| StoreError::damaged(path, e);
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|e| damaged(&e))?;
    let reader = reader.with_batch_size(64 << 10).build().map_err(|e| damaged(&e))?;
    let schema = def.schema();
    reader
        .map(|batch| {
            let batch = batch.map_err(|e| damaged(&e))?;
            let columns = schema
                .fields()
                .iter()
                .map(|f| match batch.column_by_name(f.name()) {
                    Some(c) if c.data_type() == f.data_type() => Ok(c.clone()),
                    Some(c) => Err(damaged(&format!(
                        "column {:?} is {}, not {}",
                        f.name(),
                        c.data_type(),
                        f.data_type()
                    ))),
                    None if f.is_nullable() => {
                        Ok(arrow::array::new_null_array(f.data_type(), batch.num_rows()))
                    }
                    None => Err(damaged(&format!("column {:?} is missing", f.name()))),
                })
                .collect::<Result<Vec<_>, _>>()?;
            RecordBatch::try_new(schema.clone(), columns).map_err(|e| damaged(&e))
        })
        .collect()
}

fn encode(def: &TableDef, e: impl std::fmt::Display) -> StoreError {
    StoreError::Encode { table: def.name.clone(), message: e.to_string() }
}
