//! What the rivals look at: computed once per evaluation, from rows up to it.

use super::predict_linear;
use crate::Direction;
use crate::generator::Run;

/// "90 % used" has to hold for so long, s (or for the newest three samples).
const USAGE_FOR_S: f64 = 300.0;

/// Inputs of the rivals; all shares are of the capacity, rising towards the threshold.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Features {
    /// `predict_linear` over 15 min minus the threshold.
    pub(crate) margin_15m: f64,
    pub(crate) margin_1h: f64,
    pub(crate) eta_15m: Option<f64>,
    pub(crate) eta_1h: Option<f64>,
    /// Newest level.
    pub(crate) level: f64,
    /// Growth in one horizon by the slope over the last hour.
    pub(crate) slope: f64,
    pub(crate) usage_90: bool,
    pub(crate) two_windows: bool,
}

impl Features {
    /// Features of the rows up to `at_us` for a question about the next `horizon` seconds; `None` without a row.
    pub(crate) fn of(run: &Run, at_us: i64, horizon: f64) -> Option<Self> {
        let n = run.ts_us.partition_point(|t| *t <= at_us);
        let last = n.checked_sub(1)?;
        let sign = if run.direction == Direction::Up { 1.0 } else { -1.0 };
        let limit = run.threshold[last];
        // Share of the room that is used: of the limit, or of the disk.
        let size = if run.direction == Direction::Up { limit } else { run.capacity };
        let used = |v: f64| if run.direction == Direction::Up { v / size } else { 1.0 - v / size };
        let line = |window_s: f64, ahead_s: f64| {
            let from = at_us.saturating_sub((window_s * 1e6) as i64);
            let first = run.ts_us[..n].partition_point(|t| *t <= from);
            predict_linear(&run.ts_us[first..n], &run.value[first..n], at_us, window_s, ahead_s)
        };
        let margin = |window_s: f64| -> (f64, Option<f64>) {
            // Where the window holds fewer than two samples the line is flat.
            let now = line(window_s, 0.0).unwrap_or(run.value[last]);
            let then = line(window_s, horizon).unwrap_or(now);
            let slope = sign * (then - now) / horizon;
            let eta = sign * (limit - now) / slope;
            let eta = (slope > 0.0 && eta.is_finite()).then_some(eta.max(0.0));
            (sign * (then - limit) / size, eta)
        };
        let ((margin_15m, eta_15m), (margin_1h, eta_1h)) = (margin(900.0), margin(3_600.0));
        let level = used(run.value[last]);
        let from = at_us.saturating_sub((USAGE_FOR_S * 1e6) as i64);
        let first = run.ts_us[..n].partition_point(|t| *t <= from).min(n.saturating_sub(3));
        let usage_90 = run.value[first..n].iter().all(|v| used(*v) > 0.9);
        // Growth of the last quarter of a horizon and of the one before, the smaller of the two.
        let quarter = 0.25 * horizon;
        let mean = |from_s: f64, to_s: f64| {
            let back = |s: f64| at_us.saturating_sub((s * 1e6) as i64);
            let a = run.ts_us[..n].partition_point(|t| *t <= back(from_s));
            let b = run.ts_us[..n].partition_point(|t| *t <= back(to_s));
            (b > a).then(|| run.value[a..b].iter().sum::<f64>() / (b - a) as f64)
        };
        let third = |i: f64| mean(quarter * (i + 1.0) / 1.5, quarter * i / 1.5);
        let two_windows = match (third(2.0), third(1.0), third(0.0)) {
            (Some(a), Some(b), Some(c)) => {
                let growth = (sign * (b - a)).min(sign * (c - b)) / (quarter / 1.5);
                growth > 0.0 && sign * (limit - c) <= growth * horizon
            }
            _ => false,
        };
        let slope = margin_1h - (level - used(limit));
        Some(Self { margin_15m, margin_1h, eta_15m, eta_1h, level, slope, usage_90, two_windows })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::{Family, run_of};

    #[test]
    fn a_line_that_hits_within_the_horizon() {
        let mut run = run_of(Family::Flat, 0, 1);
        run.direction = Direction::Up;
        run.horizon_s = 900.0;
        run.ts_us = (0..200).map(|i| i * 10_000_000).collect();
        run.value = (0..200).map(|i| f64::from(i) * 0.45).collect();
        run.threshold = vec![100.0; 200];
        let f = Features::of(&run, 199 * 10_000_000, 900.0).unwrap();
        let left = (100.0 - 199.0 * 0.45) / 0.045;
        assert!((f.eta_15m.unwrap() - left).abs() < 1e-6);
        assert!((f.eta_1h.unwrap() - left).abs() < 1e-6);
        assert!(f.margin_15m > 0.0 && f.two_windows && !f.usage_90);
        assert!((f.slope - 0.405).abs() < 1e-6, "{}", f.slope);
        assert_eq!(Features::of(&run, -1, 900.0), None);
        run.value = vec![95.0; 200];
        let f = Features::of(&run, 199 * 10_000_000, 900.0).unwrap();
        assert!(f.usage_90 && !f.two_windows && f.eta_15m.is_none());
        assert!(f.margin_15m < 0.0);
    }
}
