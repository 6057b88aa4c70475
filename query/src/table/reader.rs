//! Footers are read and checked against the table once per file; the verdict is kept.

use std::{
    collections::{HashMap, VecDeque},
    ops::Range,
    sync::{Arc, Mutex},
};

use arrow::datatypes::{DataType, Schema};
use bytes::Bytes;
use datafusion::{
    common::Result,
    datasource::{
        listing::PartitionedFile,
        physical_plan::{ParquetFileReaderFactory, parquet::DefaultParquetFileReaderFactory},
    },
    physical_plan::metrics::ExecutionPlanMetricsSet,
};
use futures::{FutureExt, future::BoxFuture};
use object_store::{ObjectStore, path::Path};
use parquet::{
    arrow::{
        arrow_reader::ArrowReaderOptions, async_reader::AsyncFileReader, parquet_to_arrow_schema,
    },
    errors::ParquetError,
    file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader},
};
use tapio_sql::TableDef;

/// Bytes of parsed footers that are kept, for all tables together.
const CACHE_BYTES: usize = 64 << 20;
/// The end of a file is fetched in one request of this size; a footer of Tapio is smaller.
const PREFETCH_BYTES: usize = 64 << 10;

type Verdict = std::result::Result<Arc<ParquetMetaData>, String>;
type Key = (Path, u64);

/// Footers that were read, by path and size; oldest go first when they take too much memory.
#[derive(Debug, Default)]
pub(crate) struct Footers {
    inner: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    verdicts: HashMap<Key, Verdict>,
    order: VecDeque<(Key, usize)>,
    bytes: usize,
}

impl Footers {
    fn get(&self, key: &Key) -> Option<Verdict> {
        self.inner.lock().ok()?.verdicts.get(key).cloned()
    }

    fn put(&self, key: Key, verdict: Verdict) {
        let Ok(mut kept) = self.inner.lock() else { return };
        let bytes = 256 + verdict.as_ref().map_or(0, |m| m.memory_size());
        if kept.verdicts.insert(key.clone(), verdict).is_none() {
            kept.order.push_back((key, bytes));
            kept.bytes += bytes;
        }
        while kept.bytes > CACHE_BYTES
            && let Some((key, bytes)) = kept.order.pop_front()
        {
            kept.verdicts.remove(&key);
            kept.bytes -= bytes;
        }
    }
}

/// Makes readers whose `get_metadata` answers from [`Footers`] and refuses what does not fit the table.
#[derive(Debug)]
pub(super) struct CheckedReaders {
    inner: DefaultParquetFileReaderFactory,
    def: Arc<TableDef>,
    footers: Arc<Footers>,
}

impl CheckedReaders {
    pub(super) fn new(
        objects: Arc<dyn ObjectStore>,
        def: Arc<TableDef>,
        footers: Arc<Footers>,
    ) -> Self {
        Self { inner: DefaultParquetFileReaderFactory::new(objects), def, footers }
    }
}

impl ParquetFileReaderFactory for CheckedReaders {
    fn create_reader(
        &self,
        partition_index: usize,
        file: PartitionedFile,
        metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let key = (file.object_meta.location.clone(), file.object_meta.size);
        let inner = self.inner.create_reader(partition_index, file, metadata_size_hint, metrics)?;
        let (def, footers) = (self.def.clone(), self.footers.clone());
        Ok(Box::new(CheckedReader { inner, key, def, footers }))
    }
}

struct CheckedReader {
    inner: Box<dyn AsyncFileReader + Send>,
    key: Key,
    def: Arc<TableDef>,
    footers: Arc<Footers>,
}

impl AsyncFileReader for CheckedReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        self.inner.get_bytes(range)
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>>
    where
        Self: Send,
    {
        self.inner.get_byte_ranges(ranges)
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        async move {
            if let Some(verdict) = self.footers.get(&self.key) {
                return verdict.map_err(ParquetError::General);
            }
            let size = self.key.1;
            let footer = ParquetMetaDataReader::new()
                .with_page_index_policy(PageIndexPolicy::Optional)
                .with_prefetch_hint(Some(PREFETCH_BYTES.min(size as usize)))
                .load_and_finish(&mut *self, size)
                .await;
            let verdict = match footer {
                Ok(metadata) => match check(&self.def, &metadata) {
                    None => Ok(Arc::new(metadata)),
                    Some(fault) => Err(fault),
                },
                // The store did not answer, or the file is gone: that may change, so it is no verdict.
                Err(e @ ParquetError::External(_)) => return Err(e),
                Err(e) => Err(e.to_string()),
            };
            self.footers.put(self.key.clone(), verdict.clone());
            verdict.map_err(ParquetError::General)
        }
        .boxed()
    }
}

/// What does not fit the table, if anything. Labels may be stored as plain text (other engines write them so), columns
/// beyond the definition are ignored, nullable ones may be missing (they were added later).
fn check(def: &TableDef, metadata: &ParquetMetaData) -> Option<String> {
    let file = metadata.file_metadata();
    // Most columns may be missing, so a file of another table can look like one of this.
    let says = |k: &&parquet::file::metadata::KeyValue| k.key == "tapio.table";
    if let Some(other) = file.key_value_metadata().and_then(|kv| kv.iter().find(says))
        && other.value.as_deref() != Some(&def.name)
    {
        return Some(format!("belongs to table {:?}", other.value.as_deref().unwrap_or_default()));
    }
    let schema = match parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata()) {
        Ok(schema) => schema,
        Err(e) => return Some(e.to_string()),
    };
    def.schema().fields().iter().find_map(|f| match field_type(&schema, f.name()) {
        Some(t) if fits(f.data_type(), t) => None,
        Some(t) => Some(format!("column {:?} is {t}, not {}", f.name(), f.data_type())),
        None if f.is_nullable() => None,
        None => Some(format!("column {:?} is missing", f.name())),
    })
}

fn field_type<'a>(schema: &'a Schema, name: &str) -> Option<&'a DataType> {
    schema.fields().find(name).map(|(_, f)| f.data_type())
}

fn fits(expected: &DataType, got: &DataType) -> bool {
    let text = |t: &DataType| match t {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, v) => matches!(**v, DataType::Utf8 | DataType::LargeUtf8),
        _ => false,
    };
    match (expected, got) {
        (DataType::Map(..), DataType::Map(..)) => true,
        (DataType::Timestamp(a, _), DataType::Timestamp(b, zone)) => a == b && zone.is_some(),
        _ => expected == got || (text(expected) && text(got)),
    }
}
