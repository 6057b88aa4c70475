//! The families a forecast has to tell apart.

use super::families::{accelerating, burst, course, leak, noise, saw, warmup};
use crate::{ALARM_CLEAR_THRESHOLD, CannotSay, ModelKind, SegmentReason};

const SEEDS: std::ops::Range<u64> = 0..8;

/// The alarm comes with at least a quarter of the life left, and holds.
fn in_time(name: &str, c: &super::families::Course, born: usize, every: usize) {
    let hit = c.hit().unwrap();
    let life = hit - born;
    let alarm = c.alarm(every);
    assert!(
        alarm.is_some_and(|at| hit - at >= life / 4),
        "{name}: alarm {alarm:?}, hit {hit}, life {life}"
    );
    let dip = c
        .steps(every)
        .iter()
        .filter(|s| alarm.is_some_and(|a| s.at > a) && s.p() < ALARM_CLEAR_THRESHOLD)
        .count();
    assert_eq!(dip, 0, "{name}: is cleared again after the alarm");
}

#[test]
fn linear_leaks_are_seen_in_time() {
    for seed in SEEDS {
        for sd in [0.002, 0.01, 0.02] {
            in_time("120 s", &leak(seed, 0.1, 0, 120, sd), 0, 5);
            in_time("after quiet", &leak(seed, 0.2, 60, 240, sd), 60, 10);
            in_time("600 s", &leak(seed, 0.3, 30, 600, sd), 30, 10);
        }
    }
}

#[test]
fn the_hit_of_a_linear_leak_lies_in_the_99_percent_interval() {
    let (mut all, mut p80, mut p99) = (0, 0, 0);
    for seed in 0..30 {
        for sd in [0.002, 0.02] {
            let c = leak(seed, 0.2, 30, 200, sd);
            let hit = c.hit().unwrap();
            for s in c.steps(10).iter().filter(|s| s.p() >= 0.5) {
                let f = s.forecast.as_ref().unwrap();
                // The hit happened between two rows.
                let (low, high) = ((hit - 1 - s.at) as f64, (hit - s.at) as f64);
                let holds =
                    |i: crate::Interval| i.low_s <= high && i.high_s.is_none_or(|h| h >= low);
                all += 1;
                p80 += usize::from(holds(f.intervals.p80));
                p99 += usize::from(holds(f.intervals.p99));
            }
        }
    }
    assert!(p99 * 100 >= all * 98, "{p99} of {all} within 99 %");
    assert!(p80 * 100 >= all * 75, "{p80} of {all} within 80 %");
}

#[test]
fn accelerating_leaks_are_seen_before_they_run_away() {
    for seed in SEEDS {
        for exponential in [false, true] {
            let c = accelerating(seed, 0.1, 180, 0.003, exponential);
            let (hit, alarm) = (c.hit().unwrap(), c.alarm(5));
            assert!(
                alarm.is_some_and(|at| hit - at >= 36),
                "seed {seed}, {exponential}: {alarm:?}, hit {hit}"
            );
        }
    }
}

/// Requests that allocate much and free it at once: neither restarts nor the teeth of a collector.
#[test]
fn spikes_hide_no_leak() {
    for seed in SEEDS {
        // No two distances are the same.
        let is_up = |t: f64| ((0.011 * t).powf(1.1) + 0.1 * (seed + 1) as f64).fract() < 0.03;
        let leak = |t: f64| 0.1 + 0.9 * t / 400.0;
        let spiked = |t: f64| leak(t) + if is_up(t) { 0.15 } else { 0.0 };
        let mut c = course(400, seed, 0.005, spiked);
        // The rows before the first spike that hits.
        c.value.truncate(c.hit().unwrap());
        let at = c.value.len() - 1;
        let f = c.evaluate(at).unwrap();
        let left = 400.0 - at as f64;
        assert!(f.probability > 0.8, "{seed}: {f:?}");
        assert_ne!(f.segment_reason, SegmentReason::Restart, "{seed}");
        assert_eq!(f.persistence.released, 0, "{seed}");
        assert!(f.weights.iter().all(|w| w.0 != ModelKind::SawTooth), "{seed}: {f:?}");
        // The spikes hit first.
        let eta = f.eta_s.unwrap();
        assert!(eta < 1.1 * left && eta > 0.05 * left, "{seed}: {eta} of {left}");
        assert!((f.slope_per_s * 400.0 / 0.9 - 1.0).abs() < 0.05, "{seed}: {f:?}");
    }
}

