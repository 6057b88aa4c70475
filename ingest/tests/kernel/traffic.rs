//! HTTP, connections and edges: rows equal to what the generator did.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    process::Child,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;
use tapio_ingest::{Ingest, IngestOptions, KernelOptions};
use tapio_store::Store;

use crate::{
    client::{Client, Counts},
    lab::{Cgroup, root, wait},
    processes::{Python, first_line, in_cgroups},
    rows::{Watched, attribute, int, text},
};

/// One of these tests at a time: who begins to look in the middle of another test's connections counts their rest only.
fn watched(kernel: KernelOptions) -> (Watched, MutexGuard<'static, ()>) {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    (Watched::start(kernel), alone)
}

/// Python's http.server in cgroups of its own.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(cgroups: &[&Cgroup]) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../ebpf/tests/kernel/http_server.py");
        let run = format!("exec python3 {script} 127.0.0.1");
        let mut child = in_cgroups(cgroups, &run).spawn().unwrap();
        let port = first_line(&mut child);
        let address = SocketAddr::new([127, 0, 0, 1].into(), port.parse().unwrap());
        Self { child, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Rows of one server and side.
fn of(rows: &[Value], side: &str, port: u16) -> Vec<Value> {
    let here = |r: &&Value| text(r, "side") == side && int(r, "server_port") == i64::from(port);
    rows.iter().filter(here).cloned().collect()
}

fn sum(rows: &[Value], column: &str) -> i64 {
    rows.iter().map(|r| int(r, column)).sum()
}

fn counts(rows: &[Value]) -> Counts {
    let mut counts = Counts::new();
    for r in rows {
        let unsigned = |column| int(r, column) as u64;
        let key = (
            text(r, "method").to_owned(),
            text(r, "route").to_owned(),
            unsigned("status_code") as u16,
        );
        let sums = counts.entry(key).or_default();
        sums.0 += unsigned("count");
        sums.1 += unsigned("request_bytes");
        sums.2 += unsigned("response_bytes");
    }
    counts
}

#[test]
fn http_rows_equal_the_generator_s_counts() {
    if !root("http_rows_equal_the_generator_s_counts") {
        return;
    }
    let (memory, unified) = (Cgroup::memory("web"), Cgroup::unified("web"));
    let (mut w, _alone) = watched(KernelOptions { http: true, ..KernelOptions::none() });
    let server = Server::start(&[&memory, &unified]);
    let port = server.address.port();
    let mut total = 0;
    let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(server.address)).collect();
    // Over several ticks, so that rows are differences.
    for round in 0..4 {
        for c in &mut clients {
            for i in 0..25 {
                c.request("GET", &format!("/api/users/{i}?token=secret"), "/api/users/{id}", b"");
                c.request("POST", "/upload", "/upload", b"twelve bytes");
                c.request("GET", "/fail", "/fail", b"");
                c.request("GET", "/missing", "/missing", b"");
                total += 4;
            }
        }
        let all = w.until("all transactions", "http", |rows| {
            ["server", "client"].iter().all(|s| sum(&of(rows, s, port), "count") >= total)
        });
        assert_eq!(sum(&of(&all, "server", port), "count"), total, "round {round}");
    }
    w.tick();
    let mut expected = Counts::new();
    for (key, sums) in clients.iter().flat_map(|c| &c.counts) {
        let e = expected.entry(key.clone()).or_default();
        *e = (e.0 + sums.0, e.1 + sums.1, e.2 + sums.2);
    }
    let rows = w.rows("http");
    let series = w.series(&memory);
    for side in ["server", "client"] {
        let rows = of(&rows, side, port);
        assert_eq!(counts(&rows), expected, "{side}");
        assert_eq!(sum(&rows, "errors"), 300, "{side}: what answers 503");
        for r in &rows {
            let buckets = r["latency_buckets"].as_array().unwrap();
            assert_eq!(buckets.len(), 42);
            let counted: i64 = buckets.iter().map(|b| b.as_i64().unwrap()).sum();
            assert_eq!(counted, int(r, "count"), "{r}");
            assert!(int(r, "latency_us") > 0, "{r}");
            assert_eq!(
                text(r, "status_class").as_bytes()[0] - b'0',
                (int(r, "status_code") / 100) as u8
            );
            match side {
                "server" => assert_eq!(int(r, "series_id"), series, "{r}"),
                _ => assert_eq!(int(r, "peer_series_id"), series, "{r}"),
            }
        }
    }
    assert!(!format!("{rows:?}").contains("secret"), "queries are never told");
}

