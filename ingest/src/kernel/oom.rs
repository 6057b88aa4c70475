//! OOM victims as events.

use std::collections::{HashMap, VecDeque};

use tapio_ebpf::{CgroupLevel, OomLimit, OomVictim};
use tapio_sql::derived_id;

use super::{
    Moment,
    subjects::{Subject, Subjects},
};
use crate::collect::{
    attribute,
    ids::Ids,
    sample::{Event, Series},
    tree::{Tree, parent},
};

/// Victims and incidents that are remembered.
const REMEMBERED: usize = 1024;

/// What was told.
#[derive(Debug)]
pub(super) struct Victims {
    boot_id: String,
    /// The kernel marks a process again for each of its threads that runs out of memory while it ends.
    told: VecDeque<(u32, u64)>,
    /// Id of an incident, by the loader's number.
    incidents: HashMap<u64, String>,
    cgroups: Vec<u64>,
    /// Series that were made here for cgroups that nobody saw.
    made: Vec<i64>,
}

impl Victims {
    pub(super) fn new(boot_id: &str) -> Self {
        Self {
            boot_id: boot_id.to_owned(),
            told: VecDeque::new(),
            incidents: HashMap::new(),
            cgroups: Vec::new(),
            made: Vec::new(),
        }
    }

    /// Memory cgroups of the victims since the last [`Victims::settled`].
    pub(super) fn cgroups(&self) -> &[u64] {
        &self.cgroups
    }

    /// The victims so far are accounted for.
    pub(super) fn settled(&mut self) {
        self.cgroups.clear();
    }

    /// One `oom.kill` per victim. A cgroup that nobody saw gets its series here: it is told with the event and ends with it.
    pub(super) fn tell(
        &mut self,
        victims: impl Iterator<Item = OomVictim>,
        subjects: &Subjects,
        ids: &mut Ids,
        tree: Option<&Tree>,
        moment: Moment,
        events: &mut Vec<Event>,
    ) {
        for id in self.made.drain(..) {
            // It may have been seen after all.
            if !tree.is_some_and(|t| t.iter().any(|(_, _, series)| series == id)) {
                ids.retire(id);
            }
        }
        for v in victims {
            if self.told.contains(&(v.tgid, v.start_ns)) {
                continue;
            }
            if self.told.len() >= REMEMBERED {
                self.told.pop_front();
            }
            self.told.push_back((v.tgid, v.start_ns));
            self.cgroups.push(v.cgroups.memory);
            let Some(subject) = subject(&v, subjects, ids, tree) else { continue };
            if subjects.cgroup(v.cgroups.memory).is_none() && &*subject.path != "/" {
                self.made.push(subject.series_id);
            }
            events.push(self.event(&v, &subject, subjects, moment));
        }
    }

    fn event(&mut self, v: &OomVictim, subject: &Subject, subjects: &Subjects, m: Moment) -> Event {
        let (pid, start) = (v.tgid.to_string(), v.start_ns.to_string());
        if self.incidents.len() >= REMEMBERED {
            self.incidents.retain(|number, _| *number == v.incident);
        }
        let first = || derived_id(&["oom.incident", &self.boot_id, &pid, &start]);
        let incident = self.incidents.entry(v.incident).or_insert_with(first).clone();
        let bytes = |n: u64| n.to_string();
        let mut attributes = vec![
            ("incident", incident),
            ("unit", "{kill}".into()),
            ("rss_bytes", bytes(v.memory.rss_bytes())),
            ("anon_bytes", bytes(v.memory.anon_bytes)),
            ("file_bytes", bytes(v.memory.file_bytes)),
            ("shmem_bytes", bytes(v.memory.shmem_bytes)),
            ("swap_bytes", bytes(v.memory.swap_bytes)),
            ("virtual_bytes", bytes(v.virtual_bytes)),
            ("uid", v.uid.to_string()),
            ("trigger_pid", v.trigger_tgid.to_string()),
        ];
        let cause = match v.limit {
            OomLimit::Node => {
                attributes.push(("limit_level", "node".into()));
                "the machine had no memory left".to_owned()
            }
            OomLimit::Unknown => {
                attributes.push(("limit_level", "unknown".into()));
                "the kernel does not say which limit was hit".to_owned()
            }
            OomLimit::Cgroup(at) => {
                let path = level_path(v, at, subjects);
                let kind = attribute(&path).kind;
                attributes.push(("limit_level", kind.into()));
                attributes.push(("limit_path", path.clone()));
                let limit = v.levels.get(at).and_then(|l: &CgroupLevel| l.limit_bytes);
                let usage = v.levels.get(at).map(|l| l.usage_bytes);
                attributes.extend(limit.map(|l| ("limit_bytes", bytes(l))));
                attributes.extend(usage.map(|u| ("limit_usage_bytes", bytes(u))));
                let size = limit.map_or(String::new(), |l| format!(" of {l} bytes"));
                format!("the {kind} {path} hit its limit{size}")
            }
        };
        let group = v.levels.iter().any(|l| l.oom_group);
        attributes.push(("oom_group", group.to_string()));
        let place = &subject.path;
        Event {
            id: derived_id(&["oom.kill", &self.boot_id, "victim", &pid, &start]),
            ts: Some(m.of(v.boot_ns)),
            kind: "oom.kill",
            severity: "critical",
            pid: Some(i64::from(v.tgid)),
            comm: v.comm.clone(),
            message: format!(
                "the kernel killed {} ({pid}) in {place} for lack of memory: {cause}",
                v.comm
            ),
            value: Some(1.0),
            attributes,
            ..subject.event()
        }
    }
}

/// The cgroup that the victim was in. Its directory may be gone, and may have come and gone between two ticks.
fn subject(
    v: &OomVictim,
    subjects: &Subjects,
    ids: &mut Ids,
    tree: Option<&Tree>,
) -> Option<Subject> {
    let node = || subjects.node().cloned();
    if v.levels.is_empty() || v.cgroups.memory == 0 {
        return node();
    }
    if let Some(known) = subjects.cgroup(v.cgroups.memory) {
        return Some(known.clone());
    }
    // With only a part of the node collected, nothing is known of the others.
    let node_id = node()?.series_id;
    let path = v.memory_cgroup_path();
    let a = attribute(&path);
    let identity = ids.of_cgroup(&a, &path, v.cgroups.memory);
    let parent_id = match parent(&path) {
        "/" => Some(node_id),
        p => tree.and_then(|t| t.series_of(p)),
    };
    let series = Series { identity, name: a.name, parent_id, ..Series::default() };
    let series_id = ids.register(series)?;
    Some(Subject { series_id, path: path.into() })
}

/// Path of a level: as the collector knows it, else from the names in the record.
fn level_path(v: &OomVictim, at: usize, subjects: &Subjects) -> String {
    let known = v.levels.get(at).and_then(|l| subjects.cgroup(l.id));
    known.map_or_else(
        || v.levels.iter().skip(at).rev().map(|l| format!("/{}", l.name)).collect(),
        |s| s.path.to_string(),
    )
}
