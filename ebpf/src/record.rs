//! What kernel programs report about processes, as plain values.
//!
//! Times are nanoseconds of CLOCK_BOOTTIME unless a field says otherwise. A cgroup id is the inode of the cgroup's
//! directory. Text that is not UTF-8 is replaced where it is not, never dropped.

/// The cgroups of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct CgroupIds {
    /// In the hierarchy of the memory controller, v1 or v2; 0 = this kernel has no memory controller.
    pub memory: u64,
    /// In the unified (v2) hierarchy, which may be another one.
    pub unified: u64,
}

/// Resident memory by kind, as the kernel counts it (mm_types_task.h), bytes.
///
/// Each CPU holds back less than max(32, 2 × CPUs) pages of a kind (lib/percpu_counter.c), so a figure may be off by that:
/// 256 KiB on 2 CPUs. Values that were negative for this reason are 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResidentMemory {
    /// Anonymous pages.
    pub anon_bytes: u64,
    /// Pages of mapped files.
    pub file_bytes: u64,
    /// Pages of shared memory.
    pub shmem_bytes: u64,
    /// Swapped out; not resident.
    pub swap_bytes: u64,
}

impl ResidentMemory {
    /// What is resident: anonymous, file and shared memory; what `VmRSS` says.
    pub fn rss_bytes(&self) -> u64 {
        self.anon_bytes.saturating_add(self.file_bytes).saturating_add(self.shmem_bytes)
    }
}

/// Resident memory of a living process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessMemory {
    /// Thread group id.
    pub tgid: u32,
    /// When the process started; with `tgid` it names a process for as long as the machine is up.
    pub start_ns: u64,
    /// Its command name.
    pub comm: String,
    /// When it was read.
    pub boot_ns: u64,
    /// Resident memory.
    pub memory: ResidentMemory,
    /// The most that was resident at once since the process executed its program; what `VmHWM` says.
    pub peak_rss_bytes: u64,
    /// Its cgroups.
    pub cgroups: CgroupIds,
}

/// A process began, executed a program or ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifeEvent {
    /// When.
    pub boot_ns: u64,
    /// Thread group id.
    pub tgid: u32,
    /// Thread group id of its parent.
    pub parent_tgid: u32,
    /// When the process started.
    pub start_ns: u64,
    /// Its command name, after an exec the new one.
    pub comm: String,
    /// Its cgroups.
    pub cgroups: CgroupIds,
    /// What happened.
    pub kind: LifeKind,
}

/// What happened to a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LifeKind {
    /// It was forked. Threads are not told.
    Fork,
    /// It executed a program.
    Exec {
        /// Path as it was given to execve(2), cut to 63 bytes. Arguments are never read.
        file: String,
    },
    /// Its last thread ended.
    Exit {
        /// How.
        status: ExitStatus,
        /// Resident memory at that time; `None` on kernels before 6.16, where it is gone by then.
        memory: Option<ResidentMemory>,
        /// The most that was resident at once.
        peak_rss_bytes: u64,
    },
}

/// How a process ended, as wait(2) encodes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExitStatus(pub i32);

impl ExitStatus {
    /// The exit code; `None` if a signal ended it.
    pub fn code(self) -> Option<u8> {
        self.signal().is_none().then_some(((self.0 >> 8) & 0xff) as u8)
    }

    /// The signal that ended it; `None` if it exited by itself.
    pub fn signal(self) -> Option<u8> {
        let signal = (self.0 & 0x7f) as u8;
        (signal != 0).then_some(signal)
    }
}

/// A process that the kernel chose to kill for lack of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OomVictim {
    /// When it was marked.
    pub boot_ns: u64,
    /// Thread group id of the victim (not of the process that ran out).
    pub tgid: u32,
    /// When the victim started.
    pub start_ns: u64,
    /// Its command name.
    pub comm: String,
    /// User id it ran as.
    pub uid: u32,
    /// Thread group id of the process whose allocation failed; it may be the victim.
    pub trigger_tgid: u32,
    /// Resident memory when it was marked.
    pub memory: ResidentMemory,
    /// Size of its address space, bytes.
    pub virtual_bytes: u64,
    /// Its cgroups.
    pub cgroups: CgroupIds,
    /// Its memory cgroup and that one's ancestors, innermost first, without the root, at most twelve: taken while the
    /// directories are there, they may be gone a moment later. Empty: the victim was in the root cgroup.
    pub levels: Vec<CgroupLevel>,
    /// What ran out.
    pub limit: OomLimit,
    /// Numbers incidents from 1 for this loader: victims of the same level, each at most a second after the one before, are
    /// one incident.
    pub incident: u64,
}

impl OomVictim {
    /// Path of the memory cgroup below its mount point, with a leading slash; "/" for the root. If it was more than twelve
    /// levels deep, only the innermost twelve are told.
    pub fn memory_cgroup_path(&self) -> String {
        if self.levels.is_empty() {
            return "/".into();
        }
        self.levels.iter().rev().map(|l| format!("/{}", l.name)).collect()
    }

    /// The cgroup that hit its limit; `None` if it was the machine, or cannot be said.
    pub fn limit_level(&self) -> Option<&CgroupLevel> {
        match self.limit {
            OomLimit::Cgroup(level) => self.levels.get(level),
            OomLimit::Node | OomLimit::Unknown => None,
        }
    }
}

/// Which limit an OOM kill was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OomLimit {
    /// That of `levels[_]`.
    Cgroup(usize),
    /// The machine's memory, or that of a NUMA node or cpuset.
    Node,
    /// The kernel does not tell, and no level or more than one was at its limit.
    Unknown,
}

/// A memory cgroup at the time of an OOM kill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupLevel {
    /// Cgroup id.
    pub id: u64,
    /// Name of its directory, cut to 111 bytes.
    pub name: String,
    /// What was charged to it, bytes.
    pub usage_bytes: u64,
    /// Its limit; `None` = unlimited.
    pub limit_bytes: Option<u64>,
    /// Whether the kernel kills all of it when it kills one (`memory.oom.group`).
    pub oom_group: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_read_as_wait_has_them() {
        assert_eq!((ExitStatus(0).code(), ExitStatus(0).signal()), (Some(0), None));
        assert_eq!((ExitStatus(7 << 8).code(), ExitStatus(7 << 8).signal()), (Some(7), None));
        assert_eq!((ExitStatus(9).code(), ExitStatus(9).signal()), (None, Some(9)));
        // 0x80: a core was written.
        assert_eq!((ExitStatus(0x8b).code(), ExitStatus(0x8b).signal()), (None, Some(11)));
    }
}
