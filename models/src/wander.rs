//! What a level that only wanders may do: how far it climbed before within as long a time.
//!
//! Without growth a threshold is still met: by a wave, a shift, a walk. How often is counted in what was seen, from starts at
//! levels like the present one (historical simulation; the analogs of Lorenz 1969, J. Atmos. Sci. 26). Where a time is asked that
//! is longer than a third of what was seen, climbs may be as high as within that third, or as those of a walk, which grow by
//! the root of time: both count the same.

use crate::prepare::MAX_POINTS;
use crate::stats;

/// A climb is looked for over at most this part of what was seen.
const LONGEST: usize = 3;
/// Starts count by how near their level is to the present one, in standard deviations of the level.
const NEAR: f64 = 0.7;
/// Pieces of the course whose rises are compared.
const PIECES: usize = 8;

/// The course as climbs see it: runs of rows, oldest first.
#[derive(Debug, Clone)]
pub(crate) struct Climbs {
    /// Mean of each run, and its highest row.
    runs: Vec<(f64, f64)>,
    /// Length of a run, unit of u.
    step: f64,
    now: f64,
    spread: f64,
}

impl Climbs {
    /// Of the rows at the rising times `u`.
    pub(crate) fn new(u: &[f64], y: &[f64]) -> Self {
        let per = y.len().div_ceil(MAX_POINTS).max(1);
        let run = |rows: &[f64]| {
            let mean = rows.iter().sum::<f64>() / rows.len() as f64;
            (mean, stats::bounds(rows).1)
        };
        let mut runs: Vec<(f64, f64)> = y.rchunks(per).map(run).collect();
        runs.reverse();
        let span = u.last().zip(u.first()).map_or(0.0, |(last, first)| last - first);
        let n = runs.len() as f64;
        let mean = runs.iter().map(|r| r.0).sum::<f64>() / n.max(1.0);
        let squares: f64 = runs.iter().map(|r| (r.0 - mean) * (r.0 - mean)).sum();
        Self {
            now: runs.last().map_or(0.0, |r| r.0),
            step: span / n.max(1.0),
            spread: (squares / n.max(1.0)).sqrt(),
            runs,
        }
    }

    /// P(the level climbs from where it is to `threshold` within `horizon`, unit of u).
    pub(crate) fn probability(&self, threshold: f64, horizon: f64) -> f64 {
        let n = self.runs.len();
        let longest = (n / LONGEST).max(1);
        if n < 2 || self.step <= 0.0 || self.spread <= 0.0 {
            return 0.0;
        }
        let ahead = ((horizon / self.step).round() as usize).clamp(1, longest);
        let gap = threshold - self.now;
        let of_walk = gap * (ahead as f64 * self.step / horizon).sqrt().min(1.0);
        0.5 * (self.climbs(ahead, gap) + self.climbs(ahead, of_walk))
    }

    /// P(a climb by `gap` within so many runs).
    fn climbs(&self, ahead: usize, gap: f64) -> f64 {
        let (mut all, mut squares, mut hit) = (0.0, 0.0, 0.0);
        let (mut sum, mut sum_of_squares, mut highest) = (0.0, 0.0, f64::NEG_INFINITY);
        for start in 0..self.runs.len() - ahead {
            let level = self.runs[start].0;
            let top = self.runs[start + 1..=start + ahead].iter().map(|r| r.1);
            let climb = top.fold(f64::NEG_INFINITY, f64::max) - level;
            let far = (level - self.now) / (NEAR * self.spread);
            let weight = (-0.5 * far * far).exp();
            all += weight;
            squares += weight * weight;
            hit += if climb >= gap { weight } else { 0.0 };
            (sum, sum_of_squares) = (sum + weight * climb, sum_of_squares + weight * climb * climb);
            highest = highest.max(climb);
        }
        if all <= 0.0 {
            return 0.0;
        }
        // Starts next to each other see the same climb.
        let independent = all * all / squares / ahead as f64;
        let mean = sum / all;
        let sd = (sum_of_squares / all - mean * mean).max(0.0).sqrt();
        let above = (gap - highest).max(0.0);
        let beyond = if above > 0.0 { (-above / sd).exp() } else { 1.0 };
        (independent * hit / all + 0.5 * beyond) / (independent + 1.0)
    }
}

