//! Teeth to come, replayed from those that were seen.
//!
//! A tooth begins anew at each fall, so whole teeth are drawn again, with their heights and lengths (the bootstrap of what
//! regenerates: Athreya & Fuh 1992, Statistics & Probability Letters 13). The present one goes on as one that lasted for as
//! long: the next peak does not come at just any time.

use crate::fit::Trend;
use crate::stats;

/// Fewer whole teeth say nothing about the next.
const MIN_TEETH: usize = 3;
/// After so many teeth to come nothing is left of the phase.
const AHEAD: usize = 24;
/// A tooth is followed at so many points at most: the highest rows of as many runs of its rows.
const POINTS: usize = 32;
/// Golden ratio − 1: steps of it around a circle leave no part of it out (Weyl).
const GOLDEN: f64 = 0.618_033_988_749_895;

/// A whole tooth, from fall to fall.
#[derive(Debug, Clone)]
struct Tooth {
    length: f64,
    highest: f64,
    /// Its points, and one past them.
    points: (usize, usize),
}

/// The teeth that were seen, over the trend of their peaks.
#[derive(Debug, Clone)]
pub(crate) struct Cycles {
    teeth: Vec<Tooth>,
    /// Time since the start of its tooth, and height.
    points: Vec<(f64, f64)>,
    /// Teeth that lasted for longer than the present one has.
    longer: Vec<usize>,
    /// Age of the present one.
    since: f64,
}

impl Cycles {
    /// `residuals` of the rows at the rising times `u` (the last one is now) over the trend of the `peaks`, which are rows;
    /// `None` where too few whole teeth were seen.
    pub(crate) fn new(u: &[f64], residuals: &[f64], peaks: &[usize]) -> Option<Self> {
        let last = u.len().checked_sub(1)?;
        let step = |j: usize| residuals[j + 1] - residuals[j];
        // A tooth ends with the deepest fall before the next peak.
        let start_after = |i: usize, peak: usize| -> Option<usize> {
            let end = peaks.get(i + 1).map_or(last, |next| *next);
            (peak..end).min_by(|a, b| step(*a).total_cmp(&step(*b))).map(|j| j + 1)
        };
        let starts: Vec<usize> =
            peaks.iter().enumerate().filter_map(|(i, peak)| start_after(i, *peak)).collect();
        if starts.len() <= MIN_TEETH {
            return None;
        }
        // The fall comes between two rows: until then the tooth went on rising.
        let mut steps: Vec<f64> = (0..last).map(step).collect();
        let unseen = 0.5 * stats::median_mut(&mut steps).max(0.0);
        let mut points = Vec::new();
        let tooth = |w: &[usize]| {
            let (begin, end) = (w[0], w[1]);
            let from = points.len();
            let per = (end - begin).div_ceil(POINTS).max(1);
            for at in (begin..end).step_by(per) {
                let run = at..(at + per).min(end);
                let top = run.max_by(|a, b| residuals[*a].total_cmp(&residuals[*b])).unwrap_or(at);
                points.push((u[top] - u[begin], residuals[top]));
            }
            let length = u[end] - u[begin];
            points.push((length - 0.5 * (u[end] - u[end - 1]), residuals[end - 1] + unseen));
            let highest = points[from..].iter().map(|p| p.1).fold(f64::NEG_INFINITY, f64::max);
            Tooth { length, highest, points: (from, points.len()) }
        };
        let teeth: Vec<Tooth> = starts.windows(2).map(tooth).collect();
        let since = u[last] - u[starts[starts.len() - 1]];
        let longer = (0..teeth.len()).filter(|&i| teeth[i].length > since).collect();
        Some(Self { teeth, points, longer, since })
    }

