//! One run, evaluated causally: at the steps of a grid, and where a share of its life is left.

use std::panic::resume_unwind;

use super::{Answers, CHECKPOINTS, LEVELS, asked_horizons};
use crate::baseline::Features;
use crate::generator::Run;
use crate::{Evidence, Forecast, Interval, Options, Series, seed_of};

/// Steps of the grid over what is watched of a run.
const STEPS: i64 = 64;
/// Before the onset the watch starts by this share of the life.
const BEFORE: f64 = 0.3;

/// An evaluation.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) at_us: i64,
    /// At the run's own horizon.
    pub(crate) tapio: Answers,
    /// At the run's own horizon.
    pub(crate) features: Features,
    /// At each of [`asked_horizons`].
    pub(crate) asked: Vec<Asked>,
}

/// A probability that was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Index of the horizon among those of the scores.
    pub(crate) horizon: usize,
    /// Whether the event happened within the horizon; `None`: censored.
    pub(crate) label: Option<bool>,
    pub(crate) probability: Option<f64>,
    /// What Tapio's probability rests on; `None`: it cannot say.
    pub(crate) evidence: Option<Evidence>,
    pub(crate) features: Features,
}

/// All evaluations of a run.
#[derive(Debug, Clone)]
pub(crate) struct Walk {
    pub(crate) steps: Vec<Step>,
    /// Where .5, .25, .1 of the life are left; empty without an event.
    pub(crate) checkpoints: Vec<Step>,
}

/// A forecaster: what it says about a series at a time.
pub(crate) type Forecaster<'a> =
    dyn Fn(&Run, &Series<'_>, &Options) -> Option<Forecast> + Sync + 'a;

impl Walk {
    /// Evaluates; `forecaster` may be `None` where only the rivals are asked.
    pub(crate) fn new(run: &Run, forecaster: Option<&Forecaster<'_>>) -> Self {
        Self::asked(run, &asked_horizons(run), forecaster)
    }

    /// The same, asked at horizons of the caller.
    pub(super) fn asked(
        run: &Run,
        asked: &[(usize, f64)],
        forecaster: Option<&Forecaster<'_>>,
    ) -> Self {
        let life = run.end_us - run.onset_us;
        let first = run.ts_us.first().copied().unwrap_or(run.end_us);
        let from = match run.event_us {
            // The end of an earlier life is another event.
            Some(_) if !run.earlier.is_empty() => run.onset_us,
            Some(_) if run.is_foreseeable => {
                first.max(run.onset_us - (BEFORE * life as f64) as i64)
            }
            _ => first,
        };
        let cadence = (run.cadence_s * 1e6) as i64;
        let step = ((run.end_us - from) / STEPS).max(cadence).max(1);
        let mut steps = Vec::new();
        let mut at = from + step;
        while at < run.end_us {
            steps.extend(evaluate(run, at, asked, forecaster));
            at += step;
        }
        let checkpoints = checkpoints(run, asked, forecaster);
        Self { steps, checkpoints }
    }

    /// What was asked at a horizon (index into [`asked_horizons`]) where the outcome is known, and the outcome.
    pub(crate) fn known(&self, asked: usize) -> impl Iterator<Item = (&Asked, bool)> {
        self.steps.iter().filter_map(move |s| {
            let asked = s.asked.get(asked)?;
            Some((asked, asked.label?))
        })
    }

    /// Weight of one of them: a run weighs one at each horizon.
    pub(crate) fn weight(&self, asked: usize) -> f64 {
        1.0 / self.known(asked).count().max(1) as f64
    }
}

/// What is said where .5, .25, .1 of the life are left; empty without an event.
pub(super) fn checkpoints(
    run: &Run,
    asked: &[(usize, f64)],
    forecaster: Option<&Forecaster<'_>>,
) -> Vec<Step> {
    let at = |event: i64, left: f64| {
        let at = event - (left * (event - run.onset_us) as f64) as i64;
        at.min(event - 1)
    };
    let of = |event: i64| {
        CHECKPOINTS.iter().filter_map(move |f| evaluate(run, at(event, *f), asked, forecaster))
    };
    run.event_us.into_iter().flat_map(of).collect()
}

fn evaluate(
    run: &Run,
    at_us: i64,
    asked: &[(usize, f64)],
    forecaster: Option<&Forecaster<'_>>,
) -> Option<Step> {
    let n = run.ts_us.partition_point(|t| *t <= at_us);
    let features = Features::of(run, at_us, run.horizon_s)?;
    let series =
        Series { ts_us: &run.ts_us[..n], value: &run.value[..n], threshold: &run.threshold[..n] };
    let options = Options {
        as_of_us: at_us,
        horizon_s: run.horizon_s,
        also_s: asked[..asked.len() - 1].iter().map(|a| a.1).collect(),
        seed: seed_of(run.workload.cast_signed(), at_us),
        direction: run.direction,
        ..Options::default()
    };
    let forecast = forecaster.and_then(|f| f(run, &series, &options));
    let at_horizon = |&(horizon, horizon_s): &(usize, f64)| {
        let said = forecast.as_ref().and_then(|f| {
            if horizon_s == run.horizon_s {
                return Some((f.probability, f.evidence));
            }
            let other = f.also.iter().find(|o| o.horizon_s == horizon_s)?;
            Some((other.probability, other.evidence))
        });
        let own = horizon_s == run.horizon_s;
        let features = if own { features } else { Features::of(run, at_us, horizon_s)? };
        Some(Asked {
            horizon,
            label: run.hits_within(at_us, horizon_s),
            probability: said.map(|s| s.0),
            evidence: said.map(|s| s.1),
            features,
        })
    };
    Some(Step {
        at_us,
        tapio: answers(forecast.as_ref()),
        features,
        asked: asked.iter().filter_map(at_horizon).collect(),
    })
}

fn answers(f: Option<&Forecast>) -> Answers {
    let p = f.map(|f| f.probability);
    let central = |f: &Forecast| -> [Interval; LEVELS.len()] {
        [f.intervals.p50, f.intervals.p80, f.intervals.p95]
    };
    Answers {
        probability: p,
        alarm: p,
        eta_s: f.and_then(|f| f.eta_s),
        intervals: f.filter(|f| f.eta_s.is_some()).map(central),
    }
}

/// Calls `work` for every index below `n` on `threads` threads (0: one); the results are in order, whoever made them.
///
/// A panic of `work` goes on in the caller.
pub fn parallel<T: Send>(n: usize, threads: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let mut done: Vec<(usize, T)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1))
            .map(|_| {
                scope.spawn(|| {
                    let mut mine = Vec::new();
                    loop {
                        let i = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        if i >= n {
                            return mine;
                        }
                        mine.push((i, work(i)));
                    }
                })
            })
            .collect();
        let joined = workers.into_iter().map(|w| w.join().unwrap_or_else(|p| resume_unwind(p)));
        joined.flatten().collect()
    });
    done.sort_by_key(|d| d.0);
    done.into_iter().map(|d| d.1).collect()
}
