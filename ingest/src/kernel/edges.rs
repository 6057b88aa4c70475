//! Who calls whom.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use tapio_ebpf::{Flow, FlowSide, HttpTransactions, Side};
use tapio_sql::{BatchError, TableBatch};

use crate::rows::{Columns, ints, labels, times};

/// µs between two rows of an edge that goes on.
const TELL_EVERY_US: i64 = 60_000_000;
/// µs after which an edge without calls is forgotten; it is a new one when it comes back.
const FORGET_US: i64 = 3_600_000_000;
/// Edges that are followed at once.
const PLACES: usize = 8192;

/// One end calls the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Call {
    source: i64,
    target: Option<i64>,
    server: SocketAddr,
    protocol: &'static str,
}

impl Call {
    /// As the client's end shows it; the server's does not know who asked.
    pub(super) fn http(t: &HttpTransactions, source: i64, target: Option<i64>) -> Option<Self> {
        let calls = t.side == Side::Client && t.count > 0;
        calls.then_some(Self { source, target, server: t.server, protocol: "http" })
    }

    /// As the client's end shows it, if there was a connection.
    pub(super) fn tcp(f: &Flow, source: i64, target: Option<i64>) -> Option<Self> {
        let talked = f.established > 0 || f.bytes_sent > 0 || f.bytes_received > 0;
        let calls = f.side == FlowSide::Client && talked && !f.peer.is_unspecified();
        let server = SocketAddr::new(f.peer, f.server_port);
        calls.then_some(Self { source, target, server, protocol: "tcp" })
    }
}

/// A row of `edges`.
#[derive(Debug, Clone)]
pub(super) struct Row {
    call: Call,
    first_seen: i64,
    last_seen: i64,
}

#[derive(Debug)]
struct Seen {
    first: i64,
    last: i64,
    told: i64,
}

/// The edges that are followed.
#[derive(Debug, Default)]
pub(super) struct Edges {
    seen: HashMap<Call, Seen>,
    dropped: i64,
}

impl Edges {
    /// The row to be told now, if there is.
    pub(super) fn called(&mut self, call: Call, ts: i64) -> Option<Row> {
        if let Some(seen) = self.seen.get_mut(&call)
            && ts - seen.last < FORGET_US
        {
            seen.last = ts;
            if ts - seen.told < TELL_EVERY_US {
                return None;
            }
            seen.told = ts;
            return Some(Row { call, first_seen: seen.first, last_seen: ts });
        }
        if self.seen.len() >= PLACES {
            self.seen.retain(|_, s| ts - s.last < FORGET_US);
        }
        if self.seen.len() >= PLACES {
            self.dropped += 1;
            return None;
        }
        self.seen.insert(call, Seen { first: ts, last: ts, told: ts });
        Some(Row { call, first_seen: ts, last_seen: ts })
    }

    /// Calls that found no place, since the last time.
    pub(super) fn dropped(&mut self) -> i64 {
        std::mem::take(&mut self.dropped)
    }
}

pub(super) fn batch(rows: &[Row], ts: i64, observed: i64) -> Result<TableBatch, BatchError> {
    let mut c = Columns::at("edges", rows.len(), ts, observed)?;
    let addresses: Vec<IpAddr> = rows.iter().map(|r| r.call.server.ip()).collect();
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    c.set("relation", labels(rows.iter().map(|_| Some("calls"))));
    c.set("protocol", labels(rows.iter().map(|r| Some(r.call.protocol))));
    c.set("source_series_id", ints(rows.iter().map(|r| Some(r.call.source))));
    c.set("target_series_id", ints(rows.iter().map(|r| r.call.target)));
    c.set("target_address", labels(addresses.iter().map(|a| Some(a.as_str()))));
    c.set("target_port", ints(rows.iter().map(|r| Some(i64::from(r.call.server.port())))));
    c.set("first_seen", times(rows.iter().map(|r| r.first_seen).collect()));
    c.set("last_seen", times(rows.iter().map(|r| r.last_seen).collect()));
    c.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(port: u16) -> Call {
        let server = SocketAddr::new(IpAddr::from([10, 0, 0, 1]), port);
        Call { source: 1, target: Some(2), server, protocol: "http" }
    }

    #[test]
    fn an_edge_is_told_at_first_and_once_a_minute() {
        let mut e = Edges::default();
        let second = 1_000_000;
        assert!(e.called(call(80), 0).is_some());
        assert!((1..60).all(|s| e.called(call(80), s * second).is_none()));
        let again = e.called(call(80), 60 * second).unwrap();
        assert_eq!((again.first_seen, again.last_seen), (0, 60 * second));
        let later = 60 * second + FORGET_US;
        assert_eq!(e.called(call(80), later).unwrap().first_seen, later);
        assert_eq!(batch(&[again], later, later).unwrap().num_rows(), 1);
    }

    #[test]
    fn more_edges_than_places_are_counted() {
        let mut e = Edges::default();
        let told = (0..9000).filter(|p| e.called(call(*p), 0).is_some()).count();
        assert_eq!((told, e.dropped(), e.dropped()), (PLACES, 9000 - PLACES as i64, 0));
        assert!(e.called(call(9000), FORGET_US).is_some());
        assert_eq!(e.seen.len(), 1);
    }
}
