//! Holt's linear trend without damping, as the state space model ETS(A,A,N): Holt (1957), Hyndman et al. (2008),
//! fitted by `augurs`. Damped variants flatten ramps and never cross.

use augurs::Predict;
use augurs::ets::model::{ErrorComponent, ModelType, SeasonalComponent, TrendComponent, Unfit};

use super::{Gaussian, Trend, line::Line};
use crate::stats;

pub(crate) const MIN_POINTS: usize = 12;
/// The fit costs time in proportion to its points: it sees means over this many bins.
const MAX_BINS: usize = 40;
/// Nelder–Mead steps; more moved the forecasts by less than their error.
const ITERATIONS: usize = 60;

#[derive(Debug, Clone)]
pub(crate) struct Holt {
    slope: f64,
    slope_se: f64,
    at: f64,
    level: f64,
    noise: f64,
}

impl Holt {
    /// `line` is the robust line through the same points: the distance of the two slopes measures how local this one is.
    pub(crate) fn fit(u: &[f64], y: &[f64], line: &Line) -> Option<Self> {
        let n = u.len();
        // A range near rounding would make the likelihood degenerate.
        if n < MIN_POINTS || stats::range(y) < 1e-9 {
            return None;
        }
        let (first, last) = (u[0], u[n - 1]);
        let bins = n.min(MAX_BINS);
        let step = (last - first) / (bins - 1) as f64;
        let binned = bin(u, y, bins, step);
        let model = Unfit::new(ModelType {
            error: ErrorComponent::Additive,
            trend: TrendComponent::Additive,
            season: SeasonalComponent::None,
        })
        .max_iterations(ITERATIONS)
        .fit(&binned)
        .ok()?;
        let ahead = model.predict(2, None).ok()?.point;
        let (one, two) = (*ahead.first()?, *ahead.get(1)?);
        let slope = (two - one) / step;
        let fit = Self {
            slope,
            slope_se: line.slope_se.max(0.5 * (slope - line.slope).abs()),
            at: last + step,
            level: one,
            noise: model.mse().sqrt(),
        };
        (fit.slope.is_finite() && fit.level.is_finite() && fit.noise.is_finite()).then_some(fit)
    }

    pub(crate) fn predict(&self, u: f64) -> Gaussian {
        let lead = u - self.at;
        Gaussian {
            mean: self.level + self.slope * lead,
            sd: self.noise.hypot(self.slope_se * lead),
        }
    }

    pub(crate) fn draw(&self, z_slope: f64, z_level: f64) -> Trend<'_> {
        let slope = self.slope + self.slope_se * z_slope;
        Trend::Line { level: self.level + 0.5 * self.noise * z_level - slope * self.at, slope }
    }
}

/// Means over bins of equal time; a bin without points lies on the line between its neighbours.
fn bin(u: &[f64], y: &[f64], bins: usize, step: f64) -> Vec<f64> {
    let mut sum = vec![(0.0, 0.0); bins];
    for (t, v) in u.iter().zip(y) {
        let i = (((t - u[0]) / step).round() as usize).min(bins - 1);
        sum[i].0 += v;
        sum[i].1 += 1.0;
    }
    let mut out = Vec::with_capacity(bins);
    let mut before = (0, y[0]);
    for i in 0..bins {
        let (s, count) = sum[i];
        if count > 0.0 {
            before = (i, s / count);
            out.push(before.1);
            continue;
        }
        // The first and the last bin are never empty.
        let next = (i..bins).find(|&j| sum[j].1 > 0.0).unwrap_or(bins - 1);
        let after = sum[next].0 / sum[next].1.max(1.0);
        out.push(before.1 + (after - before.1) * (i - before.0) as f64 / (next - before.0) as f64);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_a_line_over_a_gap() {
        let u: Vec<f64> =
            (0..50).filter(|i| !(20..35).contains(i)).map(|i| f64::from(i) / 50.0).collect();
        let y: Vec<f64> = u.iter().map(|u| 1.0 + 3.0 * u).collect();
        let line = Line::fit(&u, &y).unwrap();
        let holt = Holt::fit(&u, &y, &line).unwrap();
        assert!((holt.slope - 3.0).abs() < 0.1, "{holt:?}");
        assert!((holt.predict(2.0).mean - 7.0).abs() < 0.2, "{holt:?}");
    }
}
