//! What was said at each step of a course, for machines.

use indicatif::ProgressBar;
use serde_json::{Value, json};
use tapio_models::{
    Direction, Forecast, Options, Series, score::parallel, seed_of, time_to_threshold,
};

use super::score_options;
use crate::{
    error::CliError,
    time::{rfc3339, steps},
};

/// More evaluations than this are a mistake: it would take hours.
const MOST_STEPS: i64 = 10_000_000;

/// The times of a walk, all in µs: every step after `first`, and `last`.
///
/// # Errors
/// A step that is too short for the time between.
pub(super) fn times(first: i64, last: i64, step_us: i64) -> Result<Vec<i64>, CliError> {
    let n = last.saturating_sub(first) / step_us.max(1);
    if n > MOST_STEPS {
        return Err(CliError::tool(format!(
            "--step is too short: from {} to {} it makes {n} evaluations, at most {MOST_STEPS} are made",
            rfc3339(first),
            rfc3339(last)
        )));
    }
    Ok(steps(first, last, step_us))
}

/// Rows of one subject, rising in time, and what is asked about them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Course<'a> {
    /// Times, µs.
    pub ts_us: &'a [i64],
    pub value: &'a [f64],
    pub threshold: &'a [f64],
    pub direction: Direction,
    pub horizon_s: f64,
    pub seed: i64,
}

impl Course<'_> {
    /// What is said at each time (µs), from rows up to it (T7): `{"at","eta_seconds","eta_low_seconds",
    /// "eta_high_seconds","probability"}`, the interval that of 80 %; null = cannot say.
    pub(super) fn steps(&self, times: &[i64], bar: &ProgressBar) -> Vec<Value> {
        parallel(times.len(), score_options().threads, |i| {
            bar.inc(1);
            step(times[i], self.forecast(times[i]).as_ref())
        })
    }

    fn forecast(&self, at: i64) -> Option<Forecast> {
        let n = self.ts_us.partition_point(|t| *t <= at);
        let series = Series {
            ts_us: &self.ts_us[..n],
            value: &self.value[..n],
            threshold: &self.threshold[..n],
        };
        let options = Options {
            as_of_us: at,
            horizon_s: self.horizon_s,
            seed: seed_of(self.seed, at),
            direction: self.direction,
            ..Options::default()
        };
        time_to_threshold(&series, &options).ok()
    }
}

fn step(at: i64, f: Option<&Forecast>) -> Value {
    let eta = f.and_then(|f| f.eta_s);
    let interval = f.filter(|_| eta.is_some()).map(|f| f.intervals.p80);
    json!({
        "at": rfc3339(at),
        "eta_seconds": eta,
        "eta_low_seconds": interval.map(|i| i.low_s),
        "eta_high_seconds": interval.and_then(|i| i.high_s),
        "probability": f.map(|f| f.probability),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_steps_are_a_mistake() {
        let told = times(0, 3_600_000_000, 1).unwrap_err().message;
        assert!(told.contains("3600000000 evaluations"), "{told}");
        assert_eq!(times(i64::MIN, i64::MAX, i64::MAX).unwrap().last(), Some(&i64::MAX));
    }

    #[test]
    fn steps_know_only_what_was_there() {
        let ts_us: Vec<i64> = (0..200).map(|i| i * 10_000_000).collect();
        let value: Vec<f64> = (0..200).map(f64::from).collect();
        let course = |n: usize| Course {
            ts_us: &ts_us[..n],
            value: &value[..n],
            threshold: &[150.0; 200][..n],
            direction: Direction::Up,
            horizon_s: 900.0,
            seed: 0,
        };
        let times = times(ts_us[0], ts_us[199], 10_000_000).unwrap();
        let all = course(200).steps(&times, &ProgressBar::hidden());
        assert_eq!(all.len(), 199);
        let early = course(101).steps(&times[..100], &ProgressBar::hidden());
        assert_eq!(all[..100], early[..]);
        let eta = all[99]["eta_seconds"].as_f64().unwrap();
        assert!((eta - 500.0).abs() < 25.0, "{eta}");
    }
}
