//! Tests against a real journald: stand-alone, in mounts of its own, which end with it.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use serde_json::Value;

use super::{
    RateLimit,
    standalone::{DEADLINE, Journald, missing},
    testing::*,
    *,
};
use crate::Ingest;

const READER: &str = "TAPIO_TEST_JOURNAL_READER";

/// Whether the test can run; in CI it must.
fn ready(test: &str) -> bool {
    let Some(missing) = missing() else { return true };
    assert!(
        std::env::var_os("CI").is_none_or(|v| v != "true"),
        "CI must run this: needs {missing}"
    );
    eprintln!("SKIPPED: {test} needs {missing}");
    false
}

/// How often each message of that identifier is there.
fn messages(rows: &[Value], identifier: &str) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for r in rows.iter().filter(|r| r["attributes"]["identifier"] == identifier) {
        *found.entry(r["message"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    found
}

fn numbered(n: usize) -> BTreeMap<String, usize> {
    (0..n).map(|i| (format!("line {i}"), 1)).collect()
}

/// The process that is killed: stores what it reads and tells how many rows there are.
#[test]
fn reader_child() {
    let Some(dir) = std::env::var_os(READER).map(PathBuf::from) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let ingest = Ingest::open(ingest_options(&dir)).await.unwrap();
        // Small batches, so that the kill meets many of them.
        let options = JournalOptions { batch_rows: 20, ..journal_options(&dir.join("log")) };
        let _running = Running::start(&ingest, options);
        loop {
            let n = messages(&rows(&ingest), "burst").len();
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(format!("\nSTORED {n}\n").as_bytes());
            let _ = out.flush();
            drop(out);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

/// The process whose parent is `parent` and whose name is `comm`.
fn child_of(parent: u32, comm: &str) -> Option<i32> {
    std::fs::read_dir("/proc").unwrap().flatten().find_map(|e| {
        let pid: i32 = e.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(e.path().join("stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
        let ppid: u32 = rest.split(' ').nth(1)?.parse().ok()?;
        (name == comm && ppid == parent).then_some(pid)
    })
}

/// A child that is killed with SIGKILL when this value ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// 2,000 lines with a rotation among them, the reader killed with `kill -9` twice: none lost, none twice.
#[test]
fn a_burst_with_rotation_and_kill_9_of_the_reader() {
    if !ready("a_burst_with_rotation_and_kill_9_of_the_reader") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let journald = Journald::start(dir.path(), "ReadKMsg=no\\n", "").unwrap();
    let start = || {
        let child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "journald::real_journald::reader_child",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(READER, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut reader = Killed(child);
        let lines = BufReader::new(reader.0.stdout.take().unwrap()).lines();
        let begin = Instant::now();
        let counts = lines
            .map_while(Result::ok)
            .take_while(move |_| begin.elapsed() < DEADLINE)
            .filter_map(|l| l.strip_prefix("STORED ")?.parse::<usize>().ok());
        (reader, counts)
    };
    let mut sent = 0;
    let mut send = |up_to: usize| {
        for i in sent..up_to {
            journald.line("burst", &format!("line {i}")).unwrap();
        }
        sent = up_to;
    };
    for (kill_at, up_to) in [(300, 1_000), (1_200, 2_000)] {
        send(kill_at);
        let (reader, mut stored) = start();
        assert!(stored.by_ref().any(|n| n >= 1), "the reader ended by itself, or took too long");
        let journalctl = child_of(reader.0.id(), "journalctl").expect("no journalctl runs");
        if kill_at == 300 {
            journald.rotate().unwrap();
        }
        // It is killed while it reads what is sent meanwhile.
        send(up_to);
        assert!(
            stored.by_ref().any(|n| n >= kill_at),
            "the reader ended by itself, or took too long"
        );
        drop(reader);
        let begin = Instant::now();
        while Path::new(&format!("/proc/{journalctl}")).exists() {
            assert!(begin.elapsed() < DEADLINE, "journalctl outlives its reader");
            std::thread::yield_now();
        }
    }
    let (reader, mut stored) = start();
    assert!(stored.by_ref().any(|n| n >= 2_000), "the reader ended by itself, or took too long");
    drop(reader);
    assert!(!journald.files("system@").unwrap().is_empty());

    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let ingest = Ingest::open(ingest_options(dir.path())).await.unwrap();
        let rows = rows(&ingest);
        assert_eq!(messages(&rows, "burst"), numbered(2_000));
        let ids: std::collections::BTreeSet<_> = rows.iter().map(|r| r["id"].to_string()).collect();
        assert_eq!(ids.len(), rows.len());
    });
}

/// Files that are deleted before they were read: the hole is counted to the entry, and reading goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_vacuum_gap_is_counted() {
    if !ready("a_vacuum_gap_is_counted") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let journald = Journald::start(dir.path(), "ReadKMsg=no\\n", "").unwrap();
    let ingest = Ingest::open(ingest_options(dir.path())).await.unwrap();
    let options = journal_options(&journald.log());
    let running = Running::start(&ingest, options.clone());
    for i in 0..100 {
        journald.line("gap", &format!("line {i}")).unwrap();
    }
    until("the first lines are stored", || {
        (messages(&rows(&ingest), "gap").len() == 100).then_some(())
    })
    .await;
    running.end().await;

    for i in 100..400 {
        journald.line("gap", &format!("line {i}")).unwrap();
    }
    // Read to the end by another, so that all of it is in the file that is rotated away.
    let last = || {
        let out = Command::new("journalctl")
            .arg("--directory")
            .arg(journald.log())
            .args(["-n1", "-ocat"])
            .output();
        out.unwrap().stdout
    };
    until("journald has them", || (last() == b"line 399\n").then_some(())).await;
    journald.rotate().unwrap();
    for i in 400..500 {
        journald.line("gap", &format!("line {i}")).unwrap();
    }
    for file in journald.files("system@").unwrap() {
        std::fs::remove_file(file).unwrap();
    }
    let running = Running::start(&ingest, options);
    journald.line("gap", "line 500").unwrap();
    until("the last line is stored", || {
        messages(&rows(&ingest), "gap").contains_key("line 500").then_some(())
    })
    .await;
    running.end().await;
    let got = messages(&rows(&ingest), "gap");
    assert_eq!(got.len(), 201, "{got:?}");
    assert!(got.values().all(|n| *n == 1));
    assert!(!got.contains_key("line 100") && !got.contains_key("line 399"));
    let health = ingest.health();
    assert_eq!(health.value(COMPONENT, "entries_missing"), 300, "{:?}", health.entries());
    assert_eq!(health.value(COMPONENT, "position_lost"), 1);
    assert_eq!(health.value(COMPONENT, "lines_malformed"), 0);
}

/// The end of one boot is read although the next has begun, and the change is told.
#[tokio::test(flavor = "multi_thread")]
async fn another_boot() {
    if !ready("another_boot") {
        return;
    }
    const BOOTS: [&str; 2] =
        ["1111111111114111811111111111aaaa", "2222222222224222822222222222bbbb"];
    let uuid =
        |b: &str| format!("{}-{}-{}-{}-{}", &b[..8], &b[8..12], &b[12..16], &b[16..20], &b[20..]);
    let dir = tempfile::tempdir().unwrap();
    let ingest = Ingest::open(ingest_options(dir.path())).await.unwrap();
    let journald = Journald::start(dir.path(), "ReadKMsg=no\\n", &uuid(BOOTS[0])).unwrap();
    let options = journal_options(&journald.log());
    let running = Running::start(&ingest, options.clone());
    journald.line("boot", "line 0").unwrap();
    until("the first line is stored", || {
        messages(&rows(&ingest), "boot").contains_key("line 0").then_some(())
    })
    .await;
    running.end().await;
    journald.line("boot", "line 1").unwrap();
    // Ends after what it got.
    drop(journald);
    let journald = Journald::start(dir.path(), "ReadKMsg=no\\n", &uuid(BOOTS[1])).unwrap();
    journald.line("boot", "line 2").unwrap();
    for _ in 0..2 {
        let running = Running::start(&ingest, options.clone());
        until("all is stored", || (messages(&rows(&ingest), "boot") == numbered(3)).then_some(()))
            .await;
        running.end().await;
    }
    let rows = rows(&ingest);
    let boots: Vec<_> = rows.iter().filter(|r| r["kind"] == "node.boot").collect();
    assert_eq!(boots.len(), 1, "{boots:?}");
    assert_eq!(boots[0]["attributes"]["boot_id"], BOOTS[1]);
    assert_eq!(boots[0]["attributes"]["previous_boot_id"], BOOTS[0]);
    let boot_of = |line: &str| {
        let row = rows.iter().find(|r| r["message"] == line).unwrap();
        row["attributes"]["boot_id"].as_str().unwrap().to_owned()
    };
    assert_eq!(["line 0", "line 1", "line 2"].map(boot_of), [BOOTS[0], BOOTS[0], BOOTS[1]]);
    assert_eq!(ingest.health().value(COMPONENT, "entries_missing"), 0);
}

/// What journald and journalctl make of fields of all forms.
#[tokio::test(flavor = "multi_thread")]
async fn fields_of_all_forms() {
    if !ready("fields_of_all_forms") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let journald = Journald::start(dir.path(), "ReadKMsg=no\\n", "").unwrap();
    let ingest = Ingest::open(ingest_options(dir.path())).await.unwrap();
    let running = Running::start(&ingest, journal_options(&journald.log()));
    let send = |fields: &[(&str, &[u8])]| {
        let mut fields = fields.to_vec();
        fields.push(("SYSLOG_IDENTIFIER", b"forms"));
        journald.send(&fields).unwrap();
    };
    send(&[("MESSAGE", b"two\nlines"), ("PRIORITY", b"4")]);
    send(&[("MESSAGE", b"bin \x01\xff end"), ("PRIORITY", b"2")]);
    send(&[("MESSAGE", "ü".repeat(3_000).as_bytes()), ("PRIORITY", b"7")]);
    send(&[("MESSAGE", b"first"), ("MESSAGE", b"second")]);
    send(&[("PRIORITY", b"3")]);
    send(&[
        ("MESSAGE", b"web.service: Failed with result 'oom-kill'."),
        ("MESSAGE_ID", b"d9b373ed55a64feb8242e02dbe79a49c"),
        ("PRIORITY", b"4"),
        ("UNIT", b"web.service"),
        ("UNIT_RESULT", b"oom-kill"),
    ]);
    send(&[
        ("MESSAGE", b"web.service: Scheduled restart job, restart counter is at 3."),
        ("MESSAGE_ID", b"5eb03494b6584870a536b337290809b3"),
        ("PRIORITY", b"6"),
        ("UNIT", b"web.service"),
        ("N_RESTARTS", b"3"),
    ]);
    journald.line("forms", "last").unwrap();
    let of = |rows: Vec<Value>| -> Vec<Value> {
        rows.into_iter().filter(|r| r["attributes"]["identifier"] == "forms").collect()
    };
    until("the last is stored", || {
        rows(&ingest).iter().any(|r| r["message"] == "last").then_some(())
    })
    .await;
    running.end().await;
    let mut rows = of(rows(&ingest));
    rows.sort_by_key(|r| r["ts"].as_i64());
    let text = |i: usize, key: &str| rows[i][key].as_str().unwrap_or_default().to_owned();
    assert_eq!(rows.len(), 8);
    assert_eq!(
        (text(0, "message").as_str(), text(0, "severity").as_str()),
        ("two\nlines", "warning")
    );
    assert_eq!(
        (text(1, "message").as_str(), text(1, "severity").as_str()),
        ("bin \u{1}\u{fffd} end", "critical")
    );
    assert_eq!((text(2, "message"), text(2, "severity").as_str()), ("ü".repeat(2_048), "debug"));
    assert_eq!(rows[2]["attributes"]["message_bytes"], "6000");
    assert!(["first\nsecond", "second\nfirst"].contains(&text(3, "message").as_str()));
    assert_eq!((text(4, "message").as_str(), text(4, "severity").as_str()), ("", "error"));
    assert_eq!((text(5, "kind").as_str(), text(5, "severity").as_str()), ("unit.failed", "error"));
    assert_eq!(rows[5]["attributes"]["systemd_unit"], "web.service");
    assert_eq!(rows[5]["attributes"]["result"], "oom-kill");
    assert_eq!(rows[5]["pid"], Value::Null, "the reporter is not the subject");
    assert_eq!(
        (text(6, "kind").as_str(), rows[6]["value"].as_f64()),
        ("unit.restarted", Some(3.0))
    );
    assert_eq!(rows[7]["pid"], std::process::id());
    for r in &rows {
        assert_eq!((r["source"].as_str(), r["node"].as_str()), (Some("journald"), Some("n1")));
        assert_eq!(r["attributes"]["transport"], "journal");
        assert!(r["observed_at"].as_i64() >= r["ts"].as_i64());
    }
    assert_eq!(ingest.health().value(COMPONENT, "messages_cut"), 1);
}

/// A flood of one unit is cut, its warnings stay, and the journal's own position goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_cut_and_counted() {
    if !ready("a_flood_is_cut_and_counted") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let journald = Journald::start(dir.path(), "ReadKMsg=no\\n", "").unwrap();
    let ingest = Ingest::open(ingest_options(dir.path())).await.unwrap();
    let rate = RateLimit { per_second: 1, burst: 200 };
    let running =
        Running::start(&ingest, JournalOptions { rate, ..journal_options(&journald.log()) });
    for i in 0..3_000 {
        let priority = if i % 30 == 0 { b"4" } else { b"6" };
        journald
            .send(&[
                ("MESSAGE", format!("line {i}").as_bytes()),
                ("PRIORITY", priority),
                ("SYSLOG_IDENTIFIER", b"flood"),
            ])
            .unwrap();
    }
    journald.line("end", "end").unwrap();
    until("the end is stored", || {
        rows(&ingest).iter().any(|r| r["message"] == "end").then_some(())
    })
    .await;
    running.end().await;
    let rows = rows(&ingest);
    let got = messages(&rows, "flood");
    let warnings =
        (0..3_000).step_by(30).filter(|i| got.contains_key(&format!("line {i}"))).count();
    assert_eq!(warnings, 100);
    assert!((300..600).contains(&got.len()), "{}", got.len());
    let dropped = ingest.health().value(COMPONENT, "lines_dropped");
    assert_eq!(dropped as usize, 3_000 - got.len());
    let entries = ingest.health().entries();
    let entry = entries.iter().find(|e| e.metric == "lines_dropped").unwrap();
    assert!(entry.detail.ends_with(&format!(" {dropped}")), "{}", entry.detail);
}

/// The kernel's own lines of a real kill in a memory cgroup of this test's own.
#[tokio::test(flavor = "multi_thread")]
async fn the_kernels_own_oom_lines() {
    if !ready("the_kernels_own_oom_lines") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let name = format!("/tapio-test-journal-{}", std::process::id());
    let cgroup = Cgroup::make(&name, 64 << 20);
    let journald = Journald::start(dir.path(), "ReadKMsg=yes\\n", "").unwrap();
    let ingest = Ingest::open(ingest_options(dir.path())).await.unwrap();
    let running = Running::start(&ingest, journal_options(&journald.log()));
    let begin = JournalOptions::default().clock.now_us();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "collect::real_machine::leak_child", "--nocapture", "--test-threads=1"])
        .env("TAPIO_TEST_LEAK_CGROUP", &cgroup.0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"x").unwrap();
    let victim = child.id();
    child.wait().unwrap();
    let kill = until("the kill is stored", || {
        let of_victim = |r: &Value| r["kind"] == "oom.kill_log" && r["pid"] == victim;
        rows(&ingest).into_iter().find(|r| of_victim(r) && r["cgroup"] == name.as_str())
    })
    .await;
    let end = JournalOptions::default().clock.now_us();
    running.end().await;
    assert_eq!(kill["severity"], "error");
    assert_eq!(kill["attributes"]["constraint"], "CONSTRAINT_MEMCG");
    assert_eq!(kill["attributes"]["oom_cgroup"], name.as_str());
    assert_eq!(kill["attributes"]["unit"], "By");
    // The limit is on what the cgroup is charged with; the program's own pages, up to some 10 MiB, were charged elsewhere.
    let bytes = |key: &str| kill["attributes"][key].as_str().unwrap().parse::<f64>().unwrap();
    let anon = bytes("anon_rss_bytes") / f64::from(64 << 20);
    assert!((0.75..1.2).contains(&anon), "{anon} of the limit");
    let sum = ["anon_rss_bytes", "file_rss_bytes", "shmem_rss_bytes"].map(bytes).iter().sum();
    assert_eq!(kill["value"].as_f64(), Some(sum));
    let ts = kill["ts"].as_i64().unwrap();
    assert!((begin..=end).contains(&ts), "{ts} is not in {begin}..{end}");
    let all = rows(&ingest);
    let of_victim =
        |kind: &str| all.iter().filter(|r| r["kind"] == kind && r["pid"] == victim).count();
    assert_eq!(of_victim("oom.kill_log"), 1);
    assert_eq!(of_victim("oom.constraint_log"), 1);
    assert_eq!(all.iter().filter(|r| r["kind"] == "oom.kill").count(), 0, "that is the counter's");
}

/// A memory cgroup with a limit; removed at the end.
struct Cgroup(PathBuf);

impl Cgroup {
    fn make(name: &str, limit: u64) -> Self {
        let v1 = Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists();
        let root = Path::new(if v1 { "/sys/fs/cgroup/memory" } else { "/sys/fs/cgroup" });
        if !v1 {
            std::fs::write(root.join("cgroup.subtree_control"), "+memory").unwrap();
        }
        let dir = root.join(&name[1..]);
        std::fs::create_dir(&dir).unwrap();
        let made = Self(dir);
        let file = if v1 { "memory.limit_in_bytes" } else { "memory.max" };
        std::fs::write(made.0.join(file), limit.to_string()).unwrap();
        made
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let begin = Instant::now();
        while std::fs::remove_dir(&self.0).is_err() && begin.elapsed() < DEADLINE {
            std::thread::yield_now();
        }
    }
}
