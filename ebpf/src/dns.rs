//! DNS over UDP (`programs/dns.bpf.c`).

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use aya::{
    Pod,
    maps::{HashMap, MapData, MapError},
    programs::CgroupSkbAttachType,
};

use crate::{
    counters::{Counters, Delta},
    dns_question::dns_question,
    histogram::{LATENCY_BUCKETS, LatencyBuckets, difference},
    object::{Hook, Loading, Loss, NotLoaded, Object, Program, ReadError, Ring, Source},
    raw::{address, boot_ns},
    record::CgroupIds,
};

const COSTS: &str = "no DNS failures, timeouts and latencies";

const SOURCE: Source = Source {
    name: "dns",
    bytes: aya::include_bytes_aligned!("../objects/dns.o"),
    programs: &[
        Program {
            name: "dns_egress",
            hook: Hook::Packets(CgroupSkbAttachType::Egress),
            costs: COSTS,
        },
        Program {
            name: "dns_ingress",
            hook: Hook::Packets(CgroupSkbAttachType::Ingress),
            costs: COSTS,
        },
    ],
    losses: &[
        ("answers_without_place", "DNS answers without a place in the table"),
        ("queries_without_place", "DNS queries beyond 8,192 that wait for an answer"),
        ("failures_lost", "DNS failures that found the ring buffer full; they are in the sums"),
    ],
};

const MAX_ANSWERS: u32 = 8192;
const MAX_PENDING: usize = 8192;
const PORT: u16 = 53;
/// glibc and musl try again after five seconds (resolv.conf(5)).
const TIMEOUT: Duration = Duration::from_secs(5);

/// `struct dns_key`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
struct RawKey {
    unified_cgroup: u64,
    memory_cgroup: u64,
    server: [u8; 16],
    rcode: u8,
    pad: [u8; 7],
}
// SAFETY: integers only, no padding.
unsafe impl Pod for RawKey {}

/// `struct dns_sums`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct RawSums {
    count: u64,
    latency_ns: u64,
    tgid: u32,
    pad: u32,
    buckets: [u32; LATENCY_BUCKETS],
}
// SAFETY: integers only, no padding.
unsafe impl Pod for RawSums {}

/// `struct pending_key`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct RawPendingKey {
    cookie: u64,
    id: u16,
    pad: [u16; 3],
}
// SAFETY: integers only, no padding.
unsafe impl Pod for RawPendingKey {}

/// `struct pending`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct RawPending {
    began_ns: u64,
    key: RawKey,
    tgid: u32,
    question_len: u32,
    question: [u8; 72],
}
// SAFETY: integers only, no padding.
unsafe impl Pod for RawPending {}

/// `struct failed_query`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct RawFailure {
    boot_ns: u64,
    took_ns: u64,
    query: RawPending,
}
// SAFETY: integers only, no padding.
unsafe impl Pod for RawFailure {}

/// Answers of one server to one cgroup since the drain before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsAnswers {
    /// Cgroups of the process that asked.
    pub cgroups: CgroupIds,
    /// Thread group id of one that asked.
    pub tgid: u32,
    /// Who answered.
    pub server: IpAddr,
    /// Response code (RFC 1035, 4.1.1): 0 no error, 2 SERVFAIL, 3 NXDOMAIN, 5 REFUSED.
    pub rcode: u8,
    /// How many.
    pub count: u64,
    /// Sum of the times from the first query to its answer, nanoseconds.
    pub latency_ns: u64,
    /// The same by [`crate::latency_bounds_us`].
    pub latency: LatencyBuckets,
}

/// A query that failed or was not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsFailure {
    /// When the answer came or the query was given up, nanoseconds of CLOCK_BOOTTIME.
    pub boot_ns: u64,
    /// Since the query was sent first.
    pub took: Duration,
    /// Cgroups of the process that asked.
    pub cgroups: CgroupIds,
    /// Its thread group id.
    pub tgid: u32,
    /// Who was asked.
    pub server: SocketAddr,
    /// Name that was asked for, in lower case and without the last dot; a name of more than about 70 bytes is cut. `None` if
    /// the question cannot be read.
    pub name: Option<String>,
    /// Type that was asked for (1 A, 28 AAAA); `None` if it cannot be read.
    pub query_type: Option<u16>,
    /// Response code; `None`: no answer within five seconds.
    pub rcode: Option<u8>,
}

