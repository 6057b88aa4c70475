use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt, path::PathBuf};

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{Int32Type, Int64Type, TimestampMicrosecondType},
};

use super::*;
use crate::clock::fake::FakeClock;

const NOW: i64 = 1_795_392_000_123_456;
const ID: &str = "70b548ac11449612f7db5368a141ba1b3f440a4c339092bdede34b0748cfae1d";
const UID: &str = "223a155d-d7fe-467d-8c2b-b8f095a51526";
const MIB: i64 = 1 << 20;

/// A machine in a folder.
struct Machine {
    dir: tempfile::TempDir,
    clock: Arc<FakeClock>,
    health: Arc<Health>,
}

impl Machine {
    fn new(mounts: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let m = Self { dir, clock: Arc::new(FakeClock::at(NOW)), health: Arc::default() };
        let mut info = String::new();
        for (name, fs) in mounts {
            let point = m.path(name);
            fs::create_dir_all(&point).unwrap();
            info += &format!("31 23 0:28 / {} rw - {fs} {fs} rw,{name}\n", point.display());
        }
        m.write("proc/self/mountinfo", &info);
        m.write("proc/sys/kernel/random/boot_id", "b007\n");
        m.meminfo(0);
        m.write("proc/stat", "cpu  10 0 20 1000 5 1 1 0 0 0\n");
        m.write("proc/vmstat", "pgpgin 7\npgpgout 9\noom_kill 3\n");
        m.write("proc/loadavg", "0.1 0.1 0.1 2/345 999\n");
        m.write("proc/pressure/memory", "some avg10=0 total=11\nfull avg10=0 total=5\n");
        m
    }

    fn v1() -> Self {
        let c = "cgroup";
        let v1 = [("memory", c), ("cpu", c), ("cpuacct", c), ("pids", c), ("blkio", c)];
        Self::new(&[&v1[..], &[("unified", "cgroup2")]].concat())
    }

    fn v2() -> Self {
        let m = Self::new(&[("cg", "cgroup2")]);
        m.write("cg/cgroup.controllers", "cpu io memory pids\n");
        m
    }

    fn path(&self, p: &str) -> PathBuf {
        self.dir.path().join(p.trim_start_matches('/'))
    }

    fn write(&self, p: &str, text: &str) {
        let path = self.path(p);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn meminfo(&self, swap_free: i64) {
        self.write(
            "proc/meminfo",
            &format!(
                "MemTotal: 1000 kB\nMemFree: 400 kB\nMemAvailable: 600 kB\nCached: 250 kB\nAnonPages: 100 kB\n\
                 Inactive(file): 50 kB\nSwapTotal: 64 kB\nSwapFree: {swap_free} kB\n"
            ),
        );
    }

    /// A v1 memory cgroup: usage, rss, cache (all of it inactive file pages), limit.
    fn memory(&self, path: &str, usage: i64, cache: i64, limit: &str, kills: i64) {
        let dir = format!("memory{path}");
        self.write(&format!("{dir}/memory.usage_in_bytes"), &format!("{usage}\n"));
        self.write(
            &format!("{dir}/memory.stat"),
            &format!(
                "cache 1\nrss 1\nhierarchical_memory_limit 5\ntotal_cache {cache}\ntotal_rss {}\ntotal_rss_huge 0\n\
                 total_swap 0\ntotal_inactive_file {cache}\ntotal_active_file 0\n",
                usage - cache
            ),
        );
        self.write(&format!("{dir}/memory.limit_in_bytes"), &format!("{limit}\n"));
        self.write(
            &format!("{dir}/memory.oom_control"),
            &format!("oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n"),
        );
    }

    fn process(&self, pid: i64, comm: &str, mib: i64, cgroup: &str) {
        let (pages, kib) = (mib * MIB / 4096, mib * 1024);
        self.write(&format!("proc/{pid}/statm"), &format!("99999 {pages} 5 1 0 1 0\n"));
        self.write(&format!("proc/{pid}/cgroup"), &format!("4:memory:{cgroup}\n0::/\n"));
        self.write(
            &format!("proc/{pid}/stat"),
            &format!("{pid} ({comm}) S 1 7 7 0 -1 4 1 2 3 4 100 20 0 0 20 0 1 0 777 9\n"),
        );
        self.write(
            &format!("proc/{pid}/status"),
            &format!(
                "Name: x\nVmRSS:\t{kib} kB\nRssAnon: {} kB\nRssFile: 8 kB\nRssShmem: 4 kB\nThreads:\t3\n",
                kib - 12
            ),
        );
    }

    fn options(&self) -> CollectorOptions {
        CollectorOptions {
            proc_root: self.path("proc"),
            node: "n1".into(),
            clock: self.clock.clone(),
            health: self.health.clone(),
            ..CollectorOptions::default()
        }
    }

    fn collector(&self) -> Collector {
        Collector::new(self.options()).unwrap()
    }

    fn tick(&self, c: &mut Collector) -> Rows {
        self.clock.pass(1_000_000);
        Rows(c.tick(self.clock.now_us()))
    }
}

const NONE: &str = "9223372036854771712";

pub(super) struct Rows(pub(super) Tick);

impl Rows {
    fn table(&self, name: &str) -> Option<&RecordBatch> {
        self.0.batches.iter().find(|b| b.def().name == name).map(TableBatch::batch)
    }

