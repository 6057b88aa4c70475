//! Estimate, variance and interval of every column.

use super::Retained;
use super::design::{Design, gram};
use super::nnls::{Factor, Gram, nnls};
use crate::stats;

/// Share of the errors' variance that comes from readings: searched among these.
const READING_SHARES: [f64; 7] = [0.0, 0.25, 0.5, 0.75, 0.9, 0.97, 1.0];
/// Two-sided level of what is outside of the interval.
const OUTSIDE: f64 = 0.05;
/// A window is extraordinary beyond so many robust deviations.
const EXTRAORDINARY: f64 = 8.0;
/// A row that leaves less than this to the others decides alone.
const LEAST_LEFT: f64 = 1e-9;
/// Estimates that go together more than this are told apart by chance.
const GOES_WITH: f64 = 0.7;

/// What is said about an independent column.
pub(super) struct ColumnFit {
    pub(super) retained: Retained,
    /// Lower end at the level that holds for all columns together (Bonferroni).
    pub(super) low_of_all: f64,
    pub(super) rests_on_one: bool,
    /// Routes whose estimate falls as this one's rises.
    pub(super) goes_with: Vec<usize>,
}

/// The fit of a [`Design`].
pub(super) struct Inference {
    /// Per window.
    pub(super) own_growth: f64,
    pub(super) outliers: usize,
    /// As `design.independent`.
    pub(super) columns: Vec<ColumnFit>,
    /// Per column of the design.
    estimate: Vec<f64>,
}

/// Unconstrained least squares over some columns of whitened rows.
struct Fit {
    b: Vec<f64>,
    inverse: Gram,
    log_det: f64,
    /// Per row: residual over 1 − leverage.
    left_out: Vec<f64>,
    squares: f64,
}

/// Rows after the errors have been made alike and independent.
struct White {
    x: Vec<Vec<f64>>,
    y: Vec<f64>,
    log_det: f64,
}

impl Inference {
    /// `None` if the numbers are beyond computation.
    pub(super) fn of(design: &Design) -> Option<Self> {
        let all = |i: usize| (design.growth[i], design.follows[i]);
        let mut rows: Vec<usize> = (0..design.growth.len()).collect();
        let outliers = extraordinary(design, &rows)?;
        rows.retain(|r| !outliers.contains(r));
        // A row follows only what is still there.
        let follows = |r: usize| all(r).1 && !outliers.contains(&(r - 1));
        let white = |share: f64| White::new(design, &rows, &follows, share);
        let kept = &design.independent;
        let mut best: Option<(f64, White)> = None;
        for share in READING_SHARES {
            let w = white(share);
            let fit = Fit::new(&w, kept)?;
            let freedom = (rows.len() - kept.len()) as f64;
            let likelihood = -0.5
                * (w.log_det + fit.log_det + freedom * fit.squares.max(f64::MIN_POSITIVE).ln());
            if best.as_ref().is_none_or(|b| likelihood > b.0) {
                best = Some((likelihood, w));
            }
        }
        let (_, w) = best?;
        let xy: Vec<f64> = w.x.iter().map(|x| dot(x, &w.y)).collect();
        let estimate = nnls(&gram(&w.x), &xy);
        let own = design.columns.len() - 1;
        let own_at = kept.iter().position(|c| *c == own)?;
        let with = Fit::new(&w, kept)?;
        // Growth that is not negative: where the fit says otherwise, also see what it says without.
        let others: Vec<usize> = kept.iter().copied().filter(|c| *c != own).collect();
        let without = if with.b[own_at] < 0.0 { Some(Fit::new(&w, &others)?) } else { None };
        let tested = others.iter().filter(|c| design.route_at(**c).is_some()).count().max(1) as f64;
        // After whitening a window is spread over the rows that follow it: what hangs on one window is seen before.
        let plain = white(0.0);
        let plainly = Fit::new(&plain, kept)?;
        let columns = kept.iter().enumerate().map(|(at, column)| {
            let mut fit = with.column(&w, kept, at, tested);
            fit.rests_on_one |= plainly.column(&plain, kept, at, tested).rests_on_one;
            if let Some(i) = others.iter().position(|c| c == column)
                && let Some(second) = &without
            {
                fit.widen(&second.column(&w, &others, i, tested));
            }
            fit.around(estimate[*column]);
            fit.goes_with = with.goes_with(at, |other| {
                let has_part = estimate[kept[other]] > 0.0 || estimate[*column] > 0.0;
                design.route_at(kept[other]).filter(|_| has_part && kept[other] != own)
            });
            fit
        });
        let columns: Vec<ColumnFit> = columns.collect();
        let is_finite = |c: &ColumnFit| c.retained.low.is_finite() && c.retained.high.is_finite();
        let all_finite = columns.iter().all(is_finite) && estimate.iter().all(|b| b.is_finite());
        all_finite.then(|| Self {
            own_growth: estimate[own],
            outliers: outliers.len(),
            columns,
            estimate,
        })
    }

