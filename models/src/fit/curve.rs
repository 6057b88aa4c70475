//! Bent trends y = a + b·φ(u) that rise, over a grid of shapes φ: exponentials and powers.
//!
//! For a fixed shape the rest is a straight-line fit in φ, and with running sums that fit costs the same for every
//! prefix of the points. Shapes are weighed by their odds before anything is seen and by their profile likelihood
//! (SSE / SSE_min)^(−n/2), with the number of points reduced by their autocorrelation (Bates & Watts 1988, ch. 6): a course
//! that could still be a line keeps that possibility, with its own time to the threshold.

use super::{Gaussian, Trend};
use crate::prepare::Points;
use crate::stats;

pub(crate) const MIN_POINTS: usize = 8;

/// A shape over the window; rates are per window.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    /// exp(rate·u)
    Exp(f64),
    /// exp(rate·u) from a share of the window on, level before
    Late { since: f64, rate: f64 },
    /// (time since a share of the window)^(quarters / 4), nothing before
    Power { since: f64, quarters: u8 },
}

impl Shape {
    pub(crate) const fn power(since: f64, quarters: u8) -> Self {
        Self::Power { since, quarters }
    }
}

/// Residual sums of squares below this (values have range one) are rounding, not evidence.
const SSE_ROUNDING: f64 = 1e-10;

/// φ in units of u: within [0, 1] over the window, so that nothing overflows.
#[derive(Debug, Clone, Copy)]
struct Basis {
    shape: Shape,
    /// Where φ is 1 (falling exponentials, at the start; rising ones, at the end) or 0 (powers, where they start).
    origin: f64,
    /// Before, φ is what it is here.
    from: f64,
    span: f64,
}

impl Basis {
    fn new(shape: Shape, first: f64, last: f64) -> Self {
        let share = |since: f64| first + since * (last - first);
        let (origin, from) = match shape {
            Shape::Exp(rate) if rate > 0.0 => (last, first),
            Shape::Exp(_) => (first, first),
            Shape::Late { since, .. } => (last, share(since)),
            Shape::Power { since, .. } => (share(since), share(since)),
        };
        Self { shape, origin, from, span: (last - first).max(f64::MIN_POSITIVE) }
    }

    fn share(&self, u: f64) -> f64 {
        (u.max(self.from) - self.origin) / self.span
    }

    /// Of which a power is taken: many times cheaper than any power.
    fn root(&self, u: f64) -> f64 {
        self.share(u).sqrt().sqrt()
    }

    fn at(&self, u: f64) -> f64 {
        match self.shape {
            Shape::Exp(rate) | Shape::Late { rate, .. } => (rate * self.share(u)).exp(),
            Shape::Power { quarters, .. } => self.root(u).powi(quarters.into()),
        }
    }

    /// Whether the trend rises with a positive factor.
    fn rises(&self) -> bool {
        !matches!(self.shape, Shape::Exp(rate) if rate < 0.0)
    }

    /// a + b·φ(u)
    fn trend(&self, a: f64, b: f64) -> Trend<'_> {
        match self.shape {
            Shape::Exp(rate) | Shape::Late { rate, .. } => {
                let c = rate / self.span;
                Trend::Exp { a, b: b * (-c * self.origin).exp(), c }
            }
            Shape::Power { quarters, .. } => {
                let power = 0.25 * f64::from(quarters);
                Trend::Power { a, b: b * self.span.powf(-power), start: self.origin, power }
            }
        }
    }
}

#[derive(Debug, Clone)]
struct Column {
    basis: Basis,
    /// Logarithm of its weight before anything is seen.
    prior: f64,
}

#[derive(Debug, Clone)]
pub(crate) struct Bases {
    columns: Vec<Column>,
    /// φ of each column at each point.
    e: Vec<f64>,
    /// Running sums of e, e², e·y before each point, of each column.
    of_e: Vec<[f64; 3]>,
    /// Running sums of y, y² before each point.
    of_y: Vec<[f64; 2]>,
}

/// Sums over a prefix, centred: means of e and y, See, Sey, Syy.
struct Centred {
    e: f64,
    y: f64,
    ee: f64,
    ey: f64,
    yy: f64,
}

