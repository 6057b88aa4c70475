//! The table log: snapshots and atomic commits.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arrow::array::{Array, RecordBatch};
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, path::Path};
use serde_json::json;
use tapio_sql::{TableDef, partition_path};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::{
    DataFile, Snapshot, Store, StoreError,
    delta::{Action, Remove, Txn, meta_data, protocol},
    layout::encode_parquet,
};

/// How often a commit is tried again when other writers take its version.
const MAX_ATTEMPTS: u32 = 200;

/// One atomic change of a table.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    /// New files.
    pub add: Vec<DataFile>,
    /// Paths of files that they replace; the commit fails if one of them is gone.
    pub remove: Vec<String>,
    /// Writer and its last write-ahead sequence in these files.
    pub txn: Option<(String, i64)>,
    /// False for compaction: the rows stay the same.
    pub data_change: bool,
    /// Goes to `commitInfo`, for humans.
    pub operation: String,
}

/// What became of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// It is this version now.
    Version(i64),
    /// An earlier try of the same `txn` had gone through.
    Already(i64),
}

/// The log of one table. Clones share the cached snapshot.
#[derive(Debug, Clone)]
pub struct TableLog {
    store: Store,
    def: Arc<TableDef>,
    cache: Arc<Mutex<Arc<Snapshot>>>,
    nulls: Arc<std::sync::Mutex<HashMap<String, BTreeMap<String, usize>>>>,
}

impl TableLog {
    pub(crate) fn new(store: Store, def: Arc<TableDef>) -> Self {
        Self { store, def, cache: Arc::default(), nulls: Arc::default() }
    }

    /// The table.
    pub fn def(&self) -> &Arc<TableDef> {
        &self.def
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Path of a data file as the object store knows it.
    pub fn object_path(&self, file: &str) -> Path {
        self.store.path(&format!("{}/{file}", self.def.name))
    }

    fn entry_path(&self, version: i64) -> Path {
        self.object_path(&format!("_delta_log/{version:020}.json"))
    }

    /// The newest version. Only entries that are new since the last call are read.
    ///
    /// # Errors
    /// [`StoreError::Io`], or [`StoreError::Damaged`] naming the entry.
    pub async fn snapshot(&self) -> Result<Arc<Snapshot>, StoreError> {
        let mut cache = self.cache.lock().await;
        let mut next = cache.version.map_or(0, |v| v + 1);
        let mut fresh: Option<Snapshot> = None;
        while let Some(actions) = self.read_entry(next).await? {
            fresh.get_or_insert_with(|| (**cache).clone()).apply(next, actions);
            next += 1;
        }
        if let Some(s) = fresh {
            *cache = Arc::new(s);
        }
        Ok(cache.clone())
    }

    /// The table as it was at `version`.
    ///
    /// # Errors
    /// As [`TableLog::snapshot`]; [`StoreError::Damaged`] if there is no such version.
    pub async fn snapshot_at(&self, version: i64) -> Result<Snapshot, StoreError> {
        let mut s = Snapshot::default();
        for v in 0..=version {
            let actions = self.read_entry(v).await?.ok_or_else(|| {
                StoreError::damaged(self.entry_path(v), "there is no such version")
            })?;
            s.apply(v, actions);
        }
        Ok(s)
    }

    async fn read_entry(&self, version: i64) -> Result<Option<Vec<Action>>, StoreError> {
        let path = self.entry_path(version);
        let bytes = match self.store.objects().get(&path).await {
            Ok(r) => r.bytes().await.map_err(|e| StoreError::io(&path, e))?,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(e) => return Err(StoreError::io(&path, e)),
        };
        let mut actions = Vec::new();
        for (i, line) in bytes.split(|b| *b == b'\n').enumerate() {
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            actions.push(
                serde_json::from_slice(line)
                    .map_err(|e| StoreError::damaged(&path, format!("line {}: {e}", i + 1)))?,
            );
        }
        Ok(Some(actions))
    }

    /// Writes the rows as one sorted file of the partition `date`, durable but not yet visible.
    ///
    /// # Errors
    /// [`StoreError::Encode`], [`StoreError::Io`], [`StoreError::Sync`].
    pub async fn write_file(
        &self,
        date: &str,
        batches: &[RecordBatch],
    ) -> Result<DataFile, StoreError> {
        let (bytes, sorted) = encode_parquet(&self.def, batches)?;
        let path = format!("{}/part-{}.parquet", partition_path(date), Uuid::now_v7());
        let object = self.object_path(&path);
        let size = bytes.len() as u64;
        self.store
            .objects()
            .put(&object, bytes.into())
            .await
            .map_err(|e| StoreError::io(&object, e))?;
        self.store.sync(&object).await?;
        let nulls = self
            .def
            .columns
            .iter()
            .zip(sorted.columns())
            .map(|(c, v)| (c.name.clone(), v.logical_null_count()))
            .collect();
        if let Ok(mut n) = self.nulls.lock() {
            n.insert(path.clone(), nulls);
        }
        Ok(DataFile {
            path,
            size,
            date: Some(date.to_owned()),
            modified_ms: now_ms(),
            rows: Some(sorted.num_rows() as u64),
            ranges: DataFile::ranges_of(&self.def, &sorted),
        })
    }

    /// All bytes of a data file.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub async fn read_file(&self, path: &str) -> Result<Bytes, StoreError> {
        let object = self.object_path(path);
        let result = self.store.objects().get(&object).await;
        let result = result.map_err(|e| StoreError::io(&object, e))?;
        result.bytes().await.map_err(|e| StoreError::io(&object, e))
    }

