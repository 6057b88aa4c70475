//! Fitting the constants, on training families only.

use std::fmt::Write as _;

use super::{grows, inputs, probability, widths};
use crate::generator::{Part, Run, families};
use crate::logistic::{Logistic, Row};
use crate::score::{CHECKPOINTS, LEVELS, Walk, asked_horizons, training_walks};
use crate::{Evidence, Interval};

/// Runs and seed of the committed constants; the seed is not that of the published scores.
const RUNS: usize = 2_100;
const SEED: u64 = 41;

/// Fitted constants, and how they do on families left out of the fit.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    /// The map of probabilities.
    pub beta: [f64; 6],
    /// Factors on the logarithmic half-widths of the 50, 80, 95 and 99 % intervals.
    pub stretch: [f64; 4],
    /// Share of the runs with an event.
    pub prevalence: f64,
    /// Brier score of what the models say.
    pub brier_before: f64,
    /// After calibration, each family with constants fitted on the others.
    pub brier_left_out: f64,
    /// Coverage of the 50, 80 and 95 % intervals, each family with constants fitted on the others.
    pub coverage_left_out: [f64; 3],
}

struct Row6 {
    family: &'static str,
    evidence: Evidence,
    hit: bool,
    weight: f64,
}

/// One interval score per run: by how much its widths must be stretched to hold the event, for each level.
struct Needed {
    family: &'static str,
    stretch: [f64; 3],
}

/// Fits on `runs` runs of the training part; `None` for both: as the committed constants were.
#[must_use]
pub fn fit(runs: Option<usize>, threads: usize) -> Fitted {
    let walks = training_walks(runs.unwrap_or(RUNS), SEED, threads);
    let rows: Vec<Row6> = walks.iter().flat_map(|(r, w)| rows_of(r, w)).collect();
    let needed: Vec<Needed> =
        walks.iter().enumerate().filter_map(|(i, (r, w))| needed_of(i, r, w)).collect();
    let everything = |_: &str| true;
    let beta = fit_beta(&rows, everything);
    let total: f64 = rows.iter().map(|r| r.weight).sum();
    let loss = |r: &Row6, p: f64| r.weight * (p - if r.hit { 1.0 } else { 0.0 }).powi(2);
    let mut brier_left_out = 0.0;
    let mut strange = [const { Vec::new() }; 3];
    for family in families(Part::Train).map(|f| f.as_str()) {
        let others = |name: &str| name != family;
        let k = fit_beta(&rows, others);
        let own = rows.iter().filter(|r| r.family == family);
        brier_left_out += own.map(|r| loss(r, probability(&k, &r.evidence, None))).sum::<f64>();
        let stretch = fit_stretch(&needed, others);
        for n in needed.iter().filter(|n| n.family == family) {
            for (i, (need, k)) in n.stretch.iter().zip(stretch).enumerate() {
                strange[i].push(need / k);
            }
        }
    }
    let held = [0, 1, 2].map(|i| strange[i].iter().filter(|s| **s <= 1.0).count() as f64);
    // A family that was not seen needs more than those that were: by so much, those left out.
    let all = fit_stretch(&needed, everything);
    let [a, b, c] = [0, 1, 2].map(|i| all[i] * quantile(&mut strange[i], LEVELS[i]).unwrap_or(1.0));
    Fitted {
        beta,
        // Nothing like enough runs to see one in a hundred: the 99 % interval is stretched like the 95 % one, and never
        // narrowed.
        stretch: [a, b, c, c.max(1.0)],
        prevalence: walks.iter().filter(|w| w.0.event_us.is_some()).count() as f64
            / walks.len().max(1) as f64,
        brier_before: rows.iter().map(|r| loss(r, r.evidence.as_modelled)).sum::<f64>() / total,
        brier_left_out: brier_left_out / total,
        coverage_left_out: held.map(|h| h / needed.len().max(1) as f64),
    }
}

