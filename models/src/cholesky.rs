//! Symmetric linear systems: Cholesky's factor, in place, over square matrices stored row by row.

/// Replaces the lower triangle of `a` (`n` by `n`) by its Cholesky factor; `None` if it is not positive definite relative
/// to its diagonal. The rest of `a` is not looked at.
pub(crate) fn factor(a: &mut [f64], n: usize) -> Option<()> {
    for i in 0..n {
        for j in 0..=i {
            let known: f64 = (0..j).map(|k| a[i * n + k] * a[j * n + k]).sum();
            let rest = a[i * n + j] - known;
            if i == j {
                if rest.is_nan() || rest <= 1e-12 * a[i * n + i].abs() {
                    return None;
                }
                a[i * n + i] = rest.sqrt();
            } else {
                a[i * n + j] = rest / a[j * n + j];
            }
        }
    }
    Some(())
}

/// Replaces `b` by x of L·Lᵀ·x = b, `l` being what [`factor`] left.
pub(crate) fn solve(l: &[f64], b: &mut [f64]) {
    let n = b.len();
    for i in 0..n {
        let known: f64 = (0..i).map(|k| l[i * n + k] * b[k]).sum();
        b[i] = (b[i] - known) / l[i * n + i];
    }
    for i in (0..n).rev() {
        let known: f64 = (i + 1..n).map(|k| l[k * n + i] * b[k]).sum();
        b[i] = (b[i] - known) / l[i * n + i];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_is_solved_and_a_singular_one_refused() {
        let mut a = [4.0, 0.0, 2.0, 3.0];
        let mut b = [10.0, 8.0];
        factor(&mut a, 2).unwrap();
        solve(&a, &mut b);
        assert!((b[0] - 1.75).abs() < 1e-12 && (b[1] - 1.5).abs() < 1e-12, "{b:?}");
        assert_eq!(factor(&mut [1.0, 1.0, 1.0, 1.0], 2), None);
        assert_eq!(factor(&mut [f64::NAN], 1), None);
    }
}