    /// Bytes per request of a route; of rare ones together, 0 of others that have no column.
    pub(super) fn bytes_of(&self, design: &Design, route: usize) -> f64 {
        design.place_of(route).map_or(0.0, |c| self.estimate[c])
    }
}

/// Rows whose growth no other row comes near to, and of which there are few: at most one in twenty, or two. Memory that
/// grows in rare jumps (arenas) is left alone: there the jumps are the growth.
fn extraordinary(design: &Design, rows: &[usize]) -> Option<Vec<usize>> {
    let plain = White::new(design, rows, &|_| false, 0.0);
    let fit = Fit::new(&plain, &design.independent)?;
    let still = design.growth.iter().filter(|g| **g == 0.0).count();
    let bound = EXTRAORDINARY * stats::robust_sd(&fit.left_out);
    if still * 5 > rows.len() || bound <= 0.0 {
        return Some(Vec::new());
    }
    let far: Vec<usize> = rows.iter().copied().filter(|r| fit.left_out[*r].abs() > bound).collect();
    let few = far.len() <= (rows.len() / 20).max(2)
        && rows.len() >= far.len() + design.independent.len() + 2;
    // A fall gives back what was not retained: it is left out only with the rise that it takes back.
    let gives_back = far.iter().map(|r| design.growth[*r]).sum::<f64>() < -bound;
    Some(if few && !gives_back { far } else { Vec::new() })
}

impl White {
    /// Errors with the covariance (1 − share)·I + share·DDᵀ, D the difference of neighbouring readings: a tridiagonal
    /// matrix, whose factor has two diagonals.
    fn new(design: &Design, rows: &[usize], follows: &dyn Fn(usize) -> bool, share: f64) -> Self {
        let variance = 1.0 - share + 2.0 * share;
        let mut factor: Vec<(f64, f64)> = Vec::with_capacity(rows.len());
        let mut log_det = 0.0;
        for r in rows {
            let before = factor.last().filter(|_| follows(*r)).map_or(1.0, |f: &(f64, f64)| f.0);
            let beside = if follows(*r) && !factor.is_empty() { -share / before } else { 0.0 };
            let own = (variance - beside * beside).max(1e-12).sqrt();
            log_det += 2.0 * own.ln();
            factor.push((own, beside));
        }
        let whiten = |c: &[f64]| {
            let mut last = 0.0;
            rows.iter()
                .zip(&factor)
                .map(|(r, (own, beside))| {
                    last = (c[*r] - beside * last) / own;
                    last
                })
                .collect::<Vec<f64>>()
        };
        Self {
            x: design.columns.iter().map(|c| whiten(c)).collect(),
            y: whiten(&design.growth),
            log_det,
        }
    }
}

impl Fit {
    fn new(w: &White, columns: &[usize]) -> Option<Self> {
        let n = w.y.len();
        let x: Vec<&[f64]> = columns.iter().map(|c| w.x[*c].as_slice()).collect();
        let mut a = Vec::with_capacity(x.len() * x.len());
        for i in &x {
            a.extend(x.iter().map(|j| dot(i, j)));
        }
        let gram = Gram { n: x.len(), a };
        let factor: Factor = gram.factor()?;
        let mut b: Vec<f64> = x.iter().map(|x| dot(x, &w.y)).collect();
        factor.solve(&mut b);
        let mut residual = w.y.clone();
        for (b, x) in b.iter().zip(&x) {
            residual.iter_mut().zip(*x).for_each(|(r, x)| *r -= b * x);
        }
        let squares = dot(&residual, &residual);
        let inverse = factor.inverse();
        let mut row = vec![0.0; x.len()];
        for (t, r) in residual.iter_mut().enumerate().take(n) {
            row.iter_mut().zip(&x).for_each(|(row, x)| *row = x[t]);
            let leverage: f64 = (0..row.len())
                .map(|i| row[i] * dot(&inverse.a[i * inverse.n..(i + 1) * inverse.n], &row))
                .sum();
            let left = 1.0 - leverage;
            // Without such a row nothing of its value is left.
            *r = if left > LEAST_LEFT { *r / left } else { w.y[t] };
        }
        let all_finite = b.iter().chain(&residual).all(|v| v.is_finite()) && squares.is_finite();
        all_finite.then(|| Self {
            b,
            inverse,
            log_det: factor.log_det(),
            left_out: residual,
            squares,
        })
    }

