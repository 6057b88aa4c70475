//! Local linear trend whose slope returns to its mean, as load does: the level is the integral of an Ornstein–Uhlenbeck
//! process (Uhlenbeck & Ornstein 1930) around a steady slope, seen through noise. Structural time series of Harvey (1989,
//! ch. 4) with a damped slope, in continuous time; the filter of Kalman (1960) gives state and likelihood. How long the slope
//! stays off its mean and how far it strays is not chosen: each pair of a grid is weighed by its likelihood.

use super::{Gaussian, Trend, line::Line};
use crate::stats;

pub(crate) const MIN_POINTS: usize = 12;
/// How long a slope stays, as a share of the span.
const MEMORY: [f64; 3] = [0.05, 0.2, 0.8];
/// How far it strays, as a share of its mean.
const STRAYS: [f64; 3] = [0.05, 0.2, 0.8];
/// Pairs with less than this share of the likelihood are left out.
const LEAST: f64 = 0.02;
/// Mean slope before anything is seen: so many ranges per span.
const WIDE: f64 = 10.0;
/// Smallest noise, in ranges.
const QUIETEST: f64 = 1e-4;
/// A crossing is sought in steps of which this is the first and each is twice the one before, up to …
const FIRST: f64 = 0.1;
/// … this many spans, and found by so many iterations, or to within so much of a range.
const FARTHEST: f64 = 1e4;
const ITERATIONS: usize = 20;
const NEAR: f64 = 1e-9;
/// The first innovations tell of what was not known.
const BURN_IN: usize = 3;

#[derive(Debug, Clone)]
pub(crate) struct LocalTrend {
    at: f64,
    parts: Vec<Part>,
}

/// One pair of the grid: the state at the newest point.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    weight: f64,
    memory: f64,
    /// Stationary variance of the slope around its mean.
    stray: f64,
    noise: f64,
    /// Level, slope above its mean, mean slope.
    mean: [f64; 3],
    /// Their covariance.
    cov: [[f64; 3]; 3],
}

/// What a time does to the state: `reach` is how far a slope above the mean carries the level, `stay` what is left of it;
/// the others are the variances that it adds.
struct Step {
    reach: f64,
    stay: f64,
    level: f64,
    both: f64,
    slope: f64,
}

impl Step {
    fn new(dt: f64, memory: f64, stray: f64) -> Self {
        let x = dt / memory;
        let stay = (-x).exp();
        let gone = -(-x).exp_m1();
        // 2x − 3 + 4a − a² loses all digits where x is small: there it is ⅔x³.
        let walked = if x < 1e-2 {
            x * x * x * (2.0 / 3.0 - 0.5 * x)
        } else {
            2.0 * x - 3.0 + 4.0 * stay - stay * stay
        };
        Self {
            reach: memory * gone,
            stay,
            level: stray * memory * memory * walked,
            both: stray * memory * gone * gone,
            slope: stray * gone * (1.0 + stay),
        }
    }
}

impl Part {
    fn start(y: f64, noise: f64, memory: f64, stray: f64) -> Self {
        let cov = [[noise, 0.0, 0.0], [0.0, stray, 0.0], [0.0, 0.0, WIDE * WIDE]];
        Self { weight: 0.0, memory, stray, noise, mean: [y, 0.0, 0.0], cov }
    }

    fn ahead(&mut self, dt: f64) {
        let s = Step::new(dt, self.memory, self.stray);
        let (level, ll) = self.carried(&s, dt);
        self.mean = [level, s.stay * self.mean[1], self.mean[2]];
        let c = &self.cov;
        let ld = s.stay * (c[0][1] + s.reach * c[1][1] + dt * c[1][2]) + s.both;
        let lm = c[0][2] + s.reach * c[1][2] + dt * c[2][2];
        let dd = s.stay * s.stay * c[1][1] + s.slope;
        let dm = s.stay * c[1][2];
        self.cov = [[ll, ld, lm], [ld, dd, dm], [lm, dm, c[2][2]]];
    }

    /// Innovation and its variance.
    fn see(&mut self, y: f64) -> (f64, f64) {
        let v = y - self.mean[0];
        let f = self.cov[0][0] + self.noise;
        let gain = [0, 1, 2].map(|i| self.cov[i][0] / f);
        for (i, g) in gain.iter().enumerate() {
            self.mean[i] += g * v;
        }
        let row = self.cov[0];
        for (i, g) in gain.iter().enumerate() {
            for (j, r) in row.iter().enumerate() {
                self.cov[i][j] -= g * r;
            }
        }
        (v, f)
    }

    /// Mean and variance of the level a time `dt` ahead, which is the step `s`.
    fn carried(&self, s: &Step, dt: f64) -> (f64, f64) {
        let ([level, slope, mean], c) = (self.mean, &self.cov);
        let var = c[0][0]
            + s.reach * s.reach * c[1][1]
            + dt * dt * c[2][2]
            + 2.0 * (s.reach * c[0][1] + dt * c[0][2] + s.reach * dt * c[1][2])
            + s.level;
        (level + s.reach * slope + dt * mean, var)
    }

