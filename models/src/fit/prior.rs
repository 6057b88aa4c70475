//! What earlier lives of the same workload say about the slope of this one.
//!
//! Empirical Bayes (Lu & Meeker 1993, Technometrics 35): slopes of a population of units are log-normal; a unit seen for a
//! short time borrows from the others, one seen for long stands on its own.

use super::line::Line;
use crate::Life;

/// Standard deviation of the logarithm of slopes between lives, before any is known (weight: one life).
const SPREAD: f64 = 0.5;

/// Mean and standard deviation of the slope, scaled units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SlopePrior {
    mean: f64,
    sd: f64,
}

impl SlopePrior {
    /// From the slopes of lives that rose; `unit` turns them into scaled units. `None` without any.
    pub(crate) fn of(lives: &[Life], unit: f64) -> Option<Self> {
        let logs: Vec<f64> =
            lives.iter().map(|l| l.slope_per_s * unit).filter(|s| *s > 0.0).map(f64::ln).collect();
        if logs.is_empty() {
            return None;
        }
        let n = logs.len() as f64;
        let mean = logs.iter().sum::<f64>() / n;
        let squares: f64 = logs.iter().map(|l| (l - mean) * (l - mean)).sum();
        // One more life, and the mean of the others is not known exactly either.
        let spread = ((SPREAD * SPREAD + squares) / n * (1.0 + 1.0 / n)).sqrt();
        let prior = Self { mean: mean.exp(), sd: mean.exp() * spread };
        (prior.mean.is_finite() && prior.sd.is_finite()).then_some(prior)
    }

    /// The line with its slope weighed against the prior by precision.
    pub(crate) fn shrink(&self, mut line: Line) -> Line {
        let own = line.slope_se * line.slope_se;
        let prior = self.sd * self.sd;
        if own > 0.0 && prior > 0.0 {
            line.slope = (line.slope * prior + self.mean * own) / (own + prior);
            line.slope_se = (own * prior / (own + prior)).sqrt();
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(slope_per_s: f64) -> Life {
        Life { life_s: 10.0, slope_per_s, hit: true }
    }

    #[test]
    fn lives_that_fell_say_nothing() {
        assert_eq!(SlopePrior::of(&[], 1.0), None);
        assert_eq!(SlopePrior::of(&[life(-1.0), life(0.0)], 1.0), None);
        let p = SlopePrior::of(&[life(2.0), life(2.0)], 3.0).unwrap();
        assert!((p.mean - 6.0).abs() < 1e-12);
        assert!(p.sd < SlopePrior::of(&[life(2.0)], 3.0).unwrap().sd);
    }

    #[test]
    fn a_short_life_borrows_and_a_long_one_does_not() {
        let prior = SlopePrior::of(&[life(1.0), life(1.1), life(0.9)], 1.0).unwrap();
        let noise = |i: i32| 0.3 * (f64::from(i * 7919 % 101) / 50.0 - 1.0);
        let line = |n: i32| {
            let u: Vec<f64> = (0..n).map(|i| f64::from(i) / 100.0).collect();
            let y: Vec<f64> = (0..n).map(|i| 2.0 * f64::from(i) / 100.0 + noise(i)).collect();
            Line::fit(&u, &y).unwrap()
        };
        let short = prior.shrink(line(20));
        assert!((short.slope - 1.0).abs() < 0.5, "{short:?}");
        let long = prior.shrink(line(4000));
        assert!((long.slope - 2.0).abs() < 0.05, "{long:?}");
    }
}
