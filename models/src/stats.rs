//! Small robust statistics over slices. None allocates more than a copy; empty input gives 0.

/// Factor from the median absolute deviation to the standard deviation of a normal.
const MAD_TO_SD: f64 = 1.482_602_218_505_602;

/// Golden ratio − 1.
pub(crate) const GOLDEN: f64 = 0.618_033_988_749_895;

/// The median; reorders the slice.
pub(crate) fn median_mut(x: &mut [f64]) -> f64 {
    let n = x.len();
    if n == 0 {
        return 0.0;
    }
    let (below, &mut mid, _) = x.select_nth_unstable_by(n / 2, f64::total_cmp);
    if n % 2 == 1 {
        return mid;
    }
    let other = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    mid + (other - mid) * 0.5
}

/// The median of a copy.
pub(crate) fn median(x: &[f64]) -> f64 {
    median_mut(&mut x.to_vec())
}

/// Robust standard deviation: scaled median absolute deviation, or, where more than half of the values are equal, the
/// plain root mean square around the median.
pub(crate) fn robust_sd(x: &[f64]) -> f64 {
    let mid = median(x);
    let mut dev: Vec<f64> = x.iter().map(|v| (v - mid).abs()).collect();
    let mad = median_mut(&mut dev) * MAD_TO_SD;
    if mad > 0.0 || x.is_empty() {
        return mad;
    }
    (dev.iter().map(|d| d * d).sum::<f64>() / x.len() as f64).sqrt()
}

/// Largest minus smallest.
pub(crate) fn range(x: &[f64]) -> f64 {
    let (lo, hi) = bounds(x);
    if lo <= hi { hi - lo } else { 0.0 }
}

/// Smallest and largest; (inf, -inf) if empty.
pub(crate) fn bounds(x: &[f64]) -> (f64, f64) {
    x.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), &v| (lo.min(v), hi.max(v)))
}

/// Standard deviation of white noise on top of a piecewise straight signal, from second differences.
pub(crate) fn noise_sd(x: &[f64]) -> f64 {
    if x.len() < 4 {
        return 0.0;
    }
    let mut d2: Vec<f64> = x.windows(3).map(|w| ((w[2] - w[1]) - (w[1] - w[0])).abs()).collect();
    median_mut(&mut d2) * MAD_TO_SD / 6_f64.sqrt()
}

/// The same from first differences: of a signal that mostly goes straight, with jumps.
pub(crate) fn step_sd(x: &[f64]) -> f64 {
    let mut d: Vec<f64> = x.windows(2).map(|w| w[1] - w[0]).collect();
    let middle = median_mut(&mut d);
    d.iter_mut().for_each(|d| *d = (*d - middle).abs());
    median_mut(&mut d) * MAD_TO_SD / 2_f64.sqrt()
}

/// Lag-1 autocorrelation of residuals, within [0, 0.95]: negative correlation is not used to claim more certainty.
pub(crate) fn autocorrelation(r: &[f64]) -> f64 {
    let n = r.len();
    if n < 4 {
        return 0.0;
    }
    let mean = r.iter().sum::<f64>() / n as f64;
    let var: f64 = r.iter().map(|v| (v - mean) * (v - mean)).sum();
    let cov: f64 = r.windows(2).map(|w| (w[0] - mean) * (w[1] - mean)).sum();
    if var > 0.0 { (cov / var).clamp(0.0, 0.95) } else { 0.0 }
}

/// Variance inflation of a mean of AR(1) residuals: n / n_eff.
pub(crate) fn inflation(rho: f64) -> f64 {
    (1.0 + rho) / (1.0 - rho)
}

/// Abramowitz & Stegun 7.1.26, error below 1.5e-7.
pub(crate) fn normal_cdf(z: f64) -> f64 {
    let x = z.abs() * std::f64::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let poly = t
        * (0.254_829_592
            + t * (-0.284_496_736
                + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429))));
    let half = 0.5 * poly * (-x * x).exp();
    if z >= 0.0 { 1.0 - half } else { half }
}

/// One-sided p-value of an upward trend: Mann (1945), Kendall (1975), normal approximation with tie and continuity
/// correction.
pub(crate) fn kendall_p(y: &[f64]) -> f64 {
    let n = y.len();
    if n < 4 {
        return 1.0;
    }
    let mut s = 0_i64;
    for (i, a) in y.iter().enumerate() {
        for b in &y[i + 1..] {
            s += i64::from(b > a) - i64::from(b < a);
        }
    }
    let mut sorted = y.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let ties: f64 = sorted
        .chunk_by(|a, b| a == b)
        .map(|c| c.len() as f64)
        .map(|t| t * (t - 1.0) * (2.0 * t + 5.0))
        .sum();
    let m = n as f64;
    let var = (m * (m - 1.0) * (2.0 * m + 5.0) - ties) / 18.0;
    if var <= 0.0 || s <= 0 {
        return if s < 0 { 1.0 } else { 0.5 };
    }
    1.0 - normal_cdf((s as f64 - 1.0) / var.sqrt())
}

/// Smallest posterior probability of "no trend" that a p-value allows at even prior odds: Sellke, Bayarri & Berger
/// (2001), The American Statistician 55(1).
pub(crate) fn null_posterior(p: f64) -> f64 {
    if p >= 1.0 / std::f64::consts::E {
        return 0.5;
    }
    let bound = -std::f64::consts::E * p * p.max(1e-300).ln();
    bound / (1.0 + bound)
}

/// Means of `k` blocks of nearly equal length (the values themselves if there are no more than `k`).
pub(crate) fn block_means(y: &[f64], k: usize) -> Vec<f64> {
    let n = y.len();
    if n <= k {
        return y.to_vec();
    }
    (0..k)
        .map(|b| {
            let block = &y[b * n / k..(b + 1) * n / k];
            block.iter().sum::<f64>() / block.len() as f64
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
        assert_eq!(median(&[4.0, 1.0, 9.0, 2.0]), 3.0);
    }

    #[test]
    fn trend_test() {
        let up: Vec<f64> = (0..12).map(f64::from).collect();
        assert!(kendall_p(&up) < 1e-4);
        let down: Vec<f64> = up.iter().map(|v| -v).collect();
        assert_eq!(kendall_p(&down), 1.0);
        assert_eq!(kendall_p(&[1.0; 12]), 0.5);
        // Exact: 1/24 for four rising values.
        assert!((kendall_p(&up[..4]) - 1.0 / 24.0).abs() < 0.005);
    }

    #[test]
    fn null_posterior_falls_with_p() {
        assert!((null_posterior(0.05) - 0.289).abs() < 0.001);
        assert!(null_posterior(0.001) < 0.02);
        assert_eq!(null_posterior(0.9), 0.5);
        assert!(null_posterior(0.0) < 1e-12);
    }

    #[test]
    fn normal() {
        assert!((normal_cdf(1.96) - 0.975).abs() < 1e-4);
        assert!((normal_cdf(-1.0) - 0.158_655).abs() < 1e-5);
    }

    #[test]
    fn noise_ignores_a_ramp() {
        let ramp: Vec<f64> = (0..50).map(|i| 7.0 * f64::from(i)).collect();
        assert_eq!(noise_sd(&ramp), 0.0);
    }
}
