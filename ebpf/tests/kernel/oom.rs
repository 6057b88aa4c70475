//! The kernel kills for lack of memory.

use std::process::{Command, Stdio};

use tapio_ebpf::{LifeKind, LoadOptions, OomVictim, Programs};

use crate::{
    child::Role,
    lab::{Cgroup, load, root, wait},
};

const LIMIT: u64 = 64 << 20;

fn programs() -> Programs {
    load(&LoadOptions { oom: true, memory: true, ..LoadOptions::none() })
}

/// The first victim in a cgroup of that name.
fn victim_in(programs: &mut Programs, cgroup: &str) -> OomVictim {
    let oom = programs.oom.as_mut().unwrap();
    let mut victims = Vec::new();
    wait("the victim", || {
        oom.poll(&mut victims);
        victims.iter().find(|v| v.levels.first().is_some_and(|l| l.name == cgroup)).cloned()
    })
}

/// Steps a leak until the kernel ends it.
fn leak_to_death(child: &mut Role) {
    let mut steps = 0;
    while child.step().is_some() {
        steps += 1;
        assert!(steps < 1000, "the limit does not hold");
    }
    child.child.wait().unwrap();
}

#[test]
fn a_leak_hits_the_limit_of_its_own_cgroup() {
    if !root("a_leak_hits_the_limit_of_its_own_cgroup") {
        return;
    }
    let mut programs = programs();
    for role in ["leak", "leak-threads"] {
        let cgroup = Cgroup::memory("own");
        cgroup.limit_memory(LIMIT);
        let mut child = Role::start(role, Some(&cgroup.procs()));
        let tgid = child.tgid();
        leak_to_death(&mut child);
        let (name, id) = (cgroup.name(), cgroup.id());
        cgroup.remove();
        // Its directory is gone by now.
        let victim = victim_in(&mut programs, &name);
        assert_eq!(victim.tgid, tgid);
        assert_eq!(victim.trigger_tgid, tgid);
        assert_eq!(victim.uid, 0);
        assert_eq!(victim.cgroups.memory, id);
        assert!(victim.memory_cgroup_path().ends_with(&format!("/{name}")), "{victim:?}");
        let level = victim.limit_level().unwrap();
        assert_eq!((level.id, level.limit_bytes), (id, Some(LIMIT)));
        assert!(level.usage_bytes <= LIMIT && level.usage_bytes > LIMIT / 100 * 98, "{level:?}");
        // All that was charged was its own.
        let anon = victim.memory.anon_bytes as f64 / LIMIT as f64;
        assert!((0.94..=1.01).contains(&anon), "{anon} {victim:?}");
        assert!(victim.virtual_bytes > LIMIT);
        // Its end is told with the same name, and the signal.
        let mut life = Vec::new();
        let exit = wait("its exit", || {
            programs.memory.as_mut().unwrap().poll_life(&mut life);
            life.iter().find(|e| e.tgid == tgid && matches!(e.kind, LifeKind::Exit { .. })).cloned()
        });
        assert_eq!((exit.start_ns, &exit.comm), (victim.start_ns, &victim.comm));
        let LifeKind::Exit { status, peak_rss_bytes, .. } = exit.kind else { unreachable!() };
        assert_eq!(status.signal(), Some(9));
        assert!(peak_rss_bytes > LIMIT / 100 * 94, "{peak_rss_bytes}");
    }
    assert!(programs.oom.unwrap().losses().unwrap().iter().all(|l| l.count == 0));
}

/// As on Kubernetes, where it is often the pod's cgroup that hits its limit.
#[test]
fn the_level_above_is_named_when_it_was_its_limit() {
    if !root("the_level_above_is_named_when_it_was_its_limit") {
        return;
    }
    let mut programs = programs();
    let pod = Cgroup::memory("pod");
    pod.limit_memory(LIMIT);
    let container = pod.child("container-of-test");
    container.limit_memory(LIMIT * 4);
    let mut child = Role::start("leak", Some(&container.procs()));
    leak_to_death(&mut child);
    let (pod_name, pod_id) = (pod.name(), pod.id());
    container.remove();
    pod.remove();
    let victim = victim_in(&mut programs, "container-of-test");
    assert_eq!(victim.tgid, child.tgid());
    let level = victim.limit_level().unwrap();
    assert_eq!((level.id, &level.name, level.limit_bytes), (pod_id, &pod_name, Some(LIMIT)));
    assert_eq!(victim.levels[0].limit_bytes, Some(LIMIT * 4));
    let path = victim.memory_cgroup_path();
    assert!(path.ends_with(&format!("/{pod_name}/container-of-test")), "{path}");
}

/// A container whose first process lives on.
#[test]
fn a_killed_child_is_attributed_to_its_living_cgroup() {
    if !root("a_killed_child_is_attributed_to_its_living_cgroup") {
        return;
    }
    let mut programs = programs();
    let cgroup = Cgroup::memory("child");
    cgroup.limit_memory(LIMIT);
    let script = format!(
        "echo $$ > {}; python3 -c \"a = [bytearray(1 << 20) for _ in range(1 << 12)]\"; echo $?; read x",
        cgroup.procs().display()
    );
    let mut first = Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let output = first.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).unwrap();
    assert_eq!(line.trim(), "137");
    let victim = victim_in(&mut programs, &cgroup.name());
    assert_ne!(victim.tgid, first.id());
    assert!(victim.comm.starts_with("python3"), "{}", victim.comm);
    assert_eq!(victim.cgroups.memory, cgroup.id());
    let mut life = Vec::new();
    programs.memory.as_mut().unwrap().poll_life(&mut life);
    let fork = life.iter().find(|e| e.tgid == victim.tgid && e.kind == LifeKind::Fork).unwrap();
    assert_eq!(fork.parent_tgid, first.id());
    assert_eq!(first.try_wait().unwrap(), None, "the first process lives on");
    drop(first.stdin.take());
    first.wait().unwrap();
}

/// One process after the other of a cgroup is killed: one incident. Another cgroup: another.
#[test]
fn victims_of_one_limit_are_one_incident() {
    if !root("victims_of_one_limit_are_one_incident") {
        return;
    }
    let mut programs = programs();
    let cgroups = [Cgroup::memory("pair"), Cgroup::memory("other")];
    let mut incidents = Vec::new();
    for cgroup in &cgroups {
        cgroup.limit_memory(LIMIT);
        let grow = "a=[]\nwhile True: a.append(bytearray(1 << 20))";
        let procs = cgroup.procs();
        let script = format!(
            "echo $$ > {}; python3 -c '{grow}' & python3 -c '{grow}' & wait",
            procs.display()
        );
        Command::new("sh").args(["-c", &script]).status().unwrap();
        let name = cgroup.name();
        let mut victims = Vec::new();
        wait("two victims", || {
            programs.oom.as_mut().unwrap().poll(&mut victims);
            let here = victims.iter().filter(|v| v.levels.first().is_some_and(|l| l.name == name));
            (here.count() >= 2).then_some(())
        });
        victims.retain(|v| v.levels.first().is_some_and(|l| l.name == name));
        assert_ne!(victims[0].tgid, victims[1].tgid);
        let gap = victims[1].boot_ns - victims[0].boot_ns;
        let same = victims[0].incident == victims[1].incident;
        assert_eq!(same, gap <= 1_000_000_000, "gap {gap} ns");
        incidents.push(victims[1].incident);
    }
    assert_ne!(incidents[0], incidents[1]);
}
