//! The packs of `datasets/`: every incident is predicted in time, nothing else raises an alarm, and a replay gives the
//! same bytes, whatever the manifest says is true.

use std::{fs, path::Path, process::Command};

use serde_json::Value;
use tapio_tests::{binary, pack, workspace};

const INCIDENTS: &[&str] = &[
    "oom-linear",
    "oom-accelerating",
    "oom-gc-sawtooth",
    "oom-after-limit-change",
    "oom-http-route",
    "disk-full",
    "inodes-spent",
    "fds-spent",
    "pids-spent",
];
const NOT_INCIDENTS: &[&str] =
    &["warmup-plateau", "sawtooth-stable", "burst-then-release", "quiet", "http-no-leak"];

fn tapio(args: &[&str]) -> String {
    let out = Command::new(binary("tapio")).args(args).output().unwrap();
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn backtest(name: &str) -> Value {
    let path = pack(name);
    let text = tapio(&["backtest", path.to_str().unwrap(), "-o", "json"]);
    serde_json::from_str(&text).unwrap()
}

#[test]
fn incidents_are_predicted_with_a_quarter_of_their_life_left() {
    for name in INCIDENTS {
        let r = backtest(name);
        let tapio = &r["scores"]["tapio"];
        let left = tapio["life_left"].as_f64().unwrap_or(0.0);
        assert!(left >= 0.25, "{name}: {left:.2} of its life was left: {tapio}");
        assert_eq!(tapio["false_alarms"], 0, "{name}");
    }
}

#[test]
fn what_did_not_fail_raises_no_alarm() {
    for name in NOT_INCIDENTS {
        let r = backtest(name);
        assert_eq!(r["scores"]["tapio"]["false_alarms"], 0, "{name}");
        assert!(r["steps"].as_array().unwrap().len() > 30, "{name} is too short");
    }
}

#[test]
fn packs_are_small_and_say_what_the_kernel_said() {
    for name in INCIDENTS.iter().chain(NOT_INCIDENTS) {
        let dir = pack(name);
        let size: u64 =
            fs::read_dir(&dir).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).sum();
        assert!(size <= 2 << 20, "{name} has {size} bytes");
        let text = fs::read_to_string(dir.join("manifest.json")).unwrap();
        let manifest: Value = serde_json::from_str(&text).unwrap();
        let truth = manifest["truth"].as_array().unwrap();
        assert_eq!(truth.is_empty(), NOT_INCIDENTS.contains(name), "{name}");
        for t in truth {
            let counter = match t["type"].as_str().unwrap() {
                "oom" => "oom_kill 0 → 1",
                "disk_full" => "statvfs f_bavail",
                "inodes" => "f_favail = 0",
                "pids" => "pids.events max",
                "fds" => "RLIMIT_NOFILE",
                other => panic!("{name}: {other}"),
            };
            assert!(t["counter"].as_str().unwrap().contains(counter), "{name}: {t}");
        }
        assert_eq!(manifest["generated"], false, "{name}");
    }
}

/// `tapio why` of the recorded cgroup, from the pack alone.
fn why(name: &str) -> Value {
    let dir = pack(name);
    let store = dir.to_str().unwrap();
    let sql = "SELECT cgroup FROM tapio_targets('') WHERE cgroup LIKE '/tapio-record-%'";
    let found: Value =
        serde_json::from_str(&tapio(&["sql", sql, "--store", store, "-o", "json"])).unwrap();
    let target = found[0]["cgroup"].as_str().unwrap();
    serde_json::from_str(&tapio(&["why", target, "--store", store, "-o", "json"])).unwrap()
}

/// The recorded server keeps 48 KiB and 33 bytes (CPython's `bytes` object) of each request to one of its routes.
#[test]
fn the_leaking_route_is_named_with_its_bytes_per_request() {
    let answer = why("oom-http-route");
    assert_eq!(answer["verdict"], "cause_found", "{answer}");
    let cause = &answer["causes"][0];
    assert_eq!(cause["kind"], "http.route");
    assert_eq!(cause["title"], "Memory leak in GET /api/users/{id}");
    let fact = cause["evidence"][0]["fact"].as_str().unwrap();
    let number = |after: &str| -> f64 {
        let rest = fact.split_once(after).unwrap().1;
        rest.split_once(" KiB").unwrap().0.parse().unwrap()
    };
    let (bytes, low, high) = (number("retains "), number("(95 %: "), number(" to "));
    let truth = 48.0 + 33.0 / 1024.0;
    assert!((bytes - truth).abs() < 1.0 && low <= truth && truth <= high, "{fact}");
    let routes = answer["causes"].as_array().unwrap().iter().filter(|c| c["kind"] == "http.route");
    assert_eq!(routes.count(), 1, "{answer}");
    assert_eq!(why("http-no-leak")["verdict"], "no_cause_proven");
}