    /// When `trend` with teeth to come first reaches `threshold`, in units of u from now; as an error the time up to which
    /// it does not, if nothing is said beyond. Before `from` it is not looked for; `draw` in [0, 1] chooses the teeth.
    pub(crate) fn first_passage(
        &self,
        trend: &Trend<'_>,
        threshold: f64,
        from: f64,
        draw: f64,
    ) -> Result<f64, f64> {
        let mut start = -self.since;
        for k in 0..AHEAD {
            let x = (draw + k as f64 * GOLDEN).fract();
            let one_of = |n: usize| ((x * n as f64) as usize).min(n - 1);
            let tooth = match k {
                // It has lasted for longer than any: its fall is due.
                0 if self.longer.is_empty() => {
                    start = 0.0;
                    continue;
                }
                0 => &self.teeth[self.longer[one_of(self.longer.len())]],
                _ => &self.teeth[one_of(self.teeth.len())],
            };
            let begin = start;
            start += tooth.length;
            let highest = trend.at(begin.max(0.0)).max(trend.at(start)) + tooth.highest;
            if start >= from
                && highest >= threshold
                && let Some(hit) = self.hit(tooth, trend, threshold, begin)
            {
                return Ok(hit);
            }
        }
        Err(start)
    }

    /// When the tooth that starts at `begin` first reaches `threshold` from now on.
    fn hit(&self, tooth: &Tooth, trend: &Trend<'_>, threshold: f64, begin: f64) -> Option<f64> {
        let mut before: Option<(f64, f64)> = None;
        for (since, height) in &self.points[tooth.points.0..tooth.points.1] {
            let at = begin + since;
            let gap = threshold - trend.at(at) - height;
            if at >= 0.0 && gap <= 0.0 {
                // Straight from the point before.
                let back =
                    before.filter(|b| b.1 > 0.0).map_or(0.0, |b| (at - b.0) * gap / (gap - b.1));
                return Some((at - back).max(0.0));
            }
            before = Some((at, gap));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of a saw under 0 with 20 rows a tooth, the last fall `since` rows ago.
    fn saw(rows: i32, since: i32) -> (Vec<f64>, Vec<f64>, Vec<usize>) {
        let u: Vec<f64> = (1 - rows..=0).map(|i| f64::from(i) / 100.0).collect();
        let phase = |i: i32| (i + since).rem_euclid(20);
        let y = (1 - rows..=0).map(|i| 0.01 * f64::from(phase(i) - 19)).collect();
        let peaks = (0..rows - 1).filter(|i| phase(i + 1 - rows) == 19);
        (u, y, peaks.map(|i| i as usize).collect())
    }

    #[test]
    fn the_next_peak_comes_when_it_is_due() {
        for since in [0, 3, 12, 18] {
            let (u, y, peaks) = saw(200, since);
            let cycles = Cycles::new(&u, &y, &peaks).unwrap();
            // Just below the threshold until the next peak.
            let level = Trend::Line { level: 0.995, slope: 0.0 };
            for draw in [0.0, 0.3, 0.99, 1.0] {
                let hit = cycles.first_passage(&level, 0.99, 0.0, draw).unwrap();
                let due = f64::from(19 - since) / 100.0;
                assert!((hit - due).abs() < 0.011, "since {since}: {hit}, due {due}");
            }
            // One that rises by a tenth of a tooth in a tooth meets it at the next peak but one.
            let slope = Trend::Line { level: 0.99 - 0.001 * f64::from(19 - since), slope: 0.1 };
            let hit = cycles.first_passage(&slope, 1.001, 0.0, 0.5).unwrap();
            let due = f64::from(39 - since) / 100.0;
            assert!((hit - due).abs() < 0.011, "since {since}: {hit}, due {due}");
        }
    }

    #[test]
    fn what_is_too_far_is_left_open() {
        let (u, y, peaks) = saw(200, 5);
        let cycles = Cycles::new(&u, &y, &peaks).unwrap();
        let flat = Trend::Line { level: 0.0, slope: 0.0 };
        let open = cycles.first_passage(&flat, 1.0, 0.0, 0.5).unwrap_err();
        assert!((open - (24.0 * 0.2 - 0.05)).abs() < 0.011, "{open}");
        // One that should have fallen long ago falls at once.
        let cycles = Cycles { since: 0.5, longer: vec![], ..cycles };
        let level = Trend::Line { level: 0.995, slope: 0.0 };
        let hit = cycles.first_passage(&level, 0.99, 0.0, 0.5).unwrap();
        assert!((hit - 0.19).abs() < 0.011, "{hit}");
    }

    #[test]
    fn too_few_teeth() {
        let (u, y, peaks) = saw(65, 5);
        assert!(Cycles::new(&u, &y, &peaks).is_none());
        assert!(Cycles::new(&[], &[], &[]).is_none());
    }
}
