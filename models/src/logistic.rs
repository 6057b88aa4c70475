//! Logistic regression: Newton's method with a small ridge (le Cessie & van Houwelingen 1992).

/// Penalty on the squared coefficients (not on the first), in units of one row of weight one.
const RIDGE: f64 = 1e-3;

/// A row: inputs (the first is the constant 1), label, weight.
pub(crate) type Row<const N: usize> = ([f64; N], bool, f64);

/// p = 1 / (1 + exp(−k·x))
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Logistic<const N: usize> {
    pub(crate) coefficients: [f64; N],
}

impl<const N: usize> Logistic<N> {
    /// Inputs that never differ get no coefficient.
    pub(crate) fn fit(rows: &[Row<N>]) -> Self {
        let mut k = [0.0_f64; N];
        for _ in 0..50 {
            let mut gradient = [0.0; N];
            let mut hessian = [[0.0; N]; N];
            for (x, label, weight) in rows {
                let p = sigmoid(dot(&k, x));
                let error = if *label { 1.0 - p } else { -p };
                for i in 0..N {
                    gradient[i] += weight * error * x[i];
                    for j in 0..N {
                        hessian[i][j] += weight * p * (1.0 - p) * x[i] * x[j];
                    }
                }
            }
            for i in 0..N {
                let ridge = if i == 0 { 1e-9 } else { RIDGE };
                gradient[i] -= ridge * k[i];
                hessian[i][i] += ridge;
            }
            let Some(step) = solve(hessian, gradient) else { break };
            let mut largest = 0.0_f64;
            for (k, s) in k.iter_mut().zip(step) {
                // A separable sample would run away.
                *k = (*k + s.clamp(-2.0, 2.0)).clamp(-30.0, 30.0);
                largest = largest.max(s.abs());
            }
            if largest < 1e-10 {
                break;
            }
        }
        Self { coefficients: k }
    }

    pub(crate) fn probability(&self, x: &[f64; N]) -> f64 {
        sigmoid(dot(&self.coefficients, x))
    }
}

fn dot<const N: usize>(a: &[f64; N], b: &[f64; N]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The logistic curve.
pub(crate) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Gaussian elimination with row exchange; `None` if singular.
fn solve<const N: usize>(mut a: [[f64; N]; N], mut b: [f64; N]) -> Option<[f64; N]> {
    for i in 0..N {
        let pivot = (i..N).max_by(|x, y| a[*x][i].abs().total_cmp(&a[*y][i].abs()))?;
        a.swap(i, pivot);
        b.swap(i, pivot);
        if a[i][i].abs() < 1e-300 {
            return None;
        }
        for j in i + 1..N {
            let f = a[j][i] / a[i][i];
            let row = a[i];
            for (x, y) in a[j].iter_mut().zip(row).skip(i) {
                *x -= f * y;
            }
            b[j] -= f * b[i];
        }
    }
    let mut x = [0.0; N];
    for i in (0..N).rev() {
        let known: f64 = (i + 1..N).map(|j| a[i][j] * x[j]).sum();
        x[i] = (b[i] - known) / a[i][i];
    }
    Some(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Draws;

    #[test]
    fn coefficients_are_found_again() {
        let mut draws = Draws::new(5);
        let rows: Vec<Row<3>> = (0..20_000)
            .map(|_| {
                let x = [1.0, draws.normal(), draws.normal()];
                (x, draws.chance(sigmoid(-0.5 + 2.0 * x[1] - x[2])), 1.0)
            })
            .collect();
        let k = Logistic::fit(&rows).coefficients;
        for (got, asked) in k.iter().zip([-0.5, 2.0, -1.0]) {
            assert!((got - asked).abs() < 0.1, "{k:?}");
        }
    }

    #[test]
    fn a_constant_is_the_base_rate() {
        let rows = [([1.0, 0.0], true, 1.0), ([1.0, 0.0], false, 3.0)];
        assert!((Logistic::fit(&rows).probability(&[1.0, 0.0]) - 0.25).abs() < 1e-6);
        assert!((Logistic::<2>::fit(&[]).probability(&[1.0, 0.0]) - 0.5).abs() < 1e-9);
    }
}