    /// Estimate of the column at `at` with its intervals.
    fn column(&self, w: &White, columns: &[usize], at: usize, tested: f64) -> ColumnFit {
        let n = w.y.len();
        // By how much each row moves the estimate.
        let weights = &self.inverse.a[at * self.inverse.n..(at + 1) * self.inverse.n];
        let mut moves = vec![0.0; n];
        for (k, c) in weights.iter().zip(columns) {
            moves.iter_mut().zip(&w.x[*c]).for_each(|(m, x)| *m += k * x);
        }
        moves.iter_mut().zip(&self.left_out).for_each(|(m, e)| *m *= e);
        let hc3 = dot(&moves, &moves);
        let lags = (4.0 * (n as f64 / 100.0).powf(2.0 / 9.0)) as usize;
        let lagged: f64 = (1..=lags.min(n - 1))
            .map(|l| {
                let weight = 1.0 - l as f64 / (lags + 1) as f64;
                2.0 * weight * dot(&moves[l..], &moves[..n - l])
            })
            .sum();
        let sd = hc3.max(hc3 + lagged).sqrt();
        let freedom = (n - columns.len()) as f64;
        let b = self.b[at];
        let half = |outside: f64| student_quantile(0.5 * outside, freedom) * sd;
        let half_95 = half(OUTSIDE);
        let most = moves.iter().copied().fold(0.0, f64::max);
        ColumnFit {
            retained: Retained {
                bytes_per_request: b.max(0.0),
                low: (b - half_95).max(0.0),
                high: (b + half_95).max(0.0),
            },
            low_of_all: (b - half(OUTSIDE / tested)).max(0.0),
            rests_on_one: most > 0.5 * b,
            goes_with: Vec::new(),
        }
    }

    fn goes_with(&self, at: usize, route: impl Fn(usize) -> Option<usize>) -> Vec<usize> {
        let v = &self.inverse;
        let correlation = |j: usize| v.at(at, j) / (v.at(at, at) * v.at(j, j)).sqrt();
        (0..v.n).filter(|j| *j != at && correlation(*j) < -GOES_WITH).filter_map(route).collect()
    }
}

impl ColumnFit {
    /// Spans another interval, too.
    fn widen(&mut self, other: &Self) {
        self.retained.low = self.retained.low.min(other.retained.low);
        self.retained.high = self.retained.high.max(other.retained.high);
        self.low_of_all = self.low_of_all.min(other.low_of_all);
        self.rests_on_one |= other.rests_on_one;
    }

    /// Takes the estimate, and has it inside.
    fn around(&mut self, estimate: f64) {
        self.retained.bytes_per_request = estimate;
        self.retained.low = self.retained.low.min(estimate);
        self.retained.high = self.retained.high.max(estimate);
        self.low_of_all = self.low_of_all.min(estimate);
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Upper quantile of Student's t: the value exceeded with probability `p` (at most one half), by the expansion of
/// Abramowitz & Stegun 26.7.5 around the normal quantile (off by less than 3 % from four degrees of freedom on).
fn student_quantile(p: f64, freedom: f64) -> f64 {
    let (mut low, mut high) = (0.0, 8.0);
    for _ in 0..50 {
        let mid = 0.5 * (low + high);
        if stats::normal_cdf(-mid) > p { low = mid } else { high = mid }
    }
    let z = 0.5 * (low + high);
    let (z2, v) = (z * z, freedom.max(1.0));
    let g1 = (z2 + 1.0) / 4.0;
    let g2 = ((5.0 * z2 + 16.0) * z2 + 3.0) / 96.0;
    let g3 = (((3.0 * z2 + 19.0) * z2 + 17.0) * z2 - 15.0) / 384.0;
    let g4 = ((((79.0 * z2 + 776.0) * z2 + 1482.0) * z2 - 1920.0) * z2 - 945.0) / 92_160.0;
    z * (1.0 + (g1 + (g2 + (g3 + g4 / v) / v) / v) / v)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_student() {
        // Tabulated values.
        for (p, freedom, t) in [
            (0.025, 4.0, 2.776),
            (0.025, 10.0, 2.228),
            (0.025, 1e9, 1.960),
            (0.005, 6.0, 3.707),
            (0.001, 4.0, 7.173),
        ] {
            let got = student_quantile(p, freedom);
            assert!((got / t - 1.0).abs() < 0.03, "{p} {freedom}: {got} for {t}");
        }
    }
}
