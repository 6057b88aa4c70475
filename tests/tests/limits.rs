//! Real limits that are not those of a memory cgroup: a filesystem that fills up, a process that runs out of file
//! descriptors and one that fills the heap its runtime allows it, foreseen by a running server.

use std::{path::PathBuf, process::Command, time::Duration};

use serde_json::Value;
use tapio_cli::{
    cage::Cage,
    time::{now_us, parse_time},
};
use tapio_tests::{binary, can_cage, wait_for};

use crate::server::Server;

/// A tmpfs that is unmounted at the end.
struct Mounted(PathBuf);

impl Mounted {
    fn new(name: &str, options: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tapio-test"]).arg(&dir);
        assert!(mount.status().unwrap().success());
        Self(dir)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Ends a process that would go on.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The prediction of a type in a check of one target, and the time it speaks about.
fn prediction(check: &Value, ty: &str) -> Option<(i64, Value)> {
    let at = parse_time(check["as_of"].as_str()?, 0).ok()?;
    let found = check["predictions"].as_array()?.iter().find(|p| p["type"] == ty)?;
    found["eta_seconds"].is_number().then(|| (at, found.clone()))
}

/// What was said `before` seconds before the end names the time that was left, and an alarm.
fn foreseen(said: &[(i64, Value)], end: i64, before: i64) {
    let (at, p) =
        said.iter().rfind(|s| s.0 <= end - before * 1_000_000).expect("no answer in time");
    let left = (end - at) as f64 / 1e6;
    let low = p["eta_low99_seconds"].as_f64().unwrap_or(0.0);
    let high = p["eta_high99_seconds"].as_f64().unwrap_or(f64::INFINITY);
    eprintln!("{left:.1} s before: {p}");
    assert!(low <= left && left <= high, "{left:.1} s were left, 99 %: {low:.1} .. {high:.1}");
    assert!(p["probability"].as_f64().unwrap() >= 0.5, "{p}");
}

#[test]
fn a_full_disk_and_spent_descriptors_are_foreseen() {
    if !can_cage("limits") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let disk = Mounted::new("tapio-limits", "size=64m");
    let workload = binary("tapio-workload");
    let shape =
        [format!("path={}", disk.0.display()), "rate_mib_s=0.8".into(), "base_mib=1".into()];
    let _writer = Ended(Command::new(&workload).arg("disk").args(shape).spawn().unwrap());
    // With the usual limit, whatever this test was started with.
    let mut opener = Command::new("prlimit");
    opener.args(["--nofile=1024:4096"]).arg(&workload).args(["fds", "rate_per_s=13", "base_mib=1"]);
    let opener = Ended(opener.spawn().unwrap());
    let (disk_target, pid) = (format!("disk:{}", disk.0.display()), opener.0.id());
    let open_files = PathBuf::from(format!("/proc/{pid}/fd"));

    let (mut of_disk, mut of_fds) = (Vec::new(), Vec::new());
    let (mut full, mut spent) = (None, None);
    wait_for("both limits", Duration::from_secs(300), || {
        if full.is_none() {
            let stat = rustix::fs::statvfs(&disk.0).unwrap();
            full = (stat.f_bavail == 0).then(now_us);
            of_disk.extend(
                server.json(&["check", &disk_target]).and_then(|c| prediction(&c, "disk_full")),
            );
        }
        if spent.is_none() {
            spent = (std::fs::read_dir(&open_files).unwrap().count() == 1024).then(now_us);
            let target = format!("pid:{pid}");
            of_fds.extend(server.json(&["check", &target]).and_then(|c| prediction(&c, "fds")));
        }
        full.zip(spent)
    });
    foreseen(&of_disk, full.unwrap(), 20);
    foreseen(&of_fds, spent.unwrap(), 20);

    // At the limit, the state is told and the descriptors can be raised by the printed command.
    let check = wait_for("the full disk in the answer", Duration::from_secs(30), || {
        server.json(&["check", &disk_target]).filter(|c| c.to_string().contains("Disk is full"))
    });
    assert_eq!(check["status"], "unhealthy", "{check}");
    assert_eq!(check["subject"]["kind"], "filesystem");
    assert_eq!(check["resources"]["disk_available_bytes"], 0);
    let everything =
        wait_for("the process in the check of everything", Duration::from_secs(30), || {
            server
                .json(&["check"])
                .filter(|c| c.to_string().contains("No file descriptors are left"))
        });
    assert_eq!(everything["status"], "unhealthy");
    let fix = server.json(&["fix", &format!("pid:{pid}"), "--dry-run"]).unwrap();
    let command = fix["fixes"][0]["command"].as_str().unwrap();
    assert_eq!(command, format!("prlimit --pid {pid} --nofile=2048:"));
    assert!(Command::new("sh").args(["-c", command]).status().unwrap().success());
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find(|l| l.starts_with("Max open files")).unwrap();
    assert!(line.contains(" 2048 ") && line.contains(" 4096 "), "{line}");
}

/// Node.js keeps everything; its old generation may take 128 MiB, the cgroup 512 MiB.
#[test]
fn a_heap_that_its_runtime_limits_is_foreseen_and_no_kill_is() {
    if !can_cage("heap") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let cage = Cage::new(&format!("tapio-heap-{}", std::process::id()), 512 << 20).unwrap();
    let keep = "const kept = []; setInterval(() => { const a = [];\n\
        for (let i = 0; i < 26214; i++) a.push(i + 0.5); kept.push(a); }, 250);";
    let log = dir.path().join("node.log");
    let mut command =
        cage.command("node", &["--max-old-space-size=128", "-e", keep].map(str::to_owned));
    let mut node = Ended(command.stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap());
    let (target, status) =
        (format!("pid:{}", node.0.id()), format!("/proc/{}/status", node.0.id()));
    let anonymous = || -> Option<u64> {
        let status = std::fs::read_to_string(&status).ok()?;
        let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    };
    let (mut of_heap, mut of_cage, mut met) = (Vec::new(), Vec::new(), None);
    wait_for("the end of Node.js", Duration::from_secs(400), || {
        if met.is_none() {
            met = anonymous().filter(|kib| *kib >= 128 << 10).map(|_| now_us());
            of_heap.extend(server.json(&["check", &target]).and_then(|c| prediction(&c, "heap")));
            of_cage.extend(server.json(&["check", &cage.path()]));
        }
        node.0.try_wait().unwrap()
    });
    let met = met.expect("it ended below its limit");
    eprintln!("it ended {:.1} s after its memory met the limit", (now_us() - met) as f64 / 1e6);
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("heap out of memory"), "{log}");
    assert_eq!(cage.oom_kills().unwrap(), 0);
    foreseen(&of_heap, met, 20);
    let text = of_cage.last().unwrap().to_string();
    assert!(text.contains("ends at its own limit --max-old-space-size=128"), "{text}");
    // Growth is not believed at once; a kill is never.
    let alarmed = of_cage.iter().find(|c| c.to_string().contains("OOM predicted"));
    assert_eq!(alarmed, None);
}
