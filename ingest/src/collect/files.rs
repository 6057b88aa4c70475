//! Files that are read again each tick: kept open, read with pread.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use rustix::fs::{Mode, OFlags, open};

/// How many files may stay open; those beyond are opened for each read.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<AtomicUsize>);

impl Budget {
    pub(crate) fn new(files: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(files)))
    }

    fn take(&self) -> bool {
        self.0.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1)).is_ok()
    }

    fn give_back(&self) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// What reading a file came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read<'a> {
    Bytes(&'a [u8]),
    /// The file, or the cgroup it belongs to, is gone.
    Gone,
    /// It exists and cannot be read.
    Failed,
}

impl<'a> Read<'a> {
    pub(crate) fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(b) => Some(b),
            _ => None,
        }
    }
}

/// A file to be read each tick.
#[derive(Debug)]
pub(crate) struct Pinned {
    path: PathBuf,
    fd: Option<OwnedFd>,
    budget: Budget,
}

impl Pinned {
    /// `None` if it cannot be opened now: a controller that is not there.
    pub(crate) fn open(path: PathBuf, budget: &Budget) -> Option<Self> {
        let fd = open_read(&path).ok()?;
        let fd = budget.take().then_some(fd);
        Some(Self { path, fd, budget: budget.clone() })
    }

    pub(crate) fn read<'a>(&self, buffer: &'a mut Vec<u8>) -> Read<'a> {
        match &self.fd {
            Some(fd) => read_fd(fd, buffer),
            None => read_path(&self.path, buffer),
        }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if self.fd.is_some() {
            self.budget.give_back();
        }
    }
}

fn open_read(path: &Path) -> rustix::io::Result<OwnedFd> {
    open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// Reads a file once.
pub(crate) fn read_path<'a>(path: &Path, buffer: &'a mut Vec<u8>) -> Read<'a> {
    match open_read(path) {
        Ok(fd) => read_fd(&fd, buffer),
        Err(e) => failure(e),
    }
}

fn failure(e: rustix::io::Errno) -> Read<'static> {
    use rustix::io::Errno;
    match e {
        Errno::NOENT | Errno::NODEV | Errno::SRCH => Read::Gone,
        _ => Read::Failed,
    }
}

fn read_fd<'a>(fd: &OwnedFd, buffer: &'a mut Vec<u8>) -> Read<'a> {
    if buffer.len() < 16 << 10 {
        buffer.resize(16 << 10, 0);
    }
    loop {
        // These files are made in whole by one read if the buffer holds them; a second read at an offset would make
        // them anew.
        match rustix::io::pread(fd, &mut buffer[..], 0) {
            Ok(n) if n < buffer.len() => return Read::Bytes(&buffer[..n]),
            Ok(_) if buffer.len() < 16 << 20 => {
                let larger = buffer.len() * 4;
                buffer.resize(larger, 0);
            }
            Ok(_) => return Read::Failed,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return failure(e),
        }
    }
}

/// Raises the soft limit of open files to the hard one (at most 65,536) and answers how many the collector may keep.
pub(crate) fn open_files_budget() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let hard = now.maximum.unwrap_or(65_536).min(65_536);
    let mut soft = now.current.unwrap_or(65_536);
    if soft < hard {
        let raised = Rlimit { current: Some(hard), maximum: now.maximum };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            soft = hard;
        }
    }
    // The other half is for everyone else in this process.
    usize::try_from(soft / 2).unwrap_or(0)
}
