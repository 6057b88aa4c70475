//! Rows of `flows`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use tapio_ebpf::{Flow, FlowSide, LATENCY_BUCKETS, LatencyBuckets};
use tapio_sql::{BatchError, TableBatch};

use super::{merge, subjects::Subjects};
use crate::rows::{Columns, count_lists, counts, ints, labels};

/// Other ends that are told apart for a series, side and port in a tick; the others are one row together.
const PEERS: usize = 64;
const FAILURES: [&str; 5] = [
    "failures_refused",
    "failures_timed_out",
    "failures_unreachable",
    "failures_abandoned",
    "failures_other",
];

type Service = (i64, FlowSide, u16);
type Peer = Option<(IpAddr, Option<i64>)>;

#[derive(Debug)]
struct Sums {
    established: u64,
    failures: [u64; FAILURES.len()],
    connect_ns: u64,
    retransmits: u64,
    rtt_count: u64,
    rtt_us: u64,
    rtt: LatencyBuckets,
    sent: u64,
    received: u64,
}

/// The server's port, of records of its own end.
pub(super) fn port(f: &Flow) -> Option<u16> {
    (f.side == FlowSide::Server).then_some(f.server_port)
}

/// The series that was asked, of records of the client's end.
pub(super) fn target(f: &Flow, subjects: &mut Subjects) -> Option<i64> {
    let asks = f.side == FlowSide::Client && !f.peer.is_unspecified();
    asks.then(|| subjects.target(f.tgid, SocketAddr::new(f.peer, f.server_port))).flatten()
}

/// What was counted, by what makes a row.
#[derive(Debug, Default)]
pub(super) struct Rows(BTreeMap<Service, BTreeMap<Peer, Sums>>);

impl Rows {
    pub(super) fn add(&mut self, f: Flow, series_id: i64, peer: Option<i64>) {
        let peers = self.0.entry((series_id, f.side, f.server_port)).or_default();
        let mut key = (!f.peer.is_unspecified()).then_some((f.peer, peer));
        if !peers.contains_key(&key) && peers.len() >= PEERS {
            key = None;
        }
        let sums = peers.entry(key).or_insert(Sums {
            established: 0,
            failures: [0; FAILURES.len()],
            connect_ns: 0,
            retransmits: 0,
            rtt_count: 0,
            rtt_us: 0,
            rtt: [0; LATENCY_BUCKETS],
            sent: 0,
            received: 0,
        });
        sums.established += f.established;
        sums.connect_ns += f.connect_ns;
        sums.retransmits += f.retransmits;
        sums.rtt_count += f.rtt_count;
        sums.rtt_us += f.rtt_us;
        sums.sent += f.bytes_sent;
        sums.received += f.bytes_received;
        merge(&mut sums.failures, &f.failures);
        merge(&mut sums.rtt, &f.rtt);
    }

    pub(super) fn batch(self, ts: i64, observed: i64) -> Result<TableBatch, BatchError> {
        let rows: Vec<(&Service, &Peer, &Sums)> = self
            .0
            .iter()
            .flat_map(|(s, peers)| peers.iter().map(move |(p, v)| (s, p, v)))
            .collect();
        let mut c = Columns::at("flows", rows.len(), ts, observed)?;
        let peers: Vec<Option<String>> =
            rows.iter().map(|r| r.1.map(|(ip, _)| ip.to_string())).collect();
        let port = |s: &Service| (s.1 != FlowSide::Unknown && s.2 != 0).then_some(i64::from(s.2));
        let sums = |of: fn(&Sums) -> u64| counts(rows.iter().map(|r| of(r.2)));
        c.set("series_id", ints(rows.iter().map(|r| Some(r.0.0))));
        c.set("side", labels(rows.iter().map(|r| Some(side(r.0.1)))));
        c.set("peer_address", labels(peers.iter().map(Option::as_deref)));
        c.set("peer_series_id", ints(rows.iter().map(|r| r.1.and_then(|(_, series)| series))));
        c.set("server_port", ints(rows.iter().map(|r| port(r.0))));
        c.set("connects", sums(|s| s.established));
        for (i, name) in FAILURES.iter().enumerate() {
            c.set(name, counts(rows.iter().map(|r| r.2.failures[i])));
        }
        c.set("connect_us", sums(|s| s.connect_ns / 1_000));
        c.set("retransmits", sums(|s| s.retransmits));
        c.set("rtt_count", sums(|s| s.rtt_count));
        c.set("rtt_us", sums(|s| s.rtt_us));
        c.set("rtt_buckets", count_lists(rows.iter().map(|r| r.2.rtt.as_slice())));
        c.set("sent_bytes", sums(|s| s.sent));
        c.set("received_bytes", sums(|s| s.received));
        c.finish()
    }
}

fn side(side: FlowSide) -> &'static str {
    match side {
        FlowSide::Server => "server",
        FlowSide::Client => "client",
        FlowSide::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{Array, AsArray},
        datatypes::Int64Type,
    };
    use tapio_ebpf::{CgroupIds, ConnectFailure};

    use super::*;

    fn flow(peer: [u8; 4]) -> Flow {
        Flow {
            cgroups: CgroupIds::default(),
            tgid: 0,
            side: FlowSide::Server,
            peer: peer.into(),
            server_port: 80,
            established: 1,
            failures: [0, 0, 0, 0, 2],
            retransmits: 3,
            bytes_sent: 10,
            bytes_received: 20,
            rtt: [0; LATENCY_BUCKETS],
            rtt_us: 0,
            rtt_count: 0,
            connect_ns: 1_500,
        }
    }

    #[test]
    fn columns_of_failures_are_in_the_order_of_the_records() {
        let order = Flow::FAILURES.map(|f| match f {
            ConnectFailure::Refused => "failures_refused",
            ConnectFailure::TimedOut => "failures_timed_out",
            ConnectFailure::Unreachable => "failures_unreachable",
            ConnectFailure::Abandoned => "failures_abandoned",
            ConnectFailure::Other => "failures_other",
        });
        assert_eq!(order, FAILURES);
    }

    #[test]
    fn many_other_ends_are_one_row_and_nothing_of_them_is_lost() {
        let mut rows = Rows::default();
        for i in 0..200 {
            rows.add(flow([10, 0, 0, i]), 7, None);
        }
        rows.add(flow([0, 0, 0, 0]), 7, None);
        let batch = rows.batch(1_000, 2_000).unwrap().into_batch();
        assert_eq!(batch.num_rows(), PEERS + 1);
        let sum = |name: &str| -> i64 {
            batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().values().iter().sum()
        };
        assert_eq!((sum("connects"), sum("failures_other"), sum("retransmits")), (201, 402, 603));
        assert_eq!((sum("sent_bytes"), sum("received_bytes")), (2010, 4020));
        assert_eq!(batch.column_by_name("peer_address").unwrap().null_count(), 1);
    }
}