/// What was said at the run's own horizon, which is the last of those asked. With the shorter ones among the rows the Brier
/// score is better by a hundredth of itself, and one event in a hundred is no longer foreseen in time.
fn rows_of(run: &Run, walk: &Walk) -> Vec<Row6> {
    let family = run.family_name();
    let own = asked_horizons(run).len().saturating_sub(1);
    let said = walk.known(own).filter_map(|(a, hit)| Some((a.evidence?, hit)));
    let said: Vec<(Evidence, bool)> = said.collect();
    let weight = 1.0 / said.len().max(1) as f64;
    said.into_iter().map(|(evidence, hit)| Row6 { family, evidence, hit, weight }).collect()
}

fn fit_beta(rows: &[Row6], of: impl Fn(&str) -> bool) -> [f64; 6] {
    let rows: Vec<Row<6>> = rows
        .iter()
        .filter(|r| of(r.family) && grows(&r.evidence))
        .map(|r| (inputs(&r.evidence), r.hit, r.weight))
        .collect();
    Logistic::fit(&rows).coefficients
}

/// A run counts once: with the share of its life left that its number chooses.
fn needed_of(number: usize, run: &Run, walk: &Walk) -> Option<Needed> {
    if !run.is_foreseeable {
        return None;
    }
    let (step, left, is_bound) = match run.event_us {
        Some(event) => {
            let step = walk.checkpoints.get(number % CHECKPOINTS.len())?;
            (step, event - step.at_us, false)
        }
        // It was seen for so much longer, at least.
        None => {
            let step = walk.steps.get(walk.steps.len() / 2)?;
            (step, run.end_us - step.at_us, true)
        }
    };
    let truth = left as f64 * 1e-6;
    let eta = step.tapio.eta_s?;
    let all = step.tapio.intervals?;
    if is_bound && truth <= eta {
        return None;
    }
    let need = |i: &Interval| {
        let (below, above) = widths(eta, i);
        if truth < eta {
            (eta / truth).ln() / below
        } else {
            above.map_or(0.0, |a| (truth / eta.max(1e-9)).ln() / a)
        }
    };
    Some(Needed {
        family: run.family_name(),
        stretch: [need(&all[0]), need(&all[1]), need(&all[2])],
    })
}

/// The quantiles of what was needed, with the correction for their number.
fn fit_stretch(needed: &[Needed], of: impl Fn(&str) -> bool) -> [f64; 3] {
    let mut out = [1.0; 3];
    for (i, level) in LEVELS.iter().enumerate() {
        let mut all: Vec<f64> =
            needed.iter().filter(|n| of(n.family)).map(|n| n.stretch[i]).collect();
        if let Some(k) = quantile(&mut all, *level) {
            out[i] = k;
        }
    }
    out
}

/// The ⌈(n + 1)·level⌉-th smallest; `None` if there are not so many.
fn quantile(x: &mut [f64], level: f64) -> Option<f64> {
    x.sort_unstable_by(f64::total_cmp);
    let rank = ((x.len() + 1) as f64 * level).ceil() as usize;
    x.get(rank.saturating_sub(1)).copied()
}

impl Fitted {
    /// The text of `constants.rs`.
    #[must_use]
    pub fn source(&self) -> String {
        let list = |x: &[f64]| x.iter().map(|v| format!("{v:.4}")).collect::<Vec<_>>().join(", ");
        let mut out = String::from(
            "//! Generated by `cargo run --release -p tapio-models --example calibrate`: do not edit.\n",
        );
        // Writing to a string does not fail.
        let _ = write!(
            out,
            "//!\n//! On training families left out of the fit: Brier score {:.4} (before {:.4}); the 50, 80 and 95 % \
             intervals\n//! held {:.1}, {:.1} and {:.1} % of the events.\n\n\
             /// Constant, h, ln p, h·ln p, −ln(1 − q), −h·ln(1 − q).\n\
             pub(super) const BETA: [f64; 6] = [{}];\n\
             /// Factors on the half-widths of the 50, 80, 95 and 99 % intervals.\n\
             pub(super) const STRETCH: [f64; 4] = [{}];\n\
             /// Share of incidents among the runs of the fit.\npub const PREVALENCE: f64 = {:.4};\n",
            self.brier_left_out,
            self.brier_before,
            100.0 * self.coverage_left_out[0],
            100.0 * self.coverage_left_out[1],
            100.0 * self.coverage_left_out[2],
            list(&self.beta),
            list(&self.stretch),
            self.prevalence,
        );
        out
    }
}
