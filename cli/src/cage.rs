//! A memory cgroup of our own, for recordings and tests: made with a limit, removed with everything in it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

/// How long [`Cage::drop`] waits for killed processes to leave.
const LEAVE: Duration = Duration::from_secs(5);

/// Why there is no cage.
#[derive(Debug, thiserror::Error)]
pub enum CageError {
    /// No hierarchy has a memory controller.
    #[error(
        "no cgroup hierarchy with a memory controller is mounted (looked in /proc/self/mountinfo)"
    )]
    NoController,
    /// A file of the hierarchy cannot be read or written.
    #[error("{path}: {source}; making a memory cgroup needs root")]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// A memory cgroup directly below the root of the hierarchy that owns the memory controller (v1 or v2).
/// Dropping it kills what runs inside and removes it.
#[derive(Debug)]
pub struct Cage {
    dir: PathBuf,
    name: String,
    v2: bool,
}

impl Cage {
    /// Makes the cgroup `name` with a hard limit and without swap.
    ///
    /// # Errors
    /// [`CageError`]; one of that name must not exist.
    pub fn new(name: &str, limit_bytes: u64) -> Result<Self, CageError> {
        let (root, v2) = memory_root()?;
        let dir = root.join(name);
        if v2 {
            write(&root.join("cgroup.subtree_control"), "+memory")?;
        }
        fs::create_dir(&dir).map_err(|source| CageError::Io { path: dir.clone(), source })?;
        let cage = Self { dir, name: name.to_owned(), v2 };
        cage.set_limit(limit_bytes)?;
        if v2 && cage.dir.join("memory.swap.max").exists() {
            write(&cage.dir.join("memory.swap.max"), "0")?;
        }
        Ok(cage)
    }

    /// Changes the hard limit.
    ///
    /// # Errors
    /// [`CageError::Io`]; the kernel refuses a limit that it cannot reclaim down to (v1: EBUSY).
    pub fn set_limit(&self, bytes: u64) -> Result<(), CageError> {
        let file = if self.v2 { "memory.max" } else { "memory.limit_in_bytes" };
        write(&self.dir.join(file), &bytes.to_string())
    }

    /// The cgroup's path below the mount point, with a leading slash.
    pub fn path(&self) -> String {
        format!("/{}", self.name)
    }

    /// The cgroup's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A command that runs inside: the shell moves itself in and becomes the program.
    pub fn command(&self, program: &str, args: &[String]) -> Command {
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg("echo $$ > \"$0\" && exec \"$@\"")
            .arg(self.dir.join("cgroup.procs"))
            .arg(program)
            .args(args);
        command
    }

    /// The kernel's count of processes that it killed here for lack of memory, and the counter's name.
    ///
    /// # Errors
    /// [`CageError::Io`].
    pub fn oom_kills(&self) -> Result<(u64, &'static str), CageError> {
        let (file, name) = if self.v2 {
            ("memory.events", "memory.events oom_kill")
        } else {
            ("memory.oom_control", "memory.oom_control oom_kill")
        };
        let path = self.dir.join(file);
        let text = fs::read_to_string(&path)
            .map_err(|source| CageError::Io { path: path.clone(), source })?;
        let count = text
            .lines()
            .find_map(|l| l.strip_prefix("oom_kill ")?.trim().parse().ok())
            .ok_or_else(|| CageError::Io {
                path,
                source: io::Error::new(io::ErrorKind::InvalidData, "has no line oom_kill"),
            })?;
        Ok((count, name))
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        let deadline = Instant::now() + LEAVE;
        while fs::remove_dir(&self.dir).is_err() && Instant::now() < deadline {
            for pid in fs::read_to_string(self.dir.join("cgroup.procs")).unwrap_or_default().lines()
            {
                if let Ok(pid) = pid.parse::<i32>()
                    && let Some(pid) = rustix::process::Pid::from_raw(pid)
                {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
            sleep(Duration::from_millis(20));
        }
    }
}

fn memory_root() -> Result<(PathBuf, bool), CageError> {
    let path = PathBuf::from("/proc/self/mountinfo");
    let text = fs::read_to_string(&path).map_err(|source| CageError::Io { path, source })?;
    let mut v2 = None;
    for line in text.lines() {
        // proc(5): fields before " - " describe the mount, after it: type, source, super options.
        let Some((mount, fs_part)) = line.split_once(" - ") else { continue };
        let Some(point) = mount.split(' ').nth(4) else { continue };
        let mut fs_part = fs_part.split(' ');
        let (ty, options) = (fs_part.next(), fs_part.nth(1).unwrap_or_default());
        match ty {
            Some("cgroup") if options.split(',').any(|o| o == "memory") => {
                return Ok((point.into(), false));
            }
            Some("cgroup2") => v2 = Some(PathBuf::from(point)),
            _ => {}
        }
    }
    v2.filter(|p| {
        fs::read_to_string(p.join("cgroup.controllers"))
            .is_ok_and(|c| c.split_whitespace().any(|c| c == "memory"))
    })
    .map(|p| (p, true))
    .ok_or(CageError::NoController)
}

fn write(path: &Path, text: &str) -> Result<(), CageError> {
    fs::write(path, text).map_err(|source| CageError::Io { path: path.into(), source })
}
