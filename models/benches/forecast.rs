//! Time: `cargo bench -p tapio-models --bench forecast`.
#![allow(missing_docs, reason = "the macros make undocumented functions")]

mod common;

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use tapio_models::{Options, Series, time_to_threshold};

fn forecast(c: &mut Criterion) {
    for n in [90, 360, 20_000] {
        let (ts, value, limit) = common::rising(n);
        let options = common::options(n);
        c.bench_function(&format!("forecast of {n} rising points"), |b| {
            b.iter(|| {
                let series = Series { ts_us: &ts, value: &value, threshold: &limit };
                time_to_threshold(black_box(&series), &options)
            });
        });
    }
    let run = common::days();
    let last = run.ts_us[run.ts_us.len() - 1];
    let options = Options { as_of_us: last, horizon_s: run.horizon_s, ..Options::default() };
    c.bench_function(&format!("forecast of days, {} points", run.ts_us.len()), |b| {
        b.iter(|| time_to_threshold(black_box(&run.series()), &options));
    });
}

fn tick(c: &mut Criterion) {
    let (states, at) = common::states(10_000);
    c.bench_function("tick and screen of 10,000 series", |b| {
        b.iter_batched_ref(
            || states.clone(),
            |states| {
                let mut heading = 0;
                for (k, state) in states.iter_mut().enumerate() {
                    state.push(at, 2e8 + 1e6 * (k % 97) as f64, 1e9);
                    heading += usize::from(state.heads_for_threshold(900.0));
                }
                heading
            },
            BatchSize::LargeInput,
        );
    });
}

criterion_group!(benches, forecast, tick);
criterion_main!(benches);