/// DNS over UDP, as clients see it.
#[derive(Debug)]
pub struct Dns {
    object: Object,
    answers: Counters<RawKey, RawSums>,
    pending: HashMap<MapData, RawPendingKey, RawPending>,
    failed: Ring,
}

impl Dns {
    pub(crate) fn load(
        loading: &Loading<'_>,
        missing: &mut Vec<NotLoaded>,
    ) -> Result<Option<Self>, String> {
        let entries = [("ANSWERS", MAX_ANSWERS)];
        let Some(mut object) = Object::load(&SOURCE, loading, &entries, missing) else {
            return Ok(None);
        };
        // Queries without their answers would all be timeouts.
        if SOURCE.programs.iter().any(|p| !object.has(p.name)) {
            return Ok(None);
        }
        Ok(Some(Self {
            answers: Counters::new(object.map("ANSWERS")?, MAX_ANSWERS, "DNS answers"),
            pending: object.map("PENDING")?,
            failed: object.map("FAILED")?,
            object,
        }))
    }

    /// Appends the answers since the last call, in no particular order.
    ///
    /// # Errors
    /// [`ReadError`] if the kernel refuses; what was appended by then is right, the rest comes with the next call.
    pub fn drain(&mut self, out: &mut Vec<DnsAnswers>) -> Result<(), ReadError> {
        self.answers.drain(|key, sums| {
            out.push(DnsAnswers {
                cgroups: CgroupIds { memory: key.memory_cgroup, unified: key.unified_cgroup },
                tgid: sums.tgid,
                server: address(key.server),
                rcode: key.rcode,
                count: sums.count,
                latency_ns: sums.latency_ns,
                latency: sums.buckets.map(u64::from),
            });
        })?;
        self.answers.make_room();
        Ok(())
    }

    /// Appends the queries that failed since the last call, and those that have waited for five seconds. Call it once a
    /// second.
    ///
    /// # Errors
    /// [`ReadError`] if the kernel refuses to tell which queries wait; those that failed are appended.
    pub fn poll_failed(&mut self, out: &mut Vec<DnsFailure>) -> Result<(), ReadError> {
        self.failed.drain(|e: RawFailure| {
            out.push(failure(&e.query, e.boot_ns, e.took_ns, Some(e.query.key.rcode)));
        });
        let now = boot_ns();
        let mut late = Vec::new();
        // A key that is removed while the table is walked sends the walk back to the start: bounded.
        for entry in self.pending.iter().take(2 * MAX_PENDING) {
            match entry {
                Ok((key, query)) => {
                    let took_ns = now.saturating_sub(query.began_ns);
                    if u128::from(took_ns) >= TIMEOUT.as_nanos() {
                        late.push((key, query, took_ns));
                    }
                }
                Err(MapError::KeyNotFound) => {}
                Err(e) => return Err(ReadError::new("DNS queries", e)),
            }
        }
        for (key, query, took_ns) in late {
            // If it is gone by itself its answer came in the meantime, or the walk met it twice.
            if self.pending.remove(&key).is_ok() {
                out.push(failure(&query, now, took_ns, None));
            }
        }
        Ok(())
    }

    /// What was lost since loading.
    ///
    /// # Errors
    /// [`ReadError`] if the kernel refuses.
    pub fn losses(&self) -> Result<Vec<Loss>, ReadError> {
        self.object.losses()
    }
}

impl Delta for RawSums {
    fn since(&self, before: &Self) -> Self {
        Self {
            count: self.count.wrapping_sub(before.count),
            latency_ns: self.latency_ns.wrapping_sub(before.latency_ns),
            tgid: self.tgid,
            pad: 0,
            buckets: difference(&self.buckets, &before.buckets),
        }
    }
}

fn failure(query: &RawPending, boot_ns: u64, took_ns: u64, rcode: Option<u8>) -> DnsFailure {
    let len = (query.question_len as usize).min(query.question.len());
    let (name, query_type) = dns_question(&query.question[..len]);
    DnsFailure {
        boot_ns,
        took: Duration::from_nanos(took_ns),
        cgroups: CgroupIds { memory: query.key.memory_cgroup, unified: query.key.unified_cgroup },
        tgid: query.tgid,
        server: SocketAddr::new(address(query.key.server), PORT),
        name,
        query_type,
        rcode,
    }
}
