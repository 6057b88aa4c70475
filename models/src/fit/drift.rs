//! A walk with drift: from the newest level on, with the slope of the robust line (Box & Jenkins 1970; the "drift method" of
//! Hyndman & Athanasopoulos, Forecasting, ch. 5).
//!
//! What has wandered off the line does not come back to it: bytes retained per request under traffic that changes, work that
//! comes in lumps. The uncertainty grows with the root of the lead, as much as the residuals did over the past.

use super::{Gaussian, Trend, line::Line};
use crate::stats;

/// The newest level is the median of so many points.
const NEWEST: usize = 3;

#[derive(Debug, Clone)]
pub(crate) struct Drift {
    level: f64,
    at: f64,
    slope: f64,
    slope_se: f64,
    /// Root mean square change of the residuals per root of time.
    wander: f64,
    noise: f64,
}

impl Drift {
    /// `line` is the robust line through the same points.
    pub(crate) fn fit(u: &[f64], y: &[f64], line: &Line) -> Option<Self> {
        Self::with_slope(u, y, (line.slope, line.slope_se))
    }

    /// From a slope and its standard error.
    pub(crate) fn with_slope(u: &[f64], y: &[f64], (slope, slope_se): (f64, f64)) -> Option<Self> {
        let n = y.len();
        let lag = (n / 8).max(1);
        if n < 2 * NEWEST || u[n - 1] <= u[0] {
            return None;
        }
        let noise = stats::noise_sd(y);
        let off = |i: usize| y[i] - slope * u[i];
        let (mut squares, mut time) = (0.0, 0.0);
        for i in lag..n {
            // Noise at both ends is not wandering.
            squares += (off(i) - off(i - lag)).powi(2) - 2.0 * noise * noise;
            time += u[i] - u[i - lag];
        }
        let wander = (squares / time).max(0.0).sqrt();
        // A slope seen over a span is uncertain by what the walk moves over it.
        let span = u[n - 1] - u[0];
        let fit = Self {
            level: stats::median(&y[n - NEWEST..]),
            at: u[n - NEWEST..].iter().sum::<f64>() / NEWEST as f64,
            slope,
            slope_se: slope_se.hypot(wander / span.sqrt()),
            wander,
            noise,
        };
        (fit.slope_se.is_finite() && fit.level.is_finite()).then_some(fit)
    }

    pub(crate) fn predict(&self, u: f64) -> Gaussian {
        let lead = (u - self.at).max(0.0);
        let walk = self.wander * self.wander * lead;
        Gaussian {
            mean: self.level + self.slope * lead,
            sd: (self.noise * self.noise + walk).sqrt().hypot(self.slope_se * lead),
        }
    }

    /// Level now and slope of a possible course.
    pub(crate) fn course(&self, z_slope: f64, z_level: f64) -> (f64, f64) {
        let slope = self.slope + self.slope_se * z_slope;
        (self.level + 0.5 * self.noise * z_level - slope * self.at, slope)
    }

    pub(crate) fn draw(&self, z_slope: f64, z_level: f64) -> Trend<'_> {
        let (level, slope) = self.course(z_slope, z_level);
        Trend::Line { level, slope }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_on_from_where_it_is() {
        let u: Vec<f64> = (0..60).map(|i| f64::from(i) / 60.0 - 1.0).collect();
        // A lump of half a unit near the end stays.
        let y: Vec<f64> = u.iter().map(|u| u + if *u > -0.1 { 0.5 } else { 0.0 }).collect();
        let line = Line::fit(&u, &y).unwrap();
        let drift = Drift::fit(&u, &y, &line).unwrap();
        let ahead = drift.predict(0.5).mean;
        assert!((ahead - 1.0).abs() < 0.15, "{ahead}");
        assert!(ahead > line.predict(0.5).mean + 0.2);
        assert!(drift.wander > 0.3, "{drift:?}");
        assert!(Drift::fit(&u[..4], &y[..4], &line).is_none());
    }
}
