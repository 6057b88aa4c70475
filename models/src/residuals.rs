//! What the value does around its trend, as the threshold sees it: the distribution of block maxima.
//!
//! Residuals are dependent, so they are drawn in blocks (Künsch 1989), and of a block only its maximum can hit. The
//! maxima are smoothed with a triangular kernel (Silverman 1986): the highest peak seen is not the highest possible one.

use crate::stats;

/// Cells of the table of the distribution.
const CELLS: usize = 64;

#[derive(Debug, Clone)]
pub(crate) struct Peaks {
    /// Length of a block, unit of u.
    pub(crate) block: f64,
    low: f64,
    cell: f64,
    /// −ln F at the edges of the cells, from `low` upwards; the last is 0.
    hazard: Vec<f64>,
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
        let hazard = (0..=CELLS)
            .map(|i| {
                let x = low + cell * i as f64;
                let f = maxima
                    .iter()
                    .map(|m| triangular_cdf((x - m) / h.max(f64::MIN_POSITIVE)))
                    .sum::<f64>()
                    / n;
                if i == CELLS { 0.0 } else { -f.clamp(1e-12, 1.0).ln() }
            })
            .collect();
        Self { block, low, cell, hazard }
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

fn triangular_cdf(x: f64) -> f64 {
    match x {
        x if x <= -1.0 => 0.0,
        x if x <= 0.0 => 0.5 * (1.0 + x) * (1.0 + x),
        x if x < 1.0 => 1.0 - 0.5 * (1.0 - x) * (1.0 - x),
        _ => 1.0,
    }
}

/// Maxima of `residuals` over blocks of `len` values; a last partial block is left out unless it is the only one.
pub(crate) fn block_maxima(residuals: &[f64], len: usize) -> Vec<f64> {
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
    fn blocks() {
        assert_eq!(block_maxima(&[1.0, 3.0, 2.0, 0.0, 9.0], 2), [3.0, 2.0]);
        assert_eq!(block_maxima(&[1.0], 5), [1.0]);
        assert!(block_maxima(&[], 3).is_empty());
    }
}