fn copy_without_truth(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for f in fs::read_dir(from).unwrap() {
        let f = f.unwrap();
        fs::copy(f.path(), to.join(f.file_name())).unwrap();
    }
    let path = to.join("manifest.json");
    let mut manifest: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    manifest["truth"] = Value::Array(vec![]);
    fs::write(path, manifest.to_string()).unwrap();
}

#[test]
fn a_replay_gives_the_same_bytes_also_without_the_truth() {
    let name = "oom-after-limit-change";
    let dir = tempfile::tempdir().unwrap();
    let blind = dir.path().join(name);
    copy_without_truth(&pack(name), &blind);
    let with = tapio(&["replay", pack(name).to_str().unwrap(), "-o", "json"]);
    let without = tapio(&["replay", blind.to_str().unwrap(), "-o", "json"]);
    let lines = |s: &str| {
        let mut l: Vec<String> = s.lines().map(str::to_owned).collect();
        let summary: Value = serde_json::from_str(&l.pop().unwrap()).unwrap();
        (l, summary["summary"]["output_sha256"].clone())
    };
    let (a, b) = (lines(&with), lines(&without));
    assert!(a.0.len() > 30);
    assert_eq!(a, b);
}

#[test]
fn a_recording_has_the_cadence_that_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("machine");
    let out = out.to_str().unwrap();
    tapio(&["record", "--out", out, "--every", "2s", "--duration", "3s"]);
    let sql = "SELECT count(DISTINCT r.ts) AS ticks FROM resources r JOIN series s USING (series_id) \
               WHERE s.kind = 'node'";
    let rows = tapio(&["sql", sql, "--store", out, "-o", "csv"]);
    assert_eq!(rows.lines().nth(1), Some("3"), "{rows}");
    let refused = Command::new(binary("tapio"))
        .args(["record", "--out", out, "--every", "500ms"])
        .output()
        .unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(2) && said.contains("less than a second"), "{said}");
}

#[test]
fn a_wrong_pack_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let out = |path: &Path| {
        let out = Command::new(binary("tapio")).arg("replay").arg(path).output().unwrap();
        assert_eq!(out.status.code(), Some(2));
        String::from_utf8(out.stderr).unwrap()
    };
    assert!(out(&dir.path().join("none")).contains("tapio record"));
    let bent = dir.path().join("bent");
    copy_without_truth(&pack("quiet"), &bent);
    let mut bytes = fs::read(bent.join("resources.parquet")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(bent.join("resources.parquet"), bytes).unwrap();
    let e = out(&bent);
    assert!(e.contains("resources.parquet") && e.contains("sha256"), "{e}");
    let path = bent.join("manifest.json");
    let text =
        fs::read_to_string(&path).unwrap().replace("\"schema_version\":1", "\"schema_version\":7");
    fs::write(&path, text).unwrap();
    let e = out(&bent);
    assert!(e.contains("schema_version is 7") && e.contains("newer tapio"), "{e}");
}

#[test]
fn the_recorder_makes_every_pack() {
    let script = fs::read_to_string(workspace().join("datasets/record.sh")).unwrap();
    for name in INCIDENTS.iter().chain(NOT_INCIDENTS) {
        assert!(script.contains(&format!("{name})")), "{name}");
    }
}

/// ext4 without reserved blocks keeps its last 7 KiB for itself.
#[test]
fn a_disk_that_takes_nothing_more_is_full() {
    for name in ["recordings/disk-full-3", "recordings/disk-full-1"] {
        let target = format!("disk:/tmp/tapio-{}", name.rsplit('/').next().unwrap());
        let path = pack(name);
        let out = Command::new(binary("tapio"))
            .args(["check", &target, "-o", "json", "--store", path.to_str().unwrap()])
            .output()
            .unwrap();
        let check: Value = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!(check["status"], "unhealthy", "{name}: {check}");
        assert!(check.to_string().contains("Disk is full"), "{name}: {check}");
    }
}