    /// `series` rows as (cgroup or kind) → text columns.
    pub(super) fn labels(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let mut all = BTreeMap::new();
        let Some(b) = self.table("series") else { return all };
        for row in 0..b.num_rows() {
            let mut r = BTreeMap::new();
            for (f, c) in b.schema().fields().iter().zip(b.columns()) {
                let text = if c.is_null(row) {
                    continue;
                } else if let Some(d) = c.as_dictionary_opt::<Int32Type>() {
                    let v = d.downcast_dict::<arrow::array::StringArray>().unwrap();
                    v.into_iter().nth(row).flatten().unwrap().to_owned()
                } else if let Some(i) = c.as_primitive_opt::<Int64Type>() {
                    i.value(row).to_string()
                } else if let Some(s) = c.as_string_opt::<i32>() {
                    s.value(row).to_owned()
                } else {
                    continue;
                };
                r.insert(f.name().clone(), text);
            }
            let key = match r["kind"].as_str() {
                "node" => "node".to_owned(),
                kind @ ("process" | "filesystem" | "certificate") => {
                    format!("{kind} {}", r["name"])
                }
                _ => r["cgroup"].clone(),
            };
            all.insert(key, r);
        }
        all
    }

    pub(super) fn value(&self, id: &str, column: &str) -> Option<i64> {
        let b = self.table("resources").unwrap();
        let id: i64 = id.parse().unwrap();
        let ids = b.column(0).as_primitive::<Int64Type>();
        let row = ids.values().iter().position(|i| *i == id).expect("no row of that series");
        let c = b.column_by_name(column).unwrap().as_primitive::<Int64Type>();
        c.is_valid(row).then(|| c.value(row))
    }

    pub(super) fn has(&self, id: &str) -> bool {
        let ids = self.table("resources").unwrap().column(0).as_primitive::<Int64Type>();
        ids.values().contains(&id.parse().unwrap())
    }

    fn ts(&self) -> i64 {
        let b = self.table("resources").unwrap();
        b.column(1).as_primitive::<TimestampMicrosecondType>().value(0)
    }

