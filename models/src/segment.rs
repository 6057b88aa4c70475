//! Which rows belong to the present life of the series, and whether it goes in teeth.

use crate::prepare::{MAX_POINTS, Points, Rows};
use crate::sawtooth::{self, Swings, Turn};
use crate::{Life, SegmentReason};
use crate::{changepoint, stats};

/// A fall is at once if it takes no more than so many cadences …
const SUDDEN_ROWS: usize = 3;
/// … and a restart if it takes away at least this share of what was gained.
const RESTART_SHARE: f64 = 0.5;
/// A spike is over within so many rows, however high it is.
const SPIKE_ROWS: usize = 6;
/// It lasts as long as it is higher than this share of it.
const SPIKE_FOOT: f64 = 0.3;
/// From so many similar falls on they are teeth of a saw, not restarts.
const MIN_TEETH: usize = 3;
/// More teeth than this are asked for where each has few rows.
const MIN_COARSE: usize = 8;
/// A saw rises for so many times as long as it falls …
const SLOW_RISE: f64 = 1.5;
/// … and by steps of at most this share of those of its falls.
const SMALL_STEPS: f64 = 0.7;
/// A process is loaded within so many rows; after the jump come so many rows with steps that it exceeds so many times.
const LOADING: usize = 3;
const SETTLED: usize = 12;
const JUMP: f64 = 4.0;
/// A peak this close to the threshold (as a share of the way from the trough) before a restart was a hit …
const HIT_SHARE: f64 = 0.02;
/// … if at least this share of all that was gained before is gone: a collector's tooth leaves the leak where it was.
const KILL_SHARE: f64 = 0.8;

/// The teeth of a saw: indices into the rows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Teeth {
    pub(crate) peaks: Vec<usize>,
    pub(crate) floors: Vec<usize>,
}

/// The present segment.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    /// First row.
    pub(crate) start: usize,
    pub(crate) reason: SegmentReason,
    pub(crate) teeth: Option<Teeth>,
    /// Earlier lives and growth that was released; slopes towards the threshold.
    pub(crate) lives: Vec<Life>,
}

/// A fall from a peak to where it ended (or stands now).
struct Fall {
    peak: usize,
    trough: usize,
    /// Start of the rise before it.
    base: usize,
}

/// `season_s`: length of a cycle that is known beforehand.
pub(crate) fn segment(rows: &Rows, season_s: Option<f64>) -> Segment {
    let mut out = Segment { start: 0, reason: SegmentReason::Start, teeth: None, lives: vec![] };
    let v = &rows.v;
    let turns = sawtooth::turns(v, Swings::of(&rows.t, v).clear);
    let mut falls = falls(v, &turns);
    // A restart after a hit starts a new life whatever came before.
    let hit = falls.iter().rposition(|f| is_hit(rows, f));
    if let Some(f) = hit.map(|i| &falls[i]) {
        (out.start, out.reason) = (f.trough, SegmentReason::Restart);
    }
    let life = |f: &Fall, hit: bool| {
        let life_s = rows.t[f.peak] - rows.t[f.base];
        Life { life_s, slope_per_s: (v[f.peak] - v[f.base]) / life_s, hit }
    };
    out.lives.extend(falls.iter().filter(|f| is_hit(rows, f)).map(|f| life(f, true)));
    let falls = without_spikes(v, falls.split_off(hit.map_or(0, |i| i + 1)));
    let repeats = in_waves(rows, &falls, out.start, season_s);
    if !repeats && let Some(teeth) = teeth(rows, &turns, &falls, out.start) {
        out.teeth = Some(teeth);
        return out;
    }
    for f in &falls {
        let fall = v[f.peak] - v[f.trough];
        // What was gained since the start, not since the last fall: that may have been the end of a spike.
        let gained = v[f.peak] - stats::bounds(&v[out.start..=f.peak]).0;
        if fall < RESTART_SHARE * gained || repeats && !is_sudden(v, f) {
            continue;
        }
        // What was at its highest from the first row on has gained nothing.
        out.lives.extend((f.peak > f.base).then(|| life(f, false)));
        if is_sudden(v, f) || f.trough + 1 < v.len() {
            (out.start, out.reason) = (f.trough, SegmentReason::Restart);
        }
    }
    if !repeats {
        out.teeth = coarse_teeth(rows, out.start);
    }
    if out.teeth.is_none() {
        out.start += loading(&v[out.start..]);
    }
    out
}

