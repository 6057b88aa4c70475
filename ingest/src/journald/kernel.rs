//! The kernel's own lines about lack of memory (mm/oom_kill.c, Linux 4.x to 6.x).
//!
//! A kill is counted by the kernel (`oom.kill` from cgroup files and eBPF); its log line is another observation of the
//! same kill, so it has another kind and is never a second one.

use std::collections::VecDeque;

use super::row::Finding;

/// So many announced victims are remembered until their kill is logged, a few lines later.
const VICTIMS: usize = 64;

/// Reads lines in their order: the victim's cgroup is told in a line before the one that tells its memory.
#[derive(Debug, Default)]
pub(crate) struct OomLines {
    victims: VecDeque<Victim>,
}

/// From `oom-kill:constraint=…`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Victim {
    pid: i64,
    comm: String,
    cgroup: String,
    oom_cgroup: String,
    constraint: String,
}

impl OomLines {
    /// What a kernel line says about a kill; `None`: nothing.
    pub(crate) fn read(&mut self, message: &str) -> Option<Finding> {
        if let Some(rest) = message.strip_prefix("oom-kill:constraint=") {
            let victim = Victim::parse(rest)?;
            let mut f = victim.finding("oom.constraint_log");
            f.pid = Some(victim.pid);
            f.comm.clone_from(&victim.comm);
            if self.victims.len() == VICTIMS {
                self.victims.pop_front();
            }
            self.victims.push_back(victim);
            return Some(f);
        }
        if let Some((comm, rest)) = message.split_once(" invoked oom-killer: ") {
            let mut f = Finding::new("oom.invoked_log");
            f.comm = comm.to_owned();
            f.tell("allocation", rest);
            return Some(f);
        }
        if let Some(rest) = message.strip_prefix("oom_reaper: reaped process ") {
            let mut f = Finding::new("oom.reaped_log");
            killed(rest, &mut f)?;
            return Some(f);
        }
        let (reason, rest) = message
            .split_once(": Killed process ")
            .or_else(|| Some(("", message.strip_prefix("Killed process ")?)))?;
        let mut f = Finding::new("oom.kill_log");
        let pid = killed(rest, &mut f)?;
        // A later kill of the same pid is another process: the newest announcement counts, once.
        if let Some(i) = self.victims.iter().rposition(|v| v.pid == pid && v.comm == f.comm)
            && let Some(victim) = self.victims.remove(i)
        {
            let said = victim.finding("");
            f.cgroup = said.cgroup;
            f.attributes.extend(said.attributes);
        }
        f.priority = Some(3);
        f.tell("reason", reason);
        Some(f)
    }
}

/// `PID (COMM) total-vm:…kB, anon-rss:…kB, file-rss:…kB, shmem-rss:…kB, …`: the resident memory is the sum of the three.
fn killed(text: &str, f: &mut Finding) -> Option<i64> {
    let (pid, rest) = text.split_once(" (")?;
    let pid: i64 = pid.parse().ok()?;
    // A command name may hold any character, so it ends at the last bracket before what the kernel appends.
    let tail = [") total-vm:", "), "].iter().find_map(|t| rest.find(t));
    let end = tail.or_else(|| rest.rfind(')'))?;
    f.pid = Some(pid);
    f.comm = rest[..end].to_owned();
    let kib = |name: &str| -> Option<i64> {
        let (_, number) = rest[end..].split_once(name)?;
        number.split_once("kB")?.0.parse().ok()
    };
    let parts = [
        ("anon_rss_bytes", "anon-rss:"),
        ("file_rss_bytes", "file-rss:"),
        ("shmem_rss_bytes", "shmem-rss:"),
    ];
    let mut rss: Option<i64> = None;
    for (name, field) in parts {
        let Some(bytes) = kib(field).and_then(|k| k.checked_mul(1024)) else { continue };
        rss = rss.unwrap_or(0).checked_add(bytes);
        f.tell(name, bytes.to_string());
    }
    f.value = rss.map(|b| (b as f64, "By"));
    Some(pid)
}

impl Victim {
    /// `CONSTRAINT_MEMCG,nodemask=…,cpuset=…,mems_allowed=…,oom_memcg=PATH,task_memcg=PATH,task=COMM,pid=N,uid=N`, with
    /// `global_oom` in place of `oom_memcg` if it was the node that had no memory.
    fn parse(text: &str) -> Option<Self> {
        let (constraint, rest) = text.split_once(',')?;
        // From the right, because a path or a command name may hold commas.
        let (rest, _uid) = rest.rsplit_once(",uid=")?;
        let (rest, pid) = rest.rsplit_once(",pid=")?;
        let (rest, comm) = rest.split_once(",task=")?;
        let (rest, cgroup) = rest.split_once(",task_memcg=").unwrap_or((rest, ""));
        let oom_cgroup = rest.split_once(",oom_memcg=").map_or("", |(_, path)| path);
        Some(Self {
            pid: pid.parse().ok()?,
            comm: comm.to_owned(),
            cgroup: cgroup.to_owned(),
            oom_cgroup: oom_cgroup.to_owned(),
            constraint: constraint.to_owned(),
        })
    }

