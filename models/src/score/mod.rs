//! The instrument: how early, how right and how sure, per run.
//!
//! A run is one life of one subject; its steps are dependent, so every figure weighs each run the same (probabilities: at
//! each horizon) and every interval comes from whole runs. Probabilities are asked for at 15 minutes, 1 hour and 24 hours,
//! as far as a run's time scale can answer; of recordings also at 1 and 5 minutes. "Cannot say" counts as the base rate
//! (of the training part) and as a miss of the ETA; its share is reported. The same runs, steps and rows are given to
//! the rivals of [`crate::baseline`].

mod alarms;
mod bounds;
mod brier;
mod eta;
mod floor;
mod report;
mod walk;

pub use alarms::AlarmScore;
pub use bounds::{binomial_upper95, poisson_upper95};
pub use brier::{BrierScore, ReliabilityPoint, Skill};
pub use eta::{EtaScore, LevelScore};
pub use floor::{CLOSE, Errors, FloorScore, floor};
pub use report::{Cone, ConePoint, FamilyScore, HorizonScore, MethodScore, Report};
pub use walk::parallel;

pub(crate) use walk::{Forecaster, Walk};

use crate::baseline::Baselines;
use crate::generator::{self, Part, Run, ranges};
use crate::{Forecast, Interval};

/// Shares of the life left at which ETA and intervals are scored.
pub const CHECKPOINTS: [f64; 3] = [0.5, 0.25, 0.1];
/// Levels of the intervals that are scored.
pub const LEVELS: [f64; 3] = [0.5, 0.8, 0.95];
/// Recordings are asked at these horizons too, s: few are watched for as long as the shortest of the generated runs, and
/// where none is, only events have a known outcome.
const SHORT_S: [f64; 2] = [60.0, 300.0];
/// Horizons a score can be split by.
pub(crate) const MAX_HORIZONS: usize = 8;

/// What a method says at one evaluation.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Answers {
    /// P(hit within the horizon).
    pub probability: Option<f64>,
    /// What its alarm listens to.
    pub alarm: Option<f64>,
    /// Time to the hit, s.
    pub eta_s: Option<f64>,
    /// Central intervals at [`LEVELS`].
    pub intervals: Option<[Interval; 3]>,
}

/// What to score.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreOptions {
    /// Families to score on.
    pub part: Part,
    /// Runs in all, spread evenly over the families.
    pub runs: usize,
    /// Seed of the generator.
    pub seed: u64,
    /// Threads; the result does not depend on it. 0: one.
    pub threads: usize,
    /// Runs of the training part on which the rivals are fitted.
    pub baseline_runs: usize,
    /// Number of forecast cones kept for plots.
    pub cones: usize,
}

/// The seed of the published scores.
pub const SEED: u64 = 20_261_123;
/// The runs of the published scores.
pub const RUNS: usize = 2_000;

impl Default for ScoreOptions {
    fn default() -> Self {
        Self {
            part: Part::Test,
            runs: RUNS,
            seed: SEED,
            threads: 1,
            baseline_runs: 1_050,
            cones: 6,
        }
    }
}

/// Scores [`crate::time_to_threshold`] and its rivals on generated runs. CPU time is in proportion to `runs`: the default
/// takes about a minute or two of one core.
#[must_use]
pub fn scoreboard(options: &ScoreOptions) -> Report {
    scoreboard_of(options, &forecaster)
}

/// Scores on runs of the caller (recordings); the rivals are fitted on the generated training part of `options`.
#[must_use]
pub fn score_runs(runs: &[Run], options: &ScoreOptions) -> Report {
    let (walks, baselines) = walk_all(runs, options);
    report::report(runs, &walks, &baselines, options)
}

/// As [`score_runs`], with a report of each group of runs (it may have none) before that of all together.
#[must_use]
pub fn score_groups(groups: &[Vec<Run>], options: &ScoreOptions) -> (Vec<Report>, Report) {
    let runs = groups.concat();
    let (walks, baselines) = walk_all(&runs, options);
    let report = |runs: &[Run], walks: &[Walk]| report::report(runs, walks, &baselines, options);
    let mut left = &walks[..];
    let of_group = |group: &Vec<Run>| {
        let (walks, after) = left.split_at(group.len());
        left = after;
        report(group, walks)
    };
    let each = groups.iter().map(of_group).collect();
    (each, report(&runs, &walks))
}

