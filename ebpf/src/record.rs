//! What kernel programs report, as plain values.

/// Resident memory of a process, read from an in-kernel hash once a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RssSample {
    /// Thread group id.
    pub tgid: u32,
    /// When it was read, nanoseconds of CLOCK_BOOTTIME.
    pub boot_ns: u64,
    /// Anonymous pages, bytes.
    pub anon_bytes: i64,
    /// File pages, bytes.
    pub file_bytes: i64,
    /// Shared memory pages, bytes.
    pub shmem_bytes: i64,
}

/// A process that the kernel chose to kill for lack of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OomVictim {
    /// Thread group id of the victim (not of the process that ran out).
    pub tgid: u32,
    /// Its command name.
    pub comm: String,
    /// When it was marked, nanoseconds of CLOCK_BOOTTIME.
    pub boot_ns: u64,
    /// Inode of its memory cgroup's directory.
    pub cgroup_inode: u64,
    /// Name of that directory.
    pub cgroup_name: String,
    /// Name of its parent.
    pub cgroup_parent: String,
    /// Anonymous resident memory at death, bytes.
    pub anon_bytes: i64,
}

/// A process that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessExit {
    /// Thread group id.
    pub tgid: u32,
    /// Its command name.
    pub comm: String,
    /// When it ended, nanoseconds of CLOCK_BOOTTIME.
    pub boot_ns: u64,
    /// Exit code, or the signal that ended it, as wait(2) encodes them.
    pub status: i32,
}
