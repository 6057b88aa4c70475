//! TCP connections: how connects fail, what is sent again.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
};

use tapio_ebpf::{ConnectFailure, FailedConnect, Flow, FlowSide, LoadOptions, Net, Programs};

use crate::lab::{Cgroup, load, root, wait};

fn net() -> Programs {
    load(&LoadOptions { net: true, ..LoadOptions::none() })
}

/// Sums of what `wanted` picks, when `enough` of it is there.
fn flows(
    net: &mut Net,
    wanted: impl Fn(&Flow) -> bool,
    enough: impl Fn(&[Flow]) -> bool,
) -> Vec<Flow> {
    let mut all = Vec::new();
    wait("the flows", || {
        net.drain(&mut all).unwrap();
        all.retain(&wanted);
        enough(&all).then_some(())
    });
    all
}

fn failure(net: &mut Net, all: &mut Vec<FailedConnect>, to: SocketAddr) -> FailedConnect {
    wait("the failed connect", || {
        net.poll_failed(all);
        all.iter().find(|f| f.server == to).cloned()
    })
}

#[test]
fn connections_are_told_with_bytes_and_round_trips() {
    if !root("connections_are_told_with_bytes_and_round_trips") {
        return;
    }
    let mut programs = net();
    let net = programs.net.as_mut().unwrap();
    for ip in ["127.0.0.1", "::1"] {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        for _ in 0..7 {
            let mut client = TcpStream::connect(address).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            client.write_all(&[1; 1000]).unwrap();
            server.read_exact(&mut [0; 1000]).unwrap();
            server.write_all(&[2; 300]).unwrap();
            client.read_exact(&mut [0; 300]).unwrap();
            // The server ends first, so that the client's end is not left waiting for late packets.
            drop(server);
            assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
        }
        let port = address.port();
        let here = |f: &Flow| f.server_port == port && f.peer == address.ip();
        let sum = |all: &[Flow], side, of: fn(&Flow) -> u64| -> u64 {
            all.iter().filter(|f| f.side == side).map(of).sum()
        };
        let all = flows(net, here, |all| {
            sum(all, FlowSide::Client, |f| f.bytes_received) >= 7 * 300
                && sum(all, FlowSide::Server, |f| f.bytes_sent) >= 7 * 300
        });
        for (side, sent, received) in
            [(FlowSide::Client, 7000, 2100), (FlowSide::Server, 2100, 7000)]
        {
            assert_eq!(sum(&all, side, |f| f.established), 7, "{ip} {side:?}");
            // A FIN that is acknowledged counts as a byte.
            let over = |n: u64, bytes: u64| (bytes..=bytes + 7).contains(&n);
            assert!(over(sum(&all, side, |f| f.bytes_sent), sent), "{all:#?}");
            assert!(over(sum(&all, side, |f| f.bytes_received), received), "{all:#?}");
            assert!(sum(&all, side, |f| f.rtt_count) >= 7, "{all:#?}");
            assert_eq!(
                sum(&all, side, |f| f.rtt_count),
                sum(&all, side, |f| f.rtt.iter().sum()),
                "{all:#?}"
            );
            assert_eq!(sum(&all, side, |f| f.retransmits), 0);
        }
        assert!(
            all.iter().filter(|f| f.side == FlowSide::Client).all(|f| f.tgid == std::process::id())
        );
        assert!(sum(&all, FlowSide::Client, |f| f.connect_ns) > 0);
    }
    let losses = net.losses().unwrap();
    assert!(
        losses.iter().filter(|l| !l.what.contains("left out")).all(|l| l.count == 0),
        "{losses:?}"
    );
}

