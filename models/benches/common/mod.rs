//! Series that both benchmarks use.

use tapio_models::generator::{Family, Run, run_of};
use tapio_models::{Direction, Options, SeriesState};

/// A rising series of `n` points, 1 s apart, with noise, and its limit.
pub fn rising(n: usize) -> (Vec<i64>, Vec<f64>, Vec<f64>) {
    let ts = (0..n as i64).map(|i| i * 1_000_000).collect();
    let noise = |i: usize| ((i * 7_919) % 1_013) as f64 / 1_013.0 - 0.5;
    let value = (0..n).map(|i| 2e8 + 5e8 * i as f64 / n as f64 + 1e7 * noise(i)).collect();
    (ts, value, vec![1e9; n])
}

/// What is asked of [`rising`].
pub fn options(n: usize) -> Options {
    Options {
        as_of_us: (n as i64 - 1) * 1_000_000,
        horizon_s: n as f64,
        seed: 7,
        ..Options::default()
    }
}

/// A run of days at a cadence of seconds, the longest of some.
#[allow(dead_code, reason = "not every benchmark asks for it")]
pub fn days() -> Run {
    let runs = (0..40).map(|n| run_of(Family::DailyLeak, n, 5));
    runs.max_by_key(|r| r.ts_us.len()).unwrap_or_else(|| run_of(Family::DailyLeak, 0, 5))
}

/// States of `count` series with 90 rows each, and the next row's time.
pub fn states(count: usize) -> (Vec<SeriesState>, i64) {
    let all = (0..count).map(|k| {
        let mut state = SeriesState::new(Direction::Up);
        for i in 0..90_i64 {
            let v = 2e8 + 1e6 * ((k + i as usize * 31) % 97) as f64;
            state.push(i * 10_000_000, v, 1e9);
        }
        state
    });
    (all.collect(), 900_000_000)
}