    /// (id, kind, value, cgroup)
    pub(super) fn events(&self) -> Vec<(String, String, Option<f64>, Option<String>)> {
        let Some(b) = self.table("events") else { return vec![] };
        let text = |name: &str, row: usize| {
            let d = b.column_by_name(name).unwrap().as_dictionary::<Int32Type>();
            let v = d.downcast_dict::<arrow::array::StringArray>().unwrap();
            v.into_iter().nth(row).flatten().map(ToOwned::to_owned)
        };
        (0..b.num_rows())
            .map(|r| {
                let id = b.column(0).as_string::<i32>().value(r).to_owned();
                let v = b.column_by_name("value").unwrap();
                let v = v.as_primitive::<arrow::datatypes::Float64Type>();
                let v = v.is_valid(r).then(|| v.value(r));
                (id, text("kind", r).unwrap(), v, text("cgroup", r))
            })
            .collect()
    }
}

#[test]
fn v1_values_labels_and_headroom_of_the_pod() {
    let m = Machine::v1();
    let pod = format!("/k8slab/kubepods/burstable/pod{UID}");
    let container = format!("{pod}/{ID}");
    m.memory("/k8slab", 70 * MIB, MIB, NONE, 0);
    m.memory("/k8slab/kubepods", 70 * MIB, MIB, NONE, 0);
    m.memory("/k8slab/kubepods/burstable", 70 * MIB, MIB, NONE, 0);
    // The pod's limit is nearer than the container's.
    m.memory(&pod, 60 * MIB, 10 * MIB, &(64 * MIB).to_string(), 0);
    m.memory(&container, 40 * MIB, 8 * MIB, &(128 * MIB).to_string(), 0);
    m.write(&format!("cpuacct{container}/cpuacct.usage"), "5000000\n");
    m.write(
        &format!("cpu{container}/cpu.stat"),
        "nr_periods 4\nnr_throttled 2\nthrottled_time 9000\n",
    );
    m.write(&format!("pids{container}/pids.current"), "7\n");
    m.write(&format!("pids{container}/pids.max"), "max\n");
    m.write(
        &format!("blkio{container}/blkio.throttle.io_service_bytes"),
        "8:0 Read 5\n8:0 Write 6\nTotal 11\n",
    );
    m.write(&format!("unified{container}/memory.pressure"), "some total=3\nfull total=2\n");
    let mut c = m.collector();
    let r = m.tick(&mut c);
    let labels = r.labels();
    let id = &labels[&container]["series_id"];
    let expected = [
        ("memory_usage_bytes", Some(40 * MIB)),
        ("memory_working_set_bytes", Some(32 * MIB)),
        ("memory_rss_bytes", Some(32 * MIB)),
        ("memory_cache_bytes", Some(8 * MIB)),
        ("memory_level_bytes", Some(32 * MIB)),
        ("memory_limit_bytes", Some(128 * MIB)),
        // min(128 - 32, 64 - 50) MiB
        ("memory_headroom_bytes", Some(14 * MIB)),
        ("cpu_usage_us", Some(5_000)),
        ("cpu_throttled_us", Some(9)),
        ("cpu_periods", Some(4)),
        ("cpu_throttled_periods", Some(2)),
        ("pids", Some(7)),
        ("pids_limit", None),
        ("oom_kills", Some(0)),
        ("restarts", None),
        ("io_read_bytes", Some(5)),
        ("io_write_bytes", Some(6)),
        ("psi_memory_some_us", Some(3)),
        ("psi_memory_full_us", Some(2)),
        ("psi_cpu_some_us", None),
    ];
    for (column, value) in expected {
        assert_eq!(r.value(id, column), value, "{column}");
    }
    let l = &labels[&container];
    let inode = fs::metadata(m.path(&format!("memory{container}"))).unwrap().ino().to_string();
    for (column, value) in [
        ("kind", "container"),
        ("name", &ID[..12]),
        ("node", "n1"),
        ("boot_id", "b007"),
        ("pod_uid", UID),
        ("container_id", ID),
        ("cgroup", &container),
        ("cgroup_fs", &m.path(&format!("memory{container}")).display().to_string()),
        ("cgroup_version", "1"),
        ("parent_id", &labels[&pod]["series_id"]),
        ("incarnation", &inode),
    ] {
        assert_eq!(l[column], value, "{column}");
    }
    assert_eq!(labels["/k8slab"]["parent_id"], labels["node"]["series_id"]);
    assert_eq!(r.value(&labels["/k8slab"]["series_id"], "memory_headroom_bytes"), None);
    assert_eq!(r.value(&labels["/k8slab"]["series_id"], "pids"), None);
    let node = &labels["node"]["series_id"];
    for (column, kib) in [
        ("memory_usage_bytes", 600),
        ("memory_working_set_bytes", 550),
        ("memory_level_bytes", 400),
        ("memory_limit_bytes", 1000),
        ("memory_headroom_bytes", 600),
        ("io_read_bytes", 7),
    ] {
        assert_eq!(r.value(node, column), Some(kib * 1024), "{column}");
    }
    assert_eq!(r.value(node, "cpu_usage_us"), Some(32 * node::clock_tick_us()));
    assert_eq!((r.value(node, "oom_kills"), r.value(node, "pids")), (Some(3), Some(345)));
    assert_eq!(r.value(node, "psi_memory_full_us"), Some(5));
    // Labels are told once, and again when asked.
    assert!(m.tick(&mut c).table("series").is_none());
    c.tell_series_again();
    assert_eq!(m.tick(&mut c).labels().len(), labels.len());
}

#[test]
fn v2_values_and_swap() {
    let m = Machine::v2();
    m.meminfo(100);
    let file = |name: &str, text: &str| m.write(&format!("cg/system.slice/a.service/{name}"), text);
    m.write("cg/system.slice/memory.current", "1000000\n");
    m.write(
        "cg/system.slice/memory.stat",
        "anon 500000\nfile 1\ninactive_file 0\nactive_file 0\nslab_reclaimable 0\n",
    );
    m.write("cg/system.slice/memory.max", "max\n");
    file("memory.current", "900000\n");
    file(
        "memory.stat",
        "anon 500000\nfile 300000\nkernel 9\ninactive_file 200000\nactive_file 100000\nslab_reclaimable 50000\n",
    );
    file("memory.max", "1000000\n");
    file("memory.swap.max", "40000\n");
    file("memory.swap.current", "10000\n");
    file("memory.events", "oom 5\noom_kill 9\n");
    file("memory.events.local", "oom 1\noom_kill 2\n");
    file(
        "cpu.stat",
        "usage_usec 77\nuser_usec 1\nnr_periods 3\nnr_throttled 1\nthrottled_usec 8\n",
    );
    file("pids.current", "4\n");
    file("pids.max", "100\n");
    file("io.stat", "8:0 rbytes=5 wbytes=6 rios=1\n");
    file("io.pressure", "some total=3\nfull total=2\n");
    let r = m.tick(&mut m.collector());
    let labels = r.labels();
    let l = &labels["/system.slice/a.service"];
    assert_eq!(
        (l["kind"].as_str(), l["unit"].as_str(), l["name"].as_str()),
        ("unit", "a.service", "a.service")
    );
    assert_eq!(l["cgroup_version"], "2");
    let expected = [
        ("memory_working_set_bytes", Some(700_000)),
        ("memory_rss_bytes", Some(500_000)),
        ("memory_cache_bytes", Some(300_000)),
        ("memory_level_bytes", Some(550_000)),
        ("memory_limit_bytes", Some(1_000_000)),
        // 1,000,000 - 550,000, and 30,000 of the swap that is free
        ("memory_headroom_bytes", Some(480_000)),
        ("oom_kills", Some(2)),
        ("cpu_usage_us", Some(77)),
        ("cpu_throttled_us", Some(8)),
        ("pids_limit", Some(100)),
        ("io_write_bytes", Some(6)),
        ("psi_io_full_us", Some(2)),
    ];
    for (column, value) in expected {
        assert_eq!(r.value(&l["series_id"], column), value, "{column}");
    }
    assert_eq!(r.value(&labels["/system.slice"]["series_id"], "memory_headroom_bytes"), None);
}

#[test]
fn kills_and_limit_changes_become_events_once() {
    let m = Machine::v1();
    m.memory("/a", 10, 0, "100", 4);
    let mut c = m.collector();
    // What was before Tapio is no event.
    assert_eq!(m.tick(&mut c).events(), vec![]);
    m.memory("/a", 10, 0, "200", 6);
    m.memory("/late", 10, 0, NONE, 1);
    m.write("proc/vmstat", "oom_kill 6\n");
    let events = m.tick(&mut c).events();
    let of = |kind: &str, cgroup: &str| {
        let found = |e: &&(String, String, Option<f64>, Option<String>)| {
            e.1 == kind && e.3.as_deref() == Some(cgroup)
        };
        events.iter().find(found).unwrap().clone()
    };
    assert_eq!(events.len(), 3, "{events:?}");
    assert_eq!(of("oom.kill", "/a").2, Some(2.0));
    assert_eq!(of("oom.kill", "/late").2, Some(1.0));
    assert_eq!(of("change.config", "/a").2, Some(200.0));
    let inode = fs::metadata(m.path("memory/a")).unwrap().ino().to_string();
    let id = tapio_sql::derived_id(&["oom.kill", "b007", &inode, "6"]);
    assert_eq!(of("oom.kill", "/a").0, id);
    // The node's three kills are all accounted for; a fourth is in no cgroup that exists.
    for _ in 0..3 {
        assert_eq!(m.tick(&mut c).events(), vec![]);
    }
    m.write("proc/vmstat", "oom_kill 7\n");
    assert_eq!(m.tick(&mut c).events(), vec![]);
    let events = m.tick(&mut c).events();
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].2, &events[0].3), (Some(1.0), &None));
    assert_eq!(m.tick(&mut c).events(), vec![]);
}