    /// Level after `lead`, without noise.
    fn level(&self, lead: f64) -> Gaussian {
        let (mean, var) = self.carried(&Step::new(lead, self.memory, self.stray), lead);
        Gaussian { mean, sd: var.max(0.0).sqrt() }
    }
}

/// A course at a fixed quantile.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Course<'a> {
    part: &'a Part,
    at: f64,
    z: f64,
}

impl Course<'_> {
    pub(crate) fn at(&self, u: f64) -> f64 {
        let g = self.part.level((u - self.at).max(0.0));
        g.mean + self.z * g.sd
    }

    /// When it first reaches `y`: infinite if it does not.
    pub(crate) fn reaches(&self, y: f64) -> f64 {
        let mut low = (0.0, self.at(0.0) - y);
        if low.1 >= 0.0 {
            return 0.0;
        }
        let mut step = FIRST;
        let mut high = low;
        while high.1 < 0.0 {
            low = high;
            high.0 += step;
            high.1 = self.at(high.0) - y;
            step *= 2.0;
            if high.0 > FARTHEST {
                return f64::INFINITY;
            }
        }
        // Illinois: regula falsi that does not stall.
        let mut side = 0;
        for _ in 0..ITERATIONS {
            let t = (low.0 * high.1 - high.0 * low.1) / (high.1 - low.1);
            let d = self.at(t) - y;
            if d.abs() < NEAR {
                return t;
            }
            if d < 0.0 {
                low = (t, d);
                if side == -1 {
                    high.1 *= 0.5;
                }
                side = -1;
            } else {
                high = (t, d);
                if side == 1 {
                    low.1 *= 0.5;
                }
                side = 1;
            }
        }
        0.5 * (low.0 + high.0)
    }
}

impl LocalTrend {
    /// `line` is the robust line through the same points.
    pub(crate) fn fit(u: &[f64], y: &[f64], line: &Line) -> Option<Self> {
        let n = u.len();
        if n < MIN_POINTS || stats::range(y) < 1e-9 {
            return None;
        }
        let span = u[n - 1] - u[0];
        let noise = stats::noise_sd(y).max(QUIETEST);
        let slope = line.slope.abs().max(0.1 * noise / span);
        let mut parts = Vec::with_capacity(MEMORY.len() * STRAYS.len());
        let mut best = f64::NEG_INFINITY;
        for memory in MEMORY {
            for stray in STRAYS {
                let stray = stray * slope;
                let mut part = Part::start(y[0], noise * noise, memory * span, stray * stray);
                let (mut squares, mut logs) = (0.0, 0.0);
                for i in 1..n {
                    part.ahead(u[i] - u[i - 1]);
                    let (v, f) = part.see(y[i]);
                    if i >= BURN_IN {
                        squares += v * v / f;
                        logs += f.ln();
                    }
                }
                // The common scale of all variances has its own maximum (Harvey 1989, 3.4).
                let m = (n - BURN_IN) as f64;
                let scale = (squares / m).max(f64::MIN_POSITIVE);
                part.weight = -0.5 * (m * scale.ln() + logs);
                best = best.max(part.weight);
                part.noise *= scale;
                part.stray *= scale;
                part.cov.iter_mut().flatten().for_each(|c| *c *= scale);
                parts.push(part);
            }
        }
        parts.iter_mut().for_each(|p| p.weight = (p.weight - best).exp());
        let total: f64 = parts.iter().map(|p| p.weight).sum();
        parts.retain(|p| p.weight >= LEAST * total);
        let total: f64 = parts.iter().map(|p| p.weight).sum();
        parts.iter_mut().for_each(|p| p.weight /= total);
        let finite =
            parts.iter().all(|p| p.weight.is_finite() && p.mean.iter().all(|m| m.is_finite()));
        (finite && !parts.is_empty()).then_some(Self { at: u[n - 1], parts })
    }

    pub(crate) fn predict(&self, u: f64) -> Gaussian {
        let lead = (u - self.at).max(0.0);
        let (mut mean, mut square) = (0.0, 0.0);
        for p in &self.parts {
            let g = p.level(lead);
            mean += p.weight * g.mean;
            square += p.weight * (g.mean * g.mean + g.sd * g.sd + p.noise);
        }
        Gaussian { mean, sd: (square - mean * mean).max(0.0).sqrt() }
    }

    pub(crate) fn draw(&self, z: f64, which: f64) -> Trend<'_> {
        let mut left = which;
        let mut part = &self.parts[0];
        for p in &self.parts {
            part = p;
            left -= p.weight;
            if left <= 0.0 {
                break;
            }
        }
        Trend::Local(Course { part, at: self.at, z })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Draws;

    fn fit(u: &[f64], y: &[f64]) -> LocalTrend {
        LocalTrend::fit(u, y, &Line::fit(u, y).unwrap()).unwrap()
    }

