//! Victims of the OOM killer (`programs/oom.bpf.c`).

use std::collections::HashMap;

use aya::Pod;

use crate::{
    object::{Hook, Loading, Loss, NotLoaded, Object, Program, ReadError, Ring, Source},
    raw::{pages, resident, text},
    record::{CgroupIds, CgroupLevel, OomLimit, OomVictim},
};

const SOURCE: Source = Source {
    name: "oom",
    bytes: aya::include_bytes_aligned!("../objects/oom.o"),
    programs: &[Program {
        name: "mark_victim",
        hook: Hook::Tracepoint("mark_victim"),
        costs: "OOM kills are known from counters of cgroups only: no victim, no level that hit its limit",
    }],
    losses: &[("victims_lost", "OOM victims that found the ring buffer full")],
};

/// Victims of one level are one incident if the next is marked within this time.
const INCIDENT_GAP_NS: u64 = 1_000_000_000;
/// Levels whose last incident is remembered.
const REMEMBERED: usize = 1024;
/// A cgroup is at its limit if it is this near to it: what CPUs hold in stock for it (`MEMCG_CHARGE_BATCH` is 64 pages)
/// and a huge page that does not fit any more.
const NEAR_PAGES: u64 = 64 + 512;

const LEVELS: usize = 12;

/// `struct level`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct RawLevel {
    id: u64,
    usage_pages: u64,
    max_pages: u64,
    locked: u8,
    oom_group: u8,
    pad: [u8; 6],
    name: [u8; 112],
}

/// `struct victim`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct RawVictim {
    boot_ns: u64,
    tgid: u32,
    uid: u32,
    trigger_tgid: u32,
    levels_count: u32,
    start_ns: u64,
    pages: [i64; 4],
    total_vm_pages: u64,
    unified_cgroup: u64,
    lock_known: u8,
    pad: [u8; 7],
    comm: [u8; 16],
    levels: [RawLevel; LEVELS],
}
// SAFETY: integers only, no padding.
unsafe impl Pod for RawVictim {}

/// Victims of the OOM killer.
#[derive(Debug)]
pub struct Oom {
    object: Object,
    victims: Ring,
    incidents: Incidents,
}

impl Oom {
    pub(crate) fn load(
        loading: &Loading<'_>,
        missing: &mut Vec<NotLoaded>,
    ) -> Result<Option<Self>, String> {
        let Some(mut object) = Object::load(&SOURCE, loading, &[], missing) else {
            return Ok(None);
        };
        let victims = object.map("VICTIMS")?;
        Ok(Some(Self { object, victims, incidents: Incidents::default() }))
    }

    /// Appends the victims since the last call, in the order in which they were marked.
    pub fn poll(&mut self, out: &mut Vec<OomVictim>) {
        let incidents = &mut self.incidents;
        self.victims.drain(|raw: RawVictim| out.push(victim(&raw, incidents)));
    }

    /// What was lost since loading.
    ///
    /// # Errors
    /// [`ReadError`] if the kernel refuses.
    pub fn losses(&self) -> Result<Vec<Loss>, ReadError> {
        self.object.losses()
    }
}

fn victim(raw: &RawVictim, incidents: &mut Incidents) -> OomVictim {
    let raw_levels = &raw.levels[..(raw.levels_count as usize).min(LEVELS)];
    // page_counter.h: PAGE_COUNTER_MAX is LONG_MAX / PAGE_SIZE.
    let unlimited = i64::MAX as u64 / rustix::param::page_size() as u64;
    let bytes = |count: u64| pages(i64::try_from(count).unwrap_or(i64::MAX));
    let levels = raw_levels.iter().map(|l| CgroupLevel {
        id: l.id,
        name: text(&l.name),
        usage_bytes: bytes(l.usage_pages),
        limit_bytes: (l.max_pages < unlimited).then(|| bytes(l.max_pages)),
        oom_group: l.oom_group != 0,
    });
    let limit = limit(raw_levels, raw.lock_known != 0, unlimited);
    let id = match limit {
        OomLimit::Cgroup(level) => raw_levels[level].id,
        OomLimit::Node => 0,
        OomLimit::Unknown => raw_levels.first().map_or(0, |l| l.id),
    };
    OomVictim {
        boot_ns: raw.boot_ns,
        tgid: raw.tgid,
        start_ns: raw.start_ns,
        comm: text(&raw.comm),
        uid: raw.uid,
        trigger_tgid: raw.trigger_tgid,
        memory: resident(raw.pages),
        virtual_bytes: bytes(raw.total_vm_pages),
        cgroups: CgroupIds {
            memory: raw_levels.first().map_or(0, |l| l.id),
            unified: raw.unified_cgroup,
        },
        levels: levels.collect(),
        limit,
        incident: incidents.of(id, raw.boot_ns),
    }
}

