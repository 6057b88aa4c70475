//! Where the present slope began.
//!
//! Two straight pieces, else three, against the best smooth curve (line, exponential or power): only what no smooth course
//! explains is a change point, so that an accelerating leak keeps its age and a warm-up its bend. Compared by the Bayesian
//! information criterion (Yao 1988) with the number of points reduced by the autocorrelation of the residuals. Points
//! are few (≤ 120) and spikes are already pulled in, so an exact search over all splits is cheap.

use crate::fit::{best_sse, seasonal};
use crate::prepare::Points;
use crate::stats;

/// Points on either side of a change.
const MIN_SIDE: usize = 4;
/// Two lines and their border have so many parameters more than one smooth curve.
const EXTRA_PARAMETERS: f64 = 3.0;
/// Log of the odds asked for beyond the criterion: a false change point forgets the age of a leak.
const MARGIN: f64 = 12.0;
/// Three lines have to be better by so many times what is asked of two: there are far more of them to choose from.
const THREE: f64 = 2.5;
/// Newest pieces that a known cycle may explain: at most so many, each longer by so many cycles.
const WINDOWS: usize = 12;
const WINDOW_STEP: f64 = 0.25;
/// The longest piece is taken that is explained as well as the best one, up to this factor of the variance.
const AS_WELL: f64 = 1.5;
/// A change of slope smaller than this share of the steeper one is not another regime.
const SLOPE_CHANGE: f64 = 0.35;

/// The last change.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Change {
    /// First point of the present piece (0: no change).
    pub(crate) start: usize,
    /// First point of the present growth: earlier than `start` where the growth before was similar.
    pub(crate) onset: usize,
    /// Length of a cycle that the present piece goes through, in units of u.
    pub(crate) cycle: Option<f64>,
}

/// Finds the last change. `cycle` is the length of a cycle that is known beforehand, in units of u.
pub(crate) fn last_change(points: &Points, cycle: Option<f64>) -> Change {
    let mut change = Change::default();
    loop {
        let rest = points.from(change.start);
        let sums = Sums::new(&rest);
        let smooth = smooth_sse(&rest, &sums);
        change.cycle = seasonal::find(&rest, smooth, cycle);
        // Pieces of a piece were looked at before.
        if change.start == 0
            && (change.cycle.is_none() || change.cycle == cycle)
            && let Some(at) = cycle.and_then(|c| cycle_since(&rest, c))
        {
            return Change { start: at, onset: at, cycle };
        }
        // What repeats is no change.
        if change.cycle.is_some() {
            return change;
        }
        let Some((at, onset)) = split(&rest, &sums, smooth) else {
            return change;
        };
        if onset > 0 {
            change.onset = change.start + onset;
        }
        change.start += at;
    }
}

/// The first point of the longest newest piece that a known cycle explains as well as it explains any: a leak that follows
/// the day may have begun in the quiet, and a wave fitted to both would be that of neither.
fn cycle_since(points: &Points, period: f64) -> Option<usize> {
    let n = points.len();
    let mut explained: Vec<(usize, f64)> = Vec::new();
    for i in 0..WINDOWS {
        let span = (seasonal::CYCLES_KNOWN + WINDOW_STEP * i as f64) * period;
        let from = points.u.partition_point(|u| *u < points.u[n - 1] - span);
        let rest = points.from(from);
        let sums = Sums::new(&rest);
        // A kink within little more than a cycle looks like a wave.
        let lines = two_lines(&sums).map(|two| two.1).into_iter();
        let rivals = lines.chain(std::iter::once_with(|| smooth_sse(&rest, &sums)));
        if let Some(variance) = seasonal::explains(&rest, period, rivals) {
            explained.push((from, variance));
        }
        if from == 0 {
            break;
        }
    }
    let best = explained.iter().map(|e| e.1).fold(f64::INFINITY, f64::min);
    let longest = explained.iter().rev().find(|e| e.1 <= AS_WELL * best)?;
    Some(longest.0)
}

/// Running sums of n, u, u², y, uy, y².
struct Sums(Vec<[f64; 5]>);