#[test]
fn cgroups_come_vanish_and_come_back_as_another_life() {
    let m = Machine::v1();
    m.memory("/a", 10, 0, NONE, 0);
    let mut c = m.collector();
    let first = m.tick(&mut c).labels()["/a"].clone();
    m.memory("/a/b/c", 10, 0, NONE, 0);
    let r = m.tick(&mut c);
    // "b" has no memory files at all: its row is NULL, not 0.
    let b = &r.labels()["/a/b"]["series_id"];
    assert_eq!(r.value(b, "memory_usage_bytes"), None);
    assert!(r.labels().contains_key("/a/b/c"));
    assert_eq!(c.cgroups(), 3);
    fs::rename(m.path("memory/a"), m.path("old")).unwrap();
    let r = m.tick(&mut c);
    assert!(!r.has(&first["series_id"]));
    assert_eq!(c.cgroups(), 0);
    m.memory("/a", 10, 0, NONE, 0);
    let r = m.tick(&mut c);
    let again = &r.labels()["/a"];
    assert_ne!(again["series_id"], first["series_id"]);
    assert_eq!(again["workload_id"], first["workload_id"]);
}

#[test]
fn garbage_is_null_and_counted() {
    let m = Machine::v1();
    m.memory("/a", 10 * MIB, 0, "garbage", 0);
    m.write("memory/a/memory.stat", "\u{0}\u{fffd} total_rss\ntotal_rss 99999999999999999999999\n");
    m.memory("/a/b", 5 * MIB, 0, &(9 * MIB).to_string(), 0);
    m.write("proc/meminfo", "MemTotal: lots\n");
    let mut c = m.collector();
    let r = m.tick(&mut c);
    let labels = r.labels();
    let id = &labels["/a"]["series_id"];
    assert_eq!(r.value(id, "memory_usage_bytes"), Some(10 * MIB));
    for column in
        ["memory_level_bytes", "memory_rss_bytes", "memory_limit_bytes", "memory_headroom_bytes"]
    {
        assert_eq!(r.value(id, column), None, "{column}");
    }
    // What the parent leaves is not known, so neither is the child's headroom.
    let child = &labels["/a/b"]["series_id"];
    assert_eq!(r.value(child, "memory_level_bytes"), Some(5 * MIB));
    assert_eq!(r.value(child, "memory_headroom_bytes"), None);
    assert_eq!(r.value(&labels["node"]["series_id"], "memory_limit_bytes"), None);
    assert!(m.health.value("collector.cgroup", "values_unreadable") >= 5);
}

