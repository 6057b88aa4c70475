//! Loading everything.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use aya::Btf;

use crate::{
    block::Block,
    cpu::Cpu,
    dns::Dns,
    http::Http,
    memory::Memory,
    net::Net,
    object::{Loading, Loss, NotLoaded, ReadError, explain},
    oom::Oom,
};

/// What to load.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Memory per process, forks, execs and exits.
    pub memory: bool,
    /// Victims of the OOM killer.
    pub oom: bool,
    /// HTTP transactions.
    pub http: bool,
    /// TCP connections.
    pub net: bool,
    /// DNS over UDP.
    pub dns: bool,
    /// Waiting for a CPU.
    pub cpu: bool,
    /// Block requests.
    pub block: bool,
    /// The unified cgroup whose sockets are watched; `None`: the root of the mounted unified hierarchy.
    pub unified_cgroup: Option<PathBuf>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            memory: true,
            oom: true,
            http: true,
            net: true,
            dns: true,
            cpu: true,
            block: true,
            unified_cgroup: None,
        }
    }
}

impl LoadOptions {
    /// Nothing is loaded: to be filled in by a caller that wants little.
    pub fn none() -> Self {
        Self {
            memory: false,
            oom: false,
            http: false,
            net: false,
            dns: false,
            cpu: false,
            block: false,
            ..Self::default()
        }
    }
}

/// The programs that are in the kernel. Dropping it takes them out, and so does the end of the process in whatever way.
#[derive(Debug, Default)]
pub struct Programs {
    /// Memory per process, if any part of it could be loaded.
    pub memory: Option<Memory>,
    /// OOM victims.
    pub oom: Option<Oom>,
    /// HTTP transactions. They need both directions: if one program is missing, this is `None`.
    pub http: Option<Http>,
    /// TCP connections, if any part of it could be loaded.
    pub net: Option<Net>,
    /// DNS over UDP. It needs both directions: if one program is missing, this is `None`.
    pub dns: Option<Dns>,
    /// Waiting for a CPU.
    pub cpu: Option<Cpu>,
    /// Block requests.
    pub block: Option<Block>,
}

impl Programs {
    /// Loads each program by itself and answers those that could not be loaded, with what that costs. Never fails as a
    /// whole. Rights are needed only here: root, or CAP_BPF and CAP_PERFMON, and CAP_NET_ADMIN for packets; what is loaded
    /// is read through file descriptors (with kernel.unprivileged_bpf_disabled set this needs Linux 5.19).
    pub fn load(options: &LoadOptions) -> (Self, Vec<NotLoaded>) {
        let mut missing = Vec::new();
        let mut programs = Self::default();
        let btf = match Btf::from_sys_fs() {
            Ok(btf) => btf,
            Err(e) => {
                missing.push(NotLoaded {
                    program: "all".into(),
                    error: format!("/sys/kernel/btf/vmlinux: {}", explain(&e)),
                    costs: "nothing is seen from the kernel: it must be built with CONFIG_DEBUG_INFO_BTF",
                });
                return (programs, missing);
            }
        };
        let unified = open_unified(options.unified_cgroup.as_deref());
        let loading = Loading { btf: &btf, unified: unified.as_ref().map_err(String::as_str) };
        if options.memory {
            let loaded = Memory::load(&loading, &mut missing);
            programs.memory = keep("memory", loaded, &mut missing);
        }
        if options.oom {
            let loaded = Oom::load(&loading, &mut missing);
            programs.oom = keep("oom", loaded, &mut missing);
        }
        if options.http {
            let loaded = Http::load(&loading, &mut missing);
            programs.http = keep("http", loaded, &mut missing);
        }
        if options.net {
            let loaded = Net::load(&loading, &mut missing);
            programs.net = keep("net", loaded, &mut missing);
        }
        if options.dns {
            let loaded = Dns::load(&loading, &mut missing);
            programs.dns = keep("dns", loaded, &mut missing);
        }
        if options.cpu {
            let loaded = Cpu::load(&loading, &mut missing);
            programs.cpu = keep("cpu", loaded, &mut missing);
        }
        if options.block {
            let loaded = Block::load(&loading, &mut missing);
            programs.block = keep("block", loaded, &mut missing);
        }
        (programs, missing)
    }

    /// What all of them lost since they were loaded, by object; also what is zero.
    ///
    /// # Errors
    /// [`ReadError`] if the kernel refuses.
    pub fn losses(&self) -> Result<Vec<(&'static str, Vec<Loss>)>, ReadError> {
        let all = [
            ("memory", self.memory.as_ref().map(Memory::losses)),
            ("oom", self.oom.as_ref().map(Oom::losses)),
            ("http", self.http.as_ref().map(Http::losses)),
            ("net", self.net.as_ref().map(Net::losses)),
            ("dns", self.dns.as_ref().map(Dns::losses)),
            ("cpu", self.cpu.as_ref().map(Cpu::losses)),
            ("block", self.block.as_ref().map(Block::losses)),
        ];
        let loaded = all.into_iter().filter_map(|(object, losses)| Some((object, losses?)));
        loaded.map(|(object, losses)| Ok((object, losses?))).collect()
    }
}

/// An object whose maps are not what the reader expects is not used at all.
fn keep<T>(
    object: &str,
    loaded: Result<Option<T>, String>,
    missing: &mut Vec<NotLoaded>,
) -> Option<T> {
    loaded.unwrap_or_else(|error| {
        let costs = "nothing of this object is used; this is a bug";
        missing.push(NotLoaded { program: object.to_owned(), error, costs });
        None
    })
}

fn open_unified(path: Option<&Path>) -> Result<File, String> {
    let found = match path {
        Some(path) => path.to_owned(),
        None => {
            let mounts = std::fs::read_to_string("/proc/self/mountinfo")
                .map_err(|e| format!("/proc/self/mountinfo: {e}"))?;
            unified_mount(&mounts).ok_or("no unified (v2) cgroup hierarchy is mounted")?
        }
    };
    File::open(&found).map_err(|e| format!("{}: {e}", found.display()))
}

/// Mount point of the unified hierarchy as /proc/self/mountinfo has it (proc(5)): the one that shows its root, if there is.
fn unified_mount(mountinfo: &str) -> Option<PathBuf> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, point) = (left.next()?, left.next()?);
        (right.split(' ').next()? == "cgroup2").then(|| (root == "/", unescape(point)))
    });
    let mounts: Vec<_> = mounts.collect();
    let whole = mounts.iter().find(|(root, _)| *root).or(mounts.first());
    whole.map(|(_, point)| point.into())
}

/// Blanks, tabs, newlines and backslashes are octal in mountinfo.
fn unescape(text: &str) -> String {
    let octal = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    octal.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unified_hierarchy_is_found() {
        let hybrid = "36 35 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      30 25 0:26 /pod1 /mnt/part rw - cgroup2 cgroup2 rw\n\
                      45 35 0:38 / /sys/fs/cgroup/uni\\040fied rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(unified_mount(hybrid), Some("/sys/fs/cgroup/uni fied".into()));
        let part = "30 25 0:26 /pod1 /mnt/part rw - cgroup2 cgroup2 rw";
        assert_eq!(unified_mount(part), Some("/mnt/part".into()));
        assert_eq!(unified_mount("1 2 0:3 / / rw - ext4 /dev/vda rw\nnonsense\n"), None);
    }
}
