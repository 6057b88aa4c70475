//! Rows of `http`.

use std::{collections::BTreeMap, net::IpAddr};

use tapio_ebpf::{HttpTransactions, LATENCY_BUCKETS, LatencyBuckets, Method, Side};
use tapio_sql::{BatchError, TableBatch};

use super::{merge, subjects::Subjects};
use crate::rows::{Columns, count_lists, counts, ints, labels};

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    series_id: i64,
    side: Side,
    method: Method,
    route: Option<String>,
    status: Option<u16>,
    /// `None`: the server's own side.
    server: Option<IpAddr>,
    port: u16,
    peer: Option<i64>,
}

#[derive(Debug)]
struct Sums {
    count: u64,
    latency_ns: u64,
    latency: LatencyBuckets,
    request_bytes: u64,
    response_bytes: u64,
}

/// The server's port, of records of its own end.
pub(super) fn port(t: &HttpTransactions) -> Option<u16> {
    (t.side == Side::Server).then_some(t.server.port())
}

/// The series that was asked, of records of the client's end.
pub(super) fn target(t: &HttpTransactions, subjects: &mut Subjects) -> Option<i64> {
    (t.side == Side::Client).then(|| subjects.target(t.tgid, t.server)).flatten()
}

/// What was counted, by what makes a row.
#[derive(Debug, Default)]
pub(super) struct Rows(BTreeMap<Key, Sums>);

impl Rows {
    pub(super) fn add(&mut self, t: HttpTransactions, series_id: i64, peer: Option<i64>) {
        let key = Key {
            series_id,
            side: t.side,
            method: t.method,
            route: t.route,
            status: t.status,
            server: (t.side == Side::Client).then_some(t.server.ip()),
            port: t.server.port(),
            peer,
        };
        let sums = self.0.entry(key).or_insert(Sums {
            count: 0,
            latency_ns: 0,
            latency: [0; LATENCY_BUCKETS],
            request_bytes: 0,
            response_bytes: 0,
        });
        sums.count += t.count;
        sums.latency_ns += t.latency_ns;
        sums.request_bytes += t.request_bytes;
        sums.response_bytes += t.response_bytes;
        merge(&mut sums.latency, &t.latency);
    }

    pub(super) fn batch(self, ts: i64, observed: i64) -> Result<TableBatch, BatchError> {
        let rows = &self.0;
        let mut c = Columns::at("http", rows.len(), ts, observed)?;
        let servers: Vec<Option<String>> =
            rows.keys().map(|k| k.server.map(|s| s.to_string())).collect();
        c.set("series_id", ints(rows.keys().map(|k| Some(k.series_id))));
        c.set("side", labels(rows.keys().map(|k| Some(side(k.side)))));
        c.set("method", labels(rows.keys().map(|k| Some(k.method.as_str()))));
        c.set("route", labels(rows.keys().map(|k| k.route.as_deref())));
        c.set("status_class", labels(rows.keys().map(|k| k.status.and_then(class))));
        c.set("status_code", ints(rows.keys().map(|k| k.status.map(i64::from))));
        c.set("server_address", labels(servers.iter().map(Option::as_deref)));
        c.set("server_port", ints(rows.keys().map(|k| Some(i64::from(k.port)))));
        c.set("peer_series_id", ints(rows.keys().map(|k| k.peer)));
        c.set("count", counts(rows.values().map(|s| s.count)));
        c.set("errors", counts(rows.iter().map(|(k, s)| if failed(k) { s.count } else { 0 })));
        c.set("latency_us", counts(rows.values().map(|s| s.latency_ns / 1_000)));
        c.set("latency_buckets", count_lists(rows.values().map(|s| s.latency.as_slice())));
        c.set("request_bytes", counts(rows.values().map(|s| s.request_bytes)));
        c.set("response_bytes", counts(rows.values().map(|s| s.response_bytes)));
        c.finish()
    }
}

fn side(side: Side) -> &'static str {
    match side {
        Side::Server => "server",
        Side::Client => "client",
    }
}

fn class(status: u16) -> Option<&'static str> {
    ["1xx", "2xx", "3xx", "4xx", "5xx"].get(usize::from(status / 100).checked_sub(1)?).copied()
}

/// What is not looked into has no status and is no failure.
fn failed(key: &Key) -> bool {
    key.method != Method::Http2 && key.status.is_none_or(|s| s >= 500)
}

#[cfg(test)]
mod tests {
    use arrow::{array::AsArray, datatypes::Int64Type};
    use tapio_ebpf::{CgroupIds, latency_bounds_us};

    use super::*;

    fn transactions(status: Option<u16>, method: Method, count: u64) -> HttpTransactions {
        let mut latency = [0; LATENCY_BUCKETS];
        latency[3] = count;
        HttpTransactions {
            cgroups: CgroupIds::default(),
            tgid: 1,
            side: Side::Server,
            server: "0.0.0.0:80".parse().unwrap(),
            method,
            route: Some("/a".into()),
            status,
            count,
            latency_ns: 40_900 * count,
            latency,
            request_bytes: 100,
            response_bytes: 1000,
        }
    }

    #[test]
    fn what_is_alike_is_one_row_and_failures_are_counted() {
        let mut rows = Rows::default();
        for (status, method, count) in [
            (Some(200), Method::Get, 2),
            (Some(200), Method::Get, 3),
            (Some(503), Method::Get, 4),
            (Some(404), Method::Get, 5),
            (None, Method::Get, 6),
            (None, Method::Http2, 7),
            (Some(999), Method::Get, 1),
        ] {
            rows.add(transactions(status, method, count), 9, None);
        }
        let batch = rows.batch(1_000, 2_000).unwrap().into_batch();
        let column = |name: &str| batch.column_by_name(name).unwrap();
        let ints = |name: &str| column(name).as_primitive::<Int64Type>().values().to_vec();
        // No answer, 200, 404, 503, 999, then HTTP/2.
        assert_eq!(ints("count"), [6, 5, 5, 4, 1, 7]);
        assert_eq!(ints("errors"), [6, 0, 0, 4, 1, 0]);
        assert_eq!(ints("latency_us")[1], 204);
        let buckets = column("latency_buckets").as_list::<i32>().value(1);
        let buckets = buckets.as_primitive::<Int64Type>();
        assert_eq!((buckets.len(), buckets.value(3)), (LATENCY_BUCKETS, 5));
    }

    #[test]
    fn the_table_says_which_bounds_its_buckets_have() {
        let bounds = latency_bounds_us();
        assert_eq!((bounds[..4].to_vec(), bounds[40]), (vec![16, 24, 32, 48], 16_777_216));
        assert!(bounds.windows(3).all(|w| w[2] == 2 * w[0]), "each twice the last but one");
        for table in ["http", "flows", "dns", "block"] {
            let def = tapio_sql::catalog().get(table).unwrap();
            let lists = def.columns.iter().filter(|c| c.ty == tapio_sql::ColumnType::Int64List);
            let said: Vec<_> = lists.map(|c| &c.description).collect();
            assert_eq!(said.len(), 1, "{table}");
            let exact = "42 buckets. Upper bounds (exclusive) in µs: 16, 24, 32, 48 and so on, each twice the last but one, \
                         up to 16777216; the last bucket has none.";
            assert!(said[0].ends_with(exact), "{table}: {}", said[0]);
        }
    }
}
