//! First passage: when a drawn course of the level, with the peaks around it, first meets the threshold.

use crate::cycles::Cycles;
use crate::fit::Trend;
use crate::residuals::{Peaks, Rises};

/// Blocks looked at one by one; after them the stride grows by half each time.
const SINGLE: u32 = 24;

/// What the threshold sees of the value above its trend.
#[derive(Debug, Clone)]
pub(crate) struct Above<'a> {
    pub(crate) peaks: Peaks,
    pub(crate) replay: Replay<'a>,
}

/// How the past is replayed where it is of more use than the distribution of the peaks.
#[derive(Debug, Clone)]
pub(crate) enum Replay<'a> {
    /// Not at all.
    Never,
    /// Where the trend passes all peaks quickly.
    Rises(Rises<'a>),
    /// As far as the phase of the teeth is known.
    Cycles(Cycles),
}

/// When `trend` plus the running maximum of its peaks reaches `threshold`, in units of u from now; infinite if not
/// before `until`. `e` is a unit exponential draw.
///
/// A block is survived with probability F(threshold − trend). So the time of the hit is where the sum of −ln F first
/// exceeds `e`; with the same `e` a higher threshold never gives an earlier hit.
///
/// A trend that passes all peaks within one block does not meet the maximum of a whole block: there the rises tell how high
/// above it the threshold is met, given that it was not until now. Teeth are followed one by one for as long as their phase
/// is known.
pub(crate) fn first_passage(
    trend: &Trend<'_>,
    above: &mut Above<'_>,
    threshold: f64,
    e: f64,
    until: f64,
) -> f64 {
    let peaks = &above.peaks;
    // Before `from` no peak is high enough; from `to` on every one is.
    let from = trend.reaches(threshold - peaks.highest());
    if from > until {
        return f64::INFINITY;
    }
    let block = peaks.block;
    let from = match &above.replay {
        Replay::Cycles(cycles) => match cycles.first_passage(trend, threshold, from, (-e).exp()) {
            Ok(hit) => return if hit <= until { hit } else { f64::INFINITY },
            Err(open) => from.max(open),
        },
        Replay::Never | Replay::Rises(_) => from,
    };
    let to = trend.reaches(threshold - peaks.lowest());
    let quick = to - from <= block;
    let slope = (trend.at(to) - trend.at(from)) / (to - from);
    if let Replay::Rises(rises) = &mut above.replay
        && quick
        && slope > 0.0
        && slope.is_finite()
    {
        let met = rises.with_slope(slope);
        // Until now it was not met.
        let e = e + met.hazard(threshold - trend.at(0.0));
        let hit = trend.reaches(threshold - met.quantile(e));
        return if hit <= until { hit } else { f64::INFINITY };
    }
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

    fn above(maxima: &[f64]) -> Above<'static> {
        Above { peaks: Peaks::new(maxima, 0.01), replay: Replay::Never }
    }

    #[test]
    fn without_peaks_it_is_the_trend() {
        let mut above = above(&[0.0; 5]);
        let line = Trend::Line { level: 0.0, slope: 2.0 };
        assert!((first_passage(&line, &mut above, 1.0, 1.0, 10.0) - 0.5).abs() < 1e-9);
        assert_eq!(first_passage(&line, &mut above, 1.0, 1.0, 0.4), f64::INFINITY);
        let down = Trend::Line { level: 0.0, slope: -2.0 };
        assert_eq!(first_passage(&down, &mut above, 1.0, 1.0, 10.0), f64::INFINITY);
    }

    #[test]
    fn peaks_hit_before_the_trend_does() {
        let mut above = above(&[0.05, 0.1, 0.15, 0.2, 0.1]);
        let line = Trend::Line { level: 0.0, slope: 0.5 };
        let hit = first_passage(&line, &mut above, 1.0, 0.7, 10.0);
        assert!(hit > 1.5 && hit < 1.9, "{hit}");
    }

    /// A saw under a line: what is said is what comes if it goes on, between the rows too.
    #[test]
    fn a_steep_rise_is_hit_where_it_was_before() {
        let noise = |row: f64| 0.02 * (row / 9.7).rem_euclid(1.0);
        let rows = || (-1000..=0).map(f64::from);
        let u: Vec<f64> = rows().map(|i| i / 1000.0).collect();
        let residuals: Vec<f64> = rows().map(noise).collect();
        let mut above = Above {
            peaks: Peaks::in_blocks(&u, &residuals, 20),
            replay: Replay::Rises(Rises::new(&u, &residuals)),
        };
        let line = Trend::Line { level: 0.0, slope: 1.0 };
        let (mut said, mut comes) = (0.0, 0.0);
        for k in 0..100 {
            let threshold = 0.1 + 0.001 * f64::from(k);
            let e = -((f64::from(k * 37 % 100) + 0.5) / 100.0).ln();
            said += first_passage(&line, &mut above, threshold, e, 10.0);
            let row = |i: i32| f64::from(i) / 20.0;
            let met = |i: &i32| row(*i) / 1000.0 + noise(row(*i)) >= threshold;
            comes += row((0..).find(met).unwrap()) / 1000.0;
        }
        assert!((said / comes - 1.0).abs() < 0.01, "{said} {comes}");
        above.replay = Replay::Never;
        assert!(first_passage(&line, &mut above, 0.1, 0.7, 10.0) < 0.082);
    }

    #[test]
    fn a_higher_threshold_is_not_met_earlier() {
        let mut above = above(&[0.05, 0.1, 0.15, 0.2, 0.1]);
        for slope in [0.001, 0.1, 3.0] {
            let line = Trend::Line { level: 0.0, slope };
            let mut last = 0.0;
            for i in 1..200 {
                let hit = first_passage(&line, &mut above, 0.01 * f64::from(i), 0.7, 1e6);
                assert!(hit >= last - 1e-9, "slope {slope}, threshold {i} %: {hit} after {last}");
                last = hit;
            }
        }
    }
}
