//! TCP connections (`programs/net.bpf.c`).

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use aya::Pod;

use crate::{
    counters::{Counters, Delta},
    histogram::{LATENCY_BUCKETS, LatencyBuckets, difference},
    object::{Hook, Loading, Loss, NotLoaded, Object, Program, ReadError, Ring, Source},
    raw::{address, text},
    record::CgroupIds,
};

const SOURCE: Source = Source {
    name: "net",
    bytes: aya::include_bytes_aligned!("../objects/net.o"),
    programs: &[
        Program {
            name: "tcp_state",
            hook: Hook::Tracepoint("inet_sock_set_state"),
            costs: "no connects, refusals and timeouts",
        },
        Program {
            name: "tcp_retransmit",
            hook: Hook::Tracepoint("tcp_retransmit_skb"),
            costs: "no retransmissions",
        },
        Program {
            name: "tcp_received",
            hook: Hook::Tracepoint("tcp_rcv_space_adjust"),
            costs: "bytes and round-trip times of a connection are told only when it ends",
        },
    ],
    losses: &[
        (
            "flows_without_place",
            "flows without a place in the table, summed as one without addresses",
        ),
        ("connections_without_memory", "TCP connections without memory for their state"),
        (
            "failed_connects_lost",
            "failed connects that found the ring buffer full; they are in the sums",
        ),
    ],
};

/// Places in the table of flows.
const MAX_FLOWS: u32 = 16_384;

/// `struct flow`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
struct RawFlow {
    unified_cgroup: u64,
    memory_cgroup: u64,
    peer: [u8; 16],
    port: u16,
    side: u8,
    pad: [u8; 5],
}
// SAFETY: integers only, no padding.
unsafe impl Pod for RawFlow {}

/// `struct sums`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct RawSums {
    established: u64,
    failures: [u64; 5],
    retransmits: u64,
    bytes_sent: u64,
    bytes_received: u64,
    rtt_count: u64,
    rtt_us: u64,
    connect_ns: u64,
    tgid: u32,
    pad: u32,
    rtt: [u32; LATENCY_BUCKETS],
}
// SAFETY: integers only, no padding.
unsafe impl Pod for RawSums {}

/// `struct failed_connect`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct RawFailure {
    boot_ns: u64,
    took_ns: u64,
    flow: RawFlow,
    tgid: u32,
    error: i32,
    comm: [u8; 16],
}
// SAFETY: integers only, no padding.
unsafe impl Pod for RawFailure {}

/// Which end of a connection is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FlowSide {
    /// It was connected to.
    Server,
    /// It connected.
    Client,
    /// The connection was there before the programs were loaded.
    Unknown,
}

/// Why a connect failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConnectFailure {
    /// The other end answered that nobody listens.
    Refused,
    /// No answer for as long as the kernel tries.
    TimedOut,
    /// A router or this machine said that there is no way.
    Unreachable,
    /// The process gave up and closed the socket before there was an answer: its own time limit, most often.
    Abandoned,
    /// Another error.
    Other,
}

impl ConnectFailure {
    const ALL: [Self; 5] =
        [Self::Refused, Self::TimedOut, Self::Unreachable, Self::Abandoned, Self::Other];

    /// From an errno of the socket.
    fn of(errno: i32) -> Self {
        match errno {
            0 => Self::Abandoned,
            111 => Self::Refused,
            110 => Self::TimedOut,
            101 | 113 => Self::Unreachable,
            _ => Self::Other,
        }
    }
}

/// Who talks to whom, and what happened since the drain before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Cgroups of this end: `unified` is the socket's, `memory` that of the process that connected, 0 on the server's side.
    pub cgroups: CgroupIds,
    /// Thread group id of a process that connected, 0 on the server's side.
    pub tgid: u32,
    /// Which end this is.
    pub side: FlowSide,
    /// The other end. The unspecified address: flows that found no place in the table.
    pub peer: IpAddr,
    /// The server's port, 0 if it is not known which end that is.
    pub server_port: u16,
    /// Connections that were established.
    pub established: u64,
    /// Connects that failed, by [`Flow::FAILURES`].
    pub failures: [u64; 5],
    /// Segments (as the kernel queued them) that were sent again, those of connects included.
    pub retransmits: u64,
    /// Bytes that the other end acknowledged.
    pub bytes_sent: u64,
    /// Bytes that came in order.
    pub bytes_received: u64,
    /// Smoothed round-trip times as the kernel has them (RFC 6298), taken when a connection is established, when it ends,
    /// and once a second while it receives; by [`crate::latency_bounds_us`].
    pub rtt: LatencyBuckets,
    /// Sum of the same, µs.
    pub rtt_us: u64,
    /// Their number.
    pub rtt_count: u64,
    /// Sum of the times from connect to established, nanoseconds; on the server's side from the last packet of the handshake,
    /// which is next to nothing.
    pub connect_ns: u64,
}

