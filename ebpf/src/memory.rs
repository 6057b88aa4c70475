//! Memory per process and the life of processes (`programs/memory.bpf.c`).

use std::io::Read;

use aya::Pod;

use crate::{
    object::{Hook, Loading, Loss, NotLoaded, Object, Program, ReadError, Ring, Source},
    raw::{boot_ns, decode, pages, resident, text},
    record::{CgroupIds, ExitStatus, LifeEvent, LifeKind, ProcessMemory},
};

const ITERATOR: &str = "process_iter";

const SOURCE: Source = Source {
    name: "memory",
    bytes: aya::include_bytes_aligned!("../objects/memory.o"),
    programs: &[
        Program {
            name: "process_fork",
            hook: Hook::Tracepoint("sched_process_fork"),
            costs: "no fork is told",
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
            name: ITERATOR,
            hook: Hook::TaskIterator,
            costs: "no memory and no peak per process",
        },
    ],
    losses: &[("life_events_lost", "forks, execs and exits that found the ring buffer full")],
};

/// `struct process`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct RawProcess {
    start_ns: u64,
    pages: [i64; 4],
    peak_pages: i64,
    memory_cgroup: u64,
    unified_cgroup: u64,
    tgid: u32,
    has_memory: u32,
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
    parent: u32,
    status: i32,
    pad: u32,
    process: RawProcess,
    file: [u8; 64],
}
// SAFETY: integers only, no padding.
unsafe impl Pod for RawLife {}

/// Memory per process and the life of processes.
#[derive(Debug)]
pub struct Memory {
    object: Object,
    life: Ring,
    buffer: Vec<u8>,
}

impl Memory {
    pub(crate) fn load(
        loading: &Loading<'_>,
        missing: &mut Vec<NotLoaded>,
    ) -> Result<Option<Self>, String> {
        let Some(mut object) = Object::load(&SOURCE, loading, &[], missing) else {
            return Ok(None);
        };
        Ok(Some(Self { life: object.map("LIFE")?, object, buffer: Vec::new() }))
    }

    /// Appends every living user process, by thread group id. Processes that share one address space (vfork) are told once.
    /// Nothing is appended if the program that tells them could not be loaded.
    ///
    /// # Errors
    /// [`ReadError`] if the kernel refuses; nothing is appended then.
    pub fn read(&mut self, out: &mut Vec<ProcessMemory>) -> Result<(), ReadError> {
        if !self.object.has(ITERATOR) {
            return Ok(());
        }
        let now = boot_ns();
        self.buffer.clear();
        let mut file = self.object.run_iterator(ITERATOR)?;
        file.read_to_end(&mut self.buffer).map_err(|e| ReadError::new("all processes", e))?;
        let records = self.buffer.chunks_exact(size_of::<RawProcess>());
        out.extend(records.filter_map(decode::<RawProcess>).map(|p| ProcessMemory {
            tgid: p.tgid,
            start_ns: p.start_ns,
            comm: text(&p.comm),
            boot_ns: now,
            memory: resident(p.pages),
            peak_rss_bytes: pages(p.peak_pages),
            cgroups: p.cgroups(),
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
                    memory: (e.process.has_memory != 0).then(|| resident(e.process.pages)),
                    peak_rss_bytes: pages(e.process.peak_pages),
                },
            };
            out.push(LifeEvent {
                boot_ns: e.boot_ns,
                tgid: e.process.tgid,
                parent_tgid: e.parent,
                start_ns: e.process.start_ns,
                comm: text(&e.process.comm),
                cgroups: e.process.cgroups(),
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
}

impl RawProcess {
    fn cgroups(&self) -> CgroupIds {
        CgroupIds { memory: self.memory_cgroup, unified: self.unified_cgroup }
    }
}