#[test]
fn rising_floors_leak_and_the_peaks_hit() {
    for seed in SEEDS {
        for period in [8.0, 10.0, 13.3] {
            let c = saw(seed, 600, 0.2, 0.002, 0.2, period);
            in_time("saw", &c, 0, 10);
            let hit = c.hit().unwrap();
            let at = hit * 2 / 3;
            let f = c.evaluate(at).unwrap();
            assert_eq!(f.model, ModelKind::SawTooth);
            let eta = f.eta_s.unwrap();
            let truth = (hit - at) as f64;
            assert!((eta - truth).abs() < 0.25 * truth, "eta {eta}, truth {truth}");
        }
    }
}

#[test]
fn what_repeats_is_foreseen_to_the_step() {
    let jobs = |t: f64| 0.2 + 0.02 * (t / 17.3).floor();
    let bursts = |t: f64| 0.2 + 0.000_81 * t + if t % 30.0 < 6.0 { 0.1 } else { 0.0 };
    // Collected when it is twice what was kept.
    let heap = |t: f64| (0.2 + 0.000_41 * t) * (1.0 + (t / 24.7).fract());
    let coarse_heap = |t: f64| 0.2 + 0.000_6 * t + 0.2 * (t / 4.3).fract();
    // Where a tooth is as high as the threshold, chance says whether it is this one or the next; and of teeth of four rows
    // the tops are not seen.
    type Level<'a> = &'a dyn Fn(f64) -> f64;
    let courses: [(&str, Level<'_>, f64); 4] = [
        ("jobs", &jobs, 3.0),
        ("bursts", &bursts, 3.0),
        ("heap", &heap, 25.0),
        ("coarse heap", &coarse_heap, 25.0),
    ];
    for (name, f, tooth) in courses {
        for seed in 0..4 {
            let c = course(1500, seed, 0.002, f);
            let hit = c.hit().unwrap();
            for left in [0.5, 0.25, 0.1] {
                let at = hit - (left * hit as f64) as usize;
                let truth = (hit - at) as f64;
                let eta = c.evaluate(at).unwrap().eta_s.unwrap();
                let off = (eta - truth).abs();
                assert!(off < 0.06 * truth + tooth, "{name} {seed}: {eta:.0} s, truth {truth} s");
            }
        }
    }
}

#[test]
fn limits_that_change() {
    for (seed, before, after) in [(1, 1.5, 1.0), (2, 0.8, 1.0)] {
        let mut c = leak(seed, 0.1, 0, 300, 0.005);
        for l in &mut c.limit[..120] {
            *l = before;
        }
        let f = c.evaluate(200).unwrap();
        assert_eq!(f.segment_reason, SegmentReason::LimitChange);
        assert_eq!(f.segment_start_us, 120_000_000);
        assert_eq!(f.threshold, after);
        assert_eq!(f.samples, 201, "values before the change are still good");
        assert!((f.eta_s.unwrap() - 100.0).abs() < 10.0, "{f:?}");
        in_time("limit", &c, 0, 10);
    }
}

/// A rise is not told from a leak before it bends: a few alarms are the price of the early ones (the scoreboard has the
/// rates). What does not rise gives none.
#[test]
fn what_is_no_leak_gives_few_alarms_or_none() {
    let (mut rises, mut alarms) = (0, Vec::new());
    for seed in SEEDS {
        for sd in [0.002, 0.01, 0.02] {
            for (plateau, k) in [(0.6, 20.0), (0.75, 40.0), (0.85, 30.0), (0.85, 90.0)] {
                rises += 1;
                let at = warmup(seed, plateau, k, sd).alarm(5);
                alarms.extend(at.map(|at| format!("warm-up {seed} {plateau} {k} {sd} at {at}")));
            }
            for (top, ramp) in [(0.6, 5.0), (0.7, 10.0), (0.65, 30.0)] {
                rises += 1;
                let mut c = burst(seed, top, ramp, 60.0);
                for (v, z) in c.value.iter_mut().zip(noise(seed + 50, 300)) {
                    *v += sd * z;
                }
                let at = c.alarm(5);
                alarms.extend(at.map(|at| format!("burst {seed} {top} {ramp} {sd} at {at}")));
            }
            for level in [0.3, 0.6, 0.85] {
                assert_eq!(
                    course(300, seed, sd, |_| level).alarm(10),
                    None,
                    "quiet {seed} {level} {sd}"
                );
            }
        }
        for period in [7.0, 10.0, 11.3, 20.0] {
            assert_eq!(saw(seed, 300, 0.3, 0.0, 0.5, period).alarm(5), None, "saw {seed} {period}");
        }
        let wave = course(400, seed, 0.005, |t| 0.6 + 0.2 * (t / 12.0).sin());
        rises += 1;
        alarms.extend(wave.alarm(10).map(|at| format!("wave {seed} at {at}")));
    }
    assert!(alarms.len() * 4 <= rises, "{} of {rises}: {alarms:#?}", alarms.len());
}

#[test]
fn a_hit_is_a_hit() {
    let mut c = leak(3, 0.1, 0, 100, 0.001);
    let hit = c.hit().unwrap();
    let f = c.evaluate(hit).unwrap();
    assert_eq!((f.eta_s, f.probability), (Some(0.0), 1.0));
    // After the kill a new life begins.
    let again = leak(4, 0.1, 0, 100, 0.001);
    c.value.extend(&again.value);
    c.limit.extend(&again.limit);
    assert_eq!(c.evaluate(hit + 3).unwrap_err().code(), "too_few_points");
    let f = c.evaluate(hit + 41).unwrap();
    assert_eq!(f.segment_reason, SegmentReason::Restart);
    assert_eq!(f.segment_start_us, (hit as i64 + 1) * 1_000_000);
    assert!((f.eta_s.unwrap() - 60.0).abs() < 6.0, "{f:?}");
    assert_eq!(f.persistence.released, 0);
}

#[test]
fn cannot_say() {
    let ask = |ts: &[i64], v: &[f64], limit: f64, as_of_us| {
        let limit = vec![limit; ts.len()];
        let series = crate::Series { ts_us: ts, value: v, threshold: &limit };
        crate::time_to_threshold(&series, &crate::Options { as_of_us, ..crate::Options::default() })
    };
    assert_eq!(ask(&[], &[], 1.0, 0), Err(CannotSay::NoData));
    assert_eq!(ask(&[5], &[0.5], 1.0, 0), Err(CannotSay::NoData));
    assert_eq!(ask(&[0, 1], &[0.1, 0.2], f64::NAN, 1), Err(CannotSay::NoThreshold));
    assert_eq!(
        ask(&[0, 1], &[0.1, 0.2], 1.0, 1),
        Err(CannotSay::TooFewPoints { have: 2, need: 5 })
    );
    let stale = ask(&[0, 1_000_000], &[0.1, 0.2], 1.0, 60_000_000).unwrap_err();
    assert_eq!(stale, CannotSay::Stale { age_s: 59.0, limit_s: 10.0 });
    assert_eq!(stale.code(), "stale");
    assert_eq!(stale.to_string(), "the newest point is 59 s old, at most 10 s are accepted");
    // A gap of a tenth of the history is not too long, unless the horizon is shorter.
    let ts: Vec<i64> = (0..1_000).map(|i| i * 1_000_000).collect();
    let leak: Vec<f64> = (0..1_000).map(f64::from).collect();
    let limit = vec![2_000.0; 1_000];
    let series = crate::Series { ts_us: &ts, value: &leak, threshold: &limit };
    let after = |gap_s: i64, horizon_s: f64| {
        let options =
            crate::Options { as_of_us: (999 + gap_s) * 1_000_000, horizon_s, ..Default::default() };
        crate::time_to_threshold(&series, &options)
    };
    let forecast = after(99, 900.0).unwrap();
    assert!((forecast.eta_s.unwrap() - 902.0).abs() < 45.0, "{:?}", forecast.eta_s);
    let limit_s = |gap_s, horizon_s| match after(gap_s, horizon_s) {
        Err(CannotSay::Stale { limit_s, .. }) => limit_s,
        other => panic!("{other:?}"),
    };
    assert_eq!((limit_s(101, 900.0), limit_s(61, 60.0)), (99.9, 60.0));
    let series = crate::Series { ts_us: &[0], value: &[], threshold: &[1.0] };
    assert_eq!(
        crate::time_to_threshold(&series, &crate::Options::default()).unwrap_err().code(),
        "shape"
    );
    let series = crate::Series { ts_us: &[0], value: &[0.0], threshold: &[1.0] };
    let options = crate::Options { horizon_s: f64::NAN, ..crate::Options::default() };
    assert_eq!(crate::time_to_threshold(&series, &options).unwrap_err().code(), "horizon");
}

fn asked(ts: &[i64], v: &[f64], limit: f64) -> Result<crate::Forecast, CannotSay> {
    let limit = vec![limit; ts.len()];
    let series = crate::Series { ts_us: ts, value: v, threshold: &limit };
    let as_of_us = ts.last().copied().unwrap_or(0);
    crate::time_to_threshold(&series, &crate::Options { as_of_us, ..crate::Options::default() })
}

#[test]
fn odd_limits() {
    let ts: Vec<i64> = (0..60).map(|i| i * 1_000_000).collect();
    let v: Vec<f64> = (0..60).map(|i| f64::from(i) - 100.0).collect();
    for none in
        [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, i64::MAX as f64, 9_223_372_036_854_771_712.0]
    {
        assert_eq!(asked(&ts, &v, none), Err(CannotSay::NoThreshold), "{none}");
    }
    let at_zero = asked(&ts, &v, 0.0).unwrap();
    assert!((at_zero.eta_s.unwrap() - 41.0).abs() < 2.0, "{at_zero:?}");
    assert_eq!(asked(&ts, &v, -50.0).unwrap().eta_s, Some(0.0), "passed already");
    let negative = asked(&ts, &v, -30.0).unwrap();
    assert!((negative.eta_s.unwrap() - 11.0).abs() < 2.0, "{negative:?}");
}

#[test]
fn one_time_for_all_rows_is_one_row() {
    let few = asked(&[7; 50], &[1.0; 50], 5.0).unwrap_err();
    assert_eq!(few, CannotSay::TooFewPoints { have: 1, need: 5 });
}

#[test]
fn ten_million_points() {
    let n = 10_000_000_i64;
    let ts: Vec<i64> = (0..n).map(|i| i * 1_000_000).collect();
    let v: Vec<f64> = (0..n).map(|i| 1e8 + 50.0 * i as f64 + 1e3 * (i * 31 % 97) as f64).collect();
    let truth = 20_000.0;
    let f = asked(&ts, &v, 1e8 + 50.0 * (n as f64 + truth)).unwrap();
    assert!((f.eta_s.unwrap() - truth).abs() < 0.1 * truth, "{:?}, truth {truth}", f.eta_s);
    assert!(f.samples < 3_000, "{}", f.samples);
}

#[test]
fn a_constant_series_is_flat() {
    let f = course(60, 1, 0.0, |_| 0.5).evaluate(59).unwrap();
    assert_eq!((f.eta_s, f.probability, f.model), (None, 0.0, ModelKind::Flat));
    assert_eq!(f.intervals.p99.high_s, None);
}
