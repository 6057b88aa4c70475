//! Least squares over normal equations: with and without the constraint that no coefficient is negative.

use crate::cholesky;

/// A symmetric matrix, row by row.
#[derive(Debug, Clone)]
pub(super) struct Gram {
    pub(super) n: usize,
    pub(super) a: Vec<f64>,
}

impl Gram {
    pub(super) fn at(&self, i: usize, j: usize) -> f64 {
        self.a[i * self.n + j]
    }

    /// Rows and columns of `keep`, in that order.
    pub(super) fn of(&self, keep: &[usize]) -> Self {
        let a = keep.iter().flat_map(|&i| keep.iter().map(move |&j| self.at(i, j))).collect();
        Self { n: keep.len(), a }
    }

    /// The lower Cholesky factor; `None` if the matrix is not positive definite (relative to its diagonal).
    pub(super) fn factor(&self) -> Option<Factor> {
        let mut l = self.a.clone();
        cholesky::factor(&mut l, self.n)?;
        Some(Factor { n: self.n, l })
    }
}

/// The lower Cholesky factor of a [`Gram`].
pub(super) struct Factor {
    n: usize,
    l: Vec<f64>,
}

impl Factor {
    /// Solves in place.
    pub(super) fn solve(&self, b: &mut [f64]) {
        cholesky::solve(&self.l, b);
    }

    /// Logarithm of the determinant of the matrix.
    pub(super) fn log_det(&self) -> f64 {
        (0..self.n).map(|i| 2.0 * self.l[i * self.n + i].ln()).sum()
    }

    /// The inverse, row by row.
    pub(super) fn inverse(&self) -> Gram {
        let n = self.n;
        let mut a = vec![0.0; n * n];
        for (i, row) in a.chunks_exact_mut(n.max(1)).enumerate() {
            row[i] = 1.0;
            self.solve(row);
        }
        Gram { n, a }
    }
}

/// argmin ‖Xb − y‖ over b ≥ 0 from XᵀX and Xᵀy: Lawson & Hanson (1974), chapter 23, on normal equations (Bro & de Jong
/// 1997). Columns that depend on those already chosen are never chosen. All zero if nothing helps.
pub(super) fn nnls(gram: &Gram, xy: &[f64]) -> Vec<f64> {
    let n = gram.n;
    let mut b = vec![0.0; n];
    let mut chosen: Vec<usize> = Vec::new();
    let mut refused = vec![false; n];
    // The gradient is compared in units of its column's length.
    let size: Vec<f64> = (0..n).map(|i| gram.at(i, i).sqrt()).collect();
    let most = (0..n).map(|i| xy[i].abs() / size[i].max(f64::MIN_POSITIVE)).fold(0.0, f64::max);
    // Each turn lowers the sum of squares; the bound only guards against rounding.
    for _ in 0..10 * n.max(1) {
        let gradient = |i: usize| {
            let fitted: f64 = (0..n).map(|j| gram.at(i, j) * b[j]).sum();
            (xy[i] - fitted) / size[i].max(f64::MIN_POSITIVE)
        };
        let next = (0..n)
            .filter(|i| !chosen.contains(i) && !refused[*i] && size[*i] > 0.0)
            .map(|i| (i, gradient(i)))
            .filter(|(_, g)| *g > 1e-10 * most)
            .max_by(|x, y| x.1.total_cmp(&y.1));
        let Some((next, _)) = next else { break };
        chosen.push(next);
        loop {
            let Some(factor) = gram.of(&chosen).factor() else {
                // It depends on the others.
                chosen.retain(|i| *i != next);
                refused[next] = true;
                break;
            };
            let mut at: Vec<f64> = chosen.iter().map(|i| xy[*i]).collect();
            factor.solve(&mut at);
            if at.iter().all(|x| *x > 0.0) {
                b.fill(0.0);
                chosen.iter().zip(at).for_each(|(i, x)| b[*i] = x);
                break;
            }
            // As far towards the new solution as no coefficient turns negative.
            let step = chosen
                .iter()
                .zip(&at)
                .filter(|(_, x)| **x <= 0.0)
                .map(|(i, x)| b[*i] / (b[*i] - x).max(f64::MIN_POSITIVE))
                .fold(1.0, f64::min);
            for (i, x) in chosen.iter().zip(&at) {
                b[*i] += step * (x - b[*i]);
            }
            let ended: Vec<usize> = chosen
                .iter()
                .zip(&at)
                .filter(|(i, x)| **x <= 0.0 && b[**i] <= 1e-12 * x.abs().max(f64::MIN_POSITIVE))
                .map(|(i, _)| *i)
                .collect();
            ended.iter().for_each(|i| b[*i] = 0.0);
            if ended.contains(&next) {
                refused[next] = true;
            }
            chosen.retain(|i| !ended.contains(i));
            if ended.is_empty() || chosen.is_empty() {
                break;
            }
        }
    }
    b
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal_equations(x: &[Vec<f64>], y: &[f64]) -> (Gram, Vec<f64>) {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let a = x.iter().flat_map(|c| x.iter().map(move |d| dot(c, d))).collect();
        (Gram { n: x.len(), a }, x.iter().map(|c| dot(c, y)).collect())
    }

    #[test]
    fn a_negative_coefficient_is_zero() {
        let x = vec![vec![1.0, 1.0, 1.0, 1.0], vec![0.0, 1.0, 2.0, 3.0]];
        let (gram, xy) = normal_equations(&x, &[3.0, 2.0, 1.0, 0.0]);
        let b = nnls(&gram, &xy);
        assert!((b[0] - 1.5).abs() < 1e-12 && b[1] == 0.0, "{b:?}");
        assert_eq!(nnls(&gram, &[-1.0, -1.0]), [0.0, 0.0]);
    }

    #[test]
    fn a_column_twice_is_chosen_once() {
        let x = vec![vec![1.0, 2.0, 5.0], vec![1.0, 2.0, 5.0], vec![1.0, 0.0, 1.0]];
        let (gram, xy) = normal_equations(&x, &[3.0, 4.0, 11.0]);
        let b = nnls(&gram, &xy);
        assert!((b[0] + b[1] - 2.0).abs() < 1e-9 && (b[2] - 1.0).abs() < 1e-9, "{b:?}");
    }

    proptest! {
        /// The conditions of Kuhn and Tucker: no coefficient is negative, no gradient points to a better place.
        #[test]
        fn nothing_better_is_near(
            cells in prop::collection::vec(0.0..9.0_f64, 5 * 20),
            y in prop::collection::vec(-9.0..9.0_f64, 20),
        ) {
            let x: Vec<Vec<f64>> = cells.chunks(20).map(<[f64]>::to_vec).collect();
            let (gram, xy) = normal_equations(&x, &y);
            let b = nnls(&gram, &xy);
            for i in 0..5 {
                let gradient = xy[i] - (0..5).map(|j| gram.at(i, j) * b[j]).sum::<f64>();
                prop_assert!(b[i] >= 0.0);
                prop_assert!(gradient <= 1e-6 * gram.at(i, i), "{} {:?}", gradient, b);
                prop_assert!(b[i] == 0.0 || gradient.abs() <= 1e-6 * gram.at(i, i));
            }
        }
    }
}
