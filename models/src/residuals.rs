//! What the value does around its trend, as the threshold sees it: the distribution of block maxima.
//!
//! Residuals are dependent, so they are drawn in blocks (Künsch 1989), and of a block only its maximum can hit. The
//! maxima are smoothed with a triangular kernel (Silverman 1986): the highest peak seen is not the highest possible one.
//!
//! Where the trend passes all of them within a block, the maximum of a whole block is too much: [`Rises`] holds what was
//! above the trend where a course of that slope met new heights.

use crate::stats;

/// Cells of the table of the distribution.
const CELLS: usize = 64;
/// Shares below this count as this.
const LEAST: f64 = 1e-12;
/// Slopes are the same if their logarithms are within so much.
const SLOPE_STEP: f64 = 0.2;
/// So many slopes are kept apart; another one is taken for the nearest of them.
const SLOPES: usize = 40;

#[derive(Debug, Clone)]
pub(crate) struct Peaks {
    /// Length of a block, unit of u.
    pub(crate) block: f64,
    low: f64,
    cell: f64,
    /// −ln F at the edges of the cells, from `low` upwards; the last is 0.
    hazard: [f64; CELLS + 1],
}

impl Peaks {
    /// `maxima`: maximum of the residuals in each block of length `block`.
    pub(crate) fn new(maxima: &[f64], block: f64) -> Self {
        let n = maxima.len().max(1) as f64;
        let (lo, hi) = if maxima.is_empty() { (0.0, 0.0) } else { stats::bounds(maxima) };
        let mean = maxima.iter().sum::<f64>() / n;
        let sd = (maxima.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n).sqrt();
        // A triangular kernel of half-width h has variance h²/6.
        let h = 1.06 * sd * n.powf(-0.2) * 6_f64.sqrt();
        let low = lo - h;
        let cell = (hi + h - low) / CELLS as f64;
        let hazard = std::array::from_fn(|i| {
            let x = low + cell * i as f64;
            let below = |m: &f64| triangular_cdf((x - m) / h.max(f64::MIN_POSITIVE));
            let f = maxima.iter().map(below).sum::<f64>() / n;
            if i == CELLS { 0.0 } else { -f.clamp(LEAST, 1.0).ln() }
        });
        Self { block, low, cell, hazard }
    }

    /// Of `residuals` at the rising times `u`, in at most `blocks` blocks.
    pub(crate) fn in_blocks(u: &[f64], residuals: &[f64], blocks: usize) -> Self {
        let n = residuals.len();
        let len = n.div_ceil(blocks);
        let step = (u[n - 1] - u[0]) / (n - 1).max(1) as f64;
        Self::new(&block_maxima(residuals, len), len as f64 * step)
    }

    /// What lies above a trend with `slope` > 0 where the sum of both is higher than ever before: a threshold that such a
    /// course meets for the first time is met by that. Hazards are −ln F, of one passage.
    fn of_rise(u: &[f64], residuals: &[f64], slope: f64) -> Self {
        let (low, high) = stats::bounds(residuals);
        let cell = (high - low) / CELLS as f64;
        let mut weight = [0.0; CELLS];
        let [mut all, mut half] = [(0.0, 0.0); 2];
        new_heights(u, residuals, slope, 1, |met, passed| {
            let c = if cell > 0.0 { (met - low) / cell } else { 0.0 };
            weight[(c.max(0.0) as usize).min(CELLS - 1)] += passed;
            all = (all.0 + passed, all.1 + passed * met);
        });
        new_heights(u, residuals, slope, 2, |met, passed| {
            half = (half.0 + passed, half.1 + passed * met);
        });
        // What is between the rows is missed as what is in half of them would be (Richardson 1911).
        let unseen = (all.1 / all.0 - half.1 / half.0).max(0.0);
        let mut sum = 0.0;
        let mut hazard = [-LEAST.ln(); CELLS + 1];
        for (hazard, passed) in hazard[1..].iter_mut().zip(weight) {
            sum += passed;
            *hazard = -(sum / all.0.max(f64::MIN_POSITIVE)).clamp(LEAST, 1.0).ln();
        }
        let from = hazard.partition_point(|h| *h >= -LEAST.ln());
        make_convex(&mut hazard[from.saturating_sub(1)..]);
        Self { block: 0.0, low: low + unseen, cell, hazard }
    }

