//! Teeth to come, replayed from those that were seen.
//!
//! A tooth begins anew at each fall, so whole teeth are drawn again, with their heights and lengths (the bootstrap of what
//! regenerates: Athreya & Fuh 1992, Statistics & Probability Letters 13). The present one goes on as one that lasted for as
//! long: the next peak does not come at just any time. What rises at once (a job that keeps something each time it runs) or
//! for a while (one that gives it back) is told by the same means.

use crate::fit::Trend;
use crate::prepare::Points;
use crate::sawtooth::Swings;
use crate::{segment, stats};

/// Fewer whole teeth say nothing about the next.
const MIN_TEETH: usize = 3;
/// After so many teeth to come nothing is left of the phase.
const AHEAD: usize = 24;
/// A tooth is followed at so many points at most: the highest rows of as many runs of its rows.
const POINTS: usize = 32;
/// A clock shows after so many intervals, by a correlation of neighbours of no more than this (−½ for nothing but jitter).
const CLOCK_LENGTHS: usize = 6;
const CLOCK: f64 = -0.25;
/// Largest standard deviation of the lengths, as a share of their mean, of steps that have a phase (random times: 1).
const REGULAR: f64 = 0.6;
/// What repeats is known at so many phases.
const PHASES: usize = 16;

/// A whole tooth, from fall to fall.
#[derive(Debug, Clone)]
struct Tooth {
    length: f64,
    highest: f64,
    /// Its points, and one past them.
    points: (usize, usize),
}

