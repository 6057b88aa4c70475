//! How often the allocator is asked, per thread: what runs over every series must not ask at all.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use tapio_models::{Direction, Moments, Options, Series, SeriesState, seed_of, time_to_threshold};

thread_local! {
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: everything is left to the system's allocator; the count is a plain number of this thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.set(ASKED.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, p: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ASKED.set(ASKED.get() + 1);
        // SAFETY: as above.
        unsafe { System.realloc(p, layout, size) }
    }

    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(p, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn asked<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = ASKED.get();
    let out = work();
    (ASKED.get() - before, out)
}

fn rising(i: i64) -> (i64, f64, f64) {
    (i * 10_000_000, 2e8 + 1e6 * i as f64 + (i * 7919 % 101) as f64 * 1e4, 4e9)
}

#[test]
fn a_row_and_the_screen_ask_nothing() {
    let mut state = SeriesState::new(Direction::Up);
    let mut row = |i: i64| {
        let (t, v, limit) = rising(i);
        state.push(t, v, limit);
        state.heads_for_threshold(900.0)
    };
    // Past the rows that are kept as they are.
    (0..2_100).for_each(|i| {
        row(i);
    });
    let (times, _) = asked(|| (2_100..60_000).filter(|i| row(*i)).count());
    assert_eq!(times, 0, "57,900 rows, blocks merged three times");
    let (times, _) = asked(|| {
        let mut m = Moments::new(0);
        (0..10_000).for_each(|i| m.push(i, i % 977));
        m
    });
    assert_eq!(times, 0, "10,000 rows of the exact screen");
}

/// Where it has teeth or a season most of it is the fit of Holt's model (Nelder and Mead's steps in `augurs`).
#[test]
fn a_forecast_asks_as_often_for_many_rows_and_paths_as_for_few() {
    let count = |n: i64, paths: usize| {
        let rows: Vec<(i64, f64, f64)> = (0..n).map(|i| rising(i * 2_000 / n)).collect();
        let ts: Vec<i64> = (0..n).map(|i| i * 10_000_000).collect();
        let value: Vec<f64> = rows.iter().map(|r| r.1).collect();
        let threshold: Vec<f64> = rows.iter().map(|r| r.2).collect();
        let as_of_us = ts[ts.len() - 1];
        let seed = seed_of(1, as_of_us);
        let horizon_s = 2.5 * n as f64;
        let options = Options { as_of_us, seed, paths, horizon_s, ..Options::default() };
        let series = Series { ts_us: &ts, value: &value, threshold: &threshold };
        let (times, forecast) = asked(|| time_to_threshold(&series, &options));
        assert!(forecast.unwrap().eta_s.is_some_and(|eta| eta > 0.0));
        times
    };
    let few = count(360, 1_000);
    assert!(few < 600, "{few}");
    let rows = count(4_000, 1_000);
    assert!(rows < few + few / 4, "4,000 rows: {rows}, 360 rows: {few}");
    // Every row ten times in a row has teeth.
    let teeth = count(20_000, 1_000);
    assert!(teeth < 2_600, "{teeth}");
    let twice = count(40_000, 1_000);
    assert!(twice < teeth + teeth / 4, "40,000 rows: {twice}, 20,000 rows: {teeth}");
    let paths = count(360, 50_000);
    assert!(paths <= few + 2, "50,000 paths: {paths}, 1,000 paths: {few}");
    println!(
        "360 rows: {few}, 4,000: {rows}, 20,000: {teeth}, 40,000: {twice}, 50,000 paths: {paths}"
    );
}
