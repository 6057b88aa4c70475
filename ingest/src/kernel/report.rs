//! What of the kernel programs is missing or lost, as health counters (T8).

use tapio_ebpf::NotLoaded;

use super::{subjects::Subjects, watch::Watch};
use crate::{Health, KernelOptions, Severity};

pub(super) const COMPONENT: &str = "collector.ebpf";

/// One gauge per object that was asked for: how many of its programs are not in the kernel, and what that costs.
pub(super) fn loaded(health: &Health, load: &KernelOptions, missing: &[NotLoaded]) {
    let asked = [
        ("memory", load.memory),
        ("oom", load.oom),
        ("http", load.http),
        ("net", load.net),
        ("dns", load.dns),
        ("cpu", load.cpu),
        ("block", load.block),
    ];
    for (object, asked) in asked {
        let of = |m: &&NotLoaded| m.program == "all" || m.program.split('/').next() == Some(object);
        let lacks: Vec<&NotLoaded> = missing.iter().filter(of).collect();
        if !asked {
            let detail = "switched off in the configuration";
            health.set(COMPONENT, object, 0, Severity::Info, detail);
        } else if lacks.is_empty() {
            health.set(COMPONENT, object, 0, Severity::Info, "all programs are in the kernel");
        } else {
            let each = lacks.iter().map(|m| {
                format!("{} is not loaded ({}), which costs: {}", m.program, m.error, m.costs)
            });
            let detail = each.collect::<Vec<_>>().join("; ");
            tracing::warn!("{detail}");
            health.set(COMPONENT, object, lacks.len() as i64, Severity::Warning, detail);
        }
    }
}

/// One counter per object and reason; those that never happened are left out.
pub(super) fn losses(health: &Health, watch: &Watch) {
    let losses = match watch.losses() {
        Ok(losses) => losses,
        Err(e) => {
            health.count(COMPONENT, "read_failures", 1, Severity::Error, e.to_string());
            return;
        }
    };
    for (object, losses) in losses {
        for loss in losses.into_iter().filter(|l| l.count > 0) {
            // Full tables and buffers make answers poorer. The other reasons are single packets and runs.
            let full = ["_without_place", "_without_memory", "_lost"];
            let severity = if full.iter().any(|f| loss.reason.ends_with(f)) {
                Severity::Warning
            } else {
                Severity::Info
            };
            let value = i64::try_from(loss.count).unwrap_or(i64::MAX);
            let metric = format!("{object}.{}", loss.reason);
            health.set(COMPONENT, metric, value, severity, loss.what);
        }
    }
}

/// Records whose cgroup was gone before anybody saw it.
pub(super) fn subjects(health: &Health, subjects: &mut Subjects) {
    let detail = "records of cgroups that ended before they were seen; they are told for the node";
    let unknown = subjects.take_unknown();
    health.count(COMPONENT, "cgroups_unknown", unknown, Severity::Info, detail);
}
