//! Forecasting of Tapio: when does a measured value reach its limit, how sure is that, and what was it derived from.
//!
//! Everything here is a pure function over plain slices: no Arrow, no I/O, no clock, no globals. The same input gives the
//! same bits at any number of threads (invariant T6): the only randomness is a ChaCha8 stream seeded by the caller.
//!
//! - [`time_to_threshold`]: ETA with intervals and the probability of a hit before a horizon.
//! - [`SeriesState`]: the same, fed one row at a time.
//! - [`calibration`]: from what the models say to what comes true.
//! - [`generator`], [`score`], [`baseline`]: labelled runs, the score per run, and what operators use today on the same runs.
//! - [`attribution`]: which route of a service retains memory, bytes per request.
//! - [`Moments`] and [`linear_crossing_s`]: the exact, mergeable integer screen that runs over every series first.
//! - [`Alarm`]: probabilities become episodes.
//! - [`predict_linear`]: Prometheus' answer to the same question, to be compared with.
//!
//! ```
//! use tapio_models::{Options, Series, seed_of, time_to_threshold};
//!
//! // A leak of 2 MB/s seen for 300 s, 200 MB below its limit.
//! let ts: Vec<i64> = (0..300).map(|i| i * 1_000_000).collect();
//! let value: Vec<f64> = (0..300).map(|i| 200e6 + 2e6 * f64::from(i)).collect();
//! let limit = vec![1e9; 300];
//! let as_of_us = 299_000_000;
//! let options = Options { as_of_us, seed: seed_of(7, as_of_us), ..Options::default() };
//! let forecast = time_to_threshold(&Series { ts_us: &ts, value: &value, threshold: &limit }, &options)?;
//! let eta = forecast.eta_s.expect("a straight line hits");
//! assert!((eta - 101.0).abs() < 5.0);
//! assert!(forecast.probability > 0.5);
//! # Ok::<(), tapio_models::CannotSay>(())
//! ```
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod alarm;
pub mod attribution;
pub mod baseline;
pub mod calibration;
mod changepoint;
mod cholesky;
mod cycles;
mod evidence;
mod fit;
mod forecast;
pub mod generator;
mod logistic;
mod moments;
mod passage;
mod persistence;
mod prepare;
mod report;
mod residuals;
mod rng;
mod sawtooth;
pub mod score;
mod segment;
mod stack;
mod state;
mod stats;
#[cfg(test)]
mod tests;
mod types;
mod wander;

pub use alarm::{
    ALARM_CLEAR_THRESHOLD, ALARM_EVALUATIONS_THRESHOLD, ALARM_RAISE_THRESHOLD, Alarm, AlarmChange,
};
pub use baseline::predict_linear;
pub use evidence::Evidence;
pub use fit::ModelKind;
pub use forecast::time_to_threshold;
pub use moments::{Moments, linear_crossing_s};
pub use rng::seed_of;
pub use score::{Report, ScoreOptions, score_groups, score_runs, scoreboard};
pub use state::SeriesState;
pub use types::{
    CannotSay, Direction, Forecast, Interval, Intervals, Life, Options, Outlook, Persistence,
    SegmentReason, Series,
};