/// How many of the first rows saw a process that was still being loaded: what comes then is a jump many times as high as any
/// step soon after, and would hide how the rest bends.
fn loading(v: &[f64]) -> usize {
    let step = |i: usize| (v[i + 1] - v[i]).abs();
    let is_jump = |i: &usize| {
        let after = i + 1..i + 1 + SETTLED;
        after.end < v.len() && after.map(step).fold(0.0, f64::max) * JUMP < step(*i)
    };
    (0..LOADING).rev().find(is_jump).map_or(0, |i| i + 1)
}

/// Teeth of few rows each.
fn coarse_teeth(rows: &Rows, start: usize) -> Option<Teeth> {
    let (t, v) = (&rows.t[start..], &rows.v[start..]);
    let shift = |turn: Turn| Turn { at: start + turn.at, ..turn };
    let turns: Vec<Turn> = coarse_turns(v, Swings::of(t, v))?.into_iter().map(shift).collect();
    teeth(rows, &turns, &without_spikes(&rows.v, falls(&rows.v, &turns)), start)
}

/// Turns of a course that often falls at once: by jumps between rows that are near each other otherwise, or in a saw.
fn coarse_turns(v: &[f64], swings: Swings) -> Option<Vec<Turn>> {
    let found = |swing: f64, is_one: fn(&[f64], &[Fall]) -> bool| {
        let turns = sawtooth::turns(v, swing);
        let falls = falls(v, &turns);
        (falls.len() > MIN_COARSE && is_one(v, &falls)).then_some(turns)
    };
    found(swings.jump, are_sudden).or_else(|| found(swings.coarse, is_saw))
}

fn are_sudden(v: &[f64], falls: &[Fall]) -> bool {
    falls.iter().filter(|f| is_sudden(v, f)).count() * 3 >= falls.len() * 2
}

/// Whether a course rises slowly and falls at once, which noise does not, however few rows a tooth has.
fn is_saw(v: &[f64], falls: &[Fall]) -> bool {
    let step = |from: usize, to: usize| v[from..=to].windows(2).map(|w| w[1] - w[0]);
    let (mut rows_up, mut rows_down, mut up, mut down) = (0, 0, 0.0, 0.0);
    for f in falls.iter().skip(1) {
        rows_up += f.peak - f.base;
        rows_down += f.trough - f.peak;
        up += step(f.base, f.peak).fold(0.0, f64::max);
        down -= step(f.peak, f.trough).fold(0.0, f64::min);
    }
    rows_up as f64 >= SLOW_RISE * rows_down as f64 && up <= SMALL_STEPS * down
}

/// The rows before the falls of a course without trend, if it falls at once and as deep again and again.
pub(crate) fn falls_of(v: &[f64], swings: Swings) -> Option<Vec<usize>> {
    let clear = falls(v, &sawtooth::turns(v, swings.clear));
    let falls = match clear.len() > MIN_TEETH && are_sudden(v, &clear) {
        true => clear,
        false => falls(v, &coarse_turns(v, swings)?),
    };
    typical_fall(v, &falls)?;
    Some(falls.iter().map(|f| f.peak).collect())
}

