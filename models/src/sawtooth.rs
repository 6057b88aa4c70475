//! Turning points of a course that goes up and down: the teeth of a garbage collector, bursts and their release.

use crate::stats;

/// A turn of the course: index of its extreme point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) at: usize,
    pub(crate) is_peak: bool,
}

/// A swing counts if it is larger than this share of the range of the detrended course …
const SWING_OF_RANGE: f64 = 0.35;
/// … and than so many standard deviations of the noise between neighbours.
const SWING_OF_NOISE: f64 = 6.0;

/// Smallest swings that are turns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Swings {
    /// Whatever the noise between neighbours.
    pub(crate) coarse: f64,
    /// Of a course that mostly goes straight from one row to the next.
    pub(crate) jump: f64,
    /// Of any.
    pub(crate) clear: f64,
}

impl Swings {
    pub(crate) fn of(t: &[f64], y: &[f64]) -> Self {
        let n = y.len() as f64;
        let (mt, my) = (t.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
        let (stt, sty) = t.iter().zip(y).fold((0.0, 0.0), |(stt, sty), (t, y)| {
            (stt + (t - mt) * (t - mt), sty + (t - mt) * (y - my))
        });
        let slope = if stt > 0.0 { sty / stt } else { 0.0 };
        let (lo, hi) = t
            .iter()
            .zip(y)
            .map(|(t, y)| y - slope * (t - mt))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), r| (lo.min(r), hi.max(r)));
        let coarse = SWING_OF_RANGE * (hi - lo);
        let over = |noise: f64| coarse.max(SWING_OF_NOISE * noise);
        Self { coarse, jump: over(stats::step_sd(y)), clear: over(stats::noise_sd(y)) }
    }
}

/// Alternating turns, each at least `swing` away from the one before. The last one is the extreme that the course has
/// left by `swing`; the extreme it is heading for is not known yet and not listed. The start is not a turn.
pub(crate) fn turns(y: &[f64], swing: f64) -> Vec<Turn> {
    let mut out = Vec::new();
    if swing <= 0.0 || swing.is_nan() || y.is_empty() {
        return out;
    }
    let (mut high, mut low) = (0, 0);
    // 1 rising, −1 falling, 0 not known yet.
    let mut direction = 0;
    for i in 1..y.len() {
        if y[i] > y[high] {
            high = i;
        }
        if y[i] < y[low] {
            low = i;
        }
        if direction >= 0 && y[high] - y[i] >= swing {
            out.push(Turn { at: high, is_peak: true });
            direction = -1;
            low = i;
        } else if direction <= 0 && y[i] - y[low] >= swing {
            out.push(Turn { at: low, is_peak: false });
            direction = 1;
            high = i;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn teeth() {
        let y: Vec<f64> = (0..45).map(|i| f64::from(i % 10) + 0.1 * f64::from(i)).collect();
        let t: Vec<f64> = (0..45).map(f64::from).collect();
        let found = turns(&y, Swings::of(&t, &y).clear);
        let at: Vec<(usize, bool)> = found.iter().map(|t| (t.at, t.is_peak)).collect();
        assert_eq!(
            at,
            [
                (0, false),
                (9, true),
                (10, false),
                (19, true),
                (20, false),
                (29, true),
                (30, false),
                (39, true),
                (40, false)
            ]
        );
    }

    #[test]
    fn a_line_has_no_turn_but_its_start() {
        let y: Vec<f64> = (0..45).map(f64::from).collect();
        assert!(turns(&y, Swings::of(&y, &y).clear).iter().all(|t| t.at == 0));
        assert!(turns(&[1.0; 9], 0.0).is_empty());
    }
}
