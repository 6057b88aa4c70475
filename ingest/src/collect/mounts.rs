//! Where the cgroup hierarchies are mounted, from `/proc/self/mountinfo`.

use std::path::{Path, PathBuf};

/// Mount points of the hierarchies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Mounts {
    pub v1_memory: Option<PathBuf>,
    pub v1_cpu: Option<PathBuf>,
    pub v1_cpuacct: Option<PathBuf>,
    pub v1_pids: Option<PathBuf>,
    pub v1_blkio: Option<PathBuf>,
    pub v2: Option<PathBuf>,
}

impl Mounts {
    pub(crate) fn parse(mountinfo: &str) -> Self {
        let mut m = Self::default();
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let Some(point) = left.split(' ').nth(4) else { continue };
            let point = PathBuf::from(unescape(point));
            let mut right = right.split(' ');
            let fs = right.next().unwrap_or_default();
            let options = right.nth(1).unwrap_or_default();
            if fs == "cgroup2" {
                m.v2.get_or_insert(point);
                continue;
            }
            if fs != "cgroup" {
                continue;
            }
            for option in options.split(',') {
                let slot = match option {
                    "memory" => &mut m.v1_memory,
                    "cpu" => &mut m.v1_cpu,
                    "cpuacct" => &mut m.v1_cpuacct,
                    "pids" => &mut m.v1_pids,
                    "blkio" => &mut m.v1_blkio,
                    _ => continue,
                };
                slot.get_or_insert_with(|| point.clone());
            }
        }
        m
    }

    /// The hierarchy that owns the memory controller: its version and mount point.
    pub(crate) fn memory(&self) -> Option<(i64, &Path)> {
        if let Some(p) = &self.v1_memory {
            return Some((1, p));
        }
        let p = self.v2.as_deref()?;
        let controllers = std::fs::read_to_string(p.join("cgroup.controllers")).ok()?;
        controllers.split_whitespace().any(|c| c == "memory").then_some((2, p))
    }
}

/// Spaces and the like are written as `\040`.
pub(crate) fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        let code = bytes
            .get(i + 1..i + 4)
            .filter(|_| bytes[i] == b'\\')
            .and_then(|o| u8::from_str_radix(std::str::from_utf8(o).ok()?, 8).ok());
        match code {
            Some(c) => {
                out.push(c);
                i += 4;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_all_layouts() {
        let m = Mounts::parse(
            "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
             33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             35 31 0:32 / /a\\040b/memory rw,relatime shared:5 - cgroup cgroup rw,memory\n\
             40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
             broken line\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n",
        );
        assert_eq!(m.v1_memory, Some("/a b/memory".into()));
        assert_eq!(m.v1_cpu, Some("/sys/fs/cgroup/cpu,cpuacct".into()));
        assert_eq!(m.v1_cpu, m.v1_cpuacct);
        assert_eq!(m.v2, Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(m.memory(), Some((1, Path::new("/a b/memory"))));
        assert_eq!(Mounts::parse("").memory(), None);
    }
}