impl Bases {
    /// Shapes, each with its weight before anything is seen.
    pub(crate) fn new(points: &Points, shapes: impl IntoIterator<Item = (Shape, f64)>) -> Self {
        let (first, last) = match points.u.as_slice() {
            [first, .., last] => (*first, *last),
            _ => (0.0, 0.0),
        };
        let column = |(shape, prior): (Shape, f64)| Column {
            basis: Basis::new(shape, first, last),
            prior: prior.ln(),
        };
        let columns: Vec<Column> = shapes.into_iter().map(column).collect();
        let n = points.len();
        let mut e = Vec::with_capacity(columns.len() * n);
        let mut of_e = Vec::with_capacity(columns.len() * (n + 1));
        // Powers of the same root follow each other.
        let (mut root, mut roots) = (f64::NAN, Vec::with_capacity(n));
        for column in &columns {
            let mut sum = [0.0; 3];
            of_e.push(sum);
            if let Shape::Power { since, .. } = column.basis.shape
                && since != root
            {
                root = since;
                roots.clear();
                roots.extend(points.u.iter().map(|u| column.basis.root(*u)));
            }
            for (i, (u, y)) in points.u.iter().zip(&points.y).enumerate() {
                let x = match column.basis.shape {
                    Shape::Power { quarters, .. } => f64::powi(roots[i], quarters.into()),
                    Shape::Exp(_) | Shape::Late { .. } => column.basis.at(*u),
                };
                e.push(x);
                sum = [sum[0] + x, sum[1] + x * x, sum[2] + x * y];
                of_e.push(sum);
            }
        }
        let mut of_y = Vec::with_capacity(n + 1);
        of_y.push([0.0; 2]);
        for y in &points.y {
            let [a, b] = of_y[of_y.len() - 1];
            of_y.push([a + y, b + y * y]);
        }
        Self { columns, e, of_e, of_y }
    }

    fn centred(&self, column: usize, k: usize) -> Centred {
        let n = k as f64;
        let [e, ee, ey] = self.of_e[column * self.of_y.len() + k];
        let [y, yy] = self.of_y[k];
        Centred {
            e: e / n,
            y: y / n,
            ee: ee - e * e / n,
            ey: ey - e * y / n,
            yy: (yy - y * y / n).max(0.0),
        }
    }

    /// Fits the first `y.len()` points.
    pub(crate) fn fit(&self, y: &[f64]) -> Option<Curve> {
        let k = y.len();
        if k < MIN_POINTS {
            return None;
        }
        let rising: Vec<(usize, Centred, f64, f64)> = (0..self.columns.len())
            .filter_map(|i| {
                let s = self.centred(i, k);
                let b = s.ey / s.ee;
                let sse = (s.yy - b * s.ey).max(SSE_ROUNDING);
                let rises = (b > 0.0) == self.columns[i].basis.rises();
                (s.ee > 1e-9 && rises).then_some((i, s, b, sse))
            })
            .collect();
        let (best, s, b, min) = rising.iter().min_by(|x, y| x.3.total_cmp(&y.3))?;
        let e = &self.e[best * (self.of_y.len() - 1)..][..k];
        let residuals: Vec<f64> = e.iter().zip(y).map(|(e, y)| y - s.y - b * (e - s.e)).collect();
        let inflation = stats::inflation(stats::autocorrelation(&residuals));
        let n_eff = (k as f64 / inflation).max(4.0);
        let noise = (min / (k - 3) as f64).sqrt();
        let log = |i: usize, sse: f64| self.columns[i].prior - 0.5 * n_eff * (sse / min).ln();
        let most = rising.iter().map(|r| log(r.0, r.3)).fold(f64::NEG_INFINITY, f64::max);
        let mut parts: Vec<Part> = rising
            .iter()
            .map(|&(i, ref s, b, sse)| Part {
                weight: (log(i, sse) - most).exp(),
                basis: self.columns[i].basis,
                e: s.e,
                y: s.y,
                b,
                b_se: (sse * inflation / ((k - 3) as f64 * s.ee)).sqrt(),
                y_se: (sse * inflation / ((k - 3) * k) as f64).sqrt(),
            })
            .filter(|p| p.weight > 1e-3)
            .collect();
        let total: f64 = parts.iter().map(|p| p.weight).sum();
        for p in &mut parts {
            p.weight /= total;
        }
        Some(Curve { parts, noise })
    }
}