#[test]
fn a_refused_connect_is_told() {
    if !root("a_refused_connect_is_told") {
        return;
    }
    let mut programs = net();
    let net = programs.net.as_mut().unwrap();
    let (memory, unified) = (Cgroup::memory("refused"), Cgroup::unified("refused"));
    // Nobody listens there any more.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let script = format!(
        "echo $$ > {}; echo $$ > {}; exec python3 -c 'import socket\n\
         for _ in range(3):\n\
         \x20 try: socket.create_connection((\"127.0.0.1\", {}))\n\
         \x20 except ConnectionRefusedError: pass'",
        memory.procs().display(),
        unified.procs().display(),
        address.port()
    );
    let mut child = Command::new("sh").args(["-c", &script]).spawn().unwrap();
    let tgid = child.id();
    assert!(child.wait().unwrap().success());
    let told = failure(net, &mut Vec::new(), address);
    assert_eq!((told.failure, told.errno), (ConnectFailure::Refused, 111));
    assert_eq!(told.tgid, tgid);
    assert!(told.comm.starts_with("python3"), "{told:?}");
    assert_eq!(told.cgroups.memory, memory.id());
    assert_eq!(told.cgroups.unified, unified.id());
    assert!(told.took.as_millis() < 1000, "{told:?}");
    let here = |f: &Flow| f.server_port == address.port() && f.side == FlowSide::Client;
    let all = flows(net, here, |all| !all.is_empty());
    let refused: u64 = all.iter().map(|f| f.failed(ConnectFailure::Refused)).sum();
    assert_eq!(refused, 3);
    assert!(all.iter().all(|f| f.established == 0 && f.cgroups.memory == memory.id()));
}

