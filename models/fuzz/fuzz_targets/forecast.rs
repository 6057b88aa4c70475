//! Any bytes as a series: no panic, and answers that hold together.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tapio_models::{Direction, Life, Options, Series, SeriesState, time_to_threshold};

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

/// A number of any kind: small integers make rows that look like a series, eight raw bytes make the rest.
fn number(bytes: &mut &[u8]) -> Option<f64> {
    let [kind] = take(bytes)?;
    if kind < 200 { Some(f64::from(kind)) } else { take(bytes).map(f64::from_le_bytes) }
}

fn time(bytes: &mut &[u8], before: i64) -> Option<i64> {
    let [kind] = take(bytes)?;
    if kind < 250 {
        Some(before.wrapping_add(i64::from(kind) * 100_000))
    } else {
        take(bytes).map(i64::from_le_bytes)
    }
}

fuzz_target!(|data: &[u8]| {
    let mut bytes = data;
    let Some([flags]) = take(&mut bytes) else { return };
    let Some(horizon_s) = number(&mut bytes) else { return };
    let direction = if flags & 1 == 0 { Direction::Up } else { Direction::Down };
    let fixed = flags & 2 == 0;
    let (mut ts, mut value, mut threshold) = (Vec::new(), Vec::new(), Vec::new());
    let limit = number(&mut bytes).unwrap_or(250.0);
    let mut at = 0;
    while let (Some(t), Some(v)) = (time(&mut bytes, at), number(&mut bytes)) {
        at = t;
        ts.push(t);
        value.push(v);
        threshold.push(if fixed { Some(limit) } else { number(&mut bytes) }.unwrap_or(f64::NAN));
    }
    let as_of_us = ts.iter().copied().max().unwrap_or(0);
    let earlier = if flags & 4 == 0 {
        Vec::new()
    } else {
        vec![Life { life_s: horizon_s, slope_per_s: limit, hit: flags & 8 == 0 }]
    };
    let options = Options {
        as_of_us,
        horizon_s,
        also_s: vec![horizon_s, 0.5 * horizon_s, limit],
        direction,
        earlier,
        paths: 32,
        stale_after_s: Some(f64::INFINITY),
        prevalence: (flags & 16 != 0).then_some(horizon_s),
        ..Options::default()
    };
    let series = Series { ts_us: &ts, value: &value, threshold: &threshold };
    let answer = time_to_threshold(&series, &options);
    if let Ok(f) = &answer {
        assert!((0.0..=1.0).contains(&f.probability), "{f:?}");
        let mut before = 0.0;
        for o in &f.also {
            assert!(before <= o.probability && o.probability <= 1.0, "{f:?}");
            assert!(o.horizon_s != horizon_s || o.probability == f.probability, "{f:?}");
            before = o.probability;
        }
        let i = [f.intervals.p50, f.intervals.p80, f.intervals.p95, f.intervals.p99];
        for pair in i.windows(2) {
            let high = |k: usize| pair[k].high_s.unwrap_or(f64::INFINITY);
            assert!(pair[1].low_s <= pair[0].low_s && high(0) <= high(1), "{f:?}");
        }
    }
    if ts.is_sorted() {
        let mut state = SeriesState::new(direction);
        for ((t, v), l) in ts.iter().zip(&value).zip(&threshold) {
            state.push(*t, *v, *l);
        }
        let _ = state.heads_for_threshold(horizon_s);
        assert_eq!(format!("{:?}", state.forecast(&options)), format!("{answer:?}"));
    }
});
