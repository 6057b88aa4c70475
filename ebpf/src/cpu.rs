//! Waiting for a CPU (`programs/cpu.bpf.c`). Throttling by a CPU limit is not here: `cpu.stat` of the cgroup has it.

use aya::Pod;

use crate::{
    counters::{Delta, Table},
    histogram::{LATENCY_BUCKETS, LatencyBuckets, difference},
    object::{Hook, Loading, Loss, NotLoaded, Program, ReadError, Source},
    record::CgroupIds,
};

const SOURCE: Source = Source {
    name: "cpu",
    bytes: aya::include_bytes_aligned!("../objects/cpu.o"),
    programs: &[Program {
        name: "cpu_switch",
        hook: Hook::Tracepoint("sched_switch"),
        costs: "how long tasks wait for a CPU is not known by cgroup, only the machine's pressure",
    }],
    losses: &[
        ("waits_without_place", "waits for a CPU without a place in the table"),
        ("tasks_without_memory", "waits for a CPU of tasks without memory for their state"),
    ],
};

const MAX_CGROUPS: u32 = 4096;

/// `struct cpu_key`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
struct RawKey {
    unified_cgroup: u64,
    memory_cgroup: u64,
}
// SAFETY: integers only, no padding.
unsafe impl Pod for RawKey {}

/// `struct cpu_sums`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct RawSums {
    runs: u64,
    delay_ns: u64,
    buckets: [u32; LATENCY_BUCKETS],
}
// SAFETY: integers only, no padding.
unsafe impl Pod for RawSums {}

/// How long the tasks of a cgroup waited in run queues since the drain before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuWaits {
    /// Cgroups of the tasks. Kernel threads are in the roots.
    pub cgroups: CgroupIds,
    /// How often one of them left a CPU.
    pub runs: u64,
    /// Sum of the times from being ready to being on a CPU, nanoseconds.
    pub delay_ns: u64,
    /// The same by [`crate::latency_bounds_us`].
    pub delays: LatencyBuckets,
}

/// Waiting for a CPU.
#[derive(Debug)]
pub struct Cpu {
    waits: Table<RawKey, RawSums>,
}

impl Cpu {
    pub(crate) fn load(
        loading: &Loading<'_>,
        missing: &mut Vec<NotLoaded>,
    ) -> Result<Option<Self>, String> {
        let waits =
            Table::load(&SOURCE, ("WAITS", MAX_CGROUPS), "waits for a CPU", loading, missing)?;
        Ok(waits.map(|waits| Self { waits }))
    }

    /// Appends what was counted since the last call, in no particular order.
    ///
    /// # Errors
    /// [`ReadError`] if the kernel refuses; what was appended by then is right, the rest comes with the next call.
    pub fn drain(&mut self, out: &mut Vec<CpuWaits>) -> Result<(), ReadError> {
        self.waits.drain(|key, sums| {
            out.push(CpuWaits {
                cgroups: CgroupIds { memory: key.memory_cgroup, unified: key.unified_cgroup },
                runs: sums.runs,
                delay_ns: sums.delay_ns,
                delays: sums.buckets.map(u64::from),
            });
        })
    }

    /// What was lost since loading.
    ///
    /// # Errors
    /// [`ReadError`] if the kernel refuses.
    pub fn losses(&self) -> Result<Vec<Loss>, ReadError> {
        self.waits.losses()
    }
}

impl Delta for RawSums {
    fn since(&self, before: &Self) -> Self {
        Self {
            runs: self.runs.wrapping_sub(before.runs),
            delay_ns: self.delay_ns.wrapping_sub(before.delay_ns),
            buckets: difference(&self.buckets, &before.buckets),
        }
    }
}