/// Runs Python in a network namespace of its own where `rule` drops packets, and answers what it prints.
fn behind(rule: &str, python: &str) -> String {
    let script = format!(
        "set -e; ip link set lo up; echo 1 > /proc/sys/net/ipv4/tcp_syn_retries\n\
         echo 'table inet t {{ chain c {{ type filter hook input priority 0; {rule}; }}; }}' | nft -f -\n\
         exec python3 -c '{python}'"
    );
    let mut command = Command::new("unshare");
    let output =
        command.args(["-n", "sh", "-c", &script]).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn network_tools(test: &str) -> bool {
    let there = ["nft", "ip"].iter().all(|tool| {
        Command::new(tool).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    });
    let must = std::env::var_os("CI").is_some_and(|v| v == "true");
    assert!(there || !must, "{test} needs nft and ip: apt-get install nftables iproute2");
    if !there {
        eprintln!("SKIPPED {test}: nft or ip is missing");
    }
    there
}

#[test]
fn a_black_holed_connect_times_out_or_is_abandoned() {
    let test = "a_black_holed_connect_times_out_or_is_abandoned";
    if !root(test) || !network_tools(test) {
        return;
    }
    let mut programs = net();
    let net = programs.net.as_mut().unwrap();
    // Ports that no other test uses are not needed: the address is this test's own.
    let python = "import socket\n\
        s = socket.socket(); s.settimeout(0.2)\n\
        try: s.connect((\"127.77.1.1\", 81))\n\
        except TimeoutError: print(\"gave up\")\n\
        s.close()\n\
        try: socket.create_connection((\"127.77.1.1\", 82))\n\
        except TimeoutError: print(\"timed out\")";
    assert_eq!(behind("ip daddr 127.77.1.1 drop", python), "gave up\ntimed out\n");
    let mut failures = Vec::new();
    let abandoned = failure(net, &mut failures, "127.77.1.1:81".parse().unwrap());
    assert_eq!((abandoned.failure, abandoned.errno), (ConnectFailure::Abandoned, 0));
    assert!((150..2000).contains(&abandoned.took.as_millis()), "{abandoned:?}");
    let timed_out = failure(net, &mut failures, "127.77.1.1:82".parse().unwrap());
    assert_eq!((timed_out.failure, timed_out.errno), (ConnectFailure::TimedOut, 110));
    assert!((2500..6000).contains(&timed_out.took.as_millis()), "{timed_out:?}");
    let here = |f: &Flow| f.peer.to_string() == "127.77.1.1";
    let all = flows(net, here, |all| all.len() >= 2);
    let of = |port: u16| -> (u64, u64, u64) {
        let of_port = all.iter().filter(|f| f.server_port == port);
        of_port.fold((0, 0, 0), |(a, t, r), f| {
            let (abandoned, timed_out) =
                (f.failed(ConnectFailure::Abandoned), f.failed(ConnectFailure::TimedOut));
            (a + abandoned, t + timed_out, r + f.retransmits)
        })
    };
    assert_eq!(of(81), (1, 0, 0));
    // Kernels since 6.5 send it again every second (tcp_syn_linear_timeouts), older ones wait twice as long each time.
    let (given_up, timed_out, again) = of(82);
    assert_eq!((given_up, timed_out), (0, 1));
    assert!((1..=2).contains(&again), "{again}");
}

#[test]
fn every_segment_that_is_sent_again_is_counted() {
    let test = "every_segment_that_is_sent_again_is_counted";
    if !root(test) || !network_tools(test) {
        return;
    }
    let mut programs = net();
    let net = programs.net.as_mut().unwrap();
    // The kernel tells SYN-ACKs that are sent again by another tracepoint; no SYN is dropped here, so they are left out.
    // Small segments back and forth, so that each is one for the kernel's own counter too.
    let python = "import socket, threading\n\
        l = socket.socket(); l.bind((\"127.77.2.1\", 0)); l.listen()\n\
        def serve():\n\
        \x20   s, _ = l.accept(); s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)\n\
        \x20   while (b := s.recv(100)): s.sendall(b)\n\
        t = threading.Thread(target=serve); t.start()\n\
        c = socket.create_connection(l.getsockname(), source_address=(\"127.77.2.1\", 0)); c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)\n\
        for _ in range(100):\n\
        \x20   c.sendall(b\"x\" * 100)\n\
        \x20   got = 0\n\
        \x20   while got < 100: got += len(c.recv(100))\n\
        c.close(); t.join()\n\
        while {x.split()[3] for x in open(\"/proc/net/tcp\").readlines()[1:]} - {\"0A\", \"06\"}: pass\n\
        def count(file, group, name):\n\
        \x20   head, values = [x.split() for x in open(file) if x.startswith(group)]\n\
        \x20   return int(values[head.index(name)])\n\
        again = count(\"/proc/net/snmp\", \"Tcp:\", \"RetransSegs\")\n\
        print(l.getsockname()[1], again - count(\"/proc/net/netstat\", \"TcpExt:\", \"TCPSynRetrans\"))";
    let printed =
        behind("ip daddr 127.77.2.1 tcp flags & psh == psh numgen inc mod 10 == 0 drop", python);
    let (port, again) = printed.trim().split_once(' ').unwrap();
    let again: u64 = again.parse().unwrap();
    assert!(again >= 10, "the rule drops every tenth segment with data, {again} were sent again");
    // Both ends have that address. The script waited until both were done (0A: listens, 06: waits for late packets).
    let here = |f: &Flow| f.peer.to_string() == "127.77.2.1";
    let all = flows(net, here, |all| !all.is_empty());
    // What the kernel left out because the program was running on that CPU is counted.
    let seen: u64 = all.iter().map(|f| f.retransmits).sum();
    let losses = net.losses().unwrap();
    let left_out = losses.iter().find(|l| l.what.contains("tcp_retransmit")).unwrap().count;
    assert!(
        (seen..=seen + left_out).contains(&again),
        "{port}: the kernel {again}, seen {seen}, {losses:?}, {all:#?}"
    );
    let client: u64 =
        all.iter().filter(|f| f.side == FlowSide::Client).map(|f| f.retransmits).sum();
    assert!(client > 0, "{all:#?}");
    assert!(all.iter().all(|f| f.side != FlowSide::Unknown));
}
