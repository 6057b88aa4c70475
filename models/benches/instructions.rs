//! Instructions under callgrind, which do not depend on what else runs: `cargo bench -p tapio-models --bench instructions`.
//! Needs valgrind and `cargo install gungraun-runner` of the same version. Exceeding a limit fails.
#![allow(missing_docs, reason = "the macros make undocumented functions")]

mod common;

use std::hint::black_box;

use gungraun::{
    Callgrind, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};
use tapio_models::{CannotSay, Forecast, Options, Series, SeriesState, time_to_threshold};

/// Measured: 15.7 million (360 points), 16.5 million (20,000 points), 0.43 million (1,000 ticks). The limits leave room for
/// another compiler.
fn at_most(instructions: u64) -> LibraryBenchmarkConfig {
    let mut callgrind = Callgrind::default();
    callgrind.hard_limits([(EventKind::Ir, instructions)]);
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(callgrind);
    config
}

type Asked = ((Vec<i64>, Vec<f64>, Vec<f64>), Options);

fn rising(n: usize) -> Asked {
    (common::rising(n), common::options(n))
}

#[library_benchmark(config = at_most(20_000_000))]
#[bench::hour(rising(360))]
#[bench::days(rising(20_000))]
fn forecast(((ts, value, limit), options): Asked) -> Result<Forecast, CannotSay> {
    let series = Series { ts_us: &ts, value: &value, threshold: &limit };
    time_to_threshold(black_box(&series), &options)
}

fn thousand() -> (Vec<SeriesState>, i64) {
    common::states(1_000)
}

#[library_benchmark(config = at_most(540_000))]
#[bench::thousand(thousand())]
fn tick((mut states, at): (Vec<SeriesState>, i64)) -> usize {
    let mut heading = 0;
    for (k, state) in states.iter_mut().enumerate() {
        state.push(at, 2e8 + 1e6 * (k % 97) as f64, 1e9);
        heading += usize::from(state.heads_for_threshold(900.0));
    }
    heading
}

library_benchmark_group!(name = all, benchmarks = [forecast, tick]);
main!(library_benchmark_groups = all);