#[test]
fn a_machine_without_memory_controller_or_proc() {
    let m = Machine::new(&[("unified", "cgroup2")]);
    let r = m.tick(&mut m.collector());
    assert_eq!(r.labels().keys().collect::<Vec<_>>(), ["node"]);
    assert_eq!(m.health.value("collector.cgroup", "no_memory_controller"), 1);
    let options = CollectorOptions { proc_root: m.path("nope"), ..m.options() };
    let e = Collector::new(options).unwrap_err().to_string();
    assert!(e.contains("nope") && e.contains("is /proc mounted"), "{e}");
}

#[test]
fn a_filter_takes_the_cgroup_its_ancestors_and_what_is_below() {
    let m = Machine::v1();
    for p in ["/a", "/a/b", "/a/b/c", "/a/bb", "/x"] {
        m.memory(p, 10, 0, NONE, 0);
    }
    let options = CollectorOptions { filter: Some("a/b/".into()), ..m.options() };
    let r = m.tick(&mut Collector::new(options).unwrap());
    assert_eq!(r.labels().into_keys().collect::<Vec<_>>(), ["/a", "/a/b", "/a/b/c", "node"]);
}

#[test]
fn a_clock_set_back_is_counted_and_times_still_rise() {
    let m = Machine::v1();
    m.memory("/a", 10, 0, NONE, 0);
    let mut c = m.collector();
    let first = m.tick(&mut c);
    assert_eq!(first.ts() % 1_000, 0);
    let mut last = m.tick(&mut c).ts();
    assert_eq!(last, first.ts() + 1_000_000);
    m.clock.step(-5_000_000);
    let mut slow = 0;
    for _ in 0..70 {
        let r = m.tick(&mut c);
        assert!(r.ts() > last);
        assert!(r.0.through_us >= r.ts());
        slow += i64::from(r.ts() - last == 900_000);
        last = r.ts();
    }
    assert!((40..60).contains(&slow), "{slow}");
    assert_eq!(last / 1_000, m.clock.now_us() / 1_000, "caught up");
    assert_eq!(m.health.value("collector.clock", "clock_steps"), 1);
    assert_eq!(m.health.value("collector.clock", "ts_ahead_us"), 0);
    // Forward: the rows follow.
    m.clock.step(3_600_000_000);
    assert_eq!(m.tick(&mut c).ts() / 1_000, m.clock.now_us() / 1_000);
    assert_eq!(m.health.value("collector.clock", "clock_steps"), 2);
}

