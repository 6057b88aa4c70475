//! Beginnings and ends of processes as events.
//!
//! Processes that last moments come by the thousand, so: a process whose whole life lies between two ticks is told only if a
//! signal ended it, and of the others at most four per cgroup and 32 in all are told per tick, once for ends by a signal or
//! with an exit code and once for the rest. What is not told is counted. Forks without an exec are not told, their ends are.

use std::collections::HashMap;

use tapio_ebpf::{ExitStatus, LifeEvent, LifeKind};
use tapio_sql::derived_id;

use super::{
    Moment,
    report::COMPONENT,
    subjects::{Subject, Subjects},
};
use crate::{Health, Severity, collect::sample::Event};

/// Events per cgroup, tick and class.
const PER_CGROUP: u32 = 4;
/// Events per tick and class.
const PER_TICK: u32 = 32;

/// What was told up to when.
#[derive(Debug)]
pub(super) struct Lives {
    boot_id: String,
    since_us: i64,
}

impl Lives {
    pub(super) fn new(boot_id: &str, boot_us: i64) -> Self {
        Self { boot_id: boot_id.to_owned(), since_us: boot_us }
    }

    pub(super) fn tell(
        &mut self,
        life: &[LifeEvent],
        subjects: &mut Subjects,
        moment: Moment,
        health: &Health,
        events: &mut Vec<Event>,
    ) {
        let since_ns = u64::try_from(self.since_us).unwrap_or(0).saturating_mul(1_000);
        self.since_us = moment.boot_us;
        let worth = worth_telling(life, since_ns);
        let short = worth.short;
        let mut dropped = 0;
        for class in [worth.failures, worth.others] {
            let mut left = PER_TICK;
            let mut told: HashMap<i64, u32> = HashMap::new();
            for e in class {
                let Some(subject) = subjects.of(e.cgroups, None) else { continue };
                let n = told.entry(subject.series_id).or_default();
                if left == 0 || *n >= PER_CGROUP {
                    dropped += 1;
                    continue;
                }
                *n += 1;
                left -= 1;
                events.push(self.event(e, &subject, moment));
            }
        }
        let detail = "processes that began and ended between two ticks are not told one by one";
        health.count(COMPONENT, "processes_short_lived", short, Severity::Info, detail);
        let detail = "begins and ends of processes beyond four per cgroup and 32 per tick";
        health.count(COMPONENT, "process_events_untold", dropped, Severity::Info, detail);
    }

    fn event(&self, e: &LifeEvent, subject: &Subject, moment: Moment) -> Event {
        let (pid, start) = (e.tgid.to_string(), e.start_ns.to_string());
        let mut attributes = vec![("parent_pid", e.parent_tgid.to_string())];
        let (kind, severity, message) = match &e.kind {
            LifeKind::Fork => ("process.fork", "debug", format!("{} ({pid}) was forked", e.comm)),
            LifeKind::Exec { file } => {
                attributes.push(("file", file.clone()));
                ("process.exec", "debug", format!("{} ({pid}) began: {file}", e.comm))
            }
            LifeKind::Exit { status, memory, peak_rss_bytes } => {
                let lived_us = e.boot_ns.saturating_sub(e.start_ns) / 1_000;
                attributes.push(("lived_us", lived_us.to_string()));
                attributes.extend(memory.map(|m| ("rss_bytes", m.rss_bytes().to_string())));
                attributes.push(("peak_rss_bytes", peak_rss_bytes.to_string()));
                attributes.extend(status.code().map(|c| ("exit_code", c.to_string())));
                attributes.extend(status.signal().map(|s| ("signal", s.to_string())));
                let how = match (status.signal(), status.code()) {
                    (Some(signal), _) => format!("was ended by signal {signal}"),
                    (None, Some(0)) | (None, None) => "ended".to_owned(),
                    (None, Some(code)) => format!("ended with exit code {code}"),
                };
                ("process.exit", severity(*status), format!("{} ({pid}) {how}", e.comm))
            }
        };
        Event {
            id: derived_id(&[kind, &self.boot_id, &pid, &start, &e.boot_ns.to_string()]),
            ts: Some(moment.of(e.boot_ns)),
            kind,
            severity,
            pid: Some(i64::from(e.tgid)),
            comm: e.comm.clone(),
            message,
            attributes,
            ..subject.event()
        }
    }
}

