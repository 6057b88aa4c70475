//! DNS over UDP against a name server in a network namespace.

use std::{collections::BTreeMap, process::Command};

use tapio_ebpf::LoadOptions;

use crate::lab::{Cgroup, load, root, wait};

const ADDRESS: &str = "127.77.3.1";

#[test]
fn answers_failures_and_silence_are_told() {
    if !root("answers_failures_and_silence_are_told") {
        return;
    }
    let mut programs = load(&LoadOptions { dns: true, ..LoadOptions::none() });
    let dns = programs.dns.as_mut().unwrap();
    let (memory, unified) = (Cgroup::memory("dns"), Cgroup::unified("dns"));
    let python = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kernel/dns.py");
    let script = format!(
        "echo $$ > {}; echo $$ > {}; ip link set lo up; exec python3 {python} {ADDRESS}",
        memory.procs().display(),
        unified.procs().display()
    );
    let mut child = Command::new("unshare").args(["-n", "sh", "-c", &script]).spawn().unwrap();
    assert!(child.wait().unwrap().success());

    let mut answers = Vec::new();
    dns.drain(&mut answers).unwrap();
    answers.retain(|a| a.server.to_string() == ADDRESS);
    let by_code: BTreeMap<u8, u64> = answers.iter().map(|a| (a.rcode, a.count)).collect();
    assert_eq!(by_code, BTreeMap::from([(0, 5), (2, 1), (3, 2)]));
    for a in &answers {
        assert_eq!((a.cgroups.memory, a.cgroups.unified), (memory.id(), unified.id()));
        assert_eq!(a.tgid, child.id());
        assert_eq!(a.latency.iter().sum::<u64>(), a.count);
        assert!(a.latency_ns > 0 && a.latency_ns / a.count < 1_000_000_000, "{a:?}");
    }
    let mut failures = Vec::new();
    wait("the query that is not answered", || {
        dns.poll_failed(&mut failures).unwrap();
        failures.retain(|f| f.server.ip().to_string() == ADDRESS);
        failures.iter().any(|f| f.rcode.is_none()).then_some(())
    });
    let told: Vec<_> = failures.iter().map(|f| (f.name.as_deref().unwrap(), f.rcode)).collect();
    let expected = [
        ("missing.shop.test", Some(3)),
        ("missing.shop.test", Some(3)),
        ("broken.shop.test", Some(2)),
        ("mute.shop.test", None),
    ];
    assert_eq!(told, expected);
    assert!(failures.iter().all(|f| f.query_type == Some(28) && f.tgid == child.id()));
    let silent = failures.last().unwrap();
    assert!((5..8).contains(&silent.took.as_secs()), "{silent:?}");
    assert_eq!(silent.cgroups.memory, memory.id());
    assert!(dns.losses().unwrap().iter().all(|l| l.count == 0), "{:?}", dns.losses());
}