/// A client in one cgroup and a server in another. `apart`: the server is in a unified cgroup too; else only its port tells
/// on the server's end where it belongs, because its unified cgroup is everybody's.
fn two_cgroups(apart: bool) {
    let (from, to) = (Cgroup::memory("from"), Cgroup::memory("to"));
    let unified = apart.then(|| Cgroup::unified("to"));
    let kernel = KernelOptions { http: true, net: true, ..KernelOptions::none() };
    let (mut w, _alone) = watched(kernel);
    let server =
        Server::start(&[Some(&to), unified.as_ref()].into_iter().flatten().collect::<Vec<_>>());
    let port = server.address.port();
    let script = format!(
        "import http.client
for _ in range(5):
    c = http.client.HTTPConnection('127.0.0.1', {port})
    for _ in range(20):
        c.request('GET', '/api/items'); c.getresponse().read()
    c.close()"
    );
    let client = Python::run(&[&from], &script);
    let done = |rows: &[Value]| {
        sum(&of(rows, "client", port), "connects") == 5
            && sum(&of(rows, "server", port), "received_bytes")
                == sum(&of(rows, "client", port), "sent_bytes")
            && sum(&of(rows, "client", port), "rtt_count") >= 10
    };
    let flows = w.until("the flows", "flows", done);
    client.end();
    let (from, to) = (w.series(&from), w.series(&to));
    for (side, series, peer) in [("client", from, Some(to)), ("server", to, None)] {
        let rows = of(&flows, side, port);
        assert_eq!(sum(&rows, "connects"), 5, "{rows:#?}");
        for r in &rows {
            assert_eq!(int(r, "series_id"), series, "{r}");
            assert_eq!(r.get("peer_series_id").and_then(Value::as_i64), peer, "{r}");
            assert_eq!(text(r, "peer_address"), "127.0.0.1");
        }
        assert!(sum(&rows, "sent_bytes") > 100 * 50, "{rows:#?}");
    }
    let http =
        w.until("the transactions", "http", |rows| sum(&of(rows, "client", port), "count") >= 100);
    assert_eq!(sum(&of(&http, "client", port), "count"), 100);
    let edges = w.rows("edges");
    let told: BTreeMap<&str, Vec<&Value>> = ["http", "tcp"]
        .map(|p| {
            let here =
                |e: &&Value| int(e, "target_port") == i64::from(port) && text(e, "protocol") == p;
            (p, edges.iter().filter(here).collect())
        })
        .into();
    for (protocol, edges) in told {
        assert_eq!(edges.len(), 1, "{protocol}: {edges:#?}");
        let (edge, relation) = (edges[0], text(edges[0], "relation"));
        let ends = (int(edge, "source_series_id"), int(edge, "target_series_id"));
        assert_eq!((ends, relation), ((from, to), "calls"), "{protocol}");
    }
}

#[test]
fn flows_and_edges_between_two_cgroups() {
    if root("flows_and_edges_between_two_cgroups") {
        two_cgroups(true);
    }
}

#[test]
fn a_server_is_known_by_its_port_where_cgroups_do_not_tell() {
    if root("a_server_is_known_by_its_port_where_cgroups_do_not_tell") {
        two_cgroups(false);
    }
}

#[test]
fn refused_connects_are_one_event_and_all_in_the_sums() {
    if !root("refused_connects_are_one_event_and_all_in_the_sums") {
        return;
    }
    let cgroup = Cgroup::memory("refused");
    let (mut w, _alone) = watched(KernelOptions { net: true, ..KernelOptions::none() });
    // Nobody listens there any more.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let script = format!(
        "import socket
for _ in range(30):
    try: socket.create_connection(('127.0.0.1', {}))
    except ConnectionRefusedError: pass",
        address.port()
    );
    let client = Python::run(&[&cgroup], &script);
    let pid = client.pid();
    let port = address.port();
    let flows = w.until("the refusals", "flows", |rows| {
        sum(&of(rows, "client", port), "failures_refused") >= 30
    });
    let series = w.series(&cgroup);
    let rows = of(&flows, "client", port);
    assert_eq!((sum(&rows, "failures_refused"), sum(&rows, "connects")), (30, 0));
    assert!(rows.iter().all(|r| int(r, "series_id") == series), "{rows:#?}");
    let server = address.to_string();
    let failed = |rows: &[Value]| -> Vec<Value> {
        let here = |r: &&Value| {
            text(r, "kind") == "net.connect_failed" && attribute(r, "server") == server
        };
        rows.iter().filter(here).cloned().collect()
    };
    let events = failed(&w.until("the event", "events", |rows| !failed(rows).is_empty()));
    assert_eq!(events.len(), 1, "{events:#?}");
    let e = &events[0];
    assert_eq!((int(e, "pid"), int(e, "series_id")), (pid, series));
    assert_eq!((attribute(e, "failure"), text(e, "severity")), ("refused", "warning"));
    assert!(w.rows("edges").iter().all(|e| int(e, "target_port") != i64::from(port)));
}