#[test]
fn large_processes_outside_containers_are_rows() {
    let m = Machine::v1();
    m.memory("/jobs", 10, 0, NONE, 0);
    m.process(10, "leak y", 20, "/jobs");
    m.process(11, "small", 15, "/jobs");
    m.process(12, "inside", 90, &format!("/docker/{ID}"));
    let mut c = m.collector();
    let r = m.tick(&mut c);
    let labels = r.labels();
    let p = &labels["process leak y"];
    assert_eq!(labels.keys().filter(|k| k.starts_with("process")).count(), 1);
    assert_eq!((p["pid"].as_str(), p["incarnation"].as_str()), ("10", "10:777"));
    assert_eq!(p["parent_id"], labels["/jobs"]["series_id"]);
    let id = &p["series_id"];
    assert_eq!(r.value(id, "memory_usage_bytes"), Some(20 * MIB));
    assert_eq!(r.value(id, "memory_level_bytes"), Some(20 * MIB - 8 * 1024));
    assert_eq!(r.value(id, "memory_headroom_bytes"), None);
    assert_eq!(r.value(id, "cpu_usage_us"), Some(120 * node::clock_tick_us()));
    assert_eq!(r.value(id, "pids"), Some(3));
    // Another process under the same number is not this one.
    m.write("proc/10/stat", "10 (other) S 1 7 7 0 -1 4 1 2 3 4 100 20 0 0 20 0 1 0 888 9\n");
    assert!(!m.tick(&mut c).has(id));
}