/// The highest locked level. Where the kernel has no such lock, the only level that is at its limit; if none is, it was the
/// machine only if no level has a limit at all.
fn limit(levels: &[RawLevel], lock_known: bool, unlimited: u64) -> OomLimit {
    if lock_known {
        return levels.iter().rposition(|l| l.locked != 0).map_or(OomLimit::Node, OomLimit::Cgroup);
    }
    let limited = |l: &RawLevel| l.max_pages < unlimited;
    let near = |l: &RawLevel| limited(l) && l.usage_pages.saturating_add(NEAR_PAGES) >= l.max_pages;
    let mut at_limit = levels.iter().enumerate().filter(|(_, l)| near(l)).map(|(i, _)| i);
    match (at_limit.next(), at_limit.next()) {
        (Some(level), None) => OomLimit::Cgroup(level),
        (None, None) if !levels.iter().any(limited) => OomLimit::Node,
        _ => OomLimit::Unknown,
    }
}

/// Numbers incidents by level and time.
#[derive(Debug, Default)]
struct Incidents {
    last: HashMap<u64, (u64, u64)>,
    count: u64,
}

impl Incidents {
    fn of(&mut self, level: u64, boot_ns: u64) -> u64 {
        if let Some((incident, last)) = self.last.get_mut(&level)
            && boot_ns.saturating_sub(*last) <= INCIDENT_GAP_NS
        {
            *last = boot_ns;
            return *incident;
        }
        if self.last.len() >= REMEMBERED {
            self.last.retain(|_, (_, last)| boot_ns.saturating_sub(*last) <= INCIDENT_GAP_NS);
        }
        self.count += 1;
        self.last.insert(level, (self.count, boot_ns));
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNLIMITED: u64 = i64::MAX as u64 / 4096;

    fn level(usage_pages: u64, max_pages: u64, locked: bool) -> RawLevel {
        RawLevel {
            id: 1,
            usage_pages,
            max_pages,
            locked: u8::from(locked),
            oom_group: 0,
            pad: [0; 6],
            name: [0; 112],
        }
    }

    #[test]
    fn the_highest_locked_level_hit_its_limit() {
        let pod = [level(10, 100, true), level(100, 100, true), level(100, UNLIMITED, false)];
        assert_eq!(limit(&pod, true, UNLIMITED), OomLimit::Cgroup(1));
        assert_eq!(limit(&pod[2..], true, UNLIMITED), OomLimit::Node);
        assert_eq!(limit(&[], true, UNLIMITED), OomLimit::Node);
    }

    #[test]
    fn without_the_lock_one_full_level_is_named_and_two_are_not() {
        let (full, roomy) = (level(99_990, 100_000, false), level(10, 100_000, false));
        let open = level(100_000, UNLIMITED, false);
        assert_eq!(limit(&[roomy, full, open], false, UNLIMITED), OomLimit::Cgroup(1));
        assert_eq!(limit(&[full, full], false, UNLIMITED), OomLimit::Unknown);
        assert_eq!(limit(&[roomy, open], false, UNLIMITED), OomLimit::Unknown);
        assert_eq!(limit(&[open], false, UNLIMITED), OomLimit::Node);
    }

    #[test]
    fn victims_of_a_level_in_a_row_are_one_incident() {
        let mut i = Incidents::default();
        let second = 1_000_000_000;
        assert_eq!(i.of(7, second), 1);
        assert_eq!(i.of(7, second * 2), 1);
        assert_eq!(i.of(8, second * 2), 2);
        assert_eq!(i.of(7, second * 3), 1, "each within a second of the one before");
        assert_eq!(i.of(7, second * 4 + 1), 3);
        for level in 0..3000 {
            i.of(level, second * 9 * (level + 1));
        }
        assert!(i.last.len() <= REMEMBERED);
    }
}
