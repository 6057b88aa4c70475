//! From the ids of cgroups in a record to the series it belongs to.
//!
//! A cgroup id is the inode of its directory and is never given again while the machine is up, so attribution goes by what
//! the kernel program saw: it survives pids that are used again, and a process that moves is told in both of its cgroups. In
//! the hierarchy of the memory controller the id is that of a series. A record that has only an id of another hierarchy (on
//! hybrid machines the socket of a server, or the cgroup that I/O is charged to) is led there through a process that is in
//! both; if there is none, by the same path. Where every process is in the root of the unified hierarchy, the server's port
//! leads to the process that listens there.

use std::{
    collections::HashMap,
    net::SocketAddr,
    os::unix::fs::{DirEntryExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use tapio_ebpf::CgroupIds;

use super::listeners::Listeners;
use crate::collect::{
    mounts::Mounts,
    process::Paths,
    sample::Event,
    tree::{Tree, parent},
};

/// Ticks for which the series of a cgroup that is gone is remembered: what it did last is told with the next ticks.
const REMEMBER: u64 = 60;
/// Ticks for which it is believed that a cgroup of another hierarchy holds the same processes.
const BELIEVE: u64 = 10;
/// Ticks between two walks through another hierarchy.
const WALK_EVERY: u64 = 2;

/// Whose record it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    pub series_id: i64,
    /// Path of the memory cgroup; "/" for the node.
    pub path: Arc<str>,
}

impl Subject {
    /// An event about it, to be filled in.
    pub(super) fn event(&self) -> Event {
        let cgroup = if &*self.path == "/" { String::new() } else { self.path.to_string() };
        Event { source: "ebpf", series_id: self.series_id, cgroup, ..Event::default() }
    }
}

#[derive(Debug)]
struct Known {
    subject: Subject,
    seen: u64,
}

/// All cgroups that have a series, and the ways to them.
#[derive(Debug)]
pub(super) struct Subjects {
    proc_root: PathBuf,
    node: Option<Subject>,
    root: Option<u64>,
    known: HashMap<u64, Known>,
    by_path: HashMap<Arc<str>, u64>,
    unified: Other,
    io: Other,
    listeners: Listeners,
    targets: HashMap<(u32, SocketAddr), Option<i64>>,
    tick: u64,
    unknown: i64,
}

impl Subjects {
    pub(super) fn new(mounts: &Mounts, proc_root: &Path) -> Self {
        let memory = mounts.memory();
        let other = |mount: &Option<PathBuf>| match (memory, mount) {
            (Some((2, _)), _) => Other::Memory,
            (_, Some(root)) => Other::Apart(Hierarchy::new(root)),
            (_, None) => Other::Missing,
        };
        Self {
            proc_root: proc_root.to_owned(),
            node: None,
            root: memory.and_then(|(_, root)| inode(root)),
            known: HashMap::new(),
            by_path: HashMap::new(),
            unified: other(&mounts.v2),
            io: other(&mounts.v1_blkio),
            listeners: Listeners::new(proc_root),
            targets: HashMap::new(),
            tick: 0,
            unknown: 0,
        }
    }

    /// Learns which cgroups there are. `node`: whose records are those that no cgroup is known for.
    pub(super) fn refresh(&mut self, tree: Option<&Tree>, node: Option<i64>) {
        self.tick += 1;
        let tick = self.tick;
        self.targets.clear();
        if self.node.as_ref().map(|n| n.series_id) != node {
            self.node = node.map(|series_id| Subject { series_id, path: "/".into() });
        }
        for (path, inode, series_id) in tree.iter().flat_map(|t| t.iter()) {
            if let Some(known) = self.known.get_mut(&inode) {
                known.seen = tick;
                continue;
            }
            let path: Arc<str> = path.into();
            self.by_path.insert(path.clone(), inode);
            self.known.insert(inode, Known { subject: Subject { series_id, path }, seen: tick });
        }
        let by_path = &mut self.by_path;
        self.known.retain(|inode, known| {
            let keep = tick - known.seen <= REMEMBER;
            if !keep && by_path.get(&known.subject.path) == Some(inode) {
                by_path.remove(&known.subject.path);
            }
            keep
        });
    }

    /// Whose a record is. `port`: of the server, if this is its end. `None`: nobody's that is collected.
    pub(super) fn of(&mut self, cgroups: CgroupIds, port: Option<u16>) -> Option<Subject> {
        if cgroups.memory != 0 {
            return self.by_memory(cgroups.memory);
        }
        let path = match &mut self.unified {
            Other::Memory => return self.by_memory(cgroups.unified),
            Other::Apart(h) => h.memory_path(cgroups.unified, self.tick, &self.proc_root),
            Other::Missing => None,
        };
        let path = path.or_else(|| Some(self.listeners.of_port(port?, self.tick)?.to_owned()));
        path.and_then(|p| self.nearest(&p)).or_else(|| self.node.clone())
    }

    /// As [`Subjects::of`], for a cgroup of the hierarchy that I/O is charged to.
    pub(super) fn of_io(&mut self, cgroup: u64) -> Option<i64> {
        let path = match &mut self.io {
            Other::Memory => return self.by_memory(cgroup).map(|s| s.series_id),
            Other::Apart(h) => h.memory_path(cgroup, self.tick, &self.proc_root),
            Other::Missing => None,
        };
        let subject = path.and_then(|p| self.nearest(&p)).or_else(|| self.node.clone());
        subject.map(|s| s.series_id)
    }

    /// The node, if all of it is collected.
    pub(super) fn node(&self) -> Option<&Subject> {
        self.node.as_ref()
    }

    /// The cgroup of that id in the hierarchy of the memory controller; `None`: never seen.
    pub(super) fn cgroup(&self, memory: u64) -> Option<&Subject> {
        self.known.get(&memory).map(|k| &k.subject)
    }

    /// The series that answers at an address of this node, as the process `tgid` reaches it.
    pub(super) fn target(&mut self, tgid: u32, address: SocketAddr) -> Option<i64> {
        if let Some(known) = self.targets.get(&(tgid, address)) {
            return *known;
        }
        let path = self.listeners.at(tgid, address, self.tick).map(ToOwned::to_owned);
        let target = path.and_then(|p| self.nearest(&p).or_else(|| self.node.clone()));
        let target = target.map(|s| s.series_id);
        self.targets.insert((tgid, address), target);
        target
    }

    /// A cgroup and its ancestors up to the node, by series.
    pub(super) fn upwards(&self, subject: &Subject) -> Vec<i64> {
        let mut all = vec![subject.series_id];
        let mut path = &*subject.path;
        while path != "/" {
            path = parent(path);
            all.extend(
                if path == "/" { self.node.as_ref() } else { self.alive(path) }
                    .map(|s| s.series_id),
            );
        }
        all
    }

    /// The series of all cgroups and of the node.
    pub(super) fn series(&self) -> impl Iterator<Item = i64> {
        self.known.values().map(|k| &k.subject).chain(&self.node).map(|s| s.series_id)
    }

    /// How many records came from cgroups that were never seen, since the last call.
    pub(super) fn take_unknown(&mut self) -> i64 {
        std::mem::take(&mut self.unknown)
    }

    fn by_memory(&mut self, id: u64) -> Option<Subject> {
        if let Some(known) = self.known.get(&id) {
            return Some(known.subject.clone());
        }
        if id != 0 && self.root.is_some_and(|root| root != id) && self.node.is_some() {
            self.unknown += 1;
        }
        self.node.clone()
    }

    fn alive(&self, path: &str) -> Option<&Subject> {
        let known = self.known.get(self.by_path.get(path)?)?;
        (known.seen == self.tick).then_some(&known.subject)
    }

    /// The cgroup of that path, or the nearest one above it.
    fn nearest(&self, path: &str) -> Option<Subject> {
        let mut path = path;
        while path != "/" {
            if let Some(found) = self.alive(path) {
                return Some(found.clone());
            }
            path = parent(path);
        }
        None
    }
}

/// Where ids of another kind are from.
#[derive(Debug)]
enum Other {
    /// The hierarchy of the memory controller after all.
    Memory,
    Apart(Hierarchy),
    /// It is not mounted: nothing can be said of its ids.
    Missing,
}

/// A hierarchy that the memory controller is not in.
#[derive(Debug)]
struct Hierarchy {
    root: PathBuf,
    root_id: Option<u64>,
    paths: HashMap<u64, String>,
    walked: Option<u64>,
    /// Memory cgroup of a process that is in it, and since when that is believed.
    members: HashMap<u64, (Option<String>, u64)>,
}

impl Hierarchy {
    fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            root_id: inode(root),
            paths: HashMap::new(),
            walked: None,
            members: HashMap::new(),
        }
    }

    /// Path of the memory cgroup whose processes are in this one; `None` for the root and for what is not there.
    fn memory_path(&mut self, id: u64, tick: u64, proc_root: &Path) -> Option<String> {
        if id == 0 || Some(id) == self.root_id {
            return None;
        }
        if let Some((path, since)) = self.members.get(&id)
            && tick - since < BELIEVE
        {
            return path.clone();
        }
        if !self.paths.contains_key(&id) && self.walked.is_none_or(|w| tick - w >= WALK_EVERY) {
            self.walked = Some(tick);
            self.paths.clear();
            let root = self.root.clone();
            walk(&root, "", &mut self.paths);
            let paths = &self.paths;
            self.members.retain(|id, _| paths.contains_key(id));
        }
        let own = self.paths.get(&id)?;
        let member = member(&self.root.join(&own[1..]), proc_root);
        let path = Some(member.unwrap_or_else(|| own.clone()));
        self.members.insert(id, (path.clone(), tick));
        path
    }
}

/// Memory cgroup of the first process of a cgroup that can be seen.
fn member(dir: &Path, proc_root: &Path) -> Option<String> {
    let pids = std::fs::read_to_string(dir.join("cgroup.procs")).ok()?;
    pids.lines().find_map(|pid| {
        let cgroups = std::fs::read_to_string(proc_root.join(pid).join("cgroup")).ok()?;
        Some(Paths::parse(&cgroups).memory)
    })
}

fn walk(dir: &Path, path: &str, paths: &mut HashMap<u64, String>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
        let child = format!("{path}/{}", entry.file_name().to_string_lossy());
        walk(&entry.path(), &child, paths);
        paths.insert(entry.ino(), child);
    }
}

fn inode(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|m| m.ino())
}
