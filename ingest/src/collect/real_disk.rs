//! The real kernel: a filesystem of our own that fills up.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use arrow::{array::AsArray, datatypes::Int64Type};

use super::{Collector, CollectorOptions, Filesystems};
use crate::{Clock, SystemClock};

const MIB: i64 = 1 << 20;

/// A tmpfs that is unmounted at the end.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}

fn values(c: &mut Collector, table: &str, column: &str) -> Vec<Option<i64>> {
    let tick = c.tick(SystemClock.now_us());
    let batch = tick.batches.iter().find(|b| b.def().name == table).unwrap().batch();
    batch.column_by_name(column).unwrap().as_primitive::<Int64Type>().iter().collect()
}

#[test]
fn a_real_filesystem_shows_bytes_and_inodes_until_it_is_full() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none_or(|v| v != "true"), "CI must run this as root");
        eprintln!("SKIPPED: a_real_filesystem_shows_bytes_and_inodes_until_it_is_full needs root");
        return;
    }
    let dir = std::env::temp_dir().join(format!("tapio test disk {}", std::process::id()));
    fs::create_dir(&dir).unwrap();
    let mounted = Mounted(dir.clone());
    let mount = |options: &str| {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tapio-test"]).arg(&dir);
        assert!(mount.status().unwrap().success());
    };
    mount("size=8m,nr_inodes=50");
    let mut c = Collector::new(CollectorOptions {
        filter: Some("/tapio-no-such-cgroup".into()),
        filesystems: Filesystems::At(dir.clone()),
        filesystem_interval: Duration::ZERO,
        ..CollectorOptions::default()
    })
    .unwrap();
    assert_eq!(values(&mut c, "disks", "used_bytes"), [Some(0)]);
    fs::write(dir.join("a"), vec![1u8; 3 << 20]).unwrap();
    assert_eq!(values(&mut c, "disks", "used_bytes"), [Some(3 * MIB)]);
    assert_eq!(values(&mut c, "disks", "available_bytes"), [Some(5 * MIB)]);
    assert_eq!(values(&mut c, "disks", "inodes_limit"), [Some(50)]);
    assert_eq!(values(&mut c, "disks", "inodes_used"), [Some(2)]);
    let error = fs::write(dir.join("b"), vec![1u8; 6 << 20]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    assert_eq!(values(&mut c, "disks", "available_bytes"), [Some(0)]);
    // What is mounted over it is another filesystem, and what is gone has no row.
    let first = values(&mut c, "disks", "series_id");
    mount("size=1m");
    let second = values(&mut c, "disks", "series_id");
    assert!(Command::new("umount").arg(&dir).status().unwrap().success());
    assert_ne!(first, second);
    drop(mounted);
    let tick = c.tick(SystemClock.now_us());
    assert!(tick.batches.iter().all(|b| b.def().name != "disks"));
}

#[test]
fn open_files_of_this_process_and_of_the_node_are_counted() {
    let mut c = Collector::new(CollectorOptions::default()).unwrap();
    // Enough to be followed for its descriptors alone.
    let held: Vec<_> = (0..400).map(|_| fs::File::open("/dev/null").unwrap()).collect();
    let tick = c.tick(SystemClock.now_us());
    let table = |name: &str| tick.batches.iter().find(|b| b.def().name == name).unwrap().batch();
    let series = table("series");
    let pids = series.column_by_name("pid").unwrap().as_primitive::<Int64Type>();
    let me = i64::from(std::process::id());
    let Some(row) = pids.iter().position(|p| p == Some(me)) else {
        // Before Linux 6.2 only the largest processes are followed.
        let size = fs::metadata("/proc/self/fd").unwrap().len();
        assert_eq!(size, 0, "this process is not followed");
        return;
    };
    let id = series.column_by_name("series_id").unwrap().as_primitive::<Int64Type>().value(row);
    let resources = table("resources");
    let at = |name: &str| resources.column_by_name(name).unwrap().as_primitive::<Int64Type>();
    let row = at("series_id").values().iter().position(|i| *i == id).unwrap();
    assert!(at("fds").value(row) >= held.len() as i64, "{}", at("fds").value(row));
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    assert_eq!(at("fds_limit").iter().nth(row).flatten(), limit.map(|l| l as i64));
    assert!(at("fds").value(0) >= held.len() as i64, "the node comes first");
}
