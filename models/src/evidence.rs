//! What a probability is derived from: numbers that depend neither on the unit nor on the origin of value and time.

use crate::stats;

/// Shares of the segment, counted from its end, over which the pace is taken.
const WINDOWS: [f64; 4] = [1.0, 0.5, 0.25, 0.125];
/// Blocks of the trend test.
const TREND_BLOCKS: usize = 12;

/// What the statement rests on.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Evidence {
    /// P(hit within the horizon) of the simulated paths, if the growth goes on for longer than earlier growth of the same
    /// workload that was released.
    pub if_it_goes_on: f64,
    /// The same with the chance that the growth lasts (see [`crate::Persistence`]).
    pub as_modelled: f64,
    /// Weight of "no growth".
    pub flat: f64,
    /// Horizon over the span of the present segment.
    pub horizon_spans: f64,
    /// Rows of the present segment.
    pub samples: usize,
    /// One-sided p-value of a rising trend over the segment.
    pub trend_p: f64,
    /// Distance to the threshold over the range of the values of the segment.
    pub headroom_ranges: f64,
    /// Growth in one horizon at the pace of the whole, the last half, quarter and eighth of the segment, over the
    /// distance to the threshold: 1 just hits.
    pub pace: [f64; 4],
}

impl Evidence {
    /// `u` in spans before now, `y` in ranges above the newest value; `threshold` and `horizon` alike.
    pub(crate) fn new(u: &[f64], y: &[f64], threshold: f64, horizon: f64) -> Self {
        let pace = WINDOWS.map(|w| {
            let first = u.partition_point(|u| *u < -w).min(y.len().saturating_sub(4));
            let middle = first.midpoint(y.len());
            let rise = mean(&y[middle..]) - mean(&y[first..middle]);
            let time = mean(&u[middle..]) - mean(&u[first..middle]);
            if time > 0.0 { rise / time * horizon / threshold } else { 0.0 }
        });
        Self {
            if_it_goes_on: 0.0,
            as_modelled: 0.0,
            flat: 1.0,
            horizon_spans: horizon,
            samples: u.len(),
            trend_p: stats::kendall_p(&stats::block_means(y, TREND_BLOCKS)),
            headroom_ranges: threshold,
            pace,
        }
    }
}

fn mean(x: &[f64]) -> f64 {
    if x.is_empty() { 0.0 } else { x.iter().sum::<f64>() / x.len() as f64 }
}
