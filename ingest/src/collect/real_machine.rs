//! Tests against the kernel of this machine.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{tests::Rows, *};

const MIB: i64 = 1 << 20;
const CHILD: &str = "TAPIO_TEST_LEAK_CGROUP";

/// The process that leaks: 48 MiB at once, and without end when told.
#[test]
fn leak_child() {
    use std::io::{Read, Write};
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let anon = || {
        let [kib] = parse::keyed(&fs::read("/proc/self/status").unwrap(), ["RssAnon"]);
        kib.unwrap() * 1024
    };
    fs::write(Path::new(&dir).join("cgroup.procs"), std::process::id().to_string()).unwrap();
    let before = anon();
    let mut leak = vec![vec![1u8; 48 << 20]];
    let mut out = std::io::stdout();
    out.write_all(format!("\nGROWN {}\n", anon() - before).as_bytes()).unwrap();
    out.flush().unwrap();
    std::io::stdin().read_exact(&mut [0]).unwrap();
    loop {
        leak.push(vec![1u8; 1 << 20]);
    }
}

/// The real kernel: level within 2 % of what a child allocated, its kill as an event.
#[test]
fn the_real_machine_shows_a_leak_and_its_kill() {
    let mounts = Mounts::parse(&fs::read_to_string("/proc/self/mountinfo").unwrap());
    let root = rustix::process::geteuid().is_root();
    let (Some((version, root_dir)), true) = (mounts.memory(), root) else {
        assert!(std::env::var_os("CI").is_none_or(|v| v != "true"), "CI must run this as root");
        eprintln!(
            "SKIPPED: the_real_machine_shows_a_leak_and_its_kill needs root and a memory controller"
        );
        return;
    };
    let name = format!("/tapio-test-{}", std::process::id());
    let dir = root_dir.join(&name[1..]);
    if version == 2 {
        let _ = fs::write(root_dir.join("cgroup.subtree_control"), "+memory");
    }
    fs::create_dir(&dir).unwrap();
    struct Remove(PathBuf);
    impl Drop for Remove {
        fn drop(&mut self) {
            let _ = fs::remove_dir(&self.0);
        }
    }
    let remove = Remove(dir.clone());
    let limit = if version == 1 { "memory.limit_in_bytes" } else { "memory.max" };
    fs::write(dir.join(limit), (96 * MIB).to_string()).unwrap();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "collect::real_machine::leak_child", "--nocapture", "--test-threads=1"])
        .env(CHILD, &dir)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut lines = std::io::BufRead::lines(out);
    let grown: i64 =
        lines.find_map(|l| l.unwrap().strip_prefix("GROWN ").map(|n| n.parse().unwrap())).unwrap();

    let clock = SystemClock;
    let options = CollectorOptions { filter: Some(name.clone()), ..CollectorOptions::default() };
    let mut c = Collector::new(options).unwrap();
    let r = Rows(c.tick(clock.now_us()));
    let labels = r.labels();
    let id = &labels[&name]["series_id"];
    let level = r.value(id, "memory_level_bytes").unwrap();
    assert!(grown >= 48 * MIB, "{grown}");
    let off = (level - grown).abs() as f64 / grown as f64;
    eprintln!("level {level}, grown by {grown}: {:.2} % apart", off * 100.0);
    assert!(off < 0.02, "level {level} is {off} off {grown}");
    let headroom = r.value(id, "memory_headroom_bytes").unwrap();
    assert!(headroom >= 96 * MIB - level, "{headroom}");
    assert_eq!(r.value(id, "memory_limit_bytes"), Some(96 * MIB));
    let of_process = labels.values().filter(|l| l["kind"] == "process").count();
    assert!(of_process >= 1, "{labels:?}");

    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"x").unwrap();
    child.wait().unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    let kill = loop {
        let events = Rows(c.tick(clock.now_us())).events();
        if let Some(e) = events.into_iter().find(|e| e.1 == "oom.kill") {
            break e;
        }
        assert!(std::time::Instant::now() < deadline, "no kill was seen");
    };
    assert_eq!(kill.3.as_deref(), Some(name.as_str()));
    assert_eq!(kill.2, Some(1.0));
    drop(remove);
    let r = Rows(c.tick(clock.now_us()));
    assert!(!r.has(id), "the cgroup is gone");
    assert!(!Path::new(&dir).exists());
}
