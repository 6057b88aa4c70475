//! Synthetic courses at 1 Hz, as a share of a limit of 1, and their evaluation as a server would do it: causally.

use crate::rng::Draws;
use crate::{Alarm, AlarmChange, CannotSay, Forecast, Options, Series, seed_of, time_to_threshold};

/// A course and its limit, one row a second.
#[derive(Debug, Clone)]
pub(super) struct Course {
    pub(super) value: Vec<f64>,
    pub(super) limit: Vec<f64>,
}

/// White noise of unit variance (sum of twelve uniforms).
pub(super) fn noise(seed: u64, n: usize) -> Vec<f64> {
    let mut draws = Draws::new(seed);
    (0..n).map(|_| (0..12).map(|_| draws.uniform()).sum::<f64>() - 6.0).collect()
}

/// A course of at most `n` seconds; it ends with its first row at the limit.
pub(super) fn course(n: usize, seed: u64, sd: f64, f: impl Fn(f64) -> f64) -> Course {
    let mut value: Vec<f64> =
        noise(seed, n).iter().enumerate().map(|(i, z)| f(i as f64) + sd * z).collect();
    if let Some(hit) = value.iter().position(|v| *v >= 1.0) {
        value.truncate(hit + 1);
    }
    Course { limit: vec![1.0; value.len()], value }
}

/// One evaluation.
pub(super) struct Step {
    pub(super) at: usize,
    pub(super) forecast: Result<Forecast, CannotSay>,
}

impl Step {
    pub(super) fn p(&self) -> f64 {
        self.forecast.as_ref().map_or(0.0, |f| f.probability)
    }
}

impl Course {
    /// Second of the hit, if it does.
    pub(super) fn hit(&self) -> Option<usize> {
        (0..self.value.len()).find(|&i| self.value[i] >= self.limit[i])
    }

    pub(super) fn evaluate(&self, at: usize) -> Result<Forecast, CannotSay> {
        let ts: Vec<i64> = (0..=at as i64).map(|i| i * 1_000_000).collect();
        let as_of_us = at as i64 * 1_000_000;
        let series =
            Series { ts_us: &ts, value: &self.value[..=at], threshold: &self.limit[..=at] };
        time_to_threshold(
            &series,
            &Options { as_of_us, seed: seed_of(1, as_of_us), ..Options::default() },
        )
    }

    /// All evaluations before the hit.
    pub(super) fn steps(&self, every: usize) -> Vec<Step> {
        let end = self.hit().unwrap_or(self.value.len());
        (every..end).step_by(every).map(|at| Step { at, forecast: self.evaluate(at) }).collect()
    }

    /// Second of the first alarm.
    pub(super) fn alarm(&self, every: usize) -> Option<usize> {
        let mut alarm = Alarm::new();
        self.steps(every)
            .iter()
            .find(|s| {
                let p = s.forecast.as_ref().ok().map(|f| f.probability);
                alarm.push(s.at as i64, p) == AlarmChange::Raised
            })
            .map(|s| s.at)
    }
}

/// A leak of `life` seconds from `base` to the limit, with a level before it.
pub(super) fn leak(seed: u64, base: f64, quiet: usize, life: usize, sd: f64) -> Course {
    let slope = (1.0 - base) / life as f64;
    course(quiet + life + 200, seed, sd, |t| base + slope * (t - quiet as f64).max(0.0))
}

/// Growth by t² or by doubling, from `base` to the limit.
pub(super) fn accelerating(
    seed: u64,
    base: f64,
    life: usize,
    sd: f64,
    exponential: bool,
) -> Course {
    let shape = move |x: f64| {
        if exponential { ((3.0 * x).exp() - 1.0) / (3_f64.exp() - 1.0) } else { x * x }
    };
    course(life + 100, seed, sd, move |t| base + (1.0 - base) * shape(t / life as f64))
}

/// Teeth on floors that rise from `base` by `rise` a second.
pub(super) fn saw(seed: u64, n: usize, base: f64, rise: f64, tooth: f64, period: f64) -> Course {
    course(n, seed, 0.005, move |t| base + rise * t + tooth * (t / period).fract())
}

/// A warm-up to `plateau` with time constant `k`.
pub(super) fn warmup(seed: u64, plateau: f64, k: f64, sd: f64) -> Course {
    course(400, seed, sd, move |t| 0.05 + (plateau - 0.05) * (1.0 - (-t / k).exp()))
}

/// Quiet, then up to `top` within `ramp` seconds, held until 30 s after the start, then back.
pub(super) fn burst(seed: u64, top: f64, ramp: f64, quiet: f64) -> Course {
    course(300, seed, 0.005, move |t| match t - quiet {
        s if s < 0.0 => 0.2,
        s if s < 30.0 => 0.2 + (top - 0.2) * (s / ramp).min(1.0),
        s => 0.2 + (top - 0.2) * (1.0 - (s - 30.0) / 5.0).max(0.0),
    })
}
