//! Exact upper bounds of counts.

/// Upper 95 % bound of a rate of which `hits` of `n` were seen: Clopper & Pearson (1934), one-sided. 1 for `n` = 0.
#[must_use]
pub fn binomial_upper95(hits: usize, n: usize) -> f64 {
    if hits >= n {
        return 1.0;
    }
    bisect(1.0, |p| binomial_cdf(hits, n, p))
}

/// Upper 95 % bound of the mean of a Poisson count: Garwood (1936), one-sided.
#[must_use]
pub fn poisson_upper95(count: usize) -> f64 {
    // The bound is below this for every count.
    let top = 10.0 + 2.0 * count as f64;
    bisect(top, |mean| poisson_cdf(count, mean))
}

/// Where the falling `cdf` meets 5 %.
fn bisect(top: f64, cdf: impl Fn(f64) -> f64) -> f64 {
    let (mut low, mut high) = (0.0, top);
    for _ in 0..60 {
        let mid = 0.5 * (low + high);
        if cdf(mid) > 0.05 {
            low = mid;
        } else {
            high = mid;
        }
    }
    0.5 * (low + high)
}

fn binomial_cdf(k: usize, n: usize, p: f64) -> f64 {
    if p <= 0.0 {
        return 1.0;
    }
    if p >= 1.0 {
        return 0.0;
    }
    let mut log = n as f64 * (-p).ln_1p();
    let mut sum = log.exp();
    for i in 0..k {
        log += ((n - i) as f64 / (i + 1) as f64).ln() + p.ln() - (-p).ln_1p();
        sum += log.exp();
    }
    sum
}

fn poisson_cdf(k: usize, mean: f64) -> f64 {
    let mut log = -mean;
    let mut sum = log.exp();
    for i in 1..=k {
        log += mean.max(f64::MIN_POSITIVE).ln() - (i as f64).ln();
        sum += log.exp();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_bounds() {
        // The rule of three, and tabulated values.
        assert!((poisson_upper95(0) - 2.996).abs() < 0.001);
        assert!((poisson_upper95(5) - 10.513).abs() < 0.001);
        assert!((binomial_upper95(0, 100) - 0.029_51).abs() < 1e-4);
        assert!((binomial_upper95(3, 50) - 0.147_8).abs() < 1e-3);
        assert_eq!(binomial_upper95(4, 4), 1.0);
        assert_eq!(binomial_upper95(0, 0), 1.0);
    }
}
