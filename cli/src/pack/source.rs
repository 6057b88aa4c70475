//! The rows of a pack as a source of rows for the engine.

use std::{collections::HashMap, fs, path::Path, sync::Arc};

use arrow::{
    array::{AsArray, RecordBatch},
    compute::{max, min},
    datatypes::TimestampMicrosecondType,
};
use bytes::Bytes;
use tapio_sql::{TableBatch, catalog};
use tapio_store::{HotBatch, HotSource, HotTable, read_parquet};

use super::manifest::{Manifest, PackError, sha256};

/// A pack in memory: its rows are as good as just collected, except that time stands still.
#[derive(Debug)]
pub struct PackSource {
    tables: HashMap<String, Vec<HotBatch>>,
    ticks: (i64, i64),
}

impl PackSource {
    /// Reads every file that the manifest names, checking its hash, its rows and its columns.
    ///
    /// # Errors
    /// [`PackError`] naming the file.
    pub fn open(pack: &Path, manifest: &Manifest) -> Result<Arc<Self>, PackError> {
        let mut tables: HashMap<String, Vec<RecordBatch>> = HashMap::new();
        for file in &manifest.files {
            let path = pack.join(&file.path);
            let fail = |message: String| PackError::File { path: path.clone(), message };
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let Some(def) = catalog().get(&stem) else {
                return Err(fail(format!("there is no table {stem:?}")));
            };
            let bytes = fs::read(&path).map_err(|e| PackError::io(&path, e))?;
            if sha256(&bytes) != file.sha256 {
                return Err(fail("is not the file that the manifest describes (sha256)".into()));
            }
            let batches = read_parquet(def, &path.to_string_lossy(), Bytes::from(bytes))
                .map_err(|e| fail(e.to_string()))?;
            let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
            if rows as u64 != file.rows {
                return Err(fail(format!("has {rows} rows, the manifest says {}", file.rows)));
            }
            for batch in batches {
                let batch =
                    TableBatch::try_new(def.clone(), batch).map_err(|e| fail(e.to_string()))?;
                tables.entry(stem.clone()).or_default().push(batch.into_batch());
            }
        }
        let ticks =
            span(tables.get("resources").map_or(&[][..], Vec::as_slice)).ok_or_else(|| {
                PackError::File { path: pack.into(), message: "has no rows in resources".into() }
            })?;
        let hot = |b| HotBatch::new(1, 1, b);
        let tables = tables.into_iter().map(|(t, b)| (t, b.into_iter().map(hot).collect()));
        Ok(Arc::new(Self { tables: tables.collect(), ticks }))
    }

    /// `observed_at` of the first and of the last tick, µs.
    pub fn ticks(&self) -> (i64, i64) {
        self.ticks
    }
}

fn span(batches: &[RecordBatch]) -> Option<(i64, i64)> {
    let mut span: Option<(i64, i64)> = None;
    for b in batches {
        let times =
            b.column_by_name("observed_at")?.as_primitive_opt::<TimestampMicrosecondType>()?;
        if let (Some(lo), Some(hi)) = (min(times), max(times)) {
            span = Some(span.map_or((lo, hi), |(a, b)| (a.min(lo), b.max(hi))));
        }
    }
    span
}

impl HotSource for PackSource {
    fn hot(&self, table: &str) -> HotTable {
        let batches = self.tables.get(table).cloned().unwrap_or_default();
        HotTable { writer: "pack".into(), batches }
    }

    fn data_through_us(&self) -> Option<i64> {
        Some(self.ticks.1)
    }
}
