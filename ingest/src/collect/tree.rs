//! All cgroups of the memory controller: found, followed, read.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use super::{
    cgroup::Cgroup,
    files::Budget,
    ids::Ids,
    kills::Counted,
    mounts::Mounts,
    sample::{Event, HEADROOM, LEVEL, OOM_KILLS, Sample, Series, Subject, limit_change},
};
use crate::Severity;

/// The tree below the mount point of the hierarchy that owns the memory controller. The root itself is not a cgroup
/// here: it has no limit, and the node's row stands for it.
#[derive(Debug)]
pub(crate) struct Tree {
    mounts: Mounts,
    root: PathBuf,
    version: i64,
    filter: Option<String>,
    budget: Budget,
    root_links: u64,
    /// Parents sort before their children.
    cgroups: BTreeMap<String, Cgroup>,
    first: bool,
}

/// What the ancestors leave to a cgroup.
#[derive(Debug, Clone, Copy)]
struct Room {
    headroom: Option<i64>,
    /// A limit or level on the way up could not be read.
    unknown: bool,
    swap: i64,
}

impl Tree {
    pub(crate) fn new(
        mounts: Mounts,
        version: i64,
        root: PathBuf,
        filter: Option<String>,
        budget: Budget,
    ) -> Self {
        Self {
            mounts,
            root,
            version,
            filter,
            budget,
            root_links: 0,
            cgroups: BTreeMap::new(),
            first: true,
        }
    }

    pub(crate) fn series_of(&self, path: &str) -> Option<i64> {
        self.cgroups.get(path)?.series_id
    }

    /// The lowest limit of a cgroup and those above it, bytes, as last read; `None` if there is none.
    pub(crate) fn limit_of(&self, path: &str) -> Option<i64> {
        let above = path.match_indices('/').map(|(i, _)| &path[..i]).chain([path]);
        above.filter_map(|p| self.cgroups.get(p)?.last_limit?).min()
    }

    pub(crate) fn len(&self) -> usize {
        self.cgroups.len()
    }

    fn wanted(&self, path: &str) -> bool {
        let Some(filter) = &self.filter else { return true };
        below(path, filter) || below(filter, path)
    }

    /// Looks for new and vanished cgroups. A directory is listed again only if its number of links changed (it counts
    /// subdirectories) or a child of it vanished, so a quiet tree costs one `stat` per cgroup.
    pub(crate) fn refresh(&mut self, ids: &mut Ids, node: Option<i64>) {
        let mut list: Vec<String> = Vec::new();
        let mut gone: Vec<String> = Vec::new();
        match links(&self.root) {
            Some((n, _)) if n != self.root_links || n < 2 => {
                self.root_links = n;
                list.push("/".into());
            }
            Some(_) => {}
            None => {
                let detail = format!("cannot read {}", self.root.display());
                ids.health.count("collector.cgroup", "root_unreadable", 1, Severity::Error, detail);
            }
        }
        for (path, c) in &mut self.cgroups {
            match links(&c.fs) {
                Some((n, inode)) if inode == c.inode => {
                    if n != c.links || n < 2 {
                        c.links = n;
                        list.push(path.clone());
                    }
                }
                _ => gone.push(path.clone()),
            }
        }
        for path in gone {
            list.extend(self.remove(&path, ids));
        }
        while let Some(path) = list.pop() {
            let dir = self.root.join(path.trim_start_matches('/'));
            let Ok(entries) = std::fs::read_dir(&dir) else { continue };
            for entry in entries.flatten() {
                if !entry.file_type().is_ok_and(|t| t.is_dir()) {
                    continue;
                }
                let name = entry.file_name();
                let Some(name) = name.to_str() else {
                    let detail = format!("{} is not UTF-8", entry.path().display());
                    ids.health.count("collector.cgroup", "skipped", 1, Severity::Warning, detail);
                    continue;
                };
                let child = format!("{}/{name}", path.trim_end_matches('/'));
                if self.cgroups.contains_key(&child) || !self.wanted(&child) {
                    continue;
                }
                let Some((n, inode)) = links(&entry.path()) else { continue };
                self.add(&child, inode, n, ids, node);
                list.push(child);
            }
        }
    }

    fn add(&mut self, path: &str, inode: u64, links: u64, ids: &mut Ids, node: Option<i64>) {
        let v2 = self.version == 2;
        let mut c = Cgroup::open(&self.mounts, v2, &self.root, path, inode, &self.budget);
        c.links = links;
        let identity = ids.of_cgroup(&c.attribution, path, inode);
        let parent_id = match parent(path) {
            "/" => node,
            p => self.series_of(p),
        };
        c.series_id = ids.register(Series {
            identity,
            name: c.attribution.name.clone(),
            cgroup_fs: c.fs.display().to_string(),
            cgroup_version: Some(self.version),
            parent_id,
            ..Series::default()
        });
        self.cgroups.insert(path.to_owned(), c);
    }

