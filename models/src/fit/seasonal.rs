//! A line under a wave that repeats: y = a + b·u + Σ α_k sin(2πku/P) + β_k cos(2πku/P).
//!
//! Harmonic regression with a trend (Young, Pedregal & Tych 1999; Hyndman & Athanasopoulos, Forecasting, ch. 10). The
//! amplitudes are shrunk (ridge, prior standard deviation falling with the harmonic), so that a little more than one cycle
//! already tells trend from wave as far as it can be told. The cycle is one known beforehand (a day) or the best of a grid.

use super::drift::Drift;
use super::{Gaussian, Trend};
use crate::prepare::Points;
use crate::{cholesky, stats};

/// Harmonics: enough for a working day with a night.
const HARMONICS: usize = 3;
/// Level, slope, sine and cosine of each harmonic.
const PARAMETERS: usize = 2 + 2 * HARMONICS;
/// Points a fit needs.
pub(crate) const MIN_POINTS: usize = 16;
/// Prior standard deviation of the first harmonic, in ranges of the values.
const AMPLITUDE: f64 = 0.4;
/// The wave is tabulated at so many phases.
const PHASES: usize = 64;
/// Cycles that must have been seen of a cycle that was searched for, and of one that is known.
const CYCLES_FOUND: f64 = 2.2;
pub(crate) const CYCLES_KNOWN: f64 = 1.1;
/// A cycle is at least so many points long.
const POINTS_PER_CYCLE: f64 = 8.0;
/// A season explains at least this share of what the best smooth course leaves.
const EXPLAINS: f64 = 0.6;

/// Length of a cycle in units of u, if one explains the points far better than any smooth course does. `smooth` is the
/// residual sum of squares of the best of those, `known` a cycle that is known beforehand.
pub(crate) fn find(points: &Points, smooth: f64, known: Option<f64>) -> Option<f64> {
    let n = points.len();
    if n < MIN_POINTS || smooth <= 0.0 {
        return None;
    }
    let span = points.u[n - 1] - points.u[0];
    let shortest = POINTS_PER_CYCLE * span / n as f64;
    // Three steps per cycle that fits in: neighbours on the grid differ by a third of a cycle over the window.
    let found =
        (0..60).map(|i| span / (CYCLES_FOUND + f64::from(i) / 3.0)).filter(|p| *p >= shortest);
    // What is known needs no search, and so no margin for having searched.
    let known = known.filter(|p| span >= CYCLES_KNOWN * p);
    if let Some(period) = known.filter(|p| explains(points, *p, [smooth]).is_some()) {
        return Some(period);
    }
    let sse = |period: f64| Some((period, Seasonal::fit(&points.u, &points.y, period)?.sse));
    let (period, sse) = found.filter_map(sse).min_by(|a, b| a.1.total_cmp(&b.1))?;
    (sse < 0.5 * (1.0 - EXPLAINS) * smooth).then_some(period)
}

/// Variance that a line under a wave of a known cycle leaves, if it explains the points far better than each of its rivals
/// does (residual sums of squares; no more of them are asked for than it takes to lose).
pub(crate) fn explains(
    points: &Points,
    period: f64,
    rivals: impl IntoIterator<Item = f64>,
) -> Option<f64> {
    let n = points.len();
    let span = points.u.last()? - points.u.first()?;
    if period < POINTS_PER_CYCLE * span / n as f64 {
        return None;
    }
    let sse = Seasonal::fit(&points.u, &points.y, period)?.sse;
    let far_better = rivals.into_iter().all(|rival| sse < (1.0 - EXPLAINS) * rival);
    far_better.then(|| sse / (n - PARAMETERS) as f64)
}

/// A wave of one cycle, tabulated.
#[derive(Debug, Clone)]
pub(crate) struct Wave {
    period: f64,
    table: [f64; PHASES],
    highest: f64,
}

impl Wave {
    pub(crate) fn at(&self, u: f64) -> f64 {
        let x = (u / self.period).rem_euclid(1.0) * PHASES as f64;
        let i = (x as usize).min(PHASES - 1);
        let (a, b) = (self.table[i], self.table[(i + 1) % PHASES]);
        a + (b - a) * (x - i as f64)
    }