impl Sums {
    fn new(p: &Points) -> Self {
        let mut all = vec![[0.0; 5]];
        for (u, y) in p.u.iter().zip(&p.y) {
            let [a, b, c, d, e] = all[all.len() - 1];
            all.push([a + u, b + u * u, c + y, d + u * y, e + y * y]);
        }
        Self(all)
    }

    /// Slope, value at the middle, middle and residual sum of squares of the line through points `i..j`.
    fn line(&self, i: usize, j: usize) -> (f64, f64, f64, f64) {
        let n = (j - i) as f64;
        let mut s = self.0[j];
        for (s, b) in s.iter_mut().zip(self.0[i]) {
            *s -= b;
        }
        let [u, uu, y, uy, yy] = s;
        let (sxx, sxy, syy) = (uu - u * u / n, uy - u * y / n, yy - y * y / n);
        let slope = if sxx > 0.0 { sxy / sxx } else { 0.0 };
        (slope, y / n, u / n, (syy - slope * sxy).max(0.0))
    }
}

/// Length of a cycle that all points go through, in units of u.
pub(crate) fn cycle(points: &Points, known: Option<f64>) -> Option<f64> {
    seasonal::find(points, smooth_sse(points, &Sums::new(points)), known)
}

/// Residual sum of squares of the best smooth course.
fn smooth_sse(p: &Points, sums: &Sums) -> f64 {
    sums.line(0, p.len()).3.min(best_sse(p))
}

/// Where two lines explain the points best, and the residual sum of squares that they leave.
fn two_lines(sums: &Sums) -> Option<(usize, f64)> {
    let n = sums.0.len() - 1;
    (MIN_SIDE..=n.saturating_sub(MIN_SIDE))
        .map(|k| (k, sums.line(0, k).3 + sums.line(k, n).3))
        .min_by(|a, b| a.1.total_cmp(&b.1))
}

/// The same for three lines.
fn three_lines(sums: &Sums) -> Option<(usize, usize, f64)> {
    let n = sums.0.len() - 1;
    let first: Vec<f64> = (0..=n).map(|i| sums.line(0, i.max(1)).3).collect();
    let mut best: Option<(usize, usize, f64)> = None;
    for j in 2 * MIN_SIDE..=n.saturating_sub(MIN_SIDE) {
        let last = sums.line(j, n).3;
        for (i, first) in first.iter().enumerate().take(j - MIN_SIDE + 1).skip(MIN_SIDE) {
            // What the middle one leaves is not needed where the others leave too much.
            if best.is_some_and(|b| first + last >= b.2) {
                continue;
            }
            let sse = first + last + sums.line(i, j).3;
            if best.is_none_or(|b| sse < b.2) {
                best = Some((i, j, sse));
            }
        }
    }
    best
}

/// The first point of the present piece, and of the present growth.
fn split(p: &Points, sums: &Sums, smooth: f64) -> Option<(usize, usize)> {
    let n = p.len();
    let (at, two) = two_lines(sums)?;
    of_pieces(p, sums, smooth, [0, at, n], two, 1.0).or_else(|| {
        // Quiet, fast, slow: no two lines tell that from a smooth course. Only the first of the three is cut off: the other
        // two may be one that bends.
        let (i, j, three) = three_lines(sums)?;
        of_pieces(p, sums, smooth, [0, i, j, n], three, THREE)
    })
}

