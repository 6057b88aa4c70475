//! Weights of the models by how well they would have forecast this very series.
//!
//! Rolling origin (Tashman 2000): each model is fitted to the points before an origin and predicts later ones, as far
//! ahead as is asked for, but no further than a share of what was seen. The mixture of their normal predictions is scored with the continuous ranked
//! probability score, which for normals is closed form (Gneiting & Raftery 2007: CRPS = E|X−y| − ½E|X−X'|) and
//! quadratic in the weights; the weights that minimise it are the stack (Yao et al. 2018).

use crate::ModelKind;
use crate::fit::{Fitter, Gaussian};
use crate::prepare::Points;
use crate::stats;

/// Where the origins lie, as fractions of the points, and how far of the rest is predicted.
const ORIGINS: [f64; 6] = [0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
const LEADS: [f64; 3] = [0.34, 0.67, 1.0];
/// Nothing is predicted further ahead than this share of what was seen: only the first origins could be judged there, and
/// they have seen the least.
const FURTHEST: f64 = 0.15;
/// An origin needs so many points before it.
const MIN_BEFORE: usize = 5;

/// A model's share, and by how much its errors exceeded the spread it claimed (at least 1).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    pub(crate) kind: ModelKind,
    pub(crate) weight: f64,
    pub(crate) inflate: f64,
}

/// Weights of `kinds` (the models that could be fitted to all points); they sum to 1.
pub(crate) fn stack(
    fitter: &Fitter<'_>,
    points: &Points,
    kinds: &[ModelKind],
    horizon: f64,
) -> Vec<Share> {
    let m = kinds.len();
    let n = points.len();
    let furthest = horizon.min(FURTHEST * (points.u[n - 1] - points.u[0]));
    let mut score = Score::new(m);
    let mut origins = 0;
    let mut squares = vec![(0.0, 0.0); m];
    let mut last_cut = 0;
    let mut predictions: Vec<Gaussian> = Vec::with_capacity(m);
    for share in ORIGINS {
        let k = (share * n as f64).round() as usize;
        if k < MIN_BEFORE || k + 2 > n || k == last_cut {
            continue;
        }
        last_cut = k;
        origins += 1;
        let fits = fitter.fit(k);
        let ahead = furthest.min(points.u[n - 1] - points.u[k - 1]);
        for lead in LEADS {
            let (u, y) = target(points, k, points.u[k - 1] + lead * ahead);
            // A model that the prefix does not support yet says what the first one (flat) says.
            let flat = fits[0].1.predict(u);
            predictions.clear();
            predictions.extend(
                kinds.iter().map(|kind| {
                    fits.iter().find(|f| f.0 == *kind).map_or(flat, |f| f.1.predict(u))
                }),
            );
            for (s, p) in squares.iter_mut().zip(&predictions) {
                let z = if p.sd > 0.0 { (y - p.mean) / p.sd } else { 0.0 };
                *s = (s.0 + z * z, s.1 + 1.0);
            }
            score.add(&predictions, y);
        }
    }
    let stacked = score.weights();
    let growing = kinds.iter().filter(|k| **k != ModelKind::Flat).count() as f64;
    let origins = f64::from(origins);
    kinds
        .iter()
        .zip(stacked)
        .zip(squares)
        .map(|((&kind, w), (sum, count))| {
            // One origin's worth of indifference between the models: few origins cannot exclude any.
            let even = if growing == 0.0 {
                1.0
            } else if kind == ModelKind::Flat {
                0.0
            } else {
                1.0 / growing
            };
            Share {
                kind,
                weight: (w * origins + even) / (origins + 1.0),
                inflate: if count > 0.0 { (sum / count).sqrt().clamp(1.0, 6.0) } else { 2.0 },
            }
        })
        .collect()
}

/// The mean of the three points nearest to `u` that lie after the first `k`: what is predicted is the level, not one
/// point's noise.
fn target(points: &Points, k: usize, u: f64) -> (f64, f64) {
    let n = points.len();
    let j = points.u[k..].partition_point(|x| *x < u) + k;
    let (lo, hi) = (j.saturating_sub(1).max(k).min(n - 1), (j + 2).min(n));
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    (mean(&points.u[lo..hi]), mean(&points.y[lo..hi]))
}

