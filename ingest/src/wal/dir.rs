//! The directory: lock, writer id, segment names.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
};

use uuid::Uuid;

use crate::IngestError;

/// A write-ahead directory, owned by this process until dropped.
#[derive(Debug)]
pub(crate) struct WalDir {
    pub path: PathBuf,
    pub writer: Uuid,
    lock: File,
}

impl Drop for WalDir {
    fn drop(&mut self) {
        // Closing is not enough: a process that was just forked holds the file, and with it the lock, until it runs
        // its program.
        let _ = self.lock.unlock();
    }
}

impl WalDir {
    /// Creates the directory if needed, locks it, reads or makes its writer id.
    pub(crate) fn open(path: &Path) -> Result<Self, IngestError> {
        std::fs::create_dir_all(path).map_err(|e| IngestError::wal("create", path, e))?;
        let path = path.canonicalize().map_err(|e| IngestError::wal("find", path, e))?;
        let lock = lock(&path)?;
        let writer = writer_id(&path)?;
        Ok(Self { path, writer, lock })
    }

    pub(crate) fn segment(&self, first_seq: i64) -> PathBuf {
        self.path.join(format!("wal-{first_seq:020}.log"))
    }

    /// Segments with the sequence in their name, in order.
    pub(crate) fn segments(&self) -> Result<Vec<(i64, PathBuf)>, IngestError> {
        let fail = |e| IngestError::wal("list", &self.path, e);
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name();
            let first = name
                .to_str()
                .and_then(|n| n.strip_prefix("wal-")?.strip_suffix(".log")?.parse().ok());
            if let Some(first) = first {
                found.push((first, entry.path()));
            }
        }
        found.sort();
        Ok(found)
    }

    pub(crate) fn sync(&self) -> std::io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

fn lock(dir: &Path) -> Result<File, IngestError> {
    let path = dir.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|e| IngestError::wal("open", &path, e))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            let pid = if pid.trim().is_empty() { "unknown" } else { pid.trim() };
            return Err(IngestError::Locked { dir: dir.to_owned(), pid: pid.to_owned() });
        }
        Err(TryLockError::Error(e)) => return Err(IngestError::wal("lock", &path, e)),
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write(&mut file).map_err(|e| IngestError::wal("write", &path, e))?;
    Ok(file)
}

/// The id under which the store's logs know this directory (`txn.appId`).
fn writer_id(dir: &Path) -> Result<Uuid, IngestError> {
    let path = dir.join("writer-id");
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            if let Ok(id) = Uuid::try_parse(text.trim()) {
                return Ok(id);
            }
            let e = std::io::Error::other("it holds no UUID");
            return Err(IngestError::wal("read", &path, e));
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(IngestError::wal("read", &path, e)),
    }
    let id = Uuid::now_v7();
    let write = || {
        let tmp = dir.join("writer-id.new");
        let mut file = File::create(&tmp)?;
        writeln!(file, "{id}")?;
        file.sync_all()?;
        std::fs::rename(&tmp, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|e| IngestError::wal("write", &path, e))?;
    Ok(id)
}