impl Flow {
    /// The order of [`Flow::failures`].
    pub const FAILURES: [ConnectFailure; 5] = ConnectFailure::ALL;

    /// How many connects failed in that way.
    pub fn failed(&self, how: ConnectFailure) -> u64 {
        Self::FAILURES.iter().zip(self.failures).find(|(f, _)| **f == how).map_or(0, |(_, n)| n)
    }
}

/// A connect that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedConnect {
    /// When, nanoseconds of CLOCK_BOOTTIME.
    pub boot_ns: u64,
    /// How long it was tried.
    pub took: Duration,
    /// Cgroups of the process that asked.
    pub cgroups: CgroupIds,
    /// Its thread group id.
    pub tgid: u32,
    /// Its name, if it was running when the connect failed; else empty.
    pub comm: String,
    /// Whom it asked.
    pub server: SocketAddr,
    /// Why it failed.
    pub failure: ConnectFailure,
    /// Errno of the socket, 0 if it was closed before there was an answer.
    pub errno: i32,
}

/// TCP connections.
#[derive(Debug)]
pub struct Net {
    object: Object,
    flows: Counters<RawFlow, RawSums>,
    failed: Ring,
}

impl Net {
    pub(crate) fn load(
        loading: &Loading<'_>,
        missing: &mut Vec<NotLoaded>,
    ) -> Result<Option<Self>, String> {
        let entries = [("FLOWS", MAX_FLOWS)];
        let Some(mut object) = Object::load(&SOURCE, loading, &entries, missing) else {
            return Ok(None);
        };
        let flows = Counters::new(object.map("FLOWS")?, MAX_FLOWS, "flows");
        Ok(Some(Self { flows, failed: object.map("FAILED")?, object }))
    }

    /// Appends what happened since the last call, in no particular order.
    ///
    /// # Errors
    /// [`ReadError`] if the kernel refuses; what was appended by then is right, the rest comes with the next call.
    pub fn drain(&mut self, out: &mut Vec<Flow>) -> Result<(), ReadError> {
        self.flows.drain(|key, sums| out.push(flow(key, &sums)))?;
        self.flows.make_room();
        Ok(())
    }

    /// Appends the connects that failed since the last call, oldest first. The buffer holds about two thousand.
    pub fn poll_failed(&mut self, out: &mut Vec<FailedConnect>) {
        self.failed.drain(|e: RawFailure| {
            out.push(FailedConnect {
                boot_ns: e.boot_ns,
                took: Duration::from_nanos(e.took_ns),
                cgroups: CgroupIds { memory: e.flow.memory_cgroup, unified: e.flow.unified_cgroup },
                tgid: e.tgid,
                comm: text(&e.comm),
                server: SocketAddr::new(address(e.flow.peer), e.flow.port),
                failure: ConnectFailure::of(e.error),
                errno: e.error,
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

impl Delta for RawSums {
    fn since(&self, before: &Self) -> Self {
        Self {
            established: self.established.wrapping_sub(before.established),
            failures: std::array::from_fn(|i| self.failures[i].wrapping_sub(before.failures[i])),
            retransmits: self.retransmits.wrapping_sub(before.retransmits),
            bytes_sent: self.bytes_sent.wrapping_sub(before.bytes_sent),
            bytes_received: self.bytes_received.wrapping_sub(before.bytes_received),
            rtt_count: self.rtt_count.wrapping_sub(before.rtt_count),
            rtt_us: self.rtt_us.wrapping_sub(before.rtt_us),
            connect_ns: self.connect_ns.wrapping_sub(before.connect_ns),
            tgid: self.tgid,
            pad: 0,
            rtt: difference(&self.rtt, &before.rtt),
        }
    }
}

fn flow(key: &RawFlow, sums: &RawSums) -> Flow {
    Flow {
        cgroups: CgroupIds { memory: key.memory_cgroup, unified: key.unified_cgroup },
        tgid: sums.tgid,
        side: match key.side {
            0 => FlowSide::Server,
            1 => FlowSide::Client,
            _ => FlowSide::Unknown,
        },
        peer: address(key.peer),
        server_port: key.port,
        established: sums.established,
        failures: sums.failures,
        retransmits: sums.retransmits,
        bytes_sent: sums.bytes_sent,
        bytes_received: sums.bytes_received,
        rtt: sums.rtt.map(u64::from),
        rtt_us: sums.rtt_us,
        rtt_count: sums.rtt_count,
        connect_ns: sums.connect_ns,
    }
}