fn walk_all(runs: &[Run], options: &ScoreOptions) -> (Vec<Walk>, Baselines) {
    let first = runs.iter().map(first_horizon).min().unwrap_or(0);
    let baselines = fit_baselines(options, first);
    let walks = parallel(runs.len(), options.threads, |i| Walk::new(&runs[i], Some(&forecaster)));
    (walks, baselines)
}

fn forecaster(_: &Run, series: &crate::Series<'_>, options: &crate::Options) -> Option<Forecast> {
    crate::time_to_threshold(series, options).ok()
}

/// As [`scoreboard`], for another forecaster.
pub(crate) fn scoreboard_of(options: &ScoreOptions, forecaster: &Forecaster<'_>) -> Report {
    let baselines = fit_baselines(options, SHORT_S.len());
    let plan = generator::plan(options.part, options.runs);
    let (runs, walks): (Vec<Run>, Vec<Walk>) = parallel(plan.len(), options.threads, |i| {
        let (family, number) = plan[i];
        let run = generator::run_of(family, number, options.seed);
        let walk = Walk::new(&run, Some(forecaster));
        (run, walk)
    })
    .into_iter()
    .unzip();
    report::report(&runs, &walks, &baselines, options)
}

/// Walks over runs of the training part with the uncalibrated forecaster, in the order of the plan.
pub(crate) fn training_walks(runs: usize, seed: u64, threads: usize) -> Vec<(Run, Walk)> {
    let plan = generator::plan(Part::Train, runs);
    let uncalibrated = |_: &Run, s: &crate::Series<'_>, o: &crate::Options| {
        crate::forecast::uncalibrated(s, o).ok()
    };
    parallel(plan.len(), threads, |i| {
        let (family, number) = plan[i];
        let run = generator::run_of(family, number, seed);
        let walk = Walk::new(&run, Some(&uncalibrated));
        (run, walk)
    })
}

/// `first`: index of the shortest horizon that they will be asked at.
fn fit_baselines(options: &ScoreOptions, first: usize) -> Baselines {
    let plan = generator::plan(Part::Train, options.baseline_runs);
    let steps = parallel(plan.len(), options.threads, |i| {
        let (family, number) = plan[i];
        let run = generator::run_of(family, number, options.seed);
        let asked = horizons_from(&run, first);
        let walk = Walk::asked(&run, &asked, None);
        let at_horizon = |asked: usize| {
            let weight = walk.weight(asked);
            walk.known(asked).map(move |(a, hit)| (a.horizon, a.features, hit, weight))
        };
        (0..asked.len()).flat_map(at_horizon).collect::<Vec<_>>()
    });
    Baselines::fit(&horizons(), &steps.concat())
}

/// The horizons that are asked, s, rising.
pub(crate) fn horizons() -> Vec<f64> {
    SHORT_S.into_iter().chain(ranges::TIME_SCALES.iter().map(|s| s.horizon_s)).collect()
}

/// Horizons at which a run is asked, the run's own last: index among those of the scores, s.
///
/// These are the run's own and the shorter ones. At longer ones only events would have a known outcome: a quiet run of
/// minutes is not watched for a day, and who always says yes would win.
pub(crate) fn asked_horizons(run: &Run) -> Vec<(usize, f64)> {
    horizons_from(run, first_horizon(run))
}

fn first_horizon(run: &Run) -> usize {
    if run.family.is_some() { SHORT_S.len() } else { 0 }
}

fn horizons_from(run: &Run, first: usize) -> Vec<(usize, f64)> {
    let own = horizon_index(run.horizon_s);
    let shorter = horizons().into_iter().enumerate().take(own).skip(first);
    shorter.filter(|h| h.1 < run.horizon_s).chain([(own, run.horizon_s)]).collect()
}

/// The horizon of the rivals nearest to the asked one.
pub(crate) fn horizon_index(horizon_s: f64) -> usize {
    let distance = |h: &f64| (h / horizon_s).ln().abs();
    let all = horizons();
    (0..all.len()).min_by(|a, b| distance(&all[*a]).total_cmp(&distance(&all[*b]))).unwrap_or(0)
}

#[cfg(test)]
mod tests;