    /// Against the process itself, in small steps.
    #[test]
    fn the_variances_are_those_of_the_process() {
        let (memory, stray, dt) = (0.3, 2.0, 0.5);
        let mut draws = Draws::new(5);
        let (runs, steps) = (20_000, 200);
        let h = dt / f64::from(steps);
        let (mut ll, mut ls, mut ss) = (0.0, 0.0, 0.0);
        for _ in 0..runs {
            let (mut level, mut slope) = (0.0, 0.0);
            for _ in 0..steps {
                let next =
                    slope - slope * h / memory + (2.0 * stray * h / memory).sqrt() * draws.normal();
                level += 0.5 * (slope + next) * h;
                slope = next;
            }
            (ll, ls, ss) = (ll + level * level, ls + level * slope, ss + slope * slope);
        }
        let s = Step::new(dt, memory, stray);
        for (simulated, said) in [(ll, s.level), (ls, s.both), (ss, s.slope)] {
            let simulated = simulated / f64::from(runs);
            assert!((simulated / said - 1.0).abs() < 0.05, "{simulated} {said}");
        }
        // The short form meets the long one.
        let [below, above] =
            [0.009_999, 0.010_001].map(|x| Step::new(x, 1.0, 1.0).level / (x * x * x));
        assert!((below / above - 1.0).abs() < 1e-3, "{below} {above}");
        // Two steps are one: variance of a level that goes on from a slope known to nothing.
        let half = Step::new(0.5 * dt, memory, stray);
        let twice = half.level
            + half.level
            + half.reach * half.reach * half.slope
            + 2.0 * half.reach * half.both;
        assert!((twice / s.level - 1.0).abs() < 1e-9, "{twice} {}", s.level);
    }

    #[test]
    fn a_line_goes_on() {
        let u: Vec<f64> = (0..60).map(|i| f64::from(i) / 59.0 - 1.0).collect();
        let y: Vec<f64> =
            u.iter().enumerate().map(|(i, u)| u + 0.01 * ((i * 7 % 5) as f64 - 2.0)).collect();
        let fit = fit(&u, &y);
        let ahead = fit.predict(0.5);
        assert!((ahead.mean - 0.5).abs() < 0.05, "{ahead:?}");
        let total: f64 = fit.parts.iter().map(|p| p.weight).sum();
        assert!((total - 1.0).abs() < 1e-9);
    }

    /// Load doubles for the last fifth: the slope of now holds first, the mean in the long run.
    #[test]
    fn the_slope_of_now_returns_to_its_mean() {
        let load = |u: f64| if (u * 5.0).rem_euclid(2.0) < 1.0 { 2.0 } else { 0.5 };
        let mut level = 0.0;
        let (mut u, mut y) = (Vec::new(), Vec::new());
        for i in 0..=100 {
            let at = f64::from(i) / 100.0 - 1.0;
            u.push(at);
            y.push(level + 1e-3 * f64::from(i * 7 % 5));
            level += 0.01 * load(at + 1.0);
        }
        let now = y[100];
        let fit = fit(&u, &y);
        let rise = |lead: f64| (fit.predict(lead).mean - now) / lead;
        assert!(rise(0.02) > rise(1.0) + 0.2, "{} {}", rise(0.02), rise(1.0));
        assert!(rise(0.02) > 1.5 && rise(1.0) < 1.6, "{} {}", rise(0.02), rise(1.0));
    }

    #[test]
    fn a_crossing_is_where_the_course_is() {
        let u: Vec<f64> = (0..60).map(|i| f64::from(i) / 59.0 - 1.0).collect();
        let y: Vec<f64> = u.iter().map(|u| u + 0.05 * (12.0 * u).sin()).collect();
        let fit = fit(&u, &y);
        for z in [-1.0, -0.3, 0.0, 0.7, 2.0] {
            let trend = fit.draw(z, 0.5);
            let mut last = 0.0;
            for i in 0..40 {
                let threshold = 0.05 * f64::from(i);
                let hit = trend.reaches(threshold);
                assert!(hit >= last, "z {z}: {hit} after {last}");
                last = hit;
                if hit > 0.0 && hit.is_finite() {
                    assert!((trend.at(hit) - threshold).abs() < 1e-6, "{z} {threshold} {hit}");
                }
            }
        }
        // A course that falls away never comes back.
        let down: Vec<f64> = y.iter().map(|y| -y).collect();
        let fit = LocalTrend::fit(&u, &down, &Line::fit(&u, &down).unwrap()).unwrap();
        assert_eq!(fit.draw(0.0, 0.5).reaches(1.0), f64::INFINITY);
    }

    #[test]
    fn too_little_is_no_fit() {
        let u: Vec<f64> = (0..60).map(f64::from).collect();
        let line = Line::fit(&u, &u).unwrap();
        assert!(LocalTrend::fit(&u[..MIN_POINTS - 1], &u[..MIN_POINTS - 1], &line).is_none());
        assert!(LocalTrend::fit(&u, &[1.0; 60], &line).is_none());
    }
}
