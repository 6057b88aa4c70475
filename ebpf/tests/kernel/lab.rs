//! What the tests share: rights, cgroups that go away, waiting with a deadline.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use tapio_ebpf::{LoadOptions, Programs};

/// Whether the test can run; says so loudly if not, and fails in CI.
pub fn root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    let must = std::env::var_os("CI").is_some_and(|v| v == "true");
    assert!(root || !must, "{test} needs root, and CI=true does not allow to skip it");
    if !root {
        eprintln!("SKIPPED {test}: it needs root");
    }
    root
}

/// Loads what `options` ask for; all of it must load.
pub fn load(options: &LoadOptions) -> Programs {
    let (programs, missing) = Programs::load(options);
    assert!(missing.is_empty(), "{missing:#?}");
    programs
}

/// Asks until there is an answer; the deadline is generous because the machine may be busy.
pub fn wait<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited 30 s for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A cgroup that is removed, with what runs in it, when it is dropped.
#[derive(Debug)]
pub struct Cgroup {
    pub dir: PathBuf,
    v2: bool,
    keep: bool,
}

impl Cgroup {
    /// In the hierarchy that has the memory controller.
    pub fn memory(name: &str) -> Self {
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let (root, v2) = if v1.join("memory.usage_in_bytes").exists() {
            (v1.to_owned(), false)
        } else {
            (unified_root(), true)
        };
        Self::create(&root, name, v2)
    }

    /// In the unified hierarchy.
    pub fn unified(name: &str) -> Self {
        Self::create(&unified_root(), name, true)
    }

    /// In the hierarchy that I/O is charged to.
    pub fn io(name: &str) -> Self {
        let v1 = Path::new("/sys/fs/cgroup/blkio");
        let v2 = !v1.is_dir();
        Self::create(&if v2 { unified_root() } else { v1.to_owned() }, name, v2)
    }

    fn create(root: &Path, name: &str, v2: bool) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = root.join(format!("tapio-{}-{number}-{name}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        Self { dir, v2, keep: false }
    }

    /// A cgroup below this one.
    pub fn child(&self, name: &str) -> Self {
        if self.v2 {
            fs::write(self.dir.join("cgroup.subtree_control"), "+memory").unwrap();
        }
        let dir = self.dir.join(name);
        fs::create_dir(&dir).unwrap();
        Self { dir, v2: self.v2, keep: false }
    }

    pub fn procs(&self) -> PathBuf {
        self.dir.join("cgroup.procs")
    }

    pub fn name(&self) -> String {
        self.dir.file_name().unwrap().to_string_lossy().into_owned()
    }

    pub fn limit_memory(&self, bytes: u64) {
        let file = if self.v2 { "memory.max" } else { "memory.limit_in_bytes" };
        fs::write(self.dir.join(file), bytes.to_string()).unwrap();
    }

    /// Anonymous memory of what is directly in it, bytes.
    pub fn anon_bytes(&self) -> u64 {
        let stat = fs::read_to_string(self.dir.join("memory.stat")).unwrap();
        let key = if self.v2 { "anon " } else { "rss " };
        stat.lines().find_map(|l| l.strip_prefix(key)).unwrap().parse().unwrap()
    }

    /// Its id: the inode of the directory.
    pub fn id(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(&self.dir).unwrap().ino()
    }

    /// Removes the directory now.
    pub fn remove(mut self) {
        let dir = self.dir.clone();
        wait("the cgroup to be empty", || fs::remove_dir(&dir).ok());
        self.keep = true;
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while fs::remove_dir(&self.dir).is_err() && Instant::now() < deadline {
            for pid in fs::read_to_string(self.procs()).unwrap_or_default().lines() {
                if let Some(pid) = pid.parse().ok().and_then(rustix::process::Pid::from_raw) {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn unified_root() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let line = mounts.lines().find(|l| l.split(' ').nth(2) == Some("cgroup2")).unwrap();
    line.split(' ').nth(1).unwrap().into()
}