    /// Makes a change visible, whole or not at all. Tries again when another writer was faster; reads `txn` before
    /// each try, so that nothing is committed twice, also when the answer to an earlier try was lost.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if a replaced path is gone, [`StoreError::NewerSchema`], [`StoreError::Io`].
    pub async fn commit(&self, commit: Commit) -> Result<Committed, StoreError> {
        let mut last = None;
        for attempt in 0..MAX_ATTEMPTS {
            let snapshot = self.snapshot().await?;
            if let Some((app, sequence)) = &commit.txn
                && snapshot.txn.get(app).is_some_and(|done| done >= sequence)
            {
                return Ok(Committed::Already(snapshot.version.unwrap_or(0)));
            }
            if snapshot.schema_version > self.def.schema_version || snapshot.min_reader_version > 1
            {
                return Err(StoreError::NewerSchema {
                    table: self.def.name.clone(),
                    found: snapshot.schema_version,
                    known: self.def.schema_version,
                });
            }
            if let Some(path) = commit.remove.iter().find(|p| !snapshot.files.contains_key(*p)) {
                return Err(StoreError::Conflict {
                    table: self.def.name.clone(),
                    path: path.clone(),
                });
            }
            let version = snapshot.version.map_or(0, |v| v + 1);
            let body = self.entry(&snapshot, &commit)?;
            let path = self.entry_path(version);
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            match self.store.objects().put_opts(&path, body.into(), options).await {
                Ok(_) => {
                    self.store.sync(&path).await?;
                    if let Ok(mut n) = self.nulls.lock() {
                        commit.add.iter().for_each(|f| {
                            n.remove(&f.path);
                        });
                    }
                    return Ok(Committed::Version(version));
                }
                Err(object_store::Error::AlreadyExists { .. }) => {}
                // The answer may be lost although the entry was written: look again before giving up.
                Err(e) if attempt < 3 && commit.txn.is_some() => {
                    last = Some(StoreError::io(&path, e))
                }
                Err(e) => return Err(StoreError::io(&path, e)),
            }
            tokio::time::sleep(Duration::from_millis(u64::from(attempt.min(20)))).await;
        }
        Err(last.unwrap_or_else(|| StoreError::Conflict {
            table: self.def.name.clone(),
            path: format!("a free version after {MAX_ATTEMPTS} tries"),
        }))
    }

    fn entry(&self, snapshot: &Snapshot, commit: &Commit) -> Result<Vec<u8>, StoreError> {
        let now = now_ms();
        let mut actions = vec![Action {
            commit_info: Some(json!({
                "timestamp": now,
                "operation": commit.operation,
                "engineInfo": concat!("tapio/", env!("CARGO_PKG_VERSION")),
            })),
            ..Action::default()
        }];
        if snapshot.version.is_none() {
            actions.push(protocol());
        }
        if snapshot.schema_version < self.def.schema_version {
            let id = snapshot.table_id.clone().unwrap_or_else(|| Uuid::now_v7().to_string());
            actions.push(meta_data(&self.def, id, now));
        }
        if let Some((app_id, version)) = &commit.txn {
            let txn = Txn { app_id: app_id.clone(), version: *version, last_updated: Some(now) };
            actions.push(Action { txn: Some(txn), ..Action::default() });
        }
        for path in &commit.remove {
            let remove = Remove {
                path: path.clone(),
                deletion_timestamp: Some(now),
                data_change: commit.data_change,
            };
            actions.push(Action { remove: Some(remove), ..Action::default() });
        }
        let nulls = self.nulls.lock().map(|n| n.clone()).unwrap_or_default();
        for file in &commit.add {
            let none = BTreeMap::new();
            let nulls = nulls.get(&file.path).unwrap_or(&none);
            let add = file.to_add(&self.def, nulls, commit.data_change);
            actions.push(Action { add: Some(add), ..Action::default() });
        }
        let mut body = Vec::new();
        for a in actions {
            serde_json::to_writer(&mut body, &a).map_err(|e| StoreError::Encode {
                table: self.def.name.clone(),
                message: e.to_string(),
            })?;
            body.push(b'\n');
        }
        Ok(body)
    }

    /// Data files below the table's folder that no version of the log names: left by a crash between writing and
    /// committing, or put there by someone else. They are never read.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub async fn unlisted_files(&self) -> Result<Vec<String>, StoreError> {
        let snapshot = self.snapshot().await?;
        let root = self.store.path(&self.def.name);
        let objects: Vec<_> = self
            .store
            .objects()
            .list(Some(&root))
            .try_collect()
            .await
            .map_err(|e| StoreError::io(&root, e))?;
        let mut unlisted: Vec<String> = objects
            .into_iter()
            .filter_map(|o| {
                let path: Vec<_> =
                    o.location.prefix_match(&root)?.map(|p| p.as_ref().to_owned()).collect();
                let path = path.join("/");
                let ours = path.starts_with("_delta_log/") || snapshot.files.contains_key(&path);
                (!ours).then_some(path)
            })
            .collect();
        unlisted.sort();
        Ok(unlisted)
    }
}

// The log's own bookkeeping times; no answer depends on them.
#[allow(clippy::disallowed_methods)]
fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