    /// Forgets a cgroup and all below it; answers the parent, whose children are to be listed again.
    fn remove(&mut self, path: &str, ids: &mut Ids) -> Option<String> {
        let dead: Vec<String> = self.cgroups.keys().filter(|p| below(p, path)).cloned().collect();
        for p in &dead {
            if let Some(id) = self.cgroups.remove(p).and_then(|c| c.series_id) {
                ids.retire(id);
            }
        }
        (!dead.is_empty()).then(|| parent(path).to_owned())
    }

    /// The followed cgroups that have a series: path, inode, series.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, u64, i64)> {
        self.cgroups.iter().filter_map(|(p, c)| Some((p.as_str(), c.inode, c.series_id?)))
    }

    /// Whether a cgroup of that inode is followed.
    pub(crate) fn has_inode(&self, inode: u64) -> bool {
        self.cgroups.values().any(|c| c.inode == inode)
    }

    /// Reads all cgroups; answers where processes were killed.
    pub(crate) fn read(
        &mut self,
        ids: &mut Ids,
        swap_free: Option<i64>,
        ts: i64,
        samples: &mut Vec<Sample>,
        events: &mut Vec<Event>,
        buffer: &mut Vec<u8>,
    ) -> Vec<Counted> {
        let swap = swap_free.is_some_and(|s| s > 0);
        let top = Room { headroom: None, unknown: false, swap: swap_free.unwrap_or(0) };
        let mut rooms: HashMap<&str, Room> = HashMap::with_capacity(self.cgroups.len());
        let mut gone = Vec::new();
        let (mut unreadable, mut example) = (0, String::new());
        let mut kills = Vec::new();
        for (path, c) in &mut self.cgroups {
            let Some(mut r) = c.read(swap, buffer) else {
                gone.push(path.clone());
                continue;
            };
            if r.unreadable > 0 {
                unreadable += r.unreadable;
                example = c.fs.display().to_string();
            }
            let above = rooms.get(parent(path)).copied().unwrap_or(top);
            let room = room(above, &r.sample, r.limit, r.swap_limit, r.swap_used, self.version);
            rooms.insert(path, room);
            let Some(series_id) = c.series_id else { continue };
            r.sample.values[HEADROOM] = room.headroom.filter(|_| !room.unknown);
            let subject =
                Subject { boot_id: &ids.boot_id, inode: c.inode, series_id, cgroup: path };
            if let Some(after) = r.sample.values[OOM_KILLS] {
                // A cgroup that came since the last tick began at 0; one that was there before Tapio began anywhere.
                let before = c.last_oom_kills.unwrap_or(if self.first { after } else { 0 });
                if after > before {
                    let (inode, cgroup) = (c.inode, path.clone());
                    kills.push(Counted { inode, series_id, cgroup, before, after, ts });
                }
                c.last_oom_kills = Some(after);
            }
            if let Some(after) = r.limit {
                if let Some(before) = c.last_limit
                    && before != after
                {
                    events.push(limit_change(&subject, ts, before, after));
                }
                c.last_limit = Some(after);
            }
            samples.push(r.sample);
        }
        self.first = false;
        let n = gone.len() as i64;
        for path in gone {
            let detail =
                format!("{path} vanished while it was read; its row of this tick is dropped");
            ids.health.count("collector.cgroup", "vanished", 1, Severity::Info, detail);
            if let Some(p) = self.remove(&path, ids) {
                match self.cgroups.get_mut(&p) {
                    Some(c) => c.links = 0,
                    None => self.root_links = 0,
                }
            }
        }
        let detail = format!("values that could not be read are NULL, last in {example}");
        ids.health.count(
            "collector.cgroup",
            "values_unreadable",
            unreadable,
            Severity::Warning,
            detail,
        );
        tracing::trace!(vanished = n, unreadable, "cgroups read");
        kills
    }
}

/// Headroom of a cgroup from that of its parent and its own limit.
fn room(
    above: Room,
    sample: &Sample,
    limit: Option<Option<i64>>,
    swap_limit: Option<i64>,
    swap_used: Option<i64>,
    version: i64,
) -> Room {
    let level = sample.values[LEVEL];
    let mut room = above;
    let mut own: Vec<Option<i64>> = Vec::new();
    if version == 2 {
        if let (Some(limit), Some(used)) = (swap_limit, swap_used) {
            room.swap = room.swap.min((limit - used).max(0));
        }
    } else if let Some(both) = swap_limit {
        // v1 limits memory and swap together.
        own.push(level.zip(swap_used).map(|(l, s)| both - l - s));
    }
    match limit {
        Some(Some(limit)) => own.push(level.map(|l| limit - l + room.swap)),
        Some(None) => {}
        None => own.push(None),
    }
    for o in own {
        match o {
            Some(o) => room.headroom = Some(room.headroom.map_or(o, |h| h.min(o))),
            None => room.unknown = true,
        }
    }
    room
}

/// Links and inode of a directory.
fn links(path: &Path) -> Option<(u64, u64)> {
    let s = rustix::fs::stat(path).ok()?;
    (s.st_nlink > 0).then_some((s.st_nlink as u64, s.st_ino))
}

pub(crate) fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(i) => &path[..i],
    }
}

/// Whether `path` is `top` or lies below it.
pub(crate) fn below(path: &str, top: &str) -> bool {
    let top = top.trim_end_matches('/');
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
