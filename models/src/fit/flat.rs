//! No growth: the level stays where it was last.
//!
//! The naive forecast of Makridakis, Wheelwright & Hyndman (1998), with the median of the newest points in place of the
//! last one. Its spread is that of the changes seen over as long a time, so that a wandering series is not called steady.

use super::{Gaussian, Trend};
use crate::stats;

#[derive(Debug, Clone)]
pub(crate) struct Flat {
    level: f64,
    at: f64,
    noise: f64,
    /// Root mean square change per root of time.
    wander: f64,
}

impl Flat {
    pub(crate) fn fit(u: &[f64], y: &[f64]) -> Self {
        let n = y.len();
        let lag = (n / 4).max(1);
        let (mut changes, mut time) = (0.0, 0.0);
        for i in lag..n {
            changes += (y[i] - y[i - lag]) * (y[i] - y[i - lag]);
            time += u[i] - u[i - lag];
        }
        Self {
            level: stats::median(&y[n.saturating_sub(5)..]),
            at: u.last().copied().unwrap_or(0.0),
            noise: stats::noise_sd(y),
            wander: if time > 0.0 { (changes / time).sqrt() } else { 0.0 },
        }
    }

    pub(crate) fn predict(&self, u: f64) -> Gaussian {
        let lead = (u - self.at).max(0.0);
        Gaussian {
            mean: self.level,
            sd: (self.noise * self.noise + self.wander * self.wander * lead).sqrt(),
        }
    }

    pub(crate) fn draw(&self) -> Trend<'_> {
        Trend::Line { level: self.level, slope: 0.0 }
    }
}
