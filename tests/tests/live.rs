//! The main job on a real kernel: a process in a memory cgroup leaks until it is killed, and Tapio said so before.

use std::{process::Command, time::Duration};

use serde_json::Value;
use tapio_cli::{
    cage::Cage,
    time::{now_us, parse_time},
};
use tapio_tests::{binary, can_cage, wait_for};

use crate::server::Server;

/// What `tapio check` said, and when.
struct Said {
    as_of: i64,
    text: String,
    prediction: Value,
}

#[test]
fn a_leak_is_predicted_explained_and_replayed() {
    if !can_cage("live") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let cage = Cage::new(&format!("tapio-live-{}", std::process::id()), 128 << 20).unwrap();
    let target = cage.path();
    let started = now_us();
    let workload = binary("tapio-workload");
    let shape = ["linear".to_owned(), "rate_mib_s=1.1".to_owned()];
    let mut leak = cage.command(workload.to_str().unwrap(), &shape).spawn().unwrap();

    let mut said: Vec<Said> = Vec::new();
    let killed = wait_for("the kernel's kill", Duration::from_secs(300), || {
        if cage.oom_kills().unwrap() > 0 {
            return Some(now_us());
        }
        if let Some(answer) = server.json(&["check", &target])
            && let Some(as_of) = answer["as_of"].as_str()
            && answer["predictions"][0]["probability"].is_number()
        {
            said.push(Said {
                as_of: parse_time(as_of, 0).unwrap(),
                text: as_of.to_owned(),
                prediction: answer["predictions"][0].clone(),
            });
        }
        None
    });
    leak.wait().unwrap();
    let life = (killed - started) as f64 / 1e6;
    assert!(life >= 60.0, "it lived {life:.0} s only");

    // What stood 20 s before the kill.
    let stood = said.iter().rfind(|s| s.as_of <= killed - 20_000_000).expect("no answer in time");
    let p = &stood.prediction;
    let left = (killed - stood.as_of) as f64 / 1e6;
    let number = |k: &str| p[k].as_f64();
    assert!(number("probability").unwrap() >= 0.5, "{left:.0} s before: {p}");
    let low = number("eta_low99_seconds").unwrap();
    let high = number("eta_high99_seconds").unwrap_or(f64::INFINITY);
    assert!(low <= left && left <= high, "{left:.1} s were left, 99 %: {low:.1} .. {high:.1}");
    eprintln!(
        "life {life:.0} s; {left:.1} s before the kill: ETA {:.1} s, 99 % {low:.1} .. {high:.1} s, P {:.2}",
        number("eta_seconds").unwrap(),
        number("probability").unwrap()
    );

    // Why, after the fact.
    let why = wait_for("the kill in the answer", Duration::from_secs(20), || {
        server.json(&["why", &target]).filter(|w| w.to_string().contains("oom.kill"))
    });
    assert_eq!(why["verdict"], "cause_found", "{why}");
    assert!(why["causes"].to_string().contains(&target), "{why}");
    let fix = server.tapio(&["fix", &target, "--dry-run"]);
    let fix = String::from_utf8(fix.stdout).unwrap();
    assert!(fix.contains(cage.dir().to_str().unwrap()), "{fix}");
    server.stop();

    // The same question as of the same time, from files: the same bytes.
    let store = dir.path().join("store");
    let store = store.to_str().unwrap();
    let tapio = |args: &[&str]| {
        let out = Command::new(binary("tapio")).args(args).output().unwrap();
        assert!(out.status.code() != Some(2), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    let again = tapio(&["check", &target, "--store", store, "--as-of", &stood.text, "-o", "json"]);
    let again: Value = serde_json::from_str(&again).unwrap();
    assert_eq!(again["predictions"][0].to_string(), stood.prediction.to_string());

    // And as a pack, replayed twice.
    let pack = dir.path().join("pack");
    let pack = pack.to_str().unwrap();
    tapio(&["record", "--out", pack, "--store", store, "--since", "-1h", "--cgroup", &target]);
    let first = tapio(&["replay", pack, "-o", "json"]);
    assert_eq!(first, tapio(&["replay", pack, "-o", "json"]));
    let summary: Value = serde_json::from_str(first.lines().last().unwrap()).unwrap();
    assert!(summary["summary"]["lead_seconds"].as_f64().unwrap() >= 20.0, "{summary}");
}