#[test]
fn a_runtime_that_limits_its_heap_is_a_row_in_a_container_too() {
    let m = Machine::v1();
    let container = format!("/docker/{ID}");
    m.memory(&container, 300 * MIB, 0, &(512 * MIB).to_string(), 0);
    m.memory("/jobs", 10, 0, NONE, 0);
    m.process(20, "java", 90, &container);
    m.write("proc/20/cmdline", "/usr/bin/java\0-XX:MaxRAMPercentage=50\0-jar\0a.jar\0-Xmx1m\0");
    m.process(21, "api", 80, &container);
    m.write("proc/21/cmdline", "/srv/api\0");
    m.write("proc/21/environ", "SECRET=GOMEMLIMIT=1MiB\0GOMEMLIMIT=100MiB\0");
    m.process(22, "other", 70, &container);
    m.write("proc/22/cmdline", "/srv/other\0");
    m.process(23, "node", 60, "/jobs");
    m.write("proc/23/cmdline", "node\0--max-old-space-size=48\0app.js\0");
    let mut c = m.collector();
    let r = m.tick(&mut c);
    let labels = r.labels();
    let told = |name: &str| {
        let l = &labels[&format!("process {name}")];
        let limit = r.value(&l["series_id"], "heap_limit_bytes");
        (l["runtime"].as_str(), l["heap_limit_option"].as_str(), limit)
    };
    assert_eq!(told("java"), ("jvm", "-XX:MaxRAMPercentage=50", Some(256 * MIB)));
    assert_eq!(told("api"), ("go", "GOMEMLIMIT=100MiB", Some(100 * MIB)));
    assert_eq!(told("node"), ("nodejs", "--max-old-space-size=48", Some(48 * MIB)));
    assert!(!labels.contains_key("process other"));
    // Each later scan finds the same ones.
    for _ in 0..12 {
        let r = m.tick(&mut c);
        assert!(r.labels().is_empty());
        assert!(
            ["java", "api", "node"]
                .iter()
                .all(|n| r.has(&labels[&format!("process {n}")]["series_id"]))
        );
    }
}

/// The loop stores ticks on time and says through when the data go.
#[tokio::test]
async fn the_loop_stores_ticks_until_it_is_told_to_stop() {
    use tapio_store::HotSource;
    let m = Machine::v1();
    m.memory("/a", 10, 0, NONE, 0);
    let store = tapio_store::Store::memory();
    let options = crate::IngestOptions::new(store, m.path("wal"));
    let ingest = crate::Ingest::open(options).await.unwrap();
    let options = CollectorOptions {
        interval: Duration::from_millis(5),
        clock: Arc::new(SystemClock),
        health: ingest.health().clone(),
        ..m.options()
    };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let shutdown = async { stopped.await.unwrap_or(()) };
    let task = tokio::spawn(run(ingest.clone(), Collector::new(options).unwrap(), shutdown));
    let rows = |t: &str| ingest.hot(t).batches.iter().map(|b| b.batch.num_rows()).sum::<usize>();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while rows("resources") < 10 {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.send(()).unwrap();
    task.await.unwrap().unwrap();
    assert_eq!(rows("series"), 2);
    let newest = ingest.hot("resources").batches;
    let observed =
        newest.last().unwrap().batch.column(2).as_primitive::<TimestampMicrosecondType>();
    let newest = observed.values().iter().max().copied();
    assert_eq!(ingest.data_through_us(), newest);
    ingest.shutdown().await.unwrap();
}
