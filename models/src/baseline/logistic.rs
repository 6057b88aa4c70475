//! Logistic regression with two inputs: Newton's method with a small ridge (le Cessie & van Houwelingen 1992).

/// Penalty on the squared coefficients (not on the intercept), in units of one row of weight one.
const RIDGE: f64 = 1e-3;

/// p = 1 / (1 + exp(−(a + b·x + c·y)))
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Logistic {
    coefficients: [f64; 3],
}

impl Logistic {
    /// Rows of inputs, label and weight. Inputs that never differ get no coefficient.
    pub(super) fn fit(rows: &[([f64; 2], bool, f64)]) -> Self {
        let mut k = [0.0_f64; 3];
        for _ in 0..50 {
            let mut gradient = [0.0; 3];
            let mut hessian = [[0.0; 3]; 3];
            for (x, label, weight) in rows {
                let x = [1.0, x[0], x[1]];
                let p = sigmoid(dot(&k, &x));
                let error = if *label { 1.0 - p } else { -p };
                for i in 0..3 {
                    gradient[i] += weight * error * x[i];
                    for j in 0..3 {
                        hessian[i][j] += weight * p * (1.0 - p) * x[i] * x[j];
                    }
                }
            }
            for i in 0..3 {
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

    pub(super) fn probability(&self, x: [f64; 2]) -> f64 {
        sigmoid(dot(&self.coefficients, &[1.0, x[0], x[1]]))
    }
}

fn dot(a: &[f64; 3], b: &[f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Gaussian elimination with row exchange; `None` if singular.
fn solve(mut a: [[f64; 3]; 3], mut b: [f64; 3]) -> Option<[f64; 3]> {
    for i in 0..3 {
        let pivot = (i..3).max_by(|x, y| a[*x][i].abs().total_cmp(&a[*y][i].abs()))?;
        a.swap(i, pivot);
        b.swap(i, pivot);
        if a[i][i].abs() < 1e-300 {
            return None;
        }
        for j in i + 1..3 {
            let f = a[j][i] / a[i][i];
            let row = a[i];
            for (x, y) in a[j].iter_mut().zip(row).skip(i) {
                *x -= f * y;
            }
            b[j] -= f * b[i];
        }
    }
    let mut x = [0.0; 3];
    for i in (0..3).rev() {
        let known: f64 = (i + 1..3).map(|j| a[i][j] * x[j]).sum();
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
        let rows: Vec<([f64; 2], bool, f64)> = (0..20_000)
            .map(|_| {
                let x = [draws.normal(), draws.normal()];
                (x, draws.chance(sigmoid(-0.5 + 2.0 * x[0] - x[1])), 1.0)
            })
            .collect();
        let k = Logistic::fit(&rows).coefficients;
        for (got, asked) in k.iter().zip([-0.5, 2.0, -1.0]) {
            assert!((got - asked).abs() < 0.1, "{k:?}");
        }
    }

    #[test]
    fn a_constant_is_the_base_rate() {
        let rows = [([0.0; 2], true, 1.0), ([0.0; 2], false, 3.0)];
        assert!((Logistic::fit(&rows).probability([0.0; 2]) - 0.25).abs() < 1e-6);
        assert!((Logistic::fit(&[]).probability([0.0; 2]) - 0.5).abs() < 1e-9);
    }
}