    /// When level + slope·u + wave first reaches `y` from now on; infinite if it never does.
    pub(crate) fn reaches(&self, level: f64, slope: f64, y: f64) -> f64 {
        // Before `from` not even the crest is high enough.
        let from = if slope > 0.0 {
            ((y - self.highest - level) / slope).max(0.0)
        } else if level + self.highest >= y {
            0.0
        } else {
            return f64::INFINITY;
        };
        let step = self.period / PHASES as f64;
        let mut before = level + slope * from + self.at(from) - y;
        if before >= 0.0 {
            return from;
        }
        // The next crest is at most a cycle away, and by then the line is no lower.
        for i in 1..=PHASES + 1 {
            let u = from + step * i as f64;
            let now = level + slope * u + self.at(u) - y;
            if now >= 0.0 {
                return u - step * now / (now - before);
            }
            before = now;
        }
        f64::INFINITY
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Seasonal {
    level: f64,
    slope: f64,
    slope_se: f64,
    level_se: f64,
    /// Time at which level and slope are uncorrelated.
    pivot: f64,
    noise: f64,
    sse: f64,
    wave: Wave,
}

impl Seasonal {
    pub(crate) fn fit(u: &[f64], y: &[f64], period: f64) -> Option<Self> {
        let n = u.len();
        if n < MIN_POINTS || period <= 0.0 {
            return None;
        }
        let pivot = u.iter().sum::<f64>() / n as f64;
        let row = |u: f64| -> [f64; PARAMETERS] {
            let mut x = [0.0; PARAMETERS];
            (x[0], x[1]) = (1.0, u - pivot);
            let (s, c) = (std::f64::consts::TAU * u / period).sin_cos();
            let (mut sk, mut ck) = (s, c);
            for k in 0..HARMONICS {
                (x[2 + 2 * k], x[3 + 2 * k]) = (sk, ck);
                (sk, ck) = (sk * c + ck * s, ck * c - sk * s);
            }
            x
        };
        let mut a = [[0.0; PARAMETERS]; PARAMETERS];
        let mut b = [0.0; PARAMETERS];
        for (u, y) in u.iter().zip(y) {
            let x = row(*u);
            for i in 0..PARAMETERS {
                b[i] += x[i] * y;
                for j in 0..=i {
                    a[i][j] += x[i] * x[j];
                }
            }
        }
        // Noise over prior deviation of the amplitudes; the noise is what neighbours differ by.
        let noise = stats::noise_sd(y).max(1e-3);
        for k in 0..HARMONICS {
            let prior = AMPLITUDE / (k + 1) as f64;
            let ridge = (noise / prior) * (noise / prior);
            a[2 + 2 * k][2 + 2 * k] += ridge;
            a[3 + 2 * k][3 + 2 * k] += ridge;
        }
        let factor = Factor::of(a)?;
        let k = factor.solve(b);
        let predicted = |u: f64| row(u).iter().zip(&k).map(|(x, k)| x * k).sum::<f64>();
        let residuals: Vec<f64> = u.iter().zip(y).map(|(u, y)| y - predicted(*u)).collect();
        let sse: f64 = residuals.iter().map(|r| r * r).sum();
        let inflation = stats::inflation(stats::autocorrelation(&residuals));
        let var = sse / (n - PARAMETERS) as f64;
        let wave_at = |phase: usize| {
            let u = period * phase as f64 / PHASES as f64;
            predicted(u) - k[0] - k[1] * (u - pivot)
        };
        let mut table = [0.0; PHASES];
        table.iter_mut().enumerate().for_each(|(i, t)| *t = wave_at(i));
        let highest = stats::bounds(&table).1;
        let fit = Self {
            level: k[0],
            slope: k[1],
            slope_se: (var * inflation * factor.variance(1)).sqrt(),
            level_se: (var * inflation * factor.variance(0)).sqrt(),
            pivot,
            noise: var.sqrt(),
            sse,
            wave: Wave { period, table, highest },
        };
        (fit.slope.is_finite() && fit.slope_se.is_finite()).then_some(fit)
    }

    pub(crate) fn predict(&self, u: f64) -> Gaussian {
        let lead = u - self.pivot;
        Gaussian {
            mean: self.level + self.slope * lead + self.wave.at(u),
            sd: self.noise.hypot(self.level_se).hypot(self.slope_se * lead),
        }
    }

    /// The walk that goes on from the newest level under the same wave: what has wandered off the line stays off.
    pub(crate) fn walk(&self, u: &[f64], y: &[f64]) -> Option<Walk> {
        let level: Vec<f64> = u.iter().zip(y).map(|(u, y)| y - self.wave.at(*u)).collect();
        let drift = Drift::with_slope(u, &level, (self.slope, self.slope_se))?;
        Some(Walk { drift, wave: self.wave.clone() })
    }

    /// The wave alone.
    pub(crate) fn wave(&self, u: f64) -> f64 {
        self.wave.at(u)
    }

    /// Slope and noise, as of a line.
    pub(crate) fn slope(&self) -> (f64, f64) {
        (self.slope, self.noise)
    }

    pub(crate) fn draw(&self, z_slope: f64, z_level: f64) -> Trend<'_> {
        let slope = self.slope + self.slope_se * z_slope;
        let level = self.level + self.level_se * z_level - slope * self.pivot;
        Trend::Wave { level, slope, wave: &self.wave }
    }
}

/// A walk with drift under a wave.
#[derive(Debug, Clone)]
pub(crate) struct Walk {
    drift: Drift,
    wave: Wave,
}

impl Walk {
    pub(crate) fn predict(&self, u: f64) -> Gaussian {
        let level = self.drift.predict(u);
        Gaussian { mean: level.mean + self.wave.at(u), sd: level.sd }
    }