/// Whether the course falls because it goes in waves: most falls take their time, and a cycle explains them.
fn in_waves(rows: &Rows, falls: &[Fall], start: usize, season_s: Option<f64>) -> bool {
    let slow = falls.iter().filter(|f| !is_sudden(&rows.v, f)).count();
    let (t, v) = (&rows.t[start..], &rows.v[start..]);
    let (range, span) = (stats::range(v), t[t.len() - 1] - t[0]);
    if slow * 2 <= falls.len() || range <= 0.0 || span <= 0.0 {
        return false;
    }
    let thin = Points::thinned(t, v, MAX_POINTS);
    let points = Points {
        u: thin.u.iter().map(|t| t / span).collect(),
        y: thin.y.iter().map(|y| (y - v[0]) / range).collect(),
    };
    changepoint::cycle(&points, season_s.map(|s| s / span)).is_some()
}

/// The newest row from which on the threshold is what it is now; `None` if it never changed after `start`.
pub(crate) fn limit_change(rows: &Rows, start: usize) -> Option<usize> {
    let limit = &rows.limit[start..];
    let last = limit.last()?;
    let at = start + limit.iter().rposition(|l| l != last)? + 1;
    Some(at)
}

fn falls(v: &[f64], turns: &[Turn]) -> Vec<Fall> {
    let mut out = Vec::new();
    let mut base = 0;
    for (i, turn) in turns.iter().enumerate() {
        if !turn.is_peak {
            base = turn.at;
            continue;
        }
        // The fall after the newest peak has not turned yet: it stands at its lowest so far.
        let trough = turns.get(i + 1).map_or_else(
            || (turn.at..v.len()).min_by(|a, b| v[*a].total_cmp(&v[*b])).unwrap_or(turn.at),
            |t| t.at,
        );
        out.push(Fall { peak: turn.at, trough, base });
    }
    out
}

fn is_hit(rows: &Rows, f: &Fall) -> bool {
    let (limit, peak, trough) = (rows.limit[f.peak], rows.v[f.peak], rows.v[f.trough]);
    let lowest = || rows.v[..f.peak].iter().copied().fold(peak, f64::min);
    limit - peak <= HIT_SHARE * (limit - trough)
        && peak - trough >= KILL_SHARE * (peak - lowest())
        && is_sudden(&rows.v, f)
}

fn is_sudden(v: &[f64], f: &Fall) -> bool {
    let fall = v[f.peak] - v[f.trough];
    // The peak may be a plateau: count from the last row near it to the first near the trough.
    let left = (f.peak..=f.trough).rev().find(|&i| v[f.peak] - v[i] < 0.2 * fall).unwrap_or(f.peak);
    let there = (left..=f.trough).find(|&i| v[i] - v[f.trough] < 0.2 * fall).unwrap_or(f.trough);
    there - left <= SUDDEN_ROWS
}

/// The falls without the ends of spikes, unless these follow each other so closely that they may be teeth.
fn without_spikes(v: &[f64], mut falls: Vec<Fall>) -> Vec<Fall> {
    let mut apart: Vec<f64> = falls.windows(2).map(|w| (w[1].peak - w[0].peak) as f64).collect();
    if falls.len() < 2 || stats::median_mut(&mut apart) > (2 * SPIKE_ROWS) as f64 {
        falls.retain(|f| !is_spike(v, f));
    }
    falls
}

/// Whether the rise before the fall was as quick, and nothing but it was lost: what allocates and frees, not what dies.
fn is_spike(v: &[f64], f: &Fall) -> bool {
    let fall = v[f.peak] - v[f.trough];
    let is_below = |i: &usize| v[*i] < v[f.trough] + SPIKE_FOOT * fall;
    let left = (f.base..f.peak).rev().find(is_below);
    let right = (f.peak..=f.trough).find(is_below);
    left.zip(right).is_some_and(|(left, right)| right - left <= SPIKE_ROWS)
        && fall <= 2.0 * (v[f.peak] - v[f.base])
}

