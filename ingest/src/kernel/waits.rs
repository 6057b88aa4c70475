//! Waiting for a CPU, as columns of `resources`.

use std::collections::{HashMap, HashSet};

use tapio_ebpf::CpuWaits;

use super::subjects::Subjects;
use crate::collect::sample::{CPU_WAIT, CPU_WAITS, Sample};

/// Sums since the programs were loaded, by series: ns and times. The kernel tells each cgroup by itself; like all that
/// `resources` has of a cgroup, a sum is of everything below it.
#[derive(Debug)]
pub(super) struct Waits {
    watched: bool,
    sums: HashMap<i64, (u64, u64)>,
}

impl Waits {
    pub(super) fn watched(watched: bool) -> Self {
        Self { watched, sums: HashMap::new() }
    }

    pub(super) fn add(&mut self, waits: impl Iterator<Item = CpuWaits>, subjects: &mut Subjects) {
        for w in waits {
            let Some(subject) = subjects.of(w.cgroups, None) else { continue };
            for series in subjects.upwards(&subject) {
                let sums = self.sums.entry(series).or_default();
                sums.0 += w.delay_ns;
                sums.1 += w.runs;
            }
        }
    }

    /// Enters the sums into the rows of cgroups and the node; nothing where nobody watches, 0 where nobody waited.
    pub(super) fn enter(&mut self, samples: &mut [Sample], subjects: &Subjects) {
        if !self.watched {
            return;
        }
        let known: HashSet<i64> = subjects.series().collect();
        self.sums.retain(|series, _| known.contains(series));
        for s in samples.iter_mut().filter(|s| known.contains(&s.series_id)) {
            let (ns, times) = self.sums.get(&s.series_id).copied().unwrap_or_default();
            s.values[CPU_WAIT] = i64::try_from(ns / 1_000).ok();
            s.values[CPU_WAITS] = i64::try_from(times).ok();
        }
    }
}
