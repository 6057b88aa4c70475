//! From caller's slices to clean rows: sorted, finite, one row per time, rising towards the threshold.

use crate::state::SeriesState;
use crate::{CannotSay, Options, Series};

/// Rows a forecast needs at least.
pub(crate) const MIN_POINTS: usize = 5;
/// Models see at most so many points (means of runs).
pub(crate) const MAX_POINTS: usize = 120;

/// Clean rows, oldest first. With [`crate::Direction::Down`] values and thresholds are negated.
pub(crate) struct Rows {
    pub(crate) ts_us: Vec<i64>,
    /// Seconds relative to `as_of` (never positive).
    pub(crate) t: Vec<f64>,
    pub(crate) v: Vec<f64>,
    /// Infinite where there is no limit.
    pub(crate) limit: Vec<f64>,
    /// Median distance of neighbouring rows as they came in, s; 0 with fewer than two rows.
    pub(crate) cadence: f64,
    /// Rows dropped because their value was not finite.
    pub(crate) dropped: usize,
}

impl Rows {
    /// Rows at or before the asked time; long series are reduced as [`SeriesState`] does.
    pub(crate) fn new(series: &Series<'_>, options: &Options) -> Result<Self, CannotSay> {
        let n = series.ts_us.len();
        if series.value.len() != n || series.threshold.len() != n {
            return Err(CannotSay::Shape {
                ts: n,
                value: series.value.len(),
                threshold: series.threshold.len(),
            });
        }
        let mut state = SeriesState::new(options.direction);
        let mut push = |i: usize| {
            if series.ts_us[i] <= options.as_of_us {
                state.push(series.ts_us[i], series.value[i], series.threshold[i]);
            }
        };
        if series.ts_us.is_sorted() {
            (0..n).for_each(&mut push);
        } else {
            // Stable: of rows with one time the later in the input stays the later.
            let mut order: Vec<usize> = (0..n).collect();
            order.sort_by_key(|&i| series.ts_us[i]);
            order.into_iter().for_each(&mut push);
        }
        Ok(state.rows(options.as_of_us))
    }

    pub(crate) fn len(&self) -> usize {
        self.t.len()
    }
}

/// Points of a fit: `u` = time relative to `as_of` and `y` = value, both scaled to a range near one so that neither
/// unit matters.
#[derive(Debug, Clone, Default)]
pub(crate) struct Points {
    pub(crate) u: Vec<f64>,
    pub(crate) y: Vec<f64>,
}

impl Points {
    pub(crate) fn len(&self) -> usize {
        self.u.len()
    }

    /// At most `max` points: means of equally long runs of points.
    pub(crate) fn thinned(u: &[f64], y: &[f64], max: usize) -> Self {
        let per = u.len().div_ceil(max).max(1);
        let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
        // Runs are counted from the end: the newest point must not be alone in a run.
        let mut u: Vec<f64> = u.rchunks(per).map(mean).collect();
        let mut y: Vec<f64> = y.rchunks(per).map(mean).collect();
        u.reverse();
        y.reverse();
        Self { u, y }
    }

    /// What the models are fitted to: [`Self::thinned`], [`Self::without_spikes`].
    pub(crate) fn thin(&self) -> Self {
        Self::thinned(&self.u, &self.y, MAX_POINTS).without_spikes()
    }

    /// How far each value is above a trend.
    pub(crate) fn over(&self, trend: impl Fn(f64) -> f64) -> Vec<f64> {
        self.u.iter().zip(&self.y).map(|(u, y)| y - trend(*u)).collect()
    }

    pub(crate) fn from(&self, start: usize) -> Self {
        Self { u: self.u[start..].to_vec(), y: self.y[start..].to_vec() }
    }

    /// Pulls single outliers to the running median of five, where they are more than four robust deviations off
    /// (Hampel 1974): the curves are fitted by least squares, which one spike would bend.
    pub(crate) fn without_spikes(mut self) -> Self {
        let n = self.len();
        if n < 7 {
            return self;
        }
        let local: Vec<f64> = (0..n)
            .map(|i| {
                let lo = i.saturating_sub(2).min(n - 5);
                let mut w = [0.0; 5];
                w.copy_from_slice(&self.y[lo..lo + 5]);
                crate::stats::median_mut(&mut w)
            })
            .collect();
        let off: Vec<f64> = self.y.iter().zip(&local).map(|(y, m)| y - m).collect();
        let bound = 4.0 * crate::stats::robust_sd(&off).max(crate::stats::noise_sd(&self.y));
        if bound > 0.0 {
            for i in 2..n - 2 {
                if off[i].abs() > bound {
                    self.y[i] = local[i];
                }
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(ts: &[i64], v: &[f64]) -> Rows {
        let limit = vec![f64::NAN; ts.len()];
        let options = Options { as_of_us: 1_000_000, ..Options::default() };
        Rows::new(&Series { ts_us: ts, value: v, threshold: &limit }, &options).unwrap()
    }

    #[test]
    fn cleaned() {
        let r = rows(&[500_000, 0, 0, 2_000_000, 250_000], &[1.0, 2.0, 3.0, 4.0, f64::NAN]);
        assert_eq!(r.t, [-1.0, -0.5]);
        assert_eq!(r.v, [3.0, 1.0]);
        assert_eq!(r.dropped, 1);
        assert_eq!(r.cadence, 0.5);
        assert!(r.limit.iter().all(|l| *l == f64::INFINITY));
    }

    #[test]
    fn thinned_to_means_from_the_end() {
        let p = Points::thinned(&[0.0, 1.0, 2.0, 3.0, 4.0], &[9.0, 1.0, 3.0, 5.0, 7.0], 3);
        assert_eq!(p.u, [0.0, 1.5, 3.5]);
        assert_eq!(p.y, [9.0, 2.0, 6.0]);
    }

    #[test]
    fn a_spike_is_pulled_in_and_a_step_is_not() {
        let mut y: Vec<f64> = (0..20).map(f64::from).collect();
        y[10] = 90.0;
        let u = y.clone();
        let p = Points { u: u.clone(), y }.without_spikes();
        assert!(p.y[10] < 12.0);
        let y: Vec<f64> = (0..20).map(|i| if i < 10 { 0.0 } else { 5.0 }).collect();
        assert_eq!(Points { u, y: y.clone() }.without_spikes().y, y);
    }
}
