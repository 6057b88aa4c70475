//! How well could anyone foresee the generated runs?
//!
//! The event is the first tick at which a noisy course meets its limit, so a part of every error is chance. The floor is the
//! error of one who knows the generator, the parameters of the run and its course up to now, and says the median of the law
//! of the event ([`generator::futures`]). It is scored where Tapio is: where a share of the life is left, which one who says
//! the same at every time cannot make use of. One who sees only samples has to learn the parameters, and stays above it.

use super::walk::{checkpoints, parallel};
use super::{CHECKPOINTS, ScoreOptions, asked_horizons, forecaster};
use crate::{generator, stats};

/// Errors below this count as close.
pub const CLOSE: f64 = 0.08;

/// Errors of the time to the event, as shares of the true remaining time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Errors {
    /// Median of |said − truth| / truth, infinite if it is mostly not said that there will be an event.
    pub median: f64,
    /// Median of (said − truth) / truth: above 0 for too late. Nothing said counts as infinitely late.
    pub bias: f64,
    /// Share of the events that were missed by no more than [`CLOSE`].
    pub close: f64,
}

/// The floor and Tapio, at one share of the life left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FloorScore {
    /// Share of the life left.
    pub left: f64,
    /// Foreseeable events scored.
    pub events: usize,
    /// Of the median of the law of the event.
    pub floor: Errors,
    /// Of [`crate::time_to_threshold`].
    pub tapio: Errors,
}

/// What was said of an event, as a share of the true remaining time, less one; infinite for nothing.
#[derive(Debug, Clone, Copy)]
struct Missed {
    family: &'static str,
    checkpoint: usize,
    floor: f64,
    tapio: f64,
}

/// The floor for the foreseeable events of `options` (`baseline_runs` and `cones` are not used) from `futures` draws of each
/// (0: one): at each of [`CHECKPOINTS`], first of all families together (`all`), then of each with an event.
///
/// CPU time is in proportion to runs and futures: 2,000 and 101 take about five minutes of one core.
#[must_use]
pub fn floor(options: &ScoreOptions, futures: usize) -> Vec<(&'static str, Vec<FloorScore>)> {
    let plan = generator::plan(options.part, options.runs);
    let missed = parallel(plan.len(), options.threads, |i| {
        let (family, number) = plan[i];
        let run = generator::run_of(family, number, options.seed);
        let Some(event) = run.event_us.filter(|_| run.is_foreseeable) else { return Vec::new() };
        let steps = checkpoints(&run, &asked_horizons(&run), Some(&forecaster));
        let of = |(checkpoint, step): (usize, &super::walk::Step)| {
            let truth_s = (event - step.at_us) as f64 * 1e-6;
            let share = |said_s: f64| said_s / truth_s - 1.0;
            let seconds =
                |at: Option<i64>| at.map_or(f64::INFINITY, |at| (at - step.at_us) as f64 * 1e-6);
            let n = futures.max(1);
            let law = generator::futures(family, number, options.seed, step.at_us, n);
            let mut law: Vec<f64> = law.into_iter().map(seconds).collect();
            Missed {
                family: run.family_name(),
                checkpoint,
                floor: share(stats::median_mut(&mut law)),
                tapio: step.tapio.eta_s.map_or(f64::INFINITY, share),
            }
        };
        steps.iter().enumerate().map(of).collect()
    })
    .concat();
    let mut names = vec!["all"];
    names.extend(generator::families(options.part).map(generator::Family::as_str));
    names.retain(|name| missed.iter().any(|m| *name == "all" || m.family == *name));
    let at = |name: &str, checkpoint: usize| -> FloorScore {
        let here: Vec<&Missed> = missed
            .iter()
            .filter(|m| m.checkpoint == checkpoint && (name == "all" || m.family == name))
            .collect();
        FloorScore {
            left: CHECKPOINTS[checkpoint],
            events: here.len(),
            floor: errors(here.iter().map(|m| m.floor).collect()),
            tapio: errors(here.iter().map(|m| m.tapio).collect()),
        }
    };
    let each = |name| (name, (0..CHECKPOINTS.len()).map(|c| at(name, c)).collect());
    names.into_iter().map(each).collect()
}

fn errors(mut signed: Vec<f64>) -> Errors {
    let mut sizes: Vec<f64> = signed.iter().map(|e| e.abs()).collect();
    Errors {
        close: sizes.iter().filter(|e| **e <= CLOSE).count() as f64 / sizes.len().max(1) as f64,
        median: stats::median_mut(&mut sizes),
        bias: stats::median_mut(&mut signed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::Part;

    #[test]
    fn who_knows_more_errs_less() {
        let options = ScoreOptions { part: Part::Train, runs: 420, ..ScoreOptions::default() };
        let scores = floor(&options, 21);
        let (name, all) = &scores[0];
        assert_eq!((*name, all.len()), ("all", CHECKPOINTS.len()));
        for s in all {
            assert!(s.events > 160, "{s:?}");
            assert!(s.floor.median > 0.0 && s.floor.median < 0.6 * s.tapio.median, "{s:?}");
            assert!(s.floor.bias.abs() < 0.01 && s.floor.close > s.tapio.close, "{s:?}");
        }
        let of = |c: usize| scores[1..].iter().map(|s| s.1[c].events).sum::<usize>();
        assert!((0..CHECKPOINTS.len()).all(|c| of(c) == all[c].events));
    }

    #[test]
    fn errors_of_nothing_said() {
        let e = errors(vec![0.05, -0.2, f64::INFINITY, f64::INFINITY, 0.1]);
        assert_eq!((e.median, e.bias, e.close), (0.2, 0.1, 0.2));
    }
}