    fn finding(&self, kind: &'static str) -> Finding {
        let mut f = Finding::new(kind);
        f.cgroup.clone_from(&self.cgroup);
        f.tell("oom_cgroup", self.oom_cgroup.as_str());
        f.tell("constraint", self.constraint.as_str());
        f
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // As Linux 6.18 wrote them.
    const INVOKED: &str = "tapio-workload invoked oom-killer: gfp_mask=0x100cca(GFP_HIGHUSER_MOVABLE), order=0, oom_score_adj=0";
    const ANNOUNCED: &str = "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/pod,task_memcg=/pod/a,task=tapio-workload,pid=4390,uid=0";
    const KILLED: &str = "Memory cgroup out of memory: Killed process 4390 (tapio-workload) total-vm:134296kB, anon-rss:130560kB, file-rss:1832kB, shmem-rss:0kB, UID:0 pgtables:300kB oom_score_adj:0";

    #[test]
    fn a_memory_cgroup_kill() {
        let mut oom = OomLines::default();
        let invoked = oom.read(INVOKED).unwrap();
        assert_eq!((invoked.kind, invoked.comm.as_str()), ("oom.invoked_log", "tapio-workload"));
        assert_eq!(oom.read(ANNOUNCED).unwrap().kind, "oom.constraint_log");
        let f = oom.read(KILLED).unwrap();
        assert_eq!(
            (f.kind, f.pid, f.comm.as_str()),
            ("oom.kill_log", Some(4390), "tapio-workload")
        );
        assert_eq!(f.cgroup, "/pod/a");
        assert_eq!(f.value, Some(((130_560.0 + 1_832.0) * 1024.0, "By")));
        assert_eq!(f.told("oom_cgroup"), Some("/pod"));
        assert_eq!(f.told("constraint"), Some("CONSTRAINT_MEMCG"));
        assert_eq!(f.told("anon_rss_bytes"), Some("133693440"));
        // The announcement is used up: another process with that pid does not inherit the cgroup.
        assert_eq!(oom.read(KILLED).unwrap().cgroup, "");
        let reaped = "oom_reaper: reaped process 4390 (tapio-workload), now anon-rss:0kB, file-rss:4kB, shmem-rss:0kB";
        let f = oom.read(reaped).unwrap();
        assert_eq!((f.kind, f.pid, f.value), ("oom.reaped_log", Some(4390), Some((4096.0, "By"))));
    }

    #[test]
    fn a_global_kill_odd_names_and_older_kernels() {
        let mut oom = OomLines::default();
        let global = "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/a,b,task=x,pid=1,y) z,pid=77,uid=1000";
        let f = oom.read(global).unwrap();
        assert_eq!((f.cgroup.as_str(), f.comm.as_str(), f.pid), ("/a,b", "x,pid=1,y) z", Some(77)));
        assert_eq!(f.told("oom_cgroup"), None);
        let f = oom.read("Out of memory: Killed process 77 (x,pid=1,y) z) total-vm:8kB, anon-rss:4kB, file-rss:0kB, shmem-rss:0kB").unwrap();
        assert_eq!((f.comm.as_str(), f.cgroup.as_str()), ("x,pid=1,y) z", "/a,b"));
        let f = oom.read("Killed process 5 (java), UID 0, total-vm:9kB, anon-rss:7kB").unwrap();
        assert_eq!((f.comm.as_str(), f.value), ("java", Some((7168.0, "By"))));
        for other in [
            "",
            "Killed process",
            "a: Killed process x (y)",
            "oom-kill:constraint=",
            "usb 1-1: new device",
        ] {
            assert_eq!(oom.read(other), None, "{other}");
        }
        let huge =
            "Out of memory: Killed process 1 (a) total-vm:1kB, anon-rss:9223372036854775807kB";
        assert_eq!(oom.read(huge).unwrap().value, None);
    }

    proptest! {
        #[test]
        fn any_line_has_an_answer(lines in proptest::collection::vec(
            "(oom-kill:constraint=|a: Killed process |oom_reaper: reaped process )?[ -~]{0,60}", 0..100)
        ) {
            let mut oom = OomLines::default();
            for l in lines {
                let _ = oom.read(&l);
            }
            prop_assert!(oom.victims.len() <= VICTIMS);
        }

        #[test]
        fn what_the_kernel_would_write_is_read(
            pid in 1i64..4_194_304, comm in "[a-zA-Z0-9_()/:, -]{1,15}", cgroup in "(/[a-z0-9.,-]{1,9}){1,4}", kib in 0i64..1 << 40,
        ) {
            let mut oom = OomLines::default();
            oom.read(&format!("oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),oom_memcg=/,task_memcg={cgroup},task={comm},pid={pid},uid=0"));
            let f = oom.read(&format!("Memory cgroup out of memory: Killed process {pid} ({comm}) total-vm:0kB, anon-rss:{kib}kB, UID:0")).unwrap();
            prop_assert_eq!((f.pid, f.comm.as_str(), f.cgroup.as_str()), (Some(pid), comm.as_str(), cgroup.as_str()));
            prop_assert_eq!(f.value, Some(((kib * 1024) as f64, "By")));
        }
    }
}
