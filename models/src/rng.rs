//! Seeds and random draws.
//!
//! The generator is ChaCha8: its stream is part of its specification, so a replay on another machine or with another
//! version of the crate draws the same numbers.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// The seed for a forecast of one series at one time: well mixed, so that neighbours do not share paths.
#[must_use]
pub fn seed_of(series_id: i64, as_of_us: i64) -> u64 {
    mix(mix(series_id.cast_unsigned()) ^ as_of_us.cast_unsigned())
}

/// The finaliser of SplitMix64 (Steele, Lea & Flood 2014).
fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Draws for paths, generated runs and bootstraps.
pub(crate) struct Draws(ChaCha8Rng);

impl Draws {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Uniform in the open interval (0, 1): neither end, so that logarithms and quantiles stay finite.
    pub(crate) fn uniform(&mut self) -> f64 {
        ((self.0.next_u64() >> 12) as f64 + 0.5) * (1.0 / (1_u64 << 52) as f64)
    }

    /// Uniform in (low, high).
    pub(crate) fn between(&mut self, (low, high): (f64, f64)) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// Log-uniform in (low, high), both positive.
    pub(crate) fn log_between(&mut self, (low, high): (f64, f64)) -> f64 {
        self.between((low.ln(), high.ln())).exp()
    }

    /// True with probability `p`.
    pub(crate) fn chance(&mut self, p: f64) -> bool {
        self.uniform() < p
    }

    /// One of `n` indices, all equally likely; 0 for `n` = 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((self.uniform() * n as f64) as usize).min(n.saturating_sub(1))
    }

    /// Standard normal: Box & Muller (1958), one of the pair.
    pub(crate) fn normal(&mut self) -> f64 {
        let (a, b) = (self.uniform(), self.uniform());
        (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }

    /// Exponential of mean one.
    pub(crate) fn exponential(&mut self) -> f64 {
        -self.uniform().ln()
    }

    /// Student's t with 4 degrees of freedom, scaled to unit variance: parameters estimated from few, dependent
    /// points have heavier tails than a normal. Quantile in closed form: Shaw (2006), J. Comput. Finance 9(4).
    pub(crate) fn heavy(&mut self) -> f64 {
        let p = self.uniform();
        let alpha = (4.0 * p * (1.0 - p)).sqrt();
        let q = (alpha.acos() / 3.0).cos() / alpha;
        let t = 2.0 * (q - 1.0).max(0.0).sqrt();
        (if p < 0.5 { -t } else { t }) * std::f64::consts::FRAC_1_SQRT_2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_differ_by_series_and_time() {
        assert_ne!(seed_of(1, 2), seed_of(2, 1));
        assert_ne!(seed_of(1, 2), seed_of(1, 3));
        assert_eq!(seed_of(-5, 9), seed_of(-5, 9));
    }

    #[test]
    fn heavy_has_unit_variance_and_heavy_tails() {
        let mut draws = Draws::new(1);
        let x: Vec<f64> = (0..200_000).map(|_| draws.heavy()).collect();
        let n = x.len() as f64;
        let mean = x.iter().sum::<f64>() / n;
        let var = x.iter().map(|v| v * v).sum::<f64>() / n;
        assert!(mean.abs() < 0.02, "{mean}");
        assert!((var - 1.0).abs() < 0.1, "{var}");
        // t(4) lies beyond 3.747/sqrt(2) with probability 2 %, both sides together.
        let tail = x.iter().filter(|v| v.abs() > 3.747 / 2_f64.sqrt()).count() as f64 / n;
        assert!((tail - 0.02).abs() < 0.003, "{tail}");
    }
}