#[derive(Debug, Clone)]
struct Part {
    weight: f64,
    basis: Basis,
    e: f64,
    y: f64,
    b: f64,
    b_se: f64,
    y_se: f64,
}

/// A mixture of curves, one per shape.
#[derive(Debug, Clone)]
pub(crate) struct Curve {
    parts: Vec<Part>,
    noise: f64,
}

impl Curve {
    pub(crate) fn predict(&self, u: f64) -> Gaussian {
        let (mut mean, mut square) = (0.0, 0.0);
        for p in &self.parts {
            let de = p.basis.at(u) - p.e;
            let m = p.y + p.b * de;
            let var = p.y_se * p.y_se + p.b_se * p.b_se * de * de;
            mean += p.weight * m;
            square += p.weight * (m * m + var);
        }
        let var = (square - mean * mean).max(0.0) + self.noise * self.noise;
        Gaussian { mean, sd: var.sqrt() }
    }

    pub(crate) fn draw(&self, z_growth: f64, z_level: f64, which: f64) -> Trend<'_> {
        let mut left = which;
        let part = self.parts.iter().find(|p| {
            left -= p.weight;
            left < 0.0
        });
        let Some(p) = part.or(self.parts.last()) else {
            return Trend::Line { level: 0.0, slope: 0.0 };
        };
        let b = p.b + p.b_se * z_growth;
        p.basis.trend(p.y + p.y_se * z_level - b * p.e, b)
    }
}

/// Exponents of e and of time, per window, between which the best smooth course is searched for. Rates are doubled: a square
/// costs less than an exponential.
const FIRST_RATES: [f64; 2] = [0.5, 0.75];
const DOUBLINGS: usize = 6;
const EXPONENTS: [f64; 8] = [0.3, 0.5, 0.75, 1.5, 2.0, 3.0, 4.0, 6.0];
/// Steps of the search; each leaves 0.62 of what there was.
const STEPS: usize = 10;

/// Smallest residual sum of squares of an exponential or a power of time, rising or falling: the smooth rival of a change
/// point. Not only those of a grid: where there is hardly any noise, the nearest one would be far off.
pub(crate) fn best_sse(points: &Points) -> f64 {
    let (Some(first), Some(last)) = (points.u.first(), points.u.last()) else { return 0.0 };
    let span = (last - first).max(f64::MIN_POSITIVE);
    let x: Vec<f64> = points.u.iter().map(|u| ((u - first) / span).max(0.0)).collect();
    let log: Vec<f64> = x.iter().map(|x| x.ln()).collect();
    let n = points.len() as f64;
    let (y, yy) = points.y.iter().fold((0.0, 0.0), |(y, yy), v| (y + v, yy + v * v));
    let syy = yy - y * y / n;
    let sse = |phi: &mut dyn Iterator<Item = f64>| {
        let [mut e, mut ee, mut ey] = [0.0; 3];
        for (x, v) in phi.zip(&points.y) {
            (e, ee, ey) = (e + x, ee + x * x, ey + x * v);
        }
        let (see, sey) = (ee - e * e / n, ey - e * y / n);
        if see > 1e-9 { (syy - sey * sey / see).max(0.0) } else { syy.max(0.0) }
    };
    let mut rates = Vec::with_capacity(2 * FIRST_RATES.len() * DOUBLINGS);
    for first in FIRST_RATES {
        let mut rate = first;
        let mut phi: Vec<f64> = x.iter().map(|x| (rate * x).exp()).collect();
        for _ in 0..DOUBLINGS {
            rates.push((rate, sse(&mut phi.iter().copied())));
            rates.push((-rate, sse(&mut phi.iter().map(|p| 1.0 / p))));
            rate *= 2.0;
            phi.iter_mut().for_each(|p| *p *= *p);
        }
    }
    rates.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let of_power = |p: f64| sse(&mut log.iter().map(|l| (p * l).exp()));
    let powers: Vec<(f64, f64)> = EXPONENTS.iter().map(|p| (*p, of_power(*p))).collect();
    // Within [0, 1], so that nothing overflows.
    let of_rate = |r: f64| {
        let origin = if r > 0.0 { 1.0 } else { 0.0 };
        sse(&mut x.iter().map(|x| (r * (x - origin)).exp()))
    };
    least(&rates, of_rate).min(least(&powers, of_power))
}

