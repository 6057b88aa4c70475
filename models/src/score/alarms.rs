//! Alarms: found in time, false, and what that means where incidents are rare.

use std::collections::BTreeSet;

use super::bounds::{binomial_upper95, poisson_upper95};
use crate::generator::Run;
use crate::{Alarm, AlarmChange, stats};

/// An alarm has to be on with this share of the life left.
const LEFT: f64 = 0.25;

/// What one method's alarm did on one run.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Watched {
    /// On with a quarter of the life left.
    pub(crate) in_time: bool,
    /// Was on when the event came.
    pub(crate) found: bool,
    /// From the start of the episode that was on at the event, s, and as a share of the life.
    pub(crate) lead: Option<(f64, f64)>,
    /// Episodes with no event before their horizon (uncensored).
    pub(crate) false_episodes: usize,
    /// Of these, those with an event before twice the horizon.
    pub(crate) early_episodes: usize,
    /// Whether the watch was long enough for a false alarm to be known as one.
    pub(crate) resolved: bool,
}

/// `alarm`: evaluations in order of time.
pub(crate) fn watch(run: &Run, alarm: impl Iterator<Item = (i64, Option<f64>)>) -> Watched {
    let mut state = Alarm::new();
    let mut out = Watched::default();
    let quarter = run.event_us.map(|event| event - (LEFT * (event - run.onset_us) as f64) as i64);
    let mut on_at_quarter = false;
    let mut began = None;
    for (at, p) in alarm {
        if quarter.is_some_and(|q| at <= q) {
            on_at_quarter = state.is_active();
        }
        out.resolved |= run.hits_within(at, run.horizon_s).is_some();
        if state.push(at, p) == AlarmChange::Raised {
            began = Some(at);
            if run.hits_within(at, run.horizon_s) == Some(false) {
                out.false_episodes += 1;
                if run.hits_within(at, 2.0 * run.horizon_s) == Some(true) {
                    out.early_episodes += 1;
                }
            }
        }
        if quarter.is_some_and(|q| at <= q) {
            on_at_quarter = state.is_active();
        }
    }
    out.in_time = on_at_quarter;
    if let Some(event) = run.event_us
        && state.is_active()
    {
        out.found = true;
        out.lead = began.map(|b| {
            let life = (event - run.onset_us).max(1) as f64;
            ((event - b) as f64 * 1e-6, (event - b) as f64 / life)
        });
    }
    out
}

/// Alarms of one method over all runs. A share of nothing is `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct AlarmScore {
    /// Foreseeable events.
    pub foreseeable: usize,
    /// Share of them with the alarm on at a quarter of the life left.
    pub recall_quarter: Option<f64>,
    /// Share of them with the alarm on when the event came.
    pub recall: Option<f64>,
    /// Median share of the life left at the start of that episode.
    pub median_lead_share: Option<f64>,
    /// Median lead, s.
    pub median_lead_s: Option<f64>,
    /// Events that nothing announced (bursts, steps).
    pub unforeseeable: usize,
    /// Share of them with the alarm on when the event came.
    pub unforeseeable_recall: Option<f64>,
    /// Episodes with no event before their horizon, of all runs, once per workload.
    pub false_episodes: usize,
    /// Of these, those followed by an event before twice the horizon: right, but too early.
    pub early_episodes: usize,
    /// Upper 95 % bound of the mean of `false_episodes` (exact, Poisson).
    pub false_upper95: f64,
    /// Runs without an event that were watched for longer than a horizon.
    pub quiet: usize,
    /// Share of them with a false alarm.
    pub quiet_rate: Option<f64>,
    /// Its upper 95 % bound (exact, binomial).
    pub quiet_upper95: Option<f64>,
    /// Precision if one life in a hundred ended at its limit: π·recall / (π·recall + (1 − π)·quiet rate).
    pub precision_1_percent: Option<f64>,
    /// The same for one in a thousand.
    pub precision_01_percent: Option<f64>,
}