/// One cgroup was seen before it ended, the other came and went between two ticks.
#[test]
fn what_a_cgroup_did_last_is_told_after_its_end() {
    if !root("what_a_cgroup_did_last_is_told_after_its_end") {
        return;
    }
    let known = Cgroup::memory("known");
    let (mut w, _alone) = watched(KernelOptions { http: true, ..KernelOptions::none() });
    let series = w.series(&known);
    let unknown = Cgroup::memory("unknown");
    let ports = [known, unknown].map(|cgroup| {
        let server = Server::start(&[&cgroup]);
        Client::connect(server.address).request("GET", "/api/items", "/api/items", b"");
        let port = server.address.port();
        drop(server);
        cgroup.remove();
        port
    });
    let rows = w.until("both", "http", |rows| {
        ports.iter().all(|p| sum(&of(rows, "server", *p), "count") == 1)
    });
    let labels = w.rows("series");
    let node = int(labels.iter().find(|r| text(r, "kind") == "node").unwrap(), "series_id");
    let told = ports.map(|p| int(&of(&rows, "server", p)[0], "series_id"));
    assert_eq!(told, [series, node]);
    wait("the report of what is unknown", || {
        w.tick();
        (w.health.value("collector.ebpf", "cgroups_unknown") >= 1).then_some(())
    });
}

/// A collector of one cgroup tells nothing of the others.
#[test]
fn a_filter_leaves_out_the_rest_of_the_node() {
    if !root("a_filter_leaves_out_the_rest_of_the_node") {
        return;
    }
    let (one, other) = (Cgroup::memory("one"), Cgroup::memory("other"));
    let kernel = KernelOptions { http: true, net: true, ..KernelOptions::none() };
    let (whole, _alone) = watched(KernelOptions::none());
    drop(whole);
    let mut w = Watched::only(kernel, Some(format!("/{}", one.name())));
    let servers = [&one, &other].map(|c| Server::start(&[c]));
    for s in &servers {
        Client::connect(s.address).request("GET", "/api/items", "/api/items", b"");
    }
    let ports = servers.each_ref().map(|s| s.address.port());
    w.until("the transaction", "http", |rows| sum(&of(rows, "server", ports[0]), "count") == 1);
    w.tick();
    let series = w.series(&one);
    for table in ["http", "flows"] {
        let rows = w.rows(table);
        assert!(!rows.is_empty(), "{table}");
        assert!(rows.iter().all(|r| int(r, "series_id") == series), "{table}: {rows:#?}");
    }
}

/// Rows with lists go through the write-ahead log and files and come back.
#[tokio::test]
async fn rows_of_the_kernel_are_stored() {
    if !root("rows_of_the_kernel_are_stored") {
        return;
    }
    let cgroup = Cgroup::memory("stored");
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("store").to_str().unwrap(), true).unwrap();
    let ingest = Ingest::open(IngestOptions::new(store.clone(), dir.path().join("wal"))).await;
    let ingest = ingest.unwrap();
    let stored = {
        let kernel = KernelOptions { http: true, net: true, ..KernelOptions::none() };
        let (mut w, _alone) = watched(kernel);
        let server = Server::start(&[&cgroup]);
        let mut client = Client::connect(server.address);
        client.request("GET", "/api/items", "/api/items", b"");
        let port = server.address.port();
        w.until("the transaction", "http", |rows| sum(&of(rows, "server", port), "count") == 1);
        w.batches
    };
    let rows = |table: &str| -> u64 {
        stored.iter().filter(|b| b.def().name == table).map(|b| b.num_rows() as u64).sum()
    };
    let expected = ["http", "flows", "edges"].map(|t| (t, rows(t)));
    ingest.append_tick(stored.clone(), 1).await.unwrap();
    ingest.shutdown().await.unwrap();
    for (table, expected) in expected {
        assert!(expected > 0, "{table}");
        let log = store.table(tapio_sql::catalog().get(table).unwrap());
        let snapshot = log.snapshot().await.unwrap();
        assert_eq!(snapshot.rows(), expected, "{table}");
        for path in snapshot.files.keys() {
            let bytes = log.read_file(path).await.unwrap();
            let batches = tapio_store::read_parquet(log.def(), path, bytes).unwrap();
            assert!(batches.iter().all(|b| b.schema() == log.def().schema()), "{table}");
        }
    }
}
