//! How full the local filesystems are, by statvfs(3).
//!
//! Network filesystems are left out, because asking a server that does not answer blocks for minutes; so are those that
//! are read-only, which cannot fill up.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use tapio_sql::{BatchError, TableBatch};

use super::{ids::Ids, mounts::unescape, sample::Series};
use crate::{
    Severity,
    rows::{Columns, ints},
};

/// Types that hold data of users on this machine.
const LOCAL: [&str; 18] = [
    "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "fuseblk", "hfsplus", "jfs",
    "nilfs2", "ntfs3", "reiserfs", "tmpfs", "ubifs", "vfat", "xfs", "zfs",
];
/// Types behind a network.
const REMOTE: [&str; 11] =
    ["9p", "afs", "beegfs", "ceph", "cifs", "gfs2", "lustre", "nfs", "nfs4", "ocfs2", "smb3"];

/// Which filesystems are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Filesystems {
    /// All local ones that can be written to.
    #[default]
    All,
    /// The one that is mounted at this path.
    At(PathBuf),
    /// None.
    None,
}

/// The filesystems that are followed, by mount point.
#[derive(Debug)]
pub(crate) struct Disks {
    which: Filesystems,
    proc_root: PathBuf,
    followed: BTreeMap<PathBuf, Followed>,
    refused: BTreeSet<PathBuf>,
}

#[derive(Debug)]
struct Followed {
    series_id: i64,
    incarnation: String,
}

/// A line of mountinfo (proc_pid_mountinfo(5)).
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    device_number: String,
    point: PathBuf,
    ty: String,
    device: String,
    read_only: bool,
}

/// A row of `disks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DiskSample {
    series_id: i64,
    size: Option<i64>,
    used: Option<i64>,
    available: Option<i64>,
    inodes_used: Option<i64>,
    inodes_limit: Option<i64>,
}

impl Disks {
    pub(crate) fn new(which: Filesystems, proc_root: &Path) -> Self {
        Self {
            which,
            proc_root: proc_root.to_owned(),
            followed: BTreeMap::new(),
            refused: BTreeSet::new(),
        }
    }

    /// Looks at what is mounted now and reads each filesystem once; one that cannot be read has no row and is counted.
    pub(crate) fn read(&mut self, ids: &mut Ids, node_id: Option<i64>) -> Vec<DiskSample> {
        if self.which == Filesystems::None {
            return Vec::new();
        }
        let unreadable = |ids: &Ids, detail: String| {
            ids.health.count("collector.disk", "unreadable", 1, Severity::Warning, detail);
        };
        let path = self.proc_root.join("self/mountinfo");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) => {
                unreadable(ids, format!("cannot read {}: {e}", path.display()));
                return Vec::new();
            }
        };
        let (mounts, remote) = chosen(&text, &self.which);
        if remote > 0 {
            let detail =
                "filesystems behind a network are not watched: asking a server that is gone blocks";
            ids.health.set("collector.disk", "remote_left_out", remote, Severity::Info, detail);
        }
        let mut seen = BTreeSet::new();
        let mut samples = Vec::new();
        for mount in mounts {
            let stat = match rustix::fs::statvfs(&mount.point) {
                Ok(stat) => stat,
                Err(e) => {
                    // Told once for each place: a FUSE mount of another user refuses even root for ever.
                    if self.refused.insert(mount.point.clone()) {
                        let detail = format!("statvfs {}: {e}", mount.point.display());
                        ids.health.count(
                            "collector.disk",
                            "unreadable",
                            1,
                            Severity::Warning,
                            detail,
                        );
                    }
                    continue;
                }
            };
            if stat.f_blocks == 0 {
                continue;
            }
            let incarnation = format!("{}:{:x}", mount.device_number, stat.f_fsid);
            let Some(series_id) = self.follow(&mount, incarnation, ids, node_id) else { continue };
            seen.insert(mount.point.clone());
            samples.push(DiskSample::new(series_id, &stat));
        }
        self.followed.retain(|point, f| {
            let stays = seen.contains(point);
            if !stays {
                ids.retire(f.series_id);
            }
            stays
        });
        samples
    }

    fn follow(
        &mut self,
        mount: &Mount,
        incarnation: String,
        ids: &mut Ids,
        node_id: Option<i64>,
    ) -> Option<i64> {
        if let Some(known) = self.followed.get(&mount.point) {
            if known.incarnation == incarnation {
                return Some(known.series_id);
            }
            // Something else is mounted there now.
            ids.retire(known.series_id);
            self.followed.remove(&mount.point);
        }
        let mut identity = ids.identity("filesystem");
        identity.mount_point = mount.point.to_string_lossy().into_owned();
        identity.incarnation.clone_from(&incarnation);
        let series = Series {
            name: identity.mount_point.clone(),
            identity,
            parent_id: node_id,
            device: mount.device.clone(),
            filesystem_type: mount.ty.clone(),
            ..Series::default()
        };
        let series_id = ids.register(series)?;
        self.followed.insert(mount.point.clone(), Followed { series_id, incarnation });
        Some(series_id)
    }
}

