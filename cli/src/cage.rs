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
    /// Its directory in the hierarchy of the pids controller, where that is another and has one.
    pids: Option<PathBuf>,
    name: String,
    v2: bool,
}

impl Cage {
    /// Makes the cgroup `name` with a hard limit and without swap.
    ///
    /// # Errors
    /// [`CageError`]; one of that name must not exist.
    pub fn new(name: &str, limit_bytes: u64) -> Result<Self, CageError> {
        let hierarchies = Hierarchies::read()?;
        let (root, v2) = hierarchies.memory()?;
        let dir = root.join(name);
        if v2 {
            write(&root.join("cgroup.subtree_control"), "+memory")?;
            // Without the controller a limit of pids cannot be set, and setting it says so.
            let _ = write(&root.join("cgroup.subtree_control"), "+pids");
        }
        let create = |dir: &Path| {
            fs::create_dir(dir).map_err(|source| CageError::Io { path: dir.into(), source })
        };
        create(&dir)?;
        let pids = if v2 { None } else { hierarchies.pids.map(|root| root.join(name)) };
        let cage = Self { dir, pids, name: name.to_owned(), v2 };
        if let Some(pids) = &cage.pids {
            create(pids)?;
        }
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

    /// Sets how many processes and threads there may be inside.
    ///
    /// # Errors
    /// [`CageError::Io`], also where there is no pids controller.
    pub fn set_pids_limit(&self, most: u64) -> Result<(), CageError> {
        write(&self.pids_dir().join("pids.max"), &most.to_string())
    }

    /// How often the kernel refused a process or thread here; `None` where it does not count that.
    pub fn forks_refused(&self) -> Option<u64> {
        let text = fs::read_to_string(self.pids_dir().join("pids.events")).ok()?;
        text.lines().find_map(|l| l.strip_prefix("max ")?.trim().parse().ok())
    }

    fn pids_dir(&self) -> &Path {
        self.pids.as_deref().unwrap_or(&self.dir)
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
            .arg("echo $$ > \"$0\" && echo $$ > \"$1\" && shift && exec \"$@\"")
            .arg(self.dir.join("cgroup.procs"))
            .arg(self.pids_dir().join("cgroup.procs"))
            .arg(program)
            .args(args);
        command
    }

    /// The kernel's count of processes that it killed here for lack of memory.
    ///
    /// # Errors
    /// [`CageError::Io`].
    pub fn oom_kills(&self) -> Result<u64, CageError> {
        let path = self.dir.join(if self.v2 { "memory.events" } else { "memory.oom_control" });
        let text = fs::read_to_string(&path)
            .map_err(|source| CageError::Io { path: path.clone(), source })?;
        text.lines().find_map(|l| l.strip_prefix("oom_kill ")?.trim().parse().ok()).ok_or_else(
            || CageError::Io {
                path,
                source: io::Error::new(io::ErrorKind::InvalidData, "has no line oom_kill"),
            },
        )
    }

    /// File and field of that count.
    pub fn kills_name(&self) -> &'static str {
        if self.v2 { "memory.events oom_kill" } else { "memory.oom_control oom_kill" }
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        let deadline = Instant::now() + LEAVE;
        let remove = || {
            let pids = self.pids.as_ref().is_none_or(|p| !p.exists() || fs::remove_dir(p).is_ok());
            fs::remove_dir(&self.dir).is_ok() && pids
        };
        while !remove() && self.dir.exists() && Instant::now() < deadline {
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

/// Mount points that matter here.
#[derive(Default)]
struct Hierarchies {
    memory: Option<PathBuf>,
    pids: Option<PathBuf>,
    v2: Option<PathBuf>,
}

impl Hierarchies {
    fn read() -> Result<Self, CageError> {
        let path = PathBuf::from("/proc/self/mountinfo");
        let text = fs::read_to_string(&path).map_err(|source| CageError::Io { path, source })?;
        let mut found = Self::default();
        for line in text.lines() {
            // proc(5): fields before " - " describe the mount, after it: type, source, super options.
            let Some((mount, fs_part)) = line.split_once(" - ") else { continue };
            let Some(point) = mount.split(' ').nth(4) else { continue };
            let mut fs_part = fs_part.split(' ');
            let (ty, options) = (fs_part.next(), fs_part.nth(1).unwrap_or_default());
            let has = |controller: &str| options.split(',').any(|o| o == controller);
            match ty {
                Some("cgroup") if has("memory") => found.memory = Some(point.into()),
                Some("cgroup") if has("pids") => found.pids = Some(point.into()),
                Some("cgroup2") => found.v2 = Some(point.into()),
                _ => {}
            }
        }
        Ok(found)
    }

    /// The hierarchy that owns the memory controller, and whether it is v2.
    fn memory(&self) -> Result<(PathBuf, bool), CageError> {
        if let Some(v1) = &self.memory {
            return Ok((v1.clone(), false));
        }
        let has_memory = |p: &PathBuf| {
            fs::read_to_string(p.join("cgroup.controllers"))
                .is_ok_and(|c| c.split_whitespace().any(|c| c == "memory"))
        };
        self.v2.clone().filter(has_memory).map(|p| (p, true)).ok_or(CageError::NoController)
    }
}

fn write(path: &Path, text: &str) -> Result<(), CageError> {
    fs::write(path, text).map_err(|source| CageError::Io { path: path.into(), source })
}