pub(crate) fn score(runs: &[Run], watched: &[Watched]) -> AlarmScore {
    let all = || runs.iter().zip(watched);
    let share = |k: usize, n: usize| (n > 0).then(|| k as f64 / n as f64);
    let with_event =
        |yes: bool| all().filter(move |(r, _)| r.event_us.is_some() && r.is_foreseeable == yes);
    let foreseeable = with_event(true).count();
    let in_time = with_event(true).filter(|(_, w)| w.in_time).count();
    let found = with_event(true).filter(|(_, w)| w.found).count();
    let mut leads: Vec<(f64, f64)> = with_event(true).filter_map(|(_, w)| w.lead).collect();
    leads.sort_unstable_by(|a, b| a.1.total_cmp(&b.1));
    let median = |x: Vec<f64>| (!x.is_empty()).then(|| stats::median(&x));
    let unforeseeable = with_event(false).count();
    let seen = with_event(false).filter(|(_, w)| w.found).count();
    // Episodes of one workload count once.
    let workloads = |early: bool| {
        let one = |(r, w): (&Run, &Watched)| {
            let n = if early { w.early_episodes } else { w.false_episodes };
            (n > 0).then_some(r.workload)
        };
        all().filter_map(one).collect::<BTreeSet<u64>>().len()
    };
    let quiet: Vec<&Watched> =
        all().filter(|(r, w)| r.event_us.is_none() && w.resolved).map(|x| x.1).collect();
    let wrong = quiet.iter().filter(|w| w.false_episodes > 0).count();
    let quiet_rate = share(wrong, quiet.len());
    let recall_quarter = share(in_time, foreseeable);
    let precision = |prior: f64| {
        let (hit, miss) = (prior * recall_quarter?, (1.0 - prior) * quiet_rate?);
        (hit + miss > 0.0).then(|| hit / (hit + miss))
    };
    let false_episodes = workloads(false);
    AlarmScore {
        foreseeable,
        recall_quarter,
        recall: share(found, foreseeable),
        median_lead_share: median(leads.iter().map(|l| l.1).collect()),
        median_lead_s: median(leads.iter().map(|l| l.0).collect()),
        unforeseeable,
        unforeseeable_recall: share(seen, unforeseeable),
        false_episodes,
        early_episodes: workloads(true),
        false_upper95: poisson_upper95(false_episodes),
        quiet: quiet.len(),
        quiet_rate,
        quiet_upper95: (!quiet.is_empty()).then(|| binomial_upper95(wrong, quiet.len())),
        precision_1_percent: precision(0.01),
        precision_01_percent: precision(0.001),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::{Family, run_of};

    fn run(event_us: Option<i64>, end_us: i64, workload: u64) -> Run {
        let mut r = run_of(Family::SteadyLeak, 0, 1);
        (r.onset_us, r.event_us, r.end_us, r.horizon_s, r.workload) =
            (0, event_us, end_us, 10.0, workload);
        r
    }

    fn steps(ps: &[f64]) -> impl Iterator<Item = (i64, Option<f64>)> {
        ps.iter().enumerate().map(|(i, p)| (i as i64 * 1_000_000, Some(*p)))
    }

    #[test]
    fn in_time_late_and_false() {
        let event = run(Some(12_000_000), 12_000_000, 1);
        let early = [0.0, 0.0, 0.0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9];
        let w = watch(&event, steps(&early));
        assert!(w.in_time && w.found && w.false_episodes == 0);
        assert_eq!(w.lead, Some((7.0, 7.0 / 12.0)));
        let late = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.9, 0.9, 0.9];
        let w = watch(&event, steps(&late));
        assert!(!w.in_time && w.found);
        let quiet = run(None, 40_000_000, 2);
        let w = watch(&quiet, steps(&early));
        assert_eq!((w.false_episodes, w.found, w.resolved), (1, false, true));
        let censored = run(None, 11_000_000, 2);
        assert_eq!(watch(&censored, steps(&early)).false_episodes, 0);
        let after = run(Some(20_000_000), 20_000_000, 3);
        let w = watch(&after, steps(&[0.9; 11]));
        assert_eq!((w.false_episodes, w.early_episodes), (1, 1));
    }

    #[test]
    fn workloads_count_once() {
        let runs = [run(None, 40_000_000, 2), run(None, 40_000_000, 2), run(None, 40_000_000, 3)];
        let w = Watched { false_episodes: 2, resolved: true, ..Watched::default() };
        let s = score(&runs, &[w.clone(), w, Watched { resolved: true, ..Watched::default() }]);
        assert_eq!((s.false_episodes, s.quiet), (1, 3));
        assert!((s.quiet_rate.unwrap() - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!((s.recall, s.precision_1_percent), (None, None));
        assert!(s.false_upper95 > 4.7 && s.quiet_upper95.unwrap() > 0.9);
    }
}