impl DiskSample {
    fn new(series_id: i64, s: &rustix::fs::StatVfs) -> Self {
        let bytes = |blocks: u64| i64::try_from(blocks.checked_mul(s.f_frsize)?).ok();
        let inodes = |n: u64| i64::try_from(n).ok().filter(|_| s.f_files > 0);
        Self {
            series_id,
            size: bytes(s.f_blocks),
            used: bytes(s.f_blocks.saturating_sub(s.f_bfree)),
            available: bytes(s.f_bavail),
            inodes_used: inodes(s.f_files.saturating_sub(s.f_ffree)),
            inodes_limit: inodes(s.f_files),
        }
    }
}

/// The mounts to read, each device once at its shortest mount point, and how many are left out because they are remote.
fn chosen(mountinfo: &str, which: &Filesystems) -> (Vec<Mount>, i64) {
    // Of several mounts at one place the last is seen.
    let mut by_point: BTreeMap<PathBuf, Mount> = BTreeMap::new();
    for mount in mountinfo.lines().filter_map(Mount::parse) {
        by_point.insert(mount.point.clone(), mount);
    }
    let mut by_device: BTreeMap<String, Mount> = BTreeMap::new();
    let mut remote = 0;
    for mount in by_point.into_values() {
        if REMOTE.contains(&mount.ty.as_str()) || mount.ty.starts_with("fuse.") {
            remote += 1;
            continue;
        }
        // The root of a container is an overlay; elsewhere an overlay shows a filesystem that is read at its own place.
        let local = LOCAL.contains(&mount.ty.as_str())
            || (mount.ty == "overlay" && mount.point == Path::new("/"));
        let asked = match which {
            Filesystems::All => true,
            Filesystems::At(point) => mount.point == *point,
            Filesystems::None => false,
        };
        // The kernel's own trees hold a tmpfs here and there, with nobody's data.
        let kernels = ["/proc", "/sys"].iter().any(|p| mount.point.starts_with(p));
        if !local || kernels || mount.read_only || !asked {
            continue;
        }
        let length = |m: &Mount| m.point.as_os_str().len();
        match by_device.get(&mount.device_number) {
            Some(known) if length(known) <= length(&mount) => {}
            _ => {
                by_device.insert(mount.device_number.clone(), mount);
            }
        }
    }
    (by_device.into_values().collect(), remote)
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ');
        let device_number = left.nth(2)?.to_owned();
        let point = PathBuf::from(unescape(left.nth(1)?));
        let mut right = right.split(' ');
        let (ty, device, options) = (right.next()?, right.next()?, right.next()?);
        Some(Self {
            device_number,
            point,
            ty: ty.to_owned(),
            device: unescape(device),
            read_only: options.split(',').any(|o| o == "ro"),
        })
    }
}

/// Rows of `disks`.
pub(crate) fn disks(
    samples: &[DiskSample],
    ts: i64,
    observed: i64,
) -> Result<TableBatch, BatchError> {
    let mut c = Columns::at("disks", samples.len(), ts, observed)?;
    c.set("series_id", ints(samples.iter().map(|s| Some(s.series_id))));
    c.set("size_bytes", ints(samples.iter().map(|s| s.size)));
    c.set("used_bytes", ints(samples.iter().map(|s| s.used)));
    c.set("available_bytes", ints(samples.iter().map(|s| s.available)));
    c.set("inodes_used", ints(samples.iter().map(|s| s.inodes_used)));
    c.set("inodes_limit", ints(samples.iter().map(|s| s.inodes_limit)));
    c.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &str = "22 27 0:21 / /proc rw,relatime - proc proc rw\n\
        27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n\
        41 27 254:0 /var/x /mnt/bind\\040mount rw - ext4 /dev/vda rw\n\
        42 27 7:1 / /snap/core ro,nodev - squashfs /dev/loop1 ro\n\
        43 27 0:50 / /mnt/nfs rw - nfs4 server:/export rw\n\
        44 27 0:51 / /mnt/ssh rw - fuse.sshfs me@host: rw\n\
        45 27 8:1 / /mnt/readonly ro - ext4 /dev/sda1 ro\n\
        46 27 0:52 / /var/lib/overlay/merged rw - overlay overlay rw,lowerdir=/a\n\
        49 27 0:55 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
        48 27 0:54 / /tmp rw - tmpfs hidden rw\n\
        47 27 0:53 / /tmp rw,nosuid shared:7 - tmpfs tmpfs rw,size=10k\n\
        broken\n";

    fn points(which: &Filesystems) -> Vec<String> {
        let (mounts, _) = chosen(MOUNTINFO, which);
        mounts.iter().map(|m| m.point.display().to_string()).collect()
    }

    #[test]
    fn local_writable_filesystems_are_read_once_each() {
        assert_eq!(points(&Filesystems::All), ["/tmp", "/"]);
        assert_eq!(chosen(MOUNTINFO, &Filesystems::All).1, 2);
        assert_eq!(points(&Filesystems::At("/tmp".into())), ["/tmp"]);
        assert_eq!(points(&Filesystems::At("/mnt/bind mount".into())), ["/mnt/bind mount"]);
        assert!(points(&Filesystems::None).is_empty());
        let (in_container, _) = chosen("9 1 0:99 / / rw - overlay overlay rw\n", &Filesystems::All);
        assert_eq!(in_container[0].ty, "overlay");
    }
}