/// The second of the `pieces` (the borders of lines, with what they leave), if they explain the points far better than a
/// smooth course does; `factor`: of what is asked of one change.
fn of_pieces<const N: usize>(
    p: &Points,
    sums: &Sums,
    smooth: f64,
    pieces: [usize; N],
    left: f64,
    factor: f64,
) -> Option<(usize, usize)> {
    let n = p.len();
    let (at, end) = (pieces[1], pieces[2]);
    let spread = stats::range(&p.y);
    // Differences below a ten-thousandth of the range are rounding.
    let rounding = 1e-8 * spread * spread * n as f64;
    let off = |w: &[usize]| {
        let (i, j) = (w[0], w[1]);
        let (slope, my, mu, _) = sums.line(i, j);
        (i..j).map(move |k| p.y[k] - my - slope * (p.u[k] - mu))
    };
    let residuals: Vec<f64> = pieces.windows(2).flat_map(off).collect();
    let n_eff = n as f64 / stats::inflation(stats::autocorrelation(&residuals));
    let gain = n_eff * ((smooth + rounding) / (left + rounding)).ln();
    if gain < factor * (EXTRA_PARAMETERS * (n as f64).ln() + MARGIN) {
        return None;
    }
    let (before, after) = (sums.line(0, at), sums.line(at, end));
    let steeper = before.0.abs().max(after.0.abs());
    let similar = (before.0 - after.0).abs() < SLOPE_CHANGE * steeper;
    let edge = 0.5 * (p.u[at - 1] + p.u[at]);
    let jump = (after.1 + after.0 * (edge - after.2)) - (before.1 + before.0 * (edge - before.2));
    if similar && jump.abs() < 0.1 * spread {
        return None;
    }
    Some((at, if similar { 0 } else { at }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(n: usize, f: impl Fn(f64) -> f64) -> Points {
        let u: Vec<f64> = (0..n).map(|i| i as f64 / n as f64 - 1.0).collect();
        let noise = |i: usize| 0.01 * ((i * 7919 % 101) as f64 / 50.0 - 1.0);
        let y = u.iter().enumerate().map(|(i, u)| f(*u) + noise(i)).collect();
        Points { u, y }
    }

    #[test]
    fn smooth_courses_have_none() {
        assert_eq!(last_change(&points(90, |u| u), None).start, 0);
        assert_eq!(last_change(&points(90, |u| (3.0 * u).exp()), None).start, 0);
        assert_eq!(last_change(&points(90, |u| 1.0 - (-4.0 * (u + 1.0)).exp()), None).start, 0);
        assert_eq!(last_change(&points(90, |u| (u + 1.0).powi(2)), None).start, 0);
        assert_eq!(last_change(&points(90, |_| 0.0), None).start, 0);
    }

    #[test]
    fn the_onset_of_a_leak_is_found() {
        let change = last_change(&points(90, |u| (u + 0.3).max(0.0)), None);
        assert!((61..=66).contains(&change.start), "{change:?}");
        assert_eq!(change.onset, change.start);
    }

    #[test]
    fn a_leak_that_follows_the_day_is_cut_from_the_quiet_before_it() {
        // Quiet, then growth in the first half of each cycle only.
        let grown = |u: f64| {
            let cycles = (u + 0.55).max(0.0) / 0.3;
            cycles.floor() + (2.0 * cycles.fract()).min(1.0)
        };
        let change = last_change(&points(120, |u| 0.3 * grown(u)), Some(0.3));
        assert_eq!(change.cycle, Some(0.3));
        assert!((30..=66).contains(&change.start), "{change:?}");
        // Without a known day its last pause is taken for the present.
        assert_eq!(last_change(&points(120, |u| 0.3 * grown(u)), None).cycle, None);
        // A bend, or growth out of the quiet, is no wave.
        for f in [|u: f64| (u + 0.4).max(0.0), |u: f64| u + (u + 0.2).max(0.0)] {
            assert_eq!(last_change(&points(120, f), Some(0.3)).cycle, None);
        }
    }

    #[test]
    fn the_newest_of_three_paces_is_the_present_one() {
        for (fast, slow) in [(4.0, 1.0), (1.0, 4.0), (4.0, 0.3)] {
            let course = |u: f64| fast * (u + 0.6).clamp(0.0, 0.3) + slow * (u + 0.3).max(0.0);
            let change = last_change(&points(120, course), None);
            assert!((80..=88).contains(&change.start), "{fast} {slow}: {change:?}");
            assert_eq!(change.onset, change.start);
        }
        // What bends without a corner is smooth still.
        for course in [|u: f64| (u + 1.0).powf(0.6), |u: f64| 2.0 * (u + 1.0).ln_1p()] {
            assert_eq!(last_change(&points(120, course), None), Change::default());
        }
    }

    #[test]
    fn a_jump_within_a_leak_keeps_its_age() {
        let change = last_change(&points(90, |u| u + if u > -0.5 { 0.5 } else { 0.0 }), None);
        assert!((44..=47).contains(&change.start), "{change:?}");
        assert_eq!(change.onset, 0);
    }
}