    pub(crate) fn draw(&self, z_slope: f64, z_level: f64) -> Trend<'_> {
        let (level, slope) = self.drift.course(z_slope, z_level);
        Trend::Wave { level, slope, wave: &self.wave }
    }
}

/// Lower triangle of a Cholesky factor.
struct Factor([[f64; PARAMETERS]; PARAMETERS]);

impl Factor {
    /// `None` if the matrix is not positive definite; only its lower triangle is looked at.
    fn of(mut a: [[f64; PARAMETERS]; PARAMETERS]) -> Option<Self> {
        cholesky::factor(a.as_flattened_mut(), PARAMETERS)?;
        Some(Self(a))
    }

    /// x of A·x = b
    fn solve(&self, mut b: [f64; PARAMETERS]) -> [f64; PARAMETERS] {
        cholesky::solve(self.0.as_flattened(), &mut b);
        b
    }

    /// Element (i, i) of the inverse.
    fn variance(&self, i: usize) -> f64 {
        let mut unit = [0.0; PARAMETERS];
        unit[i] = 1.0;
        self.solve(unit)[i]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(n: usize, f: impl Fn(f64) -> f64) -> Points {
        let u: Vec<f64> = (0..n).map(|i| i as f64 / (n - 1) as f64 - 1.0).collect();
        let noise = |i: usize| 0.01 * ((i * 7919 % 101) as f64 / 50.0 - 1.0);
        let y = u.iter().enumerate().map(|(i, u)| f(*u) + noise(i)).collect();
        Points { u, y }
    }

    fn wave(u: f64) -> f64 {
        0.3 * (std::f64::consts::TAU * u / 0.4).sin()
    }

    #[test]
    fn trend_and_wave_are_told_apart() {
        let p = points(100, |u| 0.5 * u + wave(u));
        let fit = Seasonal::fit(&p.u, &p.y, 0.4).unwrap();
        assert!((fit.slope - 0.5).abs() < 0.02, "{}", fit.slope);
        assert!((fit.predict(0.3).mean - (0.15 + wave(0.3))).abs() < 0.03);
        // It hits on a crest, before the line does.
        let hit = fit.draw(0.0, 0.0).reaches(0.9);
        let truth = (0..100_000).map(|i| f64::from(i) * 1e-4).find(|u| 0.5 * u + wave(*u) >= 0.9);
        assert!((hit - truth.unwrap()).abs() < 0.05, "{hit} {truth:?}");
    }

    #[test]
    fn a_walk_goes_on_from_where_it_is_under_the_same_wave() {
        // A lump near the end stays, and the wave goes on.
        let p = points(100, |u| 0.5 * u + wave(u) + if u > -0.1 { 0.3 } else { 0.0 });
        let fit = Seasonal::fit(&p.u, &p.y, 0.4).unwrap();
        let walk = fit.walk(&p.u, &p.y).unwrap();
        let miss = |g: Gaussian, u: f64| (g.mean - (0.5 * u + wave(u) + 0.3)).abs();
        for u in [0.05, 0.1, 0.2] {
            let (of_walk, of_line) = (miss(walk.predict(u), u), miss(fit.predict(u), u));
            assert!(of_walk < 0.15 && of_walk < of_line, "{u}: {of_walk} {of_line}");
        }
        assert!((walk.draw(0.0, 0.0).at(0.1) - walk.predict(0.1).mean).abs() < 1e-9);
    }

    #[test]
    fn a_cycle_is_found_where_there_is_one() {
        let p = points(100, |u| 0.5 * u + wave(u));
        let flat = |p: &Points| {
            let m = p.y.iter().sum::<f64>() / p.len() as f64;
            p.y.iter().map(|y| (y - m) * (y - m)).sum::<f64>()
        };
        let period = find(&p, flat(&p), None).unwrap();
        assert!((period - 0.4).abs() < 0.03, "{period}");
        assert_eq!(find(&p, flat(&p), Some(0.4)), Some(0.4));
        let p = points(100, |_| 0.0);
        assert_eq!(find(&p, flat(&p), Some(0.4)), None);
    }

    #[test]
    fn a_wave_that_never_reaches() {
        let p = points(100, wave);
        let fit = Seasonal::fit(&p.u, &p.y, 0.4).unwrap();
        assert_eq!(fit.wave.reaches(0.0, 0.0, 0.5), f64::INFINITY);
        assert_eq!(fit.wave.reaches(0.0, -1.0, 0.5), f64::INFINITY);
        assert!(fit.wave.reaches(0.0, 0.0, 0.25) < 0.4);
    }
}