/// The teeth that were seen, over their trend.
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
    /// `residuals` of the rows at the rising times `u` (the last one is now) over their trend, and the first rows of the teeth,
    /// from the second row on; `None` where too few whole teeth were seen.
    pub(crate) fn new(u: &[f64], residuals: &[f64], starts: &[usize]) -> Option<Self> {
        let last = u.len().checked_sub(1)?;
        let step = |j: usize| residuals[j + 1] - residuals[j];
        if starts.len() <= MIN_TEETH {
            return None;
        }
        // The fall comes between two rows: until then the tooth went on rising.
        let mut steps: Vec<f64> = (0..last).map(step).collect();
        let unseen = 0.5 * stats::median_mut(&mut steps).max(0.0);
        // A step comes between two rows.
        let mut origins: Vec<f64> = starts.iter().map(|s| 0.5 * (u[s - 1] + u[*s])).collect();
        keep_time(&mut origins);
        let mut points = Vec::new();
        let tooth = |(i, w): (usize, &[usize])| {
            let (begin, end) = (w[0], w[1]);
            let (origin, length) = (origins[i], origins[i + 1] - origins[i]);
            let from = points.len();
            if step(begin - 1) > 0.0 {
                points.push((0.0, residuals[begin]));
            }
            let per = (end - begin).div_ceil(POINTS).max(1);
            for at in (begin..end).step_by(per) {
                let run = at..(at + per).min(end);
                let top = run.max_by(|a, b| residuals[*a].total_cmp(&residuals[*b])).unwrap_or(at);
                points.push(((u[top] - origin).clamp(0.0, length), residuals[top]));
            }
            points.push((length, residuals[end - 1] + unseen));
            let highest = points[from..].iter().map(|p| p.1).fold(f64::NEG_INFINITY, f64::max);
            Tooth { length, highest, points: (from, points.len()) }
        };
        let teeth: Vec<Tooth> = starts.windows(2).enumerate().map(tooth).collect();
        let since = u[last] - origins[origins.len() - 1];
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
            // Steps of the golden ratio around a circle leave no part of it out (Weyl).
            let x = (draw + k as f64 * stats::GOLDEN).fract();
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

/// The rows after the falls that end the teeth with these `peaks`: each the deepest before the next peak.
pub(crate) fn falls(y: &[f64], peaks: &[usize]) -> Vec<usize> {
    let last = y.len().saturating_sub(1);
    let step = |j: usize| y[j + 1] - y[j];
    let start_after = |(i, peak): (usize, &usize)| {
        let end = peaks.get(i + 1).map_or(last, |next| *next);
        (*peak..end).min_by(|a, b| step(*a).total_cmp(&step(*b))).map(|j| j + 1)
    };
    peaks.iter().enumerate().filter_map(start_after).collect()
}

/// The rows after the steps, where `residuals` at the times `u` fall, or rise, at once and by as much again and again.
pub(crate) fn steps(u: &[f64], residuals: &[f64]) -> Option<Vec<usize>> {
    let swings = Swings::of(u, residuals);
    let of = |v: &[f64]| {
        Some(falls(v, &segment::falls_of(v, swings)?)).filter(|steps| are_regular(u, steps))
    };
    of(residuals).or_else(|| of(&residuals.iter().map(|r| -r).collect::<Vec<_>>()))
}

fn lengths(u: &[f64], steps: &[usize]) -> Vec<f64> {
    steps.windows(2).map(|w| u[w[1]] - u[w[0]]).collect()
}

/// Whether the lengths between the steps are similar: what comes at random times has no phase.
fn are_regular(u: &[f64], steps: &[usize]) -> bool {
    let lengths = lengths(u, steps);
    let n = lengths.len() as f64;
    let mean = lengths.iter().sum::<f64>() / n;
    let var = lengths.iter().map(|l| (l - mean) * (l - mean)).sum::<f64>() / n;
    var.sqrt() < REGULAR * mean
}

/// The course without what repeats from step to step: the mean of `residuals` at each phase is taken off.
pub(crate) fn without_steps(course: &Points, residuals: &[f64], steps: &[usize]) -> Points {
    let u = &course.u;
    let typical = stats::median_mut(&mut lengths(u, steps));
    // Before the first step and after the last one phases are those of a typical length.
    let phase = |row: usize| -> usize {
        let next = steps.partition_point(|s| *s <= row);
        let x = match (next.checked_sub(1).map(|i| u[steps[i]]), steps.get(next).map(|s| u[*s])) {
            (Some(from), Some(to)) => (u[row] - from) / (to - from),
            (Some(from), None) => ((u[row] - from) / typical).min(1.0),
            (None, Some(to)) => ((u[row] - to) / typical).rem_euclid(1.0),
            (None, None) => 0.0,
        };
        ((x * PHASES as f64) as usize).min(PHASES - 1)
    };
    let mut sums = [(0.0, 0.0); PHASES];
    for (row, r) in residuals.iter().enumerate() {
        let s = &mut sums[phase(row)];
        *s = (s.0 + r, s.1 + 1.0);
    }
    let less = |row: usize| {
        let (sum, count) = sums[phase(row)];
        sum / count
    };
    let y = course.y.iter().enumerate().map(|(row, y)| y - less(row)).collect();
    Points { u: u.clone(), y }
}

/// Where a clock makes the steps (each interval that is too long is made up for by the next one: a negative correlation of
/// neighbours, as of jitter around even times), their times are those of the clock.
fn keep_time(times: &mut [f64]) {
    let n = times.len();
    let lengths: Vec<f64> = times.windows(2).map(|w| w[1] - w[0]).collect();
    let mean = (times[n - 1] - times[0]) / lengths.len() as f64;
    let off = |w: &[f64]| (w[0] - mean) * (w[1] - mean);
    let together: f64 = lengths.windows(2).map(off).sum();
    let var: f64 = lengths.iter().map(|l| (l - mean) * (l - mean)).sum();
    if lengths.len() < CLOCK_LENGTHS || together > CLOCK * var {
        return;
    }
    // Least squares over the number of the step.
    let middle = 0.5 * (n - 1) as f64;
    let at = times.iter().sum::<f64>() / n as f64;
    let by_number = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
        times.iter().enumerate().map(|(i, t)| f(i as f64 - middle, t - at)).sum()
    };
    let period = by_number(&|i, t| i * t) / by_number(&|i, _| i * i);
    times.iter_mut().enumerate().for_each(|(i, t)| *t = at + period * (i as f64 - middle));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A course at the times of `rows` rows, the last one now, a hundredth apart.
    fn course(rows: i32, y: impl Fn(f64) -> f64) -> Points {
        let u: Vec<f64> = (1 - rows..=0).map(|i| f64::from(i) / 100.0).collect();
        let y = u.iter().map(|u| y(*u)).collect();
        Points { u, y }
    }

    /// A saw under 0 with 20 rows a tooth, the last fall `since` rows ago, and the rows after its falls.
    fn saw(rows: i32, since: i32) -> (Points, Vec<usize>) {
        let phase = |i: i32| (i + since).rem_euclid(20);
        let row = |u: f64| (100.0 * u).round() as i32;
        let saw = course(rows, |u| 0.01 * f64::from(phase(row(u)) - 19));
        let starts = (1..rows).filter(|i| phase(i + 1 - rows) == 0).map(|i| i as usize).collect();
        (saw, starts)
    }

    #[test]
    fn the_next_peak_comes_when_it_is_due() {
        for since in [0, 3, 12, 18] {
            let (saw, starts) = saw(200, since);
            let cycles = Cycles::new(&saw.u, &saw.y, &starts).unwrap();
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
        let (saw, starts) = saw(200, 5);
        let cycles = Cycles::new(&saw.u, &saw.y, &starts).unwrap();
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
        let (saw, starts) = saw(65, 5);
        assert!(Cycles::new(&saw.u, &saw.y, &starts).is_none());
        assert!(Cycles::new(&[], &[], &[]).is_none());
    }

    #[test]
    fn steps_are_found_and_taken_off() {
        let stairs = |rows: f64| move |u: f64| 0.1 * (100.0 * u / rows).floor();
        for rows in [3.7, 12.0, 20.0] {
            let noise = |u: f64| 0.002 * (u * 7919.0).sin();
            let with_noise = |u: f64| stairs(rows)(u) + noise(u);
            let course = course(200, with_noise);
            let line = |u: f64| 10.0 * u / rows - 0.05;
            let over = course.over(line);
            let steps = steps(&course.u, &over).unwrap();
            assert!((steps.len() as f64 - 200.0 / rows).abs() < 2.0, "{rows}: {}", steps.len());
            let plain = without_steps(&course, &over, &steps);
            let left = stats::robust_sd(&plain.over(line));
            assert!(left < 0.7 * stats::robust_sd(&over), "{rows}: {left}");
        }
        let mut draws = crate::rng::Draws::new(3);
        let noise: Vec<f64> = (0..200).map(|_| draws.normal()).collect();
        let u = course(200, |u| u).u;
        assert_eq!(steps(&u, &noise), None);
        let mut level = 0.0;
        let mut walk = |n: &f64| {
            level = 0.9 * level + n;
            level
        };
        assert_eq!(steps(&u, &noise.iter().map(&mut walk).collect::<Vec<_>>()), None);
    }

    #[test]
    fn a_clock_keeps_time() {
        let mut draws = crate::rng::Draws::new(11);
        let mut clock: Vec<f64> = (0..12).map(|i| f64::from(i) + 0.2 * draws.uniform()).collect();
        let seen = clock.clone();
        keep_time(&mut clock);
        assert!(clock.windows(2).all(|w| (w[1] - w[0] - 1.0).abs() < 0.03), "{clock:?}");
        assert_ne!(seen, clock);
        // What starts anew at each end drifts.
        let mut at = 0.0;
        let renewed: Vec<f64> = (0..12)
            .map(|i| {
                at += if i % 4 < 2 { 0.8 } else { 1.2 };
                at
            })
            .collect();
        let mut kept = renewed.clone();
        keep_time(&mut kept);
        assert_eq!(renewed, kept);
    }
}