/// Mean score as a function of the weights: wᵀa − ½wᵀBw.
struct Score {
    a: Vec<f64>,
    b: Vec<f64>,
}

impl Score {
    fn new(m: usize) -> Self {
        Self { a: vec![0.0; m], b: vec![0.0; m * m] }
    }

    fn add(&mut self, predictions: &[Gaussian], y: f64) {
        let m = predictions.len();
        for (i, p) in predictions.iter().enumerate() {
            self.a[i] += mean_abs(p.mean - y, p.sd);
            for (j, q) in predictions.iter().enumerate().skip(i) {
                let d = mean_abs(p.mean - q.mean, p.sd.hypot(q.sd));
                self.b[i * m + j] += d;
                if i != j {
                    self.b[j * m + i] += d;
                }
            }
        }
    }

    /// Minimum over the simplex by exponentiated gradient (Kivinen & Warmuth 1997), from even weights.
    fn weights(&self) -> Vec<f64> {
        let m = self.a.len();
        let mut w = vec![1.0 / m as f64; m];
        let scale = self.a.iter().copied().fold(f64::INFINITY, f64::min);
        if !(scale > 0.0 && scale.is_finite()) {
            return w;
        }
        let mut step = vec![0.0; m];
        for _ in 0..150 {
            for ((step, a), row) in step.iter_mut().zip(&self.a).zip(self.b.chunks_exact(m)) {
                *step = a - row.iter().zip(&w).map(|(b, w)| b * w).sum::<f64>();
            }
            let least = step.iter().copied().fold(f64::INFINITY, f64::min);
            for (w, s) in w.iter_mut().zip(&step) {
                *w *= (-0.5 * ((s - least) / scale).min(20.0)).exp();
            }
            let total: f64 = w.iter().sum();
            w.iter_mut().for_each(|w| *w /= total);
        }
        w
    }
}

/// E|X| of a normal X.
fn mean_abs(mean: f64, sd: f64) -> f64 {
    if sd <= 0.0 {
        return mean.abs();
    }
    let z = mean / sd;
    let density = (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt();
    2.0 * sd * density + mean * (2.0 * stats::normal_cdf(z) - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_of_a_folded_normal() {
        assert!((mean_abs(0.0, 1.0) - (2.0 / std::f64::consts::PI).sqrt()).abs() < 1e-6);
        assert!((mean_abs(9.0, 1.0) - 9.0).abs() < 1e-6);
        assert_eq!(mean_abs(-2.0, 0.0), 2.0);
    }

    fn heaviest(y: impl Fn(f64) -> f64) -> (ModelKind, Vec<Share>) {
        let u: Vec<f64> = (0..90).map(|i| f64::from(i) / 89.0 - 1.0).collect();
        let noise = |i: usize| 0.01 * ((i * 7919 % 101) as f64 / 50.0 - 1.0);
        let y = u.iter().enumerate().map(|(i, u)| y(*u) + noise(i)).collect();
        let points = Points { u, y };
        let fitter = Fitter::new(&points, None, None, true);
        let kinds: Vec<ModelKind> = fitter.fit(90).iter().map(|f| f.0).collect();
        let shares = stack(&fitter, &points, &kinds, 10.0);
        assert!((shares.iter().map(|s| s.weight).sum::<f64>() - 1.0).abs() < 1e-9);
        (shares.iter().max_by(|a, b| a.weight.total_cmp(&b.weight)).unwrap().kind, shares)
    }

    #[test]
    fn skill_decides() {
        let weight = |s: &[Share], k| s.iter().find(|s| s.kind == k).map_or(0.0, |s| s.weight);
        let (_, s) = heaviest(|u| u);
        assert!(weight(&s, ModelKind::Flat) < 0.05, "{s:?}");
        assert_eq!(heaviest(|u| (4.0 * u).exp()).0, ModelKind::Accelerating);
        assert_eq!(heaviest(|u| 1.0 - (-4.0 * (u + 1.0)).exp()).0, ModelKind::Saturating);
    }
}