struct Worth<'a> {
    failures: Vec<&'a LifeEvent>,
    others: Vec<&'a LifeEvent>,
    short: i64,
}

/// Leaves out forks, and processes that began after `since_ns` and are over, unless a signal ended them.
fn worth_telling(life: &[LifeEvent], since_ns: u64) -> Worth<'_> {
    let mut ended: HashMap<(u32, u64), ExitStatus> = HashMap::new();
    for e in life.iter().filter(|e| e.start_ns >= since_ns) {
        if let LifeKind::Exit { status, .. } = e.kind {
            ended.insert((e.tgid, e.start_ns), status);
        }
    }
    let short = ended.values().filter(|s| s.signal().is_none()).count() as i64;
    let told = life.iter().filter(|e| {
        let end = ended.get(&(e.tgid, e.start_ns));
        e.kind != LifeKind::Fork && end.is_none_or(|s| s.signal().is_some())
    });
    let (failures, others) = told
        .partition(|e| matches!(e.kind, LifeKind::Exit { status, .. } if status.code() != Some(0)));
    Worth { failures, others, short }
}

/// Crashes and kills warn; ends on request do not.
fn severity(status: ExitStatus) -> &'static str {
    match (status.signal(), status.code()) {
        // signal(7): ILL, TRAP, ABRT, BUS, FPE, KILL, SEGV, SYS.
        (Some(4..=9 | 11 | 31), _) => "warning",
        (None, Some(0)) => "debug",
        _ => "info",
    }
}

#[cfg(test)]
mod tests {
    use tapio_ebpf::{CgroupIds, ResidentMemory};

    use super::*;

    fn exec(tgid: u32, start_ns: u64) -> LifeEvent {
        LifeEvent {
            boot_ns: start_ns + 1,
            tgid,
            parent_tgid: 1,
            start_ns,
            comm: "x".into(),
            cgroups: CgroupIds::default(),
            kind: LifeKind::Exec { file: "/bin/x".into() },
        }
    }

    fn exit(tgid: u32, start_ns: u64, status: i32) -> LifeEvent {
        let memory = Some(ResidentMemory::default());
        let kind = LifeKind::Exit { status: ExitStatus(status), memory, peak_rss_bytes: 0 };
        LifeEvent { boot_ns: start_ns + 2, kind, ..exec(tgid, start_ns) }
    }

    #[test]
    fn short_lives_are_left_out_unless_a_signal_ended_them() {
        let fork = LifeEvent { kind: LifeKind::Fork, ..exec(9, 150) };
        let life = [
            exit(1, 10, 0),       // began before: told
            exec(2, 110),         // lives on: told
            exec(3, 120),         // short
            exit(3, 120, 1 << 8), // short, whatever its code
            exec(4, 130),         // killed: both told
            exit(4, 130, 9),
            exit(5, 20, 3 << 8), // failed
            fork,
        ];
        let worth = worth_telling(&life, 100);
        let pids = |of: &[&LifeEvent]| of.iter().map(|e| e.tgid).collect::<Vec<_>>();
        assert_eq!(pids(&worth.failures), [4, 5]);
        assert_eq!(pids(&worth.others), [1, 2, 4]);
        assert_eq!(worth.short, 1);
    }

    #[test]
    fn crashes_warn_and_ends_on_request_do_not() {
        let of = |status| severity(ExitStatus(status));
        assert_eq!([of(11), of(9), of(6), of(0x8b)], ["warning"; 4]);
        assert_eq!([of(15), of(2), of(1 << 8)], ["info"; 3]);
        assert_eq!(of(0), "debug");
    }
}
