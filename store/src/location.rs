//! Where a store is: a local folder (default) or a bucket by URL.

use std::{path::PathBuf, sync::Arc};

use object_store::{
    ObjectStore, ObjectStoreExt, PutPayload, local::LocalFileSystem, memory::InMemory, path::Path,
};
use tapio_sql::TableDef;
use url::Url;

use crate::{StoreError, TableLog};

/// A store: one folder per table below a root.
#[derive(Debug, Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    root: Path,
    url: Url,
    local: Option<PathBuf>,
}

impl Store {
    /// Opens a store by path or URL (`file://`, `s3://`, `gs://`, `az://`; credentials from the environment).
    ///
    /// A local folder must exist if `create` is false.
    ///
    /// # Errors
    /// [`StoreError::Location`] with what was tried and what to do.
    pub fn open(url: &str, create: bool) -> Result<Self, StoreError> {
        let fail = |message: String| StoreError::Location { url: url.to_owned(), message };
        if let Some((scheme, _)) = url.split_once("://")
            && scheme != "file"
        {
            let parsed = Url::parse(url).map_err(|e| fail(format!("not a URL: {e}")))?;
            let options = std::env::vars().map(|(k, v)| (k.to_ascii_lowercase(), v));
            let (objects, root) = object_store::parse_url_opts(&parsed, options)
                .map_err(|e| fail(format!("{e}; known are file://, s3://, gs:// and az://")))?;
            return Ok(Self { objects: Arc::from(objects), root, url: parsed, local: None });
        }
        let folder = PathBuf::from(url.strip_prefix("file://").unwrap_or(url));
        if create {
            std::fs::create_dir_all(&folder).map_err(|e| {
                fail(format!(
                    "cannot create the folder: {e}; choose another with --store or storage.url"
                ))
            })?;
        }
        let folder = folder.canonicalize().map_err(|e| {
            fail(format!("{e}; start tapio-server to fill it, or name another with --store"))
        })?;
        if !folder.is_dir() {
            return Err(fail("is not a folder".into()));
        }
        let objects = LocalFileSystem::new_with_prefix(&folder)
            .map_err(|e| fail(e.to_string()))?
            .with_automatic_cleanup(false);
        let url = Url::from_directory_path(&folder).map_err(|()| fail("not absolute".into()))?;
        Ok(Self { objects: Arc::new(objects), root: Path::default(), url, local: Some(folder) })
    }

    /// A store in memory, for tests and live observation.
    pub fn memory() -> Self {
        let url = "memory:///";
        Self {
            objects: Arc::new(InMemory::new()),
            root: Path::default(),
            // A constant that parses; the fallback is never taken.
            url: Url::parse(url).unwrap_or_else(|_| unreachable!("{url} parses")),
            local: None,
        }
    }

    /// The objects, with paths relative to [`Store::url`]'s authority.
    pub fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.objects
    }

    /// Where the store is.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The local folder, if it is one.
    pub fn local_path(&self) -> Option<&std::path::Path> {
        self.local.as_deref()
    }

    /// The log of a table; nothing is read or written yet.
    pub fn table(&self, def: &Arc<TableDef>) -> TableLog {
        TableLog::new(self.clone(), def.clone())
    }

    /// Path of an object below the root.
    pub fn path(&self, relative: &str) -> Path {
        let mut path = self.root.clone();
        for part in relative.split('/').filter(|p| !p.is_empty()) {
            path = path.join(part);
        }
        path
    }

    /// Writes and deletes a small object.
    ///
    /// # Errors
    /// [`StoreError::Location`] if either fails.
    pub async fn check_writable(&self) -> Result<(), StoreError> {
        let path = self.path("_tapio_write_check");
        let fail = |e: object_store::Error| StoreError::Location {
            url: self.url.to_string(),
            message: format!(
                "is not writable: {e}; check its permissions or choose another with storage.url"
            ),
        };
        self.objects.put(&path, PutPayload::from_static(b"ok")).await.map_err(fail)?;
        self.objects.delete(&path).await.map_err(fail)
    }

    /// Makes a local object durable: syncs the file and the folders up to the root. Object stores are durable by
    /// their answer; the local one is not.
    pub(crate) async fn sync(&self, path: &Path) -> Result<(), StoreError> {
        let Some(root) = self.local.clone() else { return Ok(()) };
        let path = root.join(path.as_ref());
        let sync = move || {
            let fail = |p: &std::path::Path, source| StoreError::Sync {
                path: p.display().to_string(),
                source,
            };
            let mut current = path.as_path();
            loop {
                std::fs::File::open(current)
                    .and_then(|f| f.sync_all())
                    .map_err(|e| fail(current, e))?;
                match current.parent() {
                    Some(parent) if current != root => current = parent,
                    _ => return Ok(()),
                }
            }
        };
        tokio::task::spawn_blocking(sync).await.map_err(|e| StoreError::Sync {
            path: self.url.to_string(),
            source: std::io::Error::other(e),
        })?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_or_unwritable_store_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("nope");
        let e = Store::open(missing.to_str().unwrap(), false).unwrap_err().to_string();
        assert!(e.contains("nope") && e.contains("--store"), "{e}");
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let e = Store::open(file.to_str().unwrap(), false).unwrap_err().to_string();
        assert!(e.contains("is not a folder"), "{e}");
        // Root may write anywhere, so an unwritable place is one below a file.
        let e = Store::open(file.join("sub").to_str().unwrap(), true).unwrap_err().to_string();
        assert!(e.contains("cannot create the folder"), "{e}");
        let e = Store::open("ftp://host/x", false).unwrap_err().to_string();
        assert!(e.contains("s3://"), "{e}");
        Store::open(dir.path().to_str().unwrap(), true).unwrap().check_writable().await.unwrap();
    }
}
