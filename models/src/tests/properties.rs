//! What holds for any input.

use proptest::prelude::*;

use super::families::{self, Course};
use crate::{CannotSay, Direction, Forecast, Interval, Options, Series, time_to_threshold};

fn ask(ts: &[i64], v: &[f64], limit: &[f64], options: &Options) -> Result<Forecast, CannotSay> {
    time_to_threshold(&Series { ts_us: ts, value: v, threshold: limit }, options)
}

/// A course of one of the families, cut at `upto` of its length.
fn any_course() -> impl Strategy<Value = Course> {
    (0_u32..7, 0_u64..1000, 0.001..0.03_f64, 30_usize..200).prop_map(|(family, seed, sd, upto)| {
        let life = 240;
        let mut c = match family {
            0 => families::leak(seed, 0.1, 0, life, sd),
            1 => families::leak(seed, 0.3, 60, life, sd),
            2 => families::accelerating(seed, 0.1, life, sd, seed % 2 == 0),
            3 => families::warmup(seed, 0.85, 50.0, sd),
            4 => families::saw(seed, life, 0.2, 0.002, 0.2, 9.7),
            5 => families::burst(seed, 0.65, 20.0, 90.0),
            _ => families::course(life, seed, sd, |_| 0.7),
        };
        let n = upto.min(c.hit().unwrap_or(c.value.len()));
        c.value.truncate(n);
        c.limit.truncate(n);
        c
    })
}

fn seconds(n: usize) -> Vec<i64> {
    (0..n as i64).map(|i| i * 1_000_000).collect()
}

fn options(n: usize) -> Options {
    Options { as_of_us: n as i64 * 1_000_000, seed: 11, paths: 400, ..Options::default() }
}

fn close(a: Option<f64>, b: Option<f64>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => (a - b).abs() <= 1e-4 * (a.abs() + b.abs()) + 1e-6,
        (None, None) => true,
        _ => false,
    }
}

fn inside(inner: Interval, outer: Interval) -> bool {
    let high = |i: Interval| i.high_s.unwrap_or(f64::INFINITY);
    outer.low_s <= inner.low_s && high(inner) <= high(outer) && inner.low_s <= high(inner)
}