    /// Hazard per block of a peak of at least `gap` above the trend.
    pub(crate) fn hazard(&self, gap: f64) -> f64 {
        if self.cell <= 0.0 {
            return if gap > self.low { 0.0 } else { self.hazard[0].max(30.0) };
        }
        let x = (gap - self.low) / self.cell;
        if x <= 0.0 {
            return self.hazard[0];
        }
        // Above the highest peak, and where the numbers end.
        if x >= CELLS as f64 || x.is_nan() {
            return 0.0;
        }
        let i = x as usize;
        self.hazard[i] + (self.hazard[i + 1] - self.hazard[i]) * (x - i as f64)
    }

    /// The offset that a block's maximum exceeds with hazard `e`.
    pub(crate) fn quantile(&self, e: f64) -> f64 {
        let i = self.hazard.partition_point(|h| *h > e);
        match (i.checked_sub(1).and_then(|j| self.hazard.get(j)), self.hazard.get(i)) {
            (Some(a), Some(b)) if a > b => {
                self.low + self.cell * ((i - 1) as f64 + (a - e) / (a - b))
            }
            (None, _) => self.low,
            _ => self.low + self.cell * i.min(CELLS) as f64,
        }
    }

    pub(crate) fn highest(&self) -> f64 {
        self.low + self.cell * CELLS as f64
    }

    pub(crate) fn lowest(&self) -> f64 {
        self.low
    }
}

/// What is above the trend as the sum of both passes new heights, for any slope.
#[derive(Debug, Clone)]
pub(crate) struct Rises<'a> {
    u: &'a [f64],
    residuals: &'a [f64],
    known: Vec<(i32, Peaks)>,
}

impl<'a> Rises<'a> {
    /// `residuals` at the rising times `u`, at least two.
    pub(crate) fn new(u: &'a [f64], residuals: &'a [f64]) -> Self {
        Self { u, residuals, known: Vec::with_capacity(SLOPES) }
    }

    /// `slope` > 0 and finite.
    pub(crate) fn with_slope(&mut self, slope: f64) -> &Peaks {
        let key = (slope.ln() / SLOPE_STEP).round() as i32;
        let nearest = (0..self.known.len()).min_by_key(|&i| self.known[i].0.abs_diff(key));
        let i = match nearest {
            Some(i) if self.known[i].0 == key || self.known.len() == SLOPES => i,
            _ => {
                let slope = (f64::from(key) * SLOPE_STEP).exp();
                self.known.push((key, Peaks::of_rise(self.u, self.residuals, slope)));
                self.known.len() - 1
            }
        };
        &self.known[i].1
    }
}

/// Tells of each new height of a course with `slope` > 0 under `residuals`, of which every so many rows are looked at: the
/// residual there and how much is passed. Rows follow each other in a circle, straight from one to the next (the ladder
/// heights of Feller 1971, vol. 2, ch. XII, of the course that was seen).
fn new_heights(
    u: &[f64],
    residuals: &[f64],
    slope: f64,
    every: usize,
    mut tell: impl FnMut(f64, f64),
) {
    let rows = || u.iter().zip(residuals).step_by(every).map(|(u, r)| (r + slope * u, *r));
    let count = rows().count();
    let (Some(first), Some(last)) = (u.first(), u.get((count.max(1) - 1) * every)) else {
        return;
    };
    // One round before the first: as far as from first to last, and a step.
    let lap = slope * (last - first) * (1.0 + 1.0 / (count.max(2) - 1) as f64);
    let (highest, newest) =
        rows().fold((f64::NEG_INFINITY, (0.0, 0.0)), |(highest, _), row| (row.0.max(highest), row));
    let mut top = highest - lap;
    let (mut before, mut at) = (newest.1, newest.0 - lap);
    for (now, r) in rows() {
        if now > top {
            let from = top.max(at);
            tell(before + (r - before) * (0.5 * (from + now) - at) / (now - at), now - from);
            top = now;
        }
        (before, at) = (r, now);
    }
}

/// The greatest convex table below. A hazard of which the past is known, H(x) − H(gap now), then never falls where both gaps
/// grow alike: a higher threshold is not met earlier (log-concave F: Shaked & Shanthikumar 2007, ch. 1.B).
fn make_convex(hazard: &mut [f64]) {
    let mut hull = [0_usize; CELLS + 1];
    let mut len = 1;
    for i in 1..hazard.len() {
        let above = |a: usize, b: usize| {
            (hazard[b] - hazard[a]) * (i - a) as f64 >= (hazard[i] - hazard[a]) * (b - a) as f64
        };
        while len > 1 && above(hull[len - 2], hull[len - 1]) {
            len -= 1;
        }
        hull[len] = i;
        len += 1;
    }
    for pair in hull[..len].windows(2) {
        let [a, b] = [pair[0], pair[1]];
        let step = (hazard[b] - hazard[a]) / (b - a) as f64;
        for i in a + 1..b {
            hazard[i] = hazard[a] + step * (i - a) as f64;
        }
    }
}