/// One-sided p-value of a rise if the level is a walk without drift: its rises over pieces of equal length have a mean of
/// zero (Student 1908; the tail by Wallace 1959).
pub(crate) fn walk_p(y: &[f64]) -> f64 {
    let means = stats::block_means(y, PIECES + 1);
    let rises: Vec<f64> = means.windows(2).map(|w| w[1] - w[0]).collect();
    let n = rises.len() as f64;
    if n < 3.0 {
        return 0.5;
    }
    let mean = rises.iter().sum::<f64>() / n;
    let var = rises.iter().map(|r| (r - mean) * (r - mean)).sum::<f64>() / (n - 1.0);
    if var <= 0.0 {
        return if mean > 0.0 { 0.0 } else { 0.5 };
    }
    let t = mean / (var / n).sqrt();
    let free = n - 1.0;
    let z = (1.0 - 3.0 / (8.0 * free + 3.0)) * (free * (t * t / free).ln_1p()).sqrt();
    1.0 - stats::normal_cdf(z.copysign(t))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Draws;

    fn times(n: usize) -> Vec<f64> {
        (0..n).map(|i| i as f64 / (n - 1) as f64 - 1.0).collect()
    }

    /// Waves of ten rows, from 0 to 1 and back.
    fn waves(n: usize) -> Vec<f64> {
        (0..n).map(|i| 0.5 - 0.5 * (std::f64::consts::TAU * i as f64 / 10.0).cos()).collect()
    }

    #[test]
    fn what_came_before_is_expected_again() {
        let climbs = Climbs::new(&times(101), &waves(101));
        // It stands at its lowest; within a wave it was always at 0.6 and never at 1.5.
        let within_a_wave = |threshold| climbs.probability(threshold, 0.1);
        assert!(within_a_wave(0.6) > 0.85, "{}", within_a_wave(0.6));
        assert!(within_a_wave(1.5) < 0.1, "{}", within_a_wave(1.5));
        let mut before = 1.0;
        for i in 0..100 {
            let now = within_a_wave(0.02 * f64::from(i));
            assert!(now <= before + 1e-12, "{i}: {now} after {before}");
            before = now;
        }
    }

    #[test]
    fn little_history_leaves_it_open() {
        let climbs = Climbs::new(&times(20), &waves(20));
        let long = climbs.probability(1.2, 5.0);
        assert!(long > 0.1 && long < 0.6, "{long}");
        assert_eq!(Climbs::new(&times(30), &[0.0; 30]).probability(1.0, 1.0), 0.0);
        assert_eq!(Climbs::new(&[0.0], &[0.0]).probability(1.0, 1.0), 0.0);
    }

    /// A walk without drift seems to grow as often as chance has it.
    #[test]
    fn a_walk_is_no_growth() {
        let mut draws = Draws::new(5);
        let mut small = 0;
        for _ in 0..400 {
            let mut level = 0.0;
            let walk: Vec<f64> = (0..120)
                .map(|_| {
                    level += draws.normal();
                    level
                })
                .collect();
            small += usize::from(walk_p(&walk) < 0.05);
        }
        assert!((8..=40).contains(&small), "{small} of 400 below 5 %");
        let line: Vec<f64> = (0..120).map(|i| f64::from(i) + 3.0 * draws.normal()).collect();
        assert!(walk_p(&line) < 1e-4, "{}", walk_p(&line));
        assert_eq!((walk_p(&[1.0; 50]), walk_p(&[1.0, 2.0])), (0.5, 0.5));
    }
}
