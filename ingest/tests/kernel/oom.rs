//! Every OOM kill is told once: with its victim where the program saw it.

use std::process::Stdio;

use serde_json::Value;
use tapio_ingest::KernelOptions;

use crate::{
    lab::{Cgroup, root},
    processes::in_cgroups,
    rows::{Watched, attribute, int, text},
};

const LIMIT: u64 = 48 << 20;
/// More than the limit and not more than the machine can bear should the limit not hold.
const GROW: &str = "a = [bytearray(1 << 20) for _ in range(256)]";

fn watched() -> Watched {
    Watched::start(KernelOptions { oom: true, ..KernelOptions::none() })
}

/// Kills that were told for a cgroup or a part of the machine that is not in any.
fn kills(rows: &[Value], path: &str) -> Vec<Value> {
    let here = |r: &&Value| text(r, "kind") == "oom.kill" && text(r, "cgroup") == path;
    rows.iter().filter(here).cloned().collect()
}

/// Ticks until as many kills are told, then often enough for a held counter to be told too, and answers all of them.
fn settled(w: &mut Watched, path: &str, n: usize) -> Vec<Value> {
    w.until("the kills", "events", |rows| kills(rows, path).len() >= n);
    (0..6).for_each(|_| w.tick());
    let events = w.rows("events");
    let told = kills(&events, path);
    assert_eq!(told.len(), n, "each kill once: {told:#?}");
    assert_eq!(kills(&events, ""), Vec::<Value>::new(), "and not for the node again");
    told
}

/// Grows in a cgroup until it is killed there; answers its pid.
fn grow_in(cgroup: &Cgroup) -> i64 {
    let mut command = in_cgroups(&[cgroup], &format!("exec python3 -c '{GROW}'"));
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    assert!(!child.wait().unwrap().success(), "the limit holds");
    i64::from(child.id())
}

#[test]
fn a_kill_is_told_once_with_its_victim_and_the_limit() {
    if !root("a_kill_is_told_once_with_its_victim_and_the_limit") {
        return;
    }
    let cgroup = Cgroup::memory("leak");
    cgroup.limit_memory(LIMIT);
    let mut w = watched();
    let pid = grow_in(&cgroup);
    let path = format!("/{}", cgroup.name());
    let kill = &settled(&mut w, &path, 1)[0];
    assert_eq!((text(kill, "source"), int(kill, "pid")), ("ebpf", pid));
    assert_eq!(int(kill, "series_id"), w.series(&cgroup));
    assert!(text(kill, "comm").starts_with("python3"), "{kill}");
    assert_eq!(kill["value"], 1.0);
    assert_eq!((attribute(kill, "limit_path"), attribute(kill, "limit_level")), (&*path, "cgroup"));
    assert_eq!(attribute(kill, "limit_bytes"), LIMIT.to_string());
    let rss: u64 = attribute(kill, "rss_bytes").parse().unwrap();
    assert!((LIMIT / 2..LIMIT * 2).contains(&rss), "{kill}");
}

/// Also when the counter has risen before the tick after.
#[test]
fn a_kill_is_told_between_ticks_and_not_again() {
    if !root("a_kill_is_told_between_ticks_and_not_again") {
        return;
    }
    let cgroup = Cgroup::memory("urgent");
    cgroup.limit_memory(LIMIT);
    let mut w = watched();
    w.series(&cgroup);
    let pid = grow_in(&cgroup);
    let path = format!("/{}", cgroup.name());
    let mut told = Vec::new();
    // Another test's kill may come first.
    while told.is_empty() {
        told = kills(&w.urgent(), &path);
    }
    assert_eq!((told.len(), int(&told[0], "pid")), (1, pid));
    settled(&mut w, &path, 1);
}

/// The pod's limit is hit by one of its containers, and everything is removed before anybody looks.
#[test]
fn the_pod_s_limit_is_named_when_all_is_gone() {
    if !root("the_pod_s_limit_is_named_when_all_is_gone") {
        return;
    }
    let top = Cgroup::memory("k8s");
    let kubepods = top.child("kubepods");
    let pod = kubepods.child("pod223a155d-d7fe-467d-8c2b-b8f095a51526");
    pod.limit_memory(LIMIT);
    let mut w = watched();
    // It comes after the tick and goes before the next one.
    let id = "70b548ac11449612f7db5368a141ba1b3f440a4c339092bdede34b0748cfae1d";
    let container = pod.child(id);
    let inode = container.id();
    grow_in(&container);
    let pod_path = format!("/{}/kubepods/{}", top.name(), pod.name());
    let path = format!("{pod_path}/{id}");
    container.remove();
    pod.remove();
    kubepods.remove();
    let kill = &settled(&mut w, &path, 1)[0];
    assert_eq!(
        (attribute(kill, "limit_path"), attribute(kill, "limit_level")),
        (&*pod_path, "pod")
    );
    let labels = w.rows("series");
    let label = labels.iter().find(|r| int(r, "series_id") == int(kill, "series_id")).unwrap();
    assert_eq!((text(label, "kind"), text(label, "container_id")), ("container", id));
    assert_eq!(text(label, "incarnation"), inode.to_string());
}

#[test]
fn a_killed_child_belongs_to_its_living_cgroup() {
    if !root("a_killed_child_belongs_to_its_living_cgroup") {
        return;
    }
    let cgroup = Cgroup::memory("child");
    cgroup.limit_memory(LIMIT);
    let mut w = watched();
    let run = format!("python3 -c '{GROW}'; read x; exit 7");
    let mut command = in_cgroups(&[&cgroup], &run);
    let mut first = command.stderr(Stdio::null()).spawn().unwrap();
    let path = format!("/{}", cgroup.name());
    let kill = &settled(&mut w, &path, 1)[0];
    assert_ne!(int(kill, "pid"), i64::from(first.id()));
    assert_eq!(int(kill, "series_id"), w.series(&cgroup));
    assert_eq!(first.try_wait().unwrap(), None, "the first process lives on");
    drop(first.stdin.take());
    assert_eq!(first.wait().unwrap().code(), Some(7));
}

#[test]
fn several_victims_of_one_limit_are_one_incident() {
    if !root("several_victims_of_one_limit_are_one_incident") {
        return;
    }
    let cgroup = Cgroup::memory("pair");
    cgroup.limit_memory(LIMIT);
    let mut w = watched();
    let both = format!("python3 -c '{GROW}' & python3 -c '{GROW}' & wait");
    in_cgroups(&[&cgroup], &both).stderr(Stdio::null()).status().unwrap();
    let told = settled(&mut w, &format!("/{}", cgroup.name()), 2);
    assert_ne!(int(&told[0], "pid"), int(&told[1], "pid"));
    assert_ne!(text(&told[0], "id"), text(&told[1], "id"));
    let gap = int(&told[1], "ts") - int(&told[0], "ts");
    let same = attribute(&told[0], "incident") == attribute(&told[1], "incident");
    assert_eq!(same, gap <= 1_000_000, "{gap} µs apart");
}

/// Nobody watches: the counters alone tell, as they always did.
#[test]
fn without_the_program_the_counter_tells() {
    if !root("without_the_program_the_counter_tells") {
        return;
    }
    let cgroup = Cgroup::memory("counter");
    cgroup.limit_memory(LIMIT);
    let mut w = Watched::start(KernelOptions::none());
    grow_in(&cgroup);
    let path = format!("/{}", cgroup.name());
    let events = w.until("the kill", "events", |rows| !kills(rows, &path).is_empty());
    let told = kills(&events, &path);
    assert_eq!((told.len(), text(&told[0], "source")), (1, "cgroup"));
}