fn triangular_cdf(x: f64) -> f64 {
    match x {
        x if x <= -1.0 => 0.0,
        x if x <= 0.0 => 0.5 * (1.0 + x) * (1.0 + x),
        x if x < 1.0 => 1.0 - 0.5 * (1.0 - x) * (1.0 - x),
        _ => 1.0,
    }
}

/// Maxima of `residuals` over blocks of `len` values; a last partial block is left out unless it is the only one.
fn block_maxima(residuals: &[f64], len: usize) -> Vec<f64> {
    let len = len.clamp(1, residuals.len().max(1));
    residuals
        .chunks_exact(len)
        .map(|b| b.iter().copied().fold(f64::NEG_INFINITY, f64::max))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hazard_falls_to_zero_above_the_highest_peak() {
        let peaks = Peaks::new(&[0.1, 0.2, 0.15, 0.3, 0.25], 1.0);
        assert!(peaks.highest() > 0.3 && peaks.highest() < 0.6);
        assert_eq!(peaks.hazard(peaks.highest() + 1e-9), 0.0);
        assert!(peaks.hazard(0.3) > 0.0);
        assert!(peaks.hazard(0.1) > peaks.hazard(0.2));
        for e in [0.01, 0.1, 1.0, 3.0] {
            assert!((peaks.hazard(peaks.quantile(e)) - e).abs() < 1e-6);
        }
    }

    #[test]
    fn no_noise_is_a_step() {
        let peaks = Peaks::new(&[0.0; 4], 1.0);
        assert_eq!(peaks.highest(), 0.0);
        assert_eq!(peaks.hazard(1e-9), 0.0);
        assert!(peaks.hazard(-1e-9) > 20.0);
    }

    #[test]
    fn a_rise_meets_what_it_passes() {
        let u: Vec<f64> = (0..400).map(f64::from).collect();
        // A square wave of 20 up and 20 down.
        let square: Vec<f64> = (0..400).map(|i| f64::from(i / 20 % 2)).collect();
        let mut rises = Rises::new(&u, &square);
        // Far less than a wave's height in a wave: the tops meet everything.
        let slow = rises.with_slope(1e-4).clone();
        assert!(slow.quantile(0.01) > 0.9 && slow.quantile(3.0) > 0.9);
        // A saw that falls slowly while the course rises fast: any height of it is met as often.
        let saw: Vec<f64> = (0..400).map(|i| 1.0 - f64::from(i % 40) / 40.0).collect();
        let mut rises = Rises::new(&u, &saw);
        let fast = rises.with_slope(1.0).clone();
        let below = (-fast.hazard(0.5)).exp();
        assert!((below - 0.5).abs() < 0.05, "{below}");
        assert!(rises.known.len() == 1 && rises.with_slope(1.01).block == 0.0);
        assert_eq!(rises.known.len(), 1);
        let none = Rises::new(&u, &[0.0; 400]).with_slope(1.0).clone();
        assert_eq!((none.quantile(0.7), none.hazard(1e-9)), (0.0, 0.0));
    }

    /// However much of a rise is over, no less of it is left under a higher threshold.
    #[test]
    fn a_higher_threshold_is_further_away() {
        let u: Vec<f64> = (0..400).map(f64::from).collect();
        let square: Vec<f64> = (0..400).map(|i| f64::from(i / 20 % 2)).collect();
        let met = Rises::new(&u, &square).with_slope(1.0).clone();
        let left = |gap: f64, risen: f64| met.hazard(gap - risen) - met.hazard(gap);
        for (risen, more) in (0..50).flat_map(|i| (0..50).map(move |j| (i, j))) {
            let risen = 0.02 * f64::from(risen);
            let gap = risen + met.low + 0.02 * f64::from(more);
            assert!(left(gap + 0.01, risen) <= left(gap, risen) + 1e-9, "{gap} {risen}");
        }
    }

    #[test]
    fn blocks() {
        assert_eq!(block_maxima(&[1.0, 3.0, 2.0, 0.0, 9.0], 2), [3.0, 2.0]);
        assert_eq!(block_maxima(&[1.0], 5), [1.0]);
        assert!(block_maxima(&[], 3).is_empty());
    }
}
