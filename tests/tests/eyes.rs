//! The server as it is started without any configuration, as root: what the kernel programs see is in its tables.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use tapio_tests::{can_cage, wait_for};

use crate::server::Server;

/// Ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const SERVE: &str = "
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        self.send_response(404 if 'missing' in self.path else 200)
        self.send_header('Content-Length', '2')
        self.end_headers()
        self.wfile.write(b'ok')
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()";

/// 40 requests for users, 10 for what is missing, on one connection.
const ASK: &str = "
import http.client, sys
c = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]))
for i in range(50):
    c.request('GET', f'/users/{1000 + i}' if i % 5 else '/missing?secret=1')
    c.getresponse().read()
c.close()";

#[test]
fn a_server_without_configuration_sees_http_flows_edges_and_events() {
    if !can_cage("eyes") {
        return;
    }
    let python = std::env::var("TAPIO_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let mut serving = Command::new(&python);
    serving.args(["-c", SERVE]).stdout(Stdio::piped());
    let mut serving = Running(serving.spawn().unwrap());
    let mut port = String::new();
    BufReader::new(serving.0.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let port = port.trim();
    assert!(Command::new(&python).args(["-c", ASK, port]).status().unwrap().success());

    let rows = |sql: &str| -> Vec<Value> {
        let answer = server.json(&["sql", sql]).unwrap_or_default();
        answer.as_array().cloned().unwrap_or_default()
    };
    let sql = format!(
        "SELECT route, status_code, sum(count) AS n FROM http WHERE server_port = {port} AND side = 'server' \
         GROUP BY route, status_code ORDER BY route"
    );
    let http = wait_for("50 requests", Duration::from_secs(30), || {
        let found = rows(&sql);
        let n: i64 = found.iter().filter_map(|r| r["n"].as_i64()).sum();
        (n == 50).then_some(found)
    });
    let told = |i: usize| {
        (http[i]["route"].as_str(), http[i]["status_code"].as_i64(), http[i]["n"].as_i64())
    };
    assert_eq!(told(0), (Some("/missing"), Some(404), Some(10)), "{http:?}");
    assert_eq!(told(1), (Some("/users/{id}"), Some(200), Some(40)), "{http:?}");
    for (table, wanted) in [("flows", format!("server_port = {port}")), ("edges", "true".into())] {
        let sql = format!("SELECT count(*) AS n FROM {table} WHERE {wanted}");
        wait_for(table, Duration::from_secs(30), || {
            rows(&sql).first()?["n"].as_i64().filter(|n| *n > 0)
        });
    }
    let sql = "SELECT DISTINCT kind FROM events WHERE source = 'ebpf'";
    wait_for("events of the kernel programs", Duration::from_secs(30), || {
        rows(sql).iter().any(|r| r["kind"] == "process.exec").then_some(())
    });
    // The doctor repeats what this server says of itself.
    let doctor = wait_for("the doctor's word", Duration::from_secs(30), || {
        let found = server.json(&["doctor"])?;
        let checks = found["checks"].as_array()?.clone();
        let programs = checks.iter().find(|c| c["name"] == "kernel programs")?;
        (programs["detail"].as_str()?.starts_with("in the kernel")).then(|| programs.clone())
    });
    for object in ["memory", "oom", "http", "net", "dns", "cpu", "block"] {
        assert!(doctor["detail"].as_str().unwrap().contains(object), "{doctor}");
    }
}
