//! A robust straight line: Theil (1950), Sen (1968).

use super::{Gaussian, Trend};
use crate::prepare::Points;
use crate::stats;

/// Slopes are taken between at most this many points (means of runs), 780 pairs.
const MAX_POINTS: usize = 40;
/// Asymptotic efficiency of the Theil–Sen slope against least squares for normal errors: (3/π).
const EFFICIENCY: f64 = 3.0 / std::f64::consts::PI;

#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) slope: f64,
    pub(crate) slope_se: f64,
    /// A point the line goes through: the middle of the newer points.
    pivot_u: f64,
    pivot_y: f64,
    pivot_se: f64,
    pub(crate) noise: f64,
}

impl Line {
    pub(crate) fn fit(u: &[f64], y: &[f64]) -> Option<Self> {
        let n = u.len();
        if n < 3 {
            return None;
        }
        let p = Points::thinned(u, y, MAX_POINTS);
        let m = p.len();
        let mut slopes = Vec::with_capacity(m * (m - 1) / 2);
        for i in 0..m {
            for j in i + 1..m {
                slopes.push((p.y[j] - p.y[i]) / (p.u[j] - p.u[i]));
            }
        }
        let slope = stats::median_mut(&mut slopes);
        // The line is hung on its newer third: if the course bends a little, that is where it goes on from.
        let newer = n - (n / 3).max(3).min(n);
        let pivot_u = u[newer..].iter().sum::<f64>() / (n - newer) as f64;
        let mut at_pivot: Vec<f64> =
            u.iter().zip(y).map(|(u, y)| y - slope * (u - pivot_u)).collect();
        let rho = stats::autocorrelation(&at_pivot);
        let noise = stats::robust_sd(&at_pivot);
        let pivot_y = stats::median_mut(&mut at_pivot[newer..]);
        let mean = u.iter().sum::<f64>() / n as f64;
        let sxx: f64 = u.iter().map(|u| (u - mean) * (u - mean)).sum();
        // Two degrees of freedom went into the line.
        let var = noise * noise * stats::inflation(rho) * n as f64 / (n - 2) as f64;
        let fit = Self {
            slope,
            slope_se: (var / (EFFICIENCY * sxx)).sqrt(),
            pivot_u,
            pivot_y,
            pivot_se: (var / (n - newer) as f64).sqrt(),
            noise,
        };
        (fit.slope.is_finite() && fit.slope_se.is_finite()).then_some(fit)
    }

    pub(crate) fn predict(&self, u: f64) -> Gaussian {
        let lead = u - self.pivot_u;
        let slope = self.slope_se * lead;
        Gaussian {
            mean: self.pivot_y + self.slope * lead,
            sd: (self.noise * self.noise + self.pivot_se * self.pivot_se + slope * slope).sqrt(),
        }
    }

    pub(crate) fn draw(&self, z_slope: f64, z_level: f64) -> Trend<'_> {
        let slope = self.slope + self.slope_se * z_slope;
        Trend::Line { level: self.pivot_y + self.pivot_se * z_level - slope * self.pivot_u, slope }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_of_outliers_does_not_bend_it() {
        let u: Vec<f64> = (0..60).map(|i| f64::from(i) / 60.0 - 1.0).collect();
        let y: Vec<f64> = u
            .iter()
            .enumerate()
            .map(|(i, u)| 2.0 * u + if i % 4 == 1 { 5.0 } else { 0.0 })
            .collect();
        let line = Line::fit(&u, &y).unwrap();
        assert!((line.slope - 2.0).abs() < 0.05, "{line:?}");
        assert!(line.predict(0.0).mean.abs() < 0.1);
    }

    #[test]
    fn too_few() {
        assert!(Line::fit(&[0.0, 1.0], &[0.0, 1.0]).is_none());
    }
}
