//! Memory per process and the life of processes (`programs/memory.bpf.c`).

use std::{collections::HashMap as Map, io::Read};

use aya::{
    Pod,
    maps::{HashMap, MapData, MapError},
};

use crate::{
    object::{Hook, Loading, Loss, NotLoaded, Object, Program, ReadError, Ring, Source},
    raw::{boot_ns, decode, pages, resident, text},
    record::{CgroupIds, ExitStatus, LifeEvent, LifeKind, ProcessMemory},
};

const SOURCE: Source = Source {
    name: "memory",
    bytes: aya::include_bytes_aligned!("../objects/memory.o"),
    programs: &[
        Program {
            name: "rss_stat",
            hook: Hook::Tracepoint("rss_stat"),
            costs: "memory per process is only what it is at each tick, peaks between ticks are not seen",
        },
        Program {
            name: "process_fork",
            hook: Hook::Tracepoint("sched_process_fork"),
            costs: "processes are seen when their memory first changes, and no fork is told",
        },
        Program {
            name: "process_exec",
            hook: Hook::Tracepoint("sched_process_exec"),
            costs: "no start of a program is told",
        },
        Program {
            name: "process_exit",
            hook: Hook::Tracepoint("sched_process_exit"),
            costs: "no end of a process and no exit code is told",
        },
        Program {
            name: "cgroup_attach",
            hook: Hook::Tracepoint("cgroup_attach_task"),
            costs: "a process that moves between cgroups is seen in its new one up to ten ticks late",
        },
        Program {
            name: "process_iter",
            hook: Hook::TaskIterator,
            costs: "processes that were there before are seen only when their memory changes",
        },
    ],
    losses: &[
        ("processes_without_place", "processes without a place in the table of memory per process"),
        ("life_events_lost", "forks, execs and exits that found the ring buffer full"),
    ],
};

/// Reads between two passes over all tasks.
const RECONCILE_EVERY: u32 = 10;

/// `struct process`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct RawProcess {
    mm: u64,
    start_ns: u64,
    pages: [i64; 4],
    peak_pages: i64,
    memory_cgroup: u64,
    unified_cgroup: u64,
    updates: u64,
    comm: [u8; 16],
}
// SAFETY: integers only, no padding.
unsafe impl Pod for RawProcess {}

/// `struct life_event`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct RawLife {
    boot_ns: u64,
    kind: u32,
    tgid: u32,
    parent: u32,
    status: i32,
    process: RawProcess,
    file: [u8; 64],
}
// SAFETY: integers only, no padding.
unsafe impl Pod for RawLife {}

/// `struct alive`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct RawAlive {
    start_ns: u64,
    tgid: u32,
    pad: u32,
}
// SAFETY: integers only, no padding.
unsafe impl Pod for RawAlive {}

/// Memory per process and the life of processes.
#[derive(Debug)]
pub struct Memory {
    object: Object,
    processes: HashMap<MapData, u32, RawProcess>,
    life: Ring,
    table_size: usize,
    reads: u32,
    buffer: Vec<u8>,
}

impl Memory {
    pub(crate) fn load(
        loading: &Loading<'_>,
        max_processes: u32,
        missing: &mut Vec<NotLoaded>,
    ) -> Result<Option<Self>, String> {
        let entries = [("PROCESSES", max_processes)];
        let Some(mut object) = Object::load(&SOURCE, loading, &entries, missing) else {
            return Ok(None);
        };
        Ok(Some(Self {
            processes: object.map("PROCESSES")?,
            life: object.map("LIFE")?,
            object,
            table_size: max_processes as usize,
            reads: 0,
            buffer: Vec::new(),
        }))
    }

    /// Appends every living user process, by thread group id. Processes that share one address space (vfork) are told once.
    ///
    /// The first read and every tenth enter the processes that were not seen yet and remove those that are gone.
    ///
    /// # Errors
    /// [`ReadError`] if the kernel refuses; nothing is appended then.
    pub fn read(&mut self, out: &mut Vec<ProcessMemory>) -> Result<(), ReadError> {
        // Without the tracepoint only the pass over all tasks brings values.
        let every = if self.object.has("rss_stat") { RECONCILE_EVERY } else { 1 };
        let reconcile = self.object.has("process_iter") && self.reads.is_multiple_of(every);
        self.reads = self.reads.wrapping_add(1);
        let alive = if reconcile { Some(self.pass()?) } else { None };

        let now = boot_ns();
        let mut found: Vec<(u32, RawProcess)> = Vec::new();
        // A key that is removed while the table is walked sends the walk back to the start: bounded, and told once below.
        for entry in self.processes.iter().take(self.table_size * 2) {
            match entry {
                Ok(entry) => found.push(entry),
                Err(MapError::KeyNotFound) => {}
                Err(e) => return Err(ReadError::new("memory per process", e)),
            }
        }
        found.sort_unstable_by_key(|(tgid, _)| *tgid);
        found.dedup_by_key(|(tgid, _)| *tgid);
        if let Some((began, alive)) = alive {
            found.retain(|(tgid, p)| {
                let gone = p.start_ns < began && alive.get(tgid) != Some(&p.start_ns);
                if gone {
                    // It may be gone by itself in the meantime.
                    let _ = self.processes.remove(tgid);
                }
                !gone
            });
        }
        out.extend(found.iter().map(|(tgid, p)| ProcessMemory {
            tgid: *tgid,
            start_ns: p.start_ns,
            comm: text(&p.comm),
            boot_ns: now,
            memory: resident(p.pages),
            peak_rss_bytes: pages(p.peak_pages),
            updates: p.updates,
            cgroups: CgroupIds { memory: p.memory_cgroup, unified: p.unified_cgroup },
        }));
        Ok(())
    }

    /// Appends forks, execs and exits since the last call, in the order in which they happened. The buffer holds about
    /// four thousand: poll it every 50 ms.
    pub fn poll_life(&mut self, out: &mut Vec<LifeEvent>) {
        self.life.drain(|e: RawLife| {
            let kind = match e.kind {
                0 => LifeKind::Fork,
                1 => LifeKind::Exec { file: text(&e.file) },
                _ => LifeKind::Exit {
                    status: ExitStatus(e.status),
                    memory: resident(e.process.pages),
                    peak_rss_bytes: pages(e.process.peak_pages),
                },
            };
            out.push(LifeEvent {
                boot_ns: e.boot_ns,
                tgid: e.tgid,
                parent_tgid: e.parent,
                start_ns: e.process.start_ns,
                comm: text(&e.process.comm),
                cgroups: CgroupIds {
                    memory: e.process.memory_cgroup,
                    unified: e.process.unified_cgroup,
                },
                kind,
            });
        });
    }

    /// What was lost since loading.
    ///
    /// # Errors
    /// [`ReadError`] if the kernel refuses.
    pub fn losses(&self) -> Result<Vec<Loss>, ReadError> {
        self.object.losses()
    }

    /// One pass over all tasks: when it began, and the start of every living process.
    fn pass(&mut self) -> Result<(u64, Map<u32, u64>), ReadError> {
        let began = boot_ns();
        self.buffer.clear();
        let mut file = self.object.run_iterator("process_iter")?;
        file.read_to_end(&mut self.buffer).map_err(|e| ReadError::new("all processes", e))?;
        let records = self.buffer.chunks_exact(size_of::<RawAlive>());
        let alive = records.filter_map(decode::<RawAlive>).map(|a| (a.tgid, a.start_ns)).collect();
        Ok((began, alive))
    }
}
