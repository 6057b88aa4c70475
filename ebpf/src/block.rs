//! Block requests (`programs/block.bpf.c`).

use aya::Pod;

use crate::{
    counters::{Delta, Table},
    histogram::{LATENCY_BUCKETS, LatencyBuckets, difference},
    object::{Hook, Loading, Loss, NotLoaded, Program, ReadError, Source},
    raw::text,
};

const SOURCE: Source = Source {
    name: "block",
    bytes: aya::include_bytes_aligned!("../objects/block.o"),
    programs: &[Program {
        name: "block_complete",
        hook: Hook::Tracepoint("block_rq_complete"),
        costs: "no latencies of disks",
    }],
    losses: &[
        ("requests_without_place", "block requests without a place in the table"),
        (
            "requests_without_time",
            "block requests without a time, because statistics of the device are switched off (queue/iostats); they are counted",
        ),
    ],
};

const MAX_ENTRIES: u32 = 8192;

/// `struct block_key`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
struct RawKey {
    cgroup: u64,
    major: u32,
    minor: u32,
    operation: u32,
    pad: u32,
}
// SAFETY: integers only, no padding.
unsafe impl Pod for RawKey {}

/// `struct block_sums`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct RawSums {
    requests: u64,
    errors: u64,
    bytes: u64,
    latency_ns: u64,
    buckets: [u32; LATENCY_BUCKETS],
    disk: [u8; 32],
}
// SAFETY: integers only; 32 + 168 + 32 bytes, no padding.
unsafe impl Pod for RawSums {}

/// What a block request does (`enum req_op`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockOperation {
    /// Reads.
    Read,
    /// Writes.
    Write,
    /// Makes the device write what it holds back.
    Flush,
    /// Tells the device that data is not needed any more.
    Discard,
    /// Another operation, by its number in the kernel.
    Other(u32),
}

/// Block requests that have everything but their time in common, since the drain before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockRequests {
    /// Name of the disk.
    pub disk: String,
    /// Its device number.
    pub device: (u32, u32),
    /// What they did.
    pub operation: BlockOperation,
    /// Cgroup that the I/O is charged to, in the hierarchy of the io (v1: blkio) controller; 0 if there is none. Writing
    /// back from the page cache is charged to whoever made the pages dirty with a v2 io controller, else to the root.
    pub cgroup: u64,
    /// Requests that were completed.
    pub requests: u64,
    /// Those of them that failed.
    pub errors: u64,
    /// Bytes that were completed.
    pub bytes: u64,
    /// Sum of the times from the request being made to its completion, nanoseconds: queue and device together.
    pub latency_ns: u64,
    /// The same by [`crate::latency_bounds_us`].
    pub latency: LatencyBuckets,
}

/// Block requests.
#[derive(Debug)]
pub struct Block {
    requests: Table<RawKey, RawSums>,
}

impl Block {
    pub(crate) fn load(
        loading: &Loading<'_>,
        missing: &mut Vec<NotLoaded>,
    ) -> Result<Option<Self>, String> {
        let requests =
            Table::load(&SOURCE, ("REQUESTS", MAX_ENTRIES), "block requests", loading, missing)?;
        Ok(requests.map(|requests| Self { requests }))
    }

    /// Appends what was completed since the last call, in no particular order.
    ///
    /// # Errors
    /// [`ReadError`] if the kernel refuses; what was appended by then is right, the rest comes with the next call.
    pub fn drain(&mut self, out: &mut Vec<BlockRequests>) -> Result<(), ReadError> {
        self.requests.drain(|key, sums| {
            out.push(BlockRequests {
                disk: text(&sums.disk),
                device: (key.major, key.minor),
                operation: match key.operation {
                    0 => BlockOperation::Read,
                    1 => BlockOperation::Write,
                    2 => BlockOperation::Flush,
                    3 => BlockOperation::Discard,
                    other => BlockOperation::Other(other),
                },
                cgroup: key.cgroup,
                requests: sums.requests,
                errors: sums.errors,
                bytes: sums.bytes,
                latency_ns: sums.latency_ns,
                latency: sums.buckets.map(u64::from),
            });
        })
    }

    /// What was lost since loading.
    ///
    /// # Errors
    /// [`ReadError`] if the kernel refuses.
    pub fn losses(&self) -> Result<Vec<Loss>, ReadError> {
        self.requests.losses()
    }
}

impl Delta for RawSums {
    fn since(&self, before: &Self) -> Self {
        Self {
            requests: self.requests.wrapping_sub(before.requests),
            errors: self.errors.wrapping_sub(before.errors),
            bytes: self.bytes.wrapping_sub(before.bytes),
            latency_ns: self.latency_ns.wrapping_sub(before.latency_ns),
            buckets: difference(&self.buckets, &before.buckets),
            disk: self.disk,
        }
    }
}
