//! First passage: when a drawn course of the level, with the peaks around it, first meets the threshold.

use crate::fit::Trend;
use crate::residuals::Peaks;

/// Blocks looked at one by one; after them the stride grows by half each time.
const SINGLE: u32 = 24;

/// When `trend` plus the running maximum of its peaks reaches `threshold`, in units of u from now; infinite if not
/// before `until`. `e` is a unit exponential draw.
///
/// A block is survived with probability F(threshold − trend). So the time of the hit is where the sum of −ln F first
/// exceeds `e`; with the same `e` a higher threshold never gives an earlier hit.
pub(crate) fn first_passage(
    trend: &Trend<'_>,
    peaks: &Peaks,
    threshold: f64,
    e: f64,
    until: f64,
) -> f64 {
    // Before `from` no peak is high enough; from `to` on every one is.
    let from = trend.reaches(threshold - peaks.highest());
    if from > until {
        return f64::INFINITY;
    }
    let block = peaks.block;
    let to = trend.reaches(threshold - peaks.lowest());
    let quick = to - from <= block;
    if quick || block <= 0.0 {
        let hit = trend.reaches(threshold - peaks.quantile(e));
        return if hit <= until { hit } else { f64::INFINITY };
    }
    let mut t = (from / block).floor() * block;
    let (mut left, mut stride, mut steps) = (e, block, 0_u32);
    while t <= until {
        let here = peaks.hazard(threshold - trend.at(t + 0.5 * stride)) * (stride / block);
        if here >= left {
            let hit = (t + stride * (left / here)).max(from);
            return if hit <= until { hit } else { f64::INFINITY };
        }
        left -= here;
        t += stride;
        steps += 1;
        if steps > SINGLE {
            stride *= 1.5;
        }
    }
    f64::INFINITY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_peaks_it_is_the_trend() {
        let peaks = Peaks::new(&[0.0; 5], 0.01);
        let line = Trend::Line { level: 0.0, slope: 2.0 };
        assert!((first_passage(&line, &peaks, 1.0, 1.0, 10.0) - 0.5).abs() < 1e-9);
        assert_eq!(first_passage(&line, &peaks, 1.0, 1.0, 0.4), f64::INFINITY);
        let down = Trend::Line { level: 0.0, slope: -2.0 };
        assert_eq!(first_passage(&down, &peaks, 1.0, 1.0, 10.0), f64::INFINITY);
    }

    #[test]
    fn peaks_hit_before_the_trend_does() {
        let peaks = Peaks::new(&[0.05, 0.1, 0.15, 0.2, 0.1], 0.01);
        let line = Trend::Line { level: 0.0, slope: 0.5 };
        let hit = first_passage(&line, &peaks, 1.0, 0.7, 10.0);
        assert!(hit > 1.5 && hit < 1.9, "{hit}");
    }

    #[test]
    fn a_higher_threshold_is_not_met_earlier() {
        let peaks = Peaks::new(&[0.05, 0.1, 0.15, 0.2, 0.1], 0.01);
        for slope in [0.001, 0.1, 3.0] {
            let line = Trend::Line { level: 0.0, slope };
            let mut last = 0.0;
            for i in 1..200 {
                let hit = first_passage(&line, &peaks, 0.01 * f64::from(i), 0.7, 1e6);
                assert!(hit >= last - 1e-9, "slope {slope}, threshold {i} %: {hit} after {last}");
                last = hit;
            }
        }
    }
}