/// The size of a fall, where there are enough and most are similar.
fn typical_fall(v: &[f64], falls: &[Fall]) -> Option<f64> {
    let sizes: Vec<f64> = falls.iter().map(|f| v[f.peak] - v[f.trough]).collect();
    let typical = stats::median(&sizes);
    let similar = sizes.iter().filter(|s| **s > typical / 3.0 && **s < typical * 3.0).count();
    (similar >= MIN_TEETH && similar * 3 >= sizes.len() * 2).then_some(typical)
}

/// Indices of the floors of a course of evenly spaced values, if it goes in teeth.
pub(crate) fn floors(v: &[f64]) -> Option<Vec<usize>> {
    let t: Vec<f64> = (0..v.len()).map(|i| i as f64).collect();
    let turns = sawtooth::turns(v, Swings::of(&t, v).clear);
    let falls = without_spikes(v, falls(v, &turns));
    typical_fall(v, &falls)?;
    are_sudden(v, &falls).then(|| turns.iter().filter(|t| !t.is_peak).map(|t| t.at).collect())
}

/// The teeth, if the newest rows still go in teeth of similar size.
fn teeth(rows: &Rows, turns: &[Turn], falls: &[Fall], start: usize) -> Option<Teeth> {
    let typical = typical_fall(&rows.v, falls)?;
    if !are_sudden(&rows.v, falls) {
        return None;
    }
    let mut periods: Vec<f64> =
        falls.windows(2).map(|w| rows.t[w[1].peak] - rows.t[w[0].peak]).collect();
    let period = stats::median_mut(&mut periods);
    let last = falls.last()?;
    let since = -rows.t[last.peak];
    // A rise far beyond the last teeth is no tooth any more.
    let now = rows.v[rows.len() - 1];
    if since > 3.0 * period || now > rows.v[last.peak] + 1.5 * typical {
        return None;
    }
    let inside =
        |peak: bool| turns.iter().filter(move |t| t.is_peak == peak && t.at > start).map(|t| t.at);
    Some(Teeth { peaks: inside(true).collect(), floors: inside(false).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, Series};

    fn rows(v: &[f64], limit: f64) -> Rows {
        let ts: Vec<i64> = (0..v.len() as i64).map(|i| i * 1_000_000).collect();
        let as_of_us = ts[ts.len() - 1];
        let limit = vec![limit; v.len()];
        Rows::new(
            &Series { ts_us: &ts, value: v, threshold: &limit },
            &Options { as_of_us, ..Options::default() },
        )
        .unwrap()
    }

    #[test]
    fn one_fall_is_a_restart_and_a_release() {
        let v: Vec<f64> = (0..60).map(|i| f64::from(i % 40)).collect();
        let s = segment(&rows(&v, 100.0), None);
        assert_eq!((s.start, s.reason), (40, SegmentReason::Restart));
        assert_eq!(s.lives, [Life { life_s: 39.0, slope_per_s: 1.0, hit: false }]);
        assert!(s.teeth.is_none());
    }

    #[test]
    fn spikes_end_no_life() {
        let leak = |i: i32| f64::from(i) + 0.3 * f64::from(i * 7 % 5);
        let spiked = |at: &[i32], rows: i32| -> Vec<f64> {
            let is_up = |i: i32| at.iter().any(|a| (*a..a + rows).contains(&i));
            (0..120).map(|i| leak(i) + if is_up(i) { 40.0 } else { 0.0 }).collect()
        };
        for at in [vec![60], vec![50, 58, 100], vec![112, 116], vec![20, 38, 60, 83, 99]] {
            let s = segment(&rows(&spiked(&at, 3), 300.0), None);
            assert_eq!((s.start, s.lives.len(), s.teeth.is_some()), (0, 0, false), "{at:?}");
        }
        // What met the limit and died was no spike, however quick it was.
        let v: Vec<f64> =
            (0..60).map(|i| if (30..33).contains(&i) { 99.5 } else { leak(i % 5) }).collect();
        let s = segment(&rows(&v, 100.0), None);
        assert_eq!((s.reason, s.lives.len(), s.lives[0].hit), (SegmentReason::Restart, 1, true));
        // What was held for long and then let go was no spike, if it was most of what there was.
        let quiet = |i: i32| if (60..80).contains(&i) { 3.0 * f64::from(i - 60) } else { 0.0 };
        let v: Vec<f64> = (0..120).map(|i| quiet(i) + 0.3 * f64::from(i * 7 % 5)).collect();
        let s = segment(&rows(&v, 300.0), None);
        assert_eq!((s.start, s.reason, s.lives.len()), (80, SegmentReason::Restart, 1));
    }

    #[test]
    fn a_crash_loop_is_not_a_saw() {
        let v: Vec<f64> = (0..95).map(|i| 5.0 * f64::from(i % 20)).collect();
        let s = segment(&rows(&v, 96.0), None);
        assert_eq!((s.start, s.reason), (80, SegmentReason::Restart));
        assert_eq!(s.lives.len(), 4);
        assert!(s.lives.iter().all(|l| l.hit && l.slope_per_s == 5.0));
        assert!(s.teeth.is_none());
        let s = segment(&rows(&v, 200.0), None);
        assert_eq!(s.start, 0);
        assert_eq!(s.teeth.unwrap().peaks, [19, 39, 59, 79]);
    }

    #[test]
    fn the_rows_of_a_start_are_left_out() {
        let leak = |i: usize| 10.0 + (0.05 * i as f64).exp();
        let mut v: Vec<f64> = (0..80).map(leak).collect();
        assert_eq!(segment(&rows(&v, 100.0), None).start, 0);
        (v[0], v[1]) = (0.0, 4.0);
        let s = segment(&rows(&v, 100.0), None);
        assert_eq!((s.start, s.reason), (2, SegmentReason::Start));
        // A warm-up is fast at first as well, but slows down by and by.
        let warm: Vec<f64> = (0..80).map(|i| 1.0 - (-0.5 * f64::from(i)).exp()).collect();
        assert_eq!(loading(&warm), 0);
        assert_eq!((loading(&[]), loading(&[1.0; 40]), loading(&[0.0, 9.0, 9.0])), (0, 0, 0));
    }

    #[test]
    fn teeth_of_few_rows_are_told_from_noise() {
        let saw = |per: f64| -> Vec<f64> {
            (0..160).map(|i| 0.1 * f64::from(i) + 8.0 * (f64::from(i) / per).fract()).collect()
        };
        for per in [3.3, 4.7, 7.0, 20.0] {
            let teeth = segment(&rows(&saw(per), 100.0), None).teeth.unwrap();
            assert!((teeth.peaks.len() as f64 - 160.0 / per).abs() < 2.5, "{per}: {teeth:?}");
            let off = |i: &usize| rows(&saw(per), 100.0).v[*i] - 0.1 * *i as f64;
            assert!(teeth.floors.iter().all(|i| off(i) < 8.0 / per + 0.1), "{per}");
        }
        let mut draws = crate::rng::Draws::new(9);
        for kind in 0..40 {
            // Noise, and noise that remembers.
            let mut level = 0.0;
            let v: Vec<f64> = (0..300)
                .map(|i| {
                    level = f64::from(kind % 4) * 0.3 * level + draws.normal();
                    50.0 + 0.1 * f64::from(i) + level
                })
                .collect();
            assert!(coarse_teeth(&rows(&v, 200.0), 0).is_none(), "{kind}");
        }
    }

    #[test]
    fn limits() {
        let mut r = rows(&[1.0, 2.0, 3.0, 4.0], 9.0);
        assert_eq!(limit_change(&r, 0), None);
        r.limit[0] = 5.0;
        assert_eq!(limit_change(&r, 0), Some(1));
        assert_eq!(limit_change(&r, 1), None);
    }
}
