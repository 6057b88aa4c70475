//! HTTP transactions: the counts of the kernel are those of the generator, to the request and to the byte.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{IpAddr, SocketAddr, TcpListener},
    os::fd::AsRawFd,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tapio_ebpf::{Http, HttpTransactions, LATENCY_BUCKETS, LoadOptions, Method, Programs, Side};

use crate::{
    client::{Client, Counts},
    lab::{Cgroup, load, root, wait},
};

/// One of these tests at a time: the programs see the whole machine, and those who begin to look in the middle of another
/// test's upload, which looks like requests, count it as lost.
fn http() -> (Programs, MutexGuard<'static, ()>) {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    (load(&LoadOptions { http: true, ..LoadOptions::none() }), alone)
}

/// A server in a unified and a memory cgroup of its own; it ends with this value.
struct Server {
    child: Child,
    address: SocketAddr,
    unified: Cgroup,
    memory: Cgroup,
}

impl Server {
    fn python(ip: &str) -> Self {
        let (unified, memory) = (Cgroup::unified("server"), Cgroup::memory("server"));
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kernel/http_server.py");
        let mut child = joining(&[&unified, &memory], &format!("exec python3 {script} {ip}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        let address = SocketAddr::new(ip.parse().unwrap(), port.trim().parse().unwrap());
        Self { child, address, unified, memory }
    }

    /// nginx with its listening socket made here, so that no port is guessed.
    fn nginx(dir: &Path) -> Option<Self> {
        if Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_err() {
            let must = std::env::var_os("CI").is_some_and(|v| v == "true");
            assert!(!must, "nginx is missing: apt-get install nginx");
            eprintln!("SKIPPED: nginx is missing");
            return None;
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let conf = format!(
            "daemon off; worker_processes 2; pid {0}/pid; error_log {0}/error.log;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log off; sendfile on; keepalive_requests 100000; default_type text/plain;\n\
             client_body_temp_path {0}/temp-a; proxy_temp_path {0}/temp-b; fastcgi_temp_path {0}/temp-c;\n\
             uwsgi_temp_path {0}/temp-d; scgi_temp_path {0}/temp-e;\n\
             server {{ listen {address}; root {0}; location /old {{ return 301 /new; }} }} }}\n",
            dir.display()
        );
        std::fs::write(dir.join("nginx.conf"), conf).unwrap();
        let fd = listener.as_raw_fd();
        rustix::io::fcntl_setfd(&listener, rustix::io::FdFlags::empty()).unwrap();
        let (unified, memory) = (Cgroup::unified("nginx"), Cgroup::memory("nginx"));
        let run = format!("exec nginx -c {}/nginx.conf", dir.display());
        let mut command = joining(&[&unified, &memory], &run);
        let child = command.env("NGINX", format!("{fd};")).stderr(Stdio::null()).spawn().unwrap();
        Some(Self { child, address, unified, memory })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn joining(cgroups: &[&Cgroup], run: &str) -> Command {
    let join: String =
        cgroups.iter().map(|c| format!("echo $$ > {} && ", c.procs().display())).collect();
    let mut command = Command::new("sh");
    command.args(["-c", &(join + run)]);
    command
}

/// Drains until as many transactions of that server are told on both sides, and then once more.
fn drain(http: &mut Http, port: u16, transactions: u64) -> Vec<HttpTransactions> {
    let mut all: Vec<HttpTransactions> = Vec::new();
    wait("all transactions", || {
        http.drain(&mut all).unwrap();
        all.retain(|t| t.server.port() == port);
        (all.iter().map(|t| t.count).sum::<u64>() >= 2 * transactions).then_some(())
    });
    http.drain(&mut all).unwrap();
    all.retain(|t| t.server.port() == port);
    all
}

fn counts(all: &[HttpTransactions], side: Side) -> Counts {
    let mut counts = Counts::new();
    for t in all.iter().filter(|t| t.side == side) {
        let route = t.route.clone().unwrap_or_default();
        let key = (t.method.as_str().to_owned(), route, t.status.unwrap_or(0));
        let sums = counts.entry(key).or_default();
        *sums = (sums.0 + t.count, sums.1 + t.request_bytes, sums.2 + t.response_bytes);
    }
    counts
}

fn check(http: &mut Http, server: &Server, clients: &[Client]) {
    let mut expected = Counts::new();
    for (key, sums) in clients.iter().flat_map(|c| &c.counts) {
        let e = expected.entry(key.clone()).or_default();
        *e = (e.0 + sums.0, e.1 + sums.1, e.2 + sums.2);
    }
    let total = expected.values().map(|e| e.0).sum();
    let all = drain(http, server.address.port(), total);
    assert_eq!(counts(&all, Side::Server), expected, "as the server sees it");
    assert_eq!(counts(&all, Side::Client), expected, "as the client sees it");
    for t in &all {
        assert_eq!(t.latency.iter().sum::<u64>(), t.count, "{t:?}");
        assert!(t.latency_ns > 0, "{t:?}");
        match t.side {
            Side::Server => {
                assert_eq!(t.cgroups.unified, server.unified.id(), "{t:?}");
                assert_eq!(t.cgroups.memory, server.memory.id(), "{t:?}");
                assert!(t.server.ip().is_unspecified(), "{t:?}");
            }
            Side::Client => {
                assert_eq!(t.server, server.address, "{t:?}");
                assert_eq!(t.tgid, std::process::id(), "{t:?}");
            }
        }
    }
    let lost: BTreeMap<_, _> =
        http.losses().unwrap().into_iter().map(|l| (l.what, l.count)).filter(|l| l.1 > 0).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

/// Requests of all kinds on four connections at once.
fn load_python(ip: &str) {
    let (mut programs, _alone) = http();
    let http = programs.http.as_mut().unwrap();
    let server = Server::python(ip);
    let address = server.address;
    let threads: Vec<_> = (0..4_u64)
        .map(|thread| {
            std::thread::spawn(move || {
                let mut c = Client::connect(address);
                for i in 0..60 {
                    let n = thread * 1000 + i;
                    c.request("GET", &format!("/api/users/{n}?token=abc"), "/api/users/{id}", b"");
                    let uuid = format!("/api/orders/550e8400-e29b-41d4-a716-4466554{n:05}/items");
                    c.request("GET", &uuid, "/api/orders/{uuid}/items", b"");
                    c.request("DELETE", &format!("/api/blobs/{n:040x}"), "/api/blobs/{hash}", b"");
                    c.request("GET", "/missing", "/missing", b"");
                    c.request("GET", "/fail?x", "/fail", b"");
                    c.request("HEAD", "/api/v1/users", "/api/v1/users", b"");
                    c.request("GET", "/empty", "/empty", b"");
                    c.request("GET", "/chunked", "/chunked", b"");
                    let body = b"GET /body HTTP/1.1\r\n\r\n".repeat(1 + i as usize * 20);
                    assert_eq!(c.request("POST", "/upload", "/upload", &body), 201);
                    // An interim answer comes first.
                    let expect = b"POST /expect HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
                    c.send(expect);
                    c.send(b"abc");
                    let (status, received) = c.answer("POST");
                    c.count("POST", "/expect", status, expect.len() as u64 + 3, received);
                }
                c
            })
        })
        .collect();
    let clients: Vec<Client> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    check(http, &server, &clients);
}

#[test]
fn a_python_server_over_ipv4_is_counted_to_the_request() {
    if root("a_python_server_over_ipv4_is_counted_to_the_request") {
        load_python("127.0.0.1");
    }
}

#[test]
fn a_python_server_over_ipv6_is_counted_to_the_request() {
    if root("a_python_server_over_ipv6_is_counted_to_the_request") {
        load_python("::1");
    }
}

#[test]
fn nginx_is_counted_to_the_request() {
    if !root("nginx_is_counted_to_the_request") {
        return;
    }
    let dir = tempfile::Builder::new().prefix("tapio-nginx").tempdir().unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(dir.path().join("small"), "small\n").unwrap();
    // By sendfile, in packets of 64 KiB on the loopback, with what looks like answers at their beginnings.
    std::fs::write(dir.path().join("large"), b"HTTP/1.1 200 OK\r\n".repeat(200_000)).unwrap();
    let (mut programs, _alone) = http();
    let http = programs.http.as_mut().unwrap();
    let Some(server) = Server::nginx(dir.path()) else { return };
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut c = Client::connect(server.address);
        for i in 0..200 {
            assert_eq!(c.request("GET", "/small", "/small", b""), 200);
            assert_eq!(c.request("GET", &format!("/gone-{i:04}"), "/{id}", b""), 404);
            assert_eq!(c.request("GET", "/old", "/old", b""), 301);
            if i % 20 == 0 {
                assert_eq!(c.request("GET", "/large", "/large", b""), 200);
            }
        }
        clients.push(c);
    }
    // A request line over many packets.
    let mut c = Client::connect(server.address);
    let request = b"GET /small?a=b HTTP/1.1\r\nHost: x\r\n\r\n";
    for byte in request {
        c.send(&[*byte]);
    }
    let (status, received) = c.answer("GET");
    c.count("GET", "/small", status, request.len() as u64, received);
    clients.push(c);
    check(http, &server, &clients);
}

#[test]
fn pipelined_requests_are_counted_one_by_one() {
    if !root("pipelined_requests_are_counted_one_by_one") {
        return;
    }
    let dir = tempfile::Builder::new().prefix("tapio-nginx").tempdir().unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    for n in ["a", "b", "c"] {
        std::fs::write(dir.path().join(n), n.repeat(1000)).unwrap();
    }
    let (mut programs, _alone) = http();
    let http = programs.http.as_mut().unwrap();
    let Some(server) = Server::nginx(dir.path()) else { return };
    let mut c = Client::connect(server.address);
    let (mut total, mut expected) = (0, BTreeMap::new());
    for round in 0..50 {
        let targets: Vec<_> =
            (0..24).map(|i| ["/a", "/b", "/c", "/none"][(i + round) % 4]).collect();
        let requests: String =
            targets.iter().map(|t| format!("GET {t} HTTP/1.1\r\nHost: x\r\n\r\n")).collect();
        c.send(requests.as_bytes());
        for target in targets {
            let (status, _) = c.answer("GET");
            assert_eq!(status, if target == "/none" { 404 } else { 200 });
            *expected.entry((target.to_owned(), status)).or_insert(0_u64) += 1;
            total += 1;
        }
    }
    let all = drain(http, server.address.port(), total);
    for side in [Side::Server, Side::Client] {
        let seen: BTreeMap<_, _> =
            counts(&all, side).into_iter().map(|((_, r, s), sums)| ((r, s), sums.0)).collect();
        assert_eq!(seen, expected, "{side:?}");
    }
}

#[test]
fn what_is_not_answered_or_not_http_1_is_told_as_such() {
    if !root("what_is_not_answered_or_not_http_1_is_told_as_such") {
        return;
    }
    let (mut programs, _alone) = http();
    let http = programs.http.as_mut().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let exchange = |request: &[u8], answer: &[u8]| {
        let mut client = std::net::TcpStream::connect(address).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(request).unwrap();
        let mut buffer = vec![0; request.len()];
        std::io::Read::read_exact(&mut server, &mut buffer).unwrap();
        server.write_all(answer).unwrap();
        drop(server);
        let mut got = Vec::new();
        std::io::Read::read_to_end(&mut client, &mut got).unwrap();
        assert_eq!(got, answer);
    };
    exchange(b"GET /silent/1 HTTP/1.1\r\nHost: x\r\n\r\n", b"");
    exchange(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", b"\0\0\0\x04\0\0\0\0\0");
    exchange(b"GET is what this protocol begins with\n", b"HTTP/1.1 is not its answer\n");
    exchange(
        b"CONNECT host.test:443 HTTP/1.1\r\n\r\nGET /inside HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    );
    let all = drain(http, address.port(), 3);
    for side in [Side::Server, Side::Client] {
        let mut seen: Vec<_> = all
            .iter()
            .filter(|t| t.side == side && t.count > 0)
            .map(|t| (t.method, t.route.clone(), t.status, t.count, t.latency.iter().sum::<u64>()))
            .collect();
        seen.sort();
        let tunnel = Some("*".to_owned());
        let expected = [
            (Method::Get, Some("/silent/{id}".to_owned()), None, 1, 0),
            (Method::Connect, tunnel, Some(200), 1, 1),
            (Method::Http2, None, None, 1, 0),
        ];
        assert_eq!(seen, expected, "{side:?}");
        let h2 = counts(&all, side)[&("HTTP/2".to_owned(), String::new(), 0)];
        assert_eq!(h2, (1, 33, 9), "{side:?}");
    }
    assert_eq!(all[0].latency.len(), LATENCY_BUCKETS);
    assert!(all.iter().all(|t| matches!(t.server.ip(), IpAddr::V4(_) | IpAddr::V6(_))));
}

/// Packets that are lost on the way and sent again change nothing, except what is counted as lost.
#[test]
fn lost_packets_are_not_counted_twice() {
    if !root("lost_packets_are_not_counted_twice") {
        return;
    }
    let (mut programs, _alone) = http();
    let http = programs.http.as_mut().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kernel/http_lossy.py");
    let rule = "ip saddr 127.77.4.1 tcp flags & psh == psh numgen inc mod 9 == 0 drop";
    let shell = format!(
        "set -e; ip link set lo up\n\
         echo 'table inet t {{ chain c {{ type filter hook input priority 0; {rule}; }}; }}' | nft -f -\n\
         exec python3 {script} 127.77.4.1"
    );
    let output = Command::new("unshare").args(["-n", "sh", "-c", &shell]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<u64> = printed.split_whitespace().map(|n| n.parse().unwrap()).collect();
    let [port, sent, again] = numbers[..] else { panic!("{printed}") };
    assert!(again >= 20, "the rule drops packets, {again} segments were sent again");
    let all = drain(http, port as u16, sent);
    for side in [Side::Server, Side::Client] {
        let counts = counts(&all, side);
        let total: u64 = counts.values().map(|c| c.0).sum();
        assert_eq!(total, sent, "{side:?} {counts:?}");
        assert_eq!(counts.len(), 2, "{side:?} {counts:?}");
        let large = counts[&("GET".to_owned(), "/large".to_owned(), 200)];
        assert_eq!(large.0, sent / 2, "{side:?}");
        assert!(large.2 > large.0 * 100_000, "{side:?} {large:?}");
    }
}

/// Answers on one connection by io_uring alone: no system call carries the bytes.
fn serve_by_io_uring(listener: TcpListener) {
    use io_uring::{IoUring, opcode, types};
    let (stream, _) = listener.accept().unwrap();
    let fd = types::Fd(stream.as_raw_fd());
    let mut ring = IoUring::new(8).unwrap();
    let mut run = |entry: io_uring::squeue::Entry| {
        // SAFETY: the buffers outlive the operation, which is waited for right here.
        unsafe { ring.submission().push(&entry).unwrap() };
        ring.submit_and_wait(1).unwrap();
        let result = ring.completion().next().unwrap().result();
        usize::try_from(result).unwrap_or_else(|_| panic!("io_uring: errno {}", -result))
    };
    let mut head: Vec<u8> = Vec::new();
    loop {
        let mut buffer = [0_u8; 4096];
        let entry = opcode::Recv::new(fd, buffer.as_mut_ptr(), buffer.len() as u32).build();
        let got = run(entry);
        if got == 0 {
            return;
        }
        head.extend(&buffer[..got]);
        while let Some(end) = head.windows(4).position(|w| w == b"\r\n\r\n") {
            let found = head.starts_with(b"GET /api/");
            head.drain(..end + 4);
            let status = if found { "200 OK" } else { "404 Not Found" };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\nhello");
            let mut sent = 0;
            while sent < answer.len() {
                let rest = &answer.as_bytes()[sent..];
                sent += run(opcode::Send::new(fd, rest.as_ptr(), rest.len() as u32).build());
            }
        }
    }
}

#[test]
fn a_server_that_uses_io_uring_is_counted_to_the_request() {
    let test = "a_server_that_uses_io_uring_is_counted_to_the_request";
    if !root(test) {
        return;
    }
    if std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").is_ok_and(|d| d.trim() == "2")
    {
        eprintln!("SKIPPED {test}: kernel.io_uring_disabled is 2");
        return;
    }
    let (mut programs, _alone) = http();
    let http = programs.http.as_mut().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(|| serve_by_io_uring(listener));
    let mut c = Client::connect(address);
    for n in 0..300 {
        assert_eq!(c.request("GET", &format!("/api/users/{n}"), "/api/users/{id}", b""), 200);
        assert_eq!(c.request("GET", "/missing?x", "/missing", b""), 404);
    }
    let expected = c.counts.clone();
    drop(c);
    server.join().unwrap();
    let all = drain(http, address.port(), 600);
    for side in [Side::Server, Side::Client] {
        assert_eq!(counts(&all, side), expected, "{side:?}");
    }
    assert!(all.iter().all(|t| t.tgid == std::process::id()), "{all:?}");
}
