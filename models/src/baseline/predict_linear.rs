//! Prometheus' `predict_linear`, for comparison.

/// What `predict_linear(metric[window], ahead)` answers at `at_us`: the least-squares line through the samples in
/// (at − window, at], its value `ahead_s` seconds after `at_us`. Source: the Prometheus query language documentation.
///
/// Samples that are not finite are skipped (Prometheus has none: it removes stale markers). `None` with fewer than two
/// samples, with one time only, or where the slices differ in length.
#[must_use]
pub fn predict_linear(
    ts_us: &[i64],
    value: &[f64],
    at_us: i64,
    window_s: f64,
    ahead_s: f64,
) -> Option<f64> {
    if ts_us.len() != value.len() {
        return None;
    }
    let seconds = |ts: i64| (i128::from(ts) - i128::from(at_us)) as f64 * 1e-6;
    let inside = || {
        ts_us
            .iter()
            .zip(value)
            .map(|(&t, &v)| (seconds(t), v))
            .filter(|&(x, y)| x <= 0.0 && x > -window_s && y.is_finite())
    };
    let (n, sx, sy) =
        inside().fold((0.0, 0.0, 0.0), |(n, sx, sy), (x, y)| (n + 1.0, sx + x, sy + y));
    if n < 2.0 {
        return None;
    }
    // Centred sums: the plain ones lose all digits on byte counts.
    let (mx, my) = (sx / n, sy / n);
    let (sxx, sxy) = inside().fold((0.0, 0.0), |(sxx, sxy), (x, y)| {
        (sxx + (x - mx) * (x - mx), sxy + (x - mx) * (y - my))
    });
    (sxx > 0.0).then(|| my + sxy / sxx * (ahead_s - mx))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_on() {
        let ts: Vec<i64> = (0..60).map(|i| i * 1_000_000).collect();
        let v: Vec<f64> = (0..60).map(|i| 5.0 + 2.0 * f64::from(i)).collect();
        let p = predict_linear(&ts, &v, 59_000_000, 30.0, 100.0).unwrap();
        assert!((p - (5.0 + 2.0 * 159.0)).abs() < 1e-9);
        // The window is open on the left, closed on the right; later samples are not seen.
        let p = predict_linear(&ts, &v, 10_000_000, 1.0, 0.0);
        assert_eq!(p, None);
        let p = predict_linear(&ts, &v, 10_000_000, 1.5, 0.0).unwrap();
        assert!((p - 25.0).abs() < 1e-9);
    }

    #[test]
    fn constant_stays() {
        let p = predict_linear(&[0, 1_000_000], &[3.0, 3.0], 1_000_000, 10.0, 1e6);
        assert_eq!(p, Some(3.0));
    }

    #[test]
    fn cannot_say() {
        assert_eq!(predict_linear(&[], &[], 0, 10.0, 1.0), None);
        assert_eq!(predict_linear(&[0, 0], &[1.0, 2.0], 0, 10.0, 1.0), None);
        assert_eq!(predict_linear(&[0, 1], &[1.0], 0, 10.0, 1.0), None);
        assert_eq!(predict_linear(&[-1, 0], &[f64::NAN, 2.0], 0, 10.0, 1.0), None);
    }
}
