//! `manifest.json` of a pack: what it is, where it came from, and what the kernel says happened.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The version that this binary writes and reads.
pub const SCHEMA_VERSION: u32 = 1;

/// Name of the manifest within a pack.
pub const MANIFEST: &str = "manifest.json";

/// Why a pack cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file cannot be read or written.
    #[error("{path}: {source}{hint}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
        /// What to do, with a leading separator; may be empty.
        hint: &'static str,
    },
    /// The manifest does not parse.
    #[error("{path}:{line}: {message}")]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// The pack was written by another version.
    #[error("{path}: schema_version is {found}, this tapio reads {SCHEMA_VERSION}: {hint}")]
    Version {
        /// The manifest.
        path: PathBuf,
        /// What it says.
        found: u64,
        /// What to do.
        hint: &'static str,
    },
    /// A file of the pack is not what the manifest says.
    #[error("{path}: {message}")]
    File {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        message: String,
    },
}

impl PackError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        let hint = match source.kind() {
            io::ErrorKind::NotFound => {
                "; a pack is a folder with a manifest.json, `tapio record` makes one"
            }
            _ => "",
        };
        Self::Io { path: path.into(), source, hint }
    }
}

/// What a pack is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PackKind {
    /// Something failed.
    Incident,
    /// Nothing did.
    Quiet,
}

/// An event that really happened, by the kernel's own counters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Truth {
    /// `oom`, `disk_full`, `inodes`, `pids` or `fds`; the heap of a runtime is not recorded.
    #[serde(rename = "type")]
    pub ty: String,
    /// When the counter was first seen risen, RFC 3339.
    pub at: String,
    /// Whom it hit: a cgroup's path, a mount point, or pid:N.
    pub subject: String,
    /// The counter and its values before and after.
    pub counter: String,
}

/// A file of the pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackFile {
    /// Name within the pack; the stem is the table.
    pub path: String,
    /// Rows.
    pub rows: u64,
    /// SHA-256 of the bytes, hex.
    pub sha256: String,
}

/// The manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of the format: 1.
    pub schema_version: u32,
    /// Name of the pack, also of its folder.
    pub name: String,
    /// Incident or quiet.
    pub kind: PackKind,
    /// True if the rows were computed and not observed.
    pub generated: bool,
    /// What was run.
    pub command: String,
    /// `uname -sr` of the machine.
    pub kernel: String,
    /// First tick, RFC 3339.
    pub start: String,
    /// Last tick, RFC 3339.
    pub end: String,
    /// What happened. Nothing but back-tests and tests reads it.
    pub truth: Vec<Truth>,
    /// SPDX licence of the data.
    pub license: String,
    /// The Parquet files.
    pub files: Vec<PackFile>,
}

impl Manifest {
    /// Reads and checks `PACK/manifest.json`.
    ///
    /// # Errors
    /// [`PackError`] naming file and line; a wrong version is told before anything else that may be wrong with it.
    pub fn read(pack: &Path) -> Result<Self, PackError> {
        let path = pack.join(MANIFEST);
        let text = fs::read_to_string(&path).map_err(|e| PackError::io(&path, e))?;
        let fail = |e: serde_json::Error| PackError::Manifest {
            path: path.clone(),
            line: e.line(),
            message: e.to_string(),
        };
        let value: serde_json::Value = serde_json::from_str(&text).map_err(fail)?;
        let found = value.get("schema_version").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if found != u64::from(SCHEMA_VERSION) {
            let newer = found > u64::from(SCHEMA_VERSION);
            return Err(PackError::Version {
                path,
                found,
                hint: if newer { "use a newer tapio" } else { "record it again" },
            });
        }
        serde_json::from_str(&text).map_err(fail)
    }

    /// Writes `PACK/manifest.json`.
    ///
    /// # Errors
    /// [`PackError::Io`].
    pub fn write(&self, pack: &Path) -> Result<(), PackError> {
        let path = pack.join(MANIFEST);
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|e| PackError::File { path: path.clone(), message: e.to_string() })?;
        text.push('\n');
        fs::write(&path, text).map_err(|e| PackError::io(&path, e))
    }
}

/// SHA-256 in hex.
pub fn sha256(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(64);
    for b in Sha256::digest(bytes) {
        hex.push_str(&format!("{b:02x}"));
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(manifest: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(MANIFEST), manifest).unwrap();
        dir
    }

    #[test]
    fn errors_name_the_file_and_what_to_do() {
        let e = Manifest::read(Path::new("/no/such/pack")).unwrap_err().to_string();
        assert!(e.contains("/no/such/pack/manifest.json") && e.contains("tapio record"), "{e}");
        let e = Manifest::read(pack("{\"schema_version\": 2}").path()).unwrap_err().to_string();
        assert!(e.contains("schema_version is 2") && e.contains("use a newer tapio"), "{e}");
        let e = Manifest::read(pack("{}").path()).unwrap_err().to_string();
        assert!(e.contains("schema_version is 0") && e.contains("record it again"), "{e}");
        let e = Manifest::read(pack("{\n\"schema_version\": 1,\n\"nmae\": 2}").path());
        let e = e.unwrap_err().to_string();
        assert!(e.contains("manifest.json:3:") && e.contains("nmae"), "{e}");
        let e = Manifest::read(pack("{\n").path()).unwrap_err().to_string();
        assert!(e.contains("manifest.json:2:"), "{e}");
    }
}