fn is_sound(f: &Forecast) -> Result<(), TestCaseError> {
    prop_assert!((0.0..=1.0).contains(&f.probability), "{f:?}");
    let i = &f.intervals;
    prop_assert!(inside(i.p50, i.p80) && inside(i.p80, i.p95) && inside(i.p95, i.p99), "{i:?}");
    prop_assert!(i.p99.low_s >= 0.0);
    if let Some(eta) = f.eta_s {
        prop_assert!(eta >= 0.0 && eta.is_finite());
        prop_assert!(i.p50.low_s <= eta && eta <= i.p50.high_s.unwrap_or(f64::INFINITY));
    }
    let total: f64 = f.weights.iter().map(|w| w.1).sum();
    prop_assert!((total - 1.0).abs() < 1e-6, "{:?}", f.weights);
    prop_assert!(f.weights.is_sorted_by(|a, b| a.1 >= b.1));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn neither_unit_nor_origin_of_the_value_matters(c in any_course(), up in -20_i32..40, shift in -8_i32..8) {
        let n = c.value.len();
        let (ts, o) = (seconds(n), options(n));
        let base = ask(&ts, &c.value, &c.limit, &o);
        // Powers of two and a shift of whole 1024ths leave the numbers almost exact.
        let scale = 2_f64.powi(up);
        let change = |v: &[f64]| v.iter().map(|v| (v + f64::from(shift) / 8.0) * scale).collect::<Vec<_>>();
        let moved = ask(&ts, &change(&c.value), &change(&c.limit), &o);
        match (base, moved) {
            (Ok(a), Ok(b)) => {
                prop_assert!((a.probability - b.probability).abs() < 1e-4, "{a:?} {b:?}");
                prop_assert!(close(a.eta_s, b.eta_s), "{a:?} {b:?}");
                prop_assert!(close(Some(a.slope_per_s * scale), Some(b.slope_per_s)));
            }
            (a, b) => prop_assert_eq!(a, b),
        }
    }

    #[test]
    fn neither_unit_nor_origin_of_time_matters(c in any_course(), unit in 1_i64..1000, shift in -1_i64 << 50..1_i64 << 50) {
        let n = c.value.len();
        let o = options(n);
        let base = ask(&seconds(n), &c.value, &c.limit, &o);
        let ts: Vec<i64> = seconds(n).iter().map(|t| t * unit + shift).collect();
        let o = Options { as_of_us: o.as_of_us * unit + shift, horizon_s: o.horizon_s * unit as f64,
            season_s: o.season_s.map(|s| s * unit as f64), ..o };
        match (base, ask(&ts, &c.value, &c.limit, &o)) {
            (Ok(a), Ok(b)) => {
                prop_assert!((a.probability - b.probability).abs() < 1e-4, "{a:?} {b:?}");
                prop_assert!(close(a.eta_s.map(|e| e * unit as f64), b.eta_s), "{a:?} {b:?}");
            }
            (a, b) => prop_assert_eq!(a, b),
        }
    }

    #[test]
    fn down_is_up_mirrored(c in any_course()) {
        let n = c.value.len();
        let o = options(n);
        let mirror = |v: &[f64]| v.iter().map(|v| -v).collect::<Vec<_>>();
        let up = ask(&seconds(n), &c.value, &c.limit, &o);
        let o = Options { direction: Direction::Down, ..o };
        let down = ask(&seconds(n), &mirror(&c.value), &mirror(&c.limit), &o);
        match (up, down) {
            (Ok(a), Ok(b)) => {
                prop_assert_eq!((a.eta_s, a.probability, a.intervals), (b.eta_s, b.probability, b.intervals));
                prop_assert_eq!((-a.level, -a.threshold, -a.slope_per_s), (b.level, b.threshold, b.slope_per_s));
            }
            (a, b) => prop_assert_eq!(a, b),
        }
    }

    #[test]
    fn a_higher_limit_is_hit_later(c in any_course(), more in 0.0..1.0_f64) {
        let n = c.value.len();
        let (ts, o) = (seconds(n), options(n));
        let limit = vec![1.0 + more; n];
        if let (Ok(low), Ok(high)) = (ask(&ts, &c.value, &c.limit, &o), ask(&ts, &c.value, &limit, &o)) {
            prop_assert!(high.probability <= low.probability + 1e-6, "{low:?} {high:?}");
            let eta = |f: &Forecast| f.eta_s.unwrap_or(f64::INFINITY);
            prop_assert!(eta(&high) >= eta(&low) * (1.0 - 1e-6), "{low:?} {high:?}");
        }
    }

    #[test]
    fn further_horizons_agree_with_the_asked_one(c in any_course()) {
        let n = c.value.len();
        let (ts, o) = (seconds(n), options(n));
        let also_s = vec![3600.0, f64::NAN, 900.0, -1.0, 60.0, 86_400.0, 1e9];
        let asked = Options { also_s, ..o.clone() };
        let (alone, f) = (ask(&ts, &c.value, &c.limit, &o), ask(&ts, &c.value, &c.limit, &asked));
        let (Ok(alone), Ok(f)) = (alone, f) else { return Ok(()) };
        prop_assert_eq!(&Forecast { also: vec![], ..f.clone() }, &alone);
        let at: Vec<f64> = f.also.iter().map(|a| a.horizon_s).collect();
        prop_assert_eq!(at, vec![60.0, 900.0, 3600.0, 86_400.0]);
        prop_assert!(f.also.is_sorted_by(|a, b| a.probability <= b.probability), "{:?}", f.also);
        prop_assert_eq!(f.also[1].probability, f.probability);
        prop_assert_eq!(f.also[1].evidence, f.evidence);
    }

    #[test]
    fn sound_and_the_same_again(c in any_course()) {
        let n = c.value.len();
        let (ts, o) = (seconds(n), options(n));
        let first = ask(&ts, &c.value, &c.limit, &o);
        prop_assert_eq!(&first, &ask(&ts, &c.value, &c.limit, &o));
        if let Ok(f) = first {
            is_sound(&f)?;
        }
    }

    #[test]
    fn order_and_future_rows_do_not_matter(c in any_course(), by in 1_usize..20) {
        let n = c.value.len();
        let (mut ts, mut v, mut limit) = (seconds(n), c.value.clone(), c.limit.clone());
        let first = ask(&ts, &v, &limit, &options(n));
        ts.push(n as i64 * 1_000_000 + 1);
        v.push(5.0);
        limit.push(0.1);
        let by = by.min(n);
        ts.rotate_left(by);
        v.rotate_left(by);
        limit.rotate_left(by);
        prop_assert_eq!(first, ask(&ts, &v, &limit, &options(n)));
    }

    #[test]
    fn any_numbers(
        rows in proptest::collection::vec((odd_time(), odd_number(), odd_number()), 0..40),
        as_of_us in odd_time(),
        horizon_s in odd_number(),
        down: bool,
    ) {
        let ts: Vec<i64> = rows.iter().map(|r| r.0).collect();
        let v: Vec<f64> = rows.iter().map(|r| r.1).collect();
        let limit: Vec<f64> = rows.iter().map(|r| r.2).collect();
        let direction = if down { Direction::Down } else { Direction::Up };
        let o = Options {
            as_of_us, horizon_s, direction, paths: 50, stale_after_s: Some(f64::INFINITY), ..Options::default()
        };
        if let Ok(f) = ask(&ts, &v, &limit, &o) {
            is_sound(&f)?;
        }
        // A fixed limit and a sane horizon reach further in.
        let limit = vec![if down { -1e30 } else { 1e30 }; v.len()];
        if let Ok(f) = ask(&ts, &v, &limit, &Options { as_of_us: i64::MAX, horizon_s: 60.0, ..o }) {
            is_sound(&f)?;
        }
    }
}

fn odd_time() -> impl Strategy<Value = i64> {
    prop_oneof![
        0_i64..100,
        (0_i64..100).prop_map(|s| s * 1_000_000),
        any::<i64>(),
        Just(i64::MIN),
        Just(i64::MAX)
    ]
}

fn odd_number() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => 0.0..100.0_f64,
        2 => (0_i32..5).prop_map(f64::from),
        1 => any::<f64>(),
        1 => any::<i64>().prop_map(|v| v as f64),
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(-1.0),
    ]
}
