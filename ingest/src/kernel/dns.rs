//! Rows of `dns`, and failed queries as events.

use std::{collections::BTreeMap, net::IpAddr};

use tapio_ebpf::{DnsAnswers, DnsFailure, LATENCY_BUCKETS, LatencyBuckets};
use tapio_sql::{BatchError, TableBatch, derived_id};

use super::{Moment, merge, subjects::Subject};
use crate::{
    collect::{ids::Ids, sample::Event},
    rows::{Columns, count_lists, counts, ints, labels},
};

const NXDOMAIN: u8 = 3;

/// Series, server, response code.
type Key = (i64, IpAddr, Option<u8>);

/// What was counted, by what makes a row.
#[derive(Debug, Default)]
pub(super) struct Rows(BTreeMap<Key, (u64, u64, LatencyBuckets)>);

impl Rows {
    pub(super) fn answered(&mut self, a: &DnsAnswers, series_id: i64) {
        self.add((series_id, a.server, Some(a.rcode)), a.count, a.latency_ns, &a.latency);
    }

    /// Queries that were answered are in the sums of answers already.
    pub(super) fn failed(&mut self, f: &DnsFailure, series_id: i64) {
        if f.rcode.is_none() {
            self.add((series_id, f.server.ip(), None), 1, 0, &[0; LATENCY_BUCKETS]);
        }
    }

    fn add(&mut self, key: Key, count: u64, ns: u64, latency: &LatencyBuckets) {
        let sums = self.0.entry(key).or_insert((0, 0, [0; LATENCY_BUCKETS]));
        sums.0 += count;
        sums.1 += ns;
        merge(&mut sums.2, latency);
    }

    pub(super) fn batch(self, ts: i64, observed: i64) -> Result<TableBatch, BatchError> {
        let rows = &self.0;
        let mut c = Columns::at("dns", rows.len(), ts, observed)?;
        let servers: Vec<String> = rows.keys().map(|k| k.1.to_string()).collect();
        c.set("series_id", ints(rows.keys().map(|k| Some(k.0))));
        c.set("server_address", labels(servers.iter().map(|s| Some(s.as_str()))));
        c.set("rcode", ints(rows.keys().map(|k| k.2.map(i64::from))));
        c.set("count", counts(rows.values().map(|s| s.0)));
        c.set("latency_us", counts(rows.values().map(|s| s.1 / 1_000)));
        c.set("latency_buckets", count_lists(rows.values().map(|s| s.2.as_slice())));
        c.finish()
    }
}

/// One `net.dns_failed`; `n` such queries failed since the event before. A name that does not exist is most often one of a
/// search list (resolv.conf(5)) and no fault.
pub(super) fn event(f: &DnsFailure, subject: &Subject, n: u64, ids: &Ids, m: Moment) -> Event {
    let name = f.name.as_deref().unwrap_or("a name that cannot be read");
    let (how, severity) = match f.rcode {
        None => ("there was no answer within five seconds".to_owned(), "warning"),
        Some(NXDOMAIN) => ("the name does not exist".to_owned(), "info"),
        Some(2) => ("the server failed (SERVFAIL)".to_owned(), "warning"),
        Some(5) => ("the server refused".to_owned(), "warning"),
        Some(rcode) => (format!("response code {rcode}"), "warning"),
    };
    let pid = f.tgid.to_string();
    let boot_ns = f.boot_ns.to_string();
    let mut attributes = vec![
        ("server", f.server.to_string()),
        ("took_us", f.took.as_micros().to_string()),
        ("unit", "{query}".into()),
    ];
    attributes.extend(f.name.clone().map(|n| ("name", n)));
    attributes.extend(f.query_type.map(|t| ("query_type", t.to_string())));
    attributes.extend(f.rcode.map(|r| ("rcode", r.to_string())));
    Event {
        id: derived_id(&["net.dns_failed", &ids.boot_id, &pid, &boot_ns, name]),
        ts: Some(m.of(f.boot_ns)),
        kind: "net.dns_failed",
        severity,
        pid: Some(i64::from(f.tgid)),
        message: format!("{} could not resolve {name}: {how}", f.server.ip()),
        value: Some(n as f64),
        attributes,
        ..subject.event()
    }
}
