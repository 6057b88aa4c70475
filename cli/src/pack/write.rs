//! Writes the files and the manifest of a pack.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use arrow::array::RecordBatch;
use tapio_sql::{TableBatch, catalog};
use tapio_store::encode_parquet;

use super::manifest::{Manifest, PackError, PackFile, PackKind, SCHEMA_VERSION, Truth, sha256};
use crate::time::rfc3339;

/// Rows of a pack that is being made, by table.
#[derive(Debug, Default)]
pub(super) struct Rows {
    tables: BTreeMap<String, Vec<RecordBatch>>,
    ticks: Option<(i64, i64)>,
}

impl Rows {
    pub(super) fn add(&mut self, batch: TableBatch) {
        if batch.num_rows() > 0 {
            let table = batch.def().name.clone();
            self.tables.entry(table).or_default().push(batch.into_batch());
        }
    }

    /// Says that there was a tick at `ts_us`.
    pub(super) fn tick(&mut self, ts_us: i64) {
        self.ticks = Some(self.ticks.map_or((ts_us, ts_us), |(a, b)| (a.min(ts_us), b.max(ts_us))));
    }

    pub(super) fn table(&self, name: &str) -> &[RecordBatch] {
        self.tables.get(name).map_or(&[], Vec::as_slice)
    }
}

/// What the manifest says besides the rows.
#[derive(Debug)]
pub(super) struct About {
    pub command: String,
    pub license: String,
    pub truth: Vec<Truth>,
}

/// Refuses a folder that has something in it; makes it if it is missing.
pub(super) fn prepare(out: &Path) -> Result<(), PackError> {
    fs::create_dir_all(out).map_err(|e| PackError::io(out, e))?;
    match fs::read_dir(out).map_err(|e| PackError::io(out, e))?.next() {
        None => Ok(()),
        Some(_) => Err(PackError::File {
            path: out.into(),
            message: "is not empty; name another folder with --out".into(),
        }),
    }
}

/// Writes the pack and says what it became.
pub(super) fn write(out: &Path, rows: Rows, about: About) -> Result<Manifest, PackError> {
    let Some((start, end)) = rows.ticks else {
        return Err(PackError::File { path: out.into(), message: "nothing was observed".into() });
    };
    let mut files = Vec::new();
    for (table, batches) in &rows.tables {
        let path: PathBuf = out.join(format!("{table}.parquet"));
        let fail = |message: String| PackError::File { path: path.clone(), message };
        let def = catalog().get(table).ok_or_else(|| fail("there is no such table".into()))?;
        let (bytes, sorted) = encode_parquet(def, batches).map_err(|e| fail(e.to_string()))?;
        fs::write(&path, &bytes).map_err(|e| PackError::io(&path, e))?;
        files.push(PackFile {
            path: format!("{table}.parquet"),
            rows: sorted.num_rows() as u64,
            sha256: sha256(&bytes),
        });
    }
    let name = out.canonicalize().map_err(|e| PackError::io(out, e))?;
    let manifest = Manifest {
        schema_version: SCHEMA_VERSION,
        name: name.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        kind: if about.truth.is_empty() { PackKind::Quiet } else { PackKind::Incident },
        generated: false,
        command: about.command,
        kernel: kernel(),
        start: rfc3339(start),
        end: rfc3339(end),
        truth: about.truth,
        license: about.license,
        files,
    };
    manifest.write(out)?;
    Ok(manifest)
}

fn kernel() -> String {
    let u = rustix::system::uname();
    format!("{} {}", u.sysname().to_string_lossy(), u.release().to_string_lossy())
}