/// The least value of `f` on the grid (with its values) or beside its best point (golden section: Kiefer 1953).
fn least(grid: &[(f64, f64)], f: impl Fn(f64) -> f64) -> f64 {
    let best = (0..grid.len()).min_by(|a, b| grid[*a].1.total_cmp(&grid[*b].1));
    let Some(at) = best else { return f64::INFINITY };
    let mut least = grid[at].1;
    let (mut lo, mut hi) = (grid[at.saturating_sub(1)].0, grid[(at + 1).min(grid.len() - 1)].0);
    let part = |lo: f64, hi: f64| stats::GOLDEN * (hi - lo);
    let inner = |lo: f64, hi: f64| (hi - part(lo, hi), lo + part(lo, hi));
    let (mut a, mut b) = inner(lo, hi);
    let (mut of_a, mut of_b) = (f(a), f(b));
    for _ in 0..STEPS {
        least = least.min(of_a).min(of_b);
        if of_a <= of_b {
            (hi, b, of_b) = (b, a, of_a);
            a = inner(lo, hi).0;
            of_a = f(a);
        } else {
            (lo, a, of_a) = (a, b, of_b);
            b = inner(lo, hi).1;
            of_b = f(b);
        }
    }
    least.min(of_a).min(of_b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(f: impl Fn(f64) -> f64) -> Points {
        let u: Vec<f64> = (0..=80).map(|i| f64::from(i) / 80.0 - 1.0).collect();
        let y = u.iter().map(|u| f(*u)).collect();
        Points { u, y }
    }

    fn plateaus(p: &Points) -> Bases {
        Bases::new(p, [-1.0, -2.0, -3.0, -4.0].map(|r| (Shape::Exp(r), 1.0)))
    }

    fn growths(p: &Points) -> Bases {
        Bases::new(p, [1.0, 2.0, 3.0, 4.0].map(|r| (Shape::Exp(r), 1.0)))
    }

    #[test]
    fn between_the_grid_a_smooth_course_is_smooth() {
        for rate in [-11.3, -2.4, -0.7, 0.8, 2.6, 10.7] {
            let sse = best_sse(&points(|u| (rate * u).exp() / f64::exp(-rate).max(1.0)));
            assert!(sse < 1e-6, "{rate}: {sse}");
        }
        for power in [0.4, 0.62, 1.2, 2.4, 5.1] {
            let sse = best_sse(&points(|u| (u + 1.0).powf(power)));
            assert!(sse < 1e-6, "{power}: {sse}");
        }
        let corner = best_sse(&points(|u| u.max(-0.5)));
        assert!(corner > 1e-3, "{corner}");
        assert_eq!(best_sse(&Points::default()), 0.0);
    }

    #[test]
    fn a_plateau_is_found() {
        let p = points(|u| 1.0 - (-3.0 * (u + 1.0)).exp());
        let curve = plateaus(&p).fit(&p.y).unwrap();
        assert!((curve.predict(5.0).mean - 1.0).abs() < 0.02);
        let Trend::Exp { a, .. } = curve.draw(0.0, 0.0, 0.5) else {
            unreachable!("the best shape is an exponential")
        };
        assert!((a - 1.0).abs() < 0.01);
        assert_eq!(curve.draw(0.0, 0.0, 0.5).reaches(1.2), f64::INFINITY);
    }

    #[test]
    fn growth_is_followed() {
        let p = points(|u| (2.0 * u).exp());
        let curve = growths(&p).fit(&p.y).unwrap();
        let eta = curve.draw(0.0, 0.0, 0.5).reaches(3.0);
        assert!((eta - 3_f64.ln() / 2.0).abs() < 0.02, "{eta}");
        // Falling or flat courses are not growth.
        let p = points(|u| -(2.0 * u).exp());
        assert!(growths(&p).fit(&p.y).is_none());
    }
}
