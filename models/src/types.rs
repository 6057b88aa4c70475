//! What goes into a forecast and what comes out.

use crate::{Evidence, ModelKind};

/// One series, one row per observation. The slices have the same length; rows should be sorted by time (a copy is
/// sorted if they are not; of rows with the same time the last one counts).
#[derive(Debug, Clone, Copy)]
pub struct Series<'a> {
    /// Time of the row, µs (UTC, or any other origin).
    pub ts_us: &'a [i64],
    /// Observed value, any unit. Rows that are not finite are dropped and counted.
    pub value: &'a [f64],
    /// The threshold in force at the row, same unit as `value`: any number, also zero or negative (a value at or beyond it
    /// has hit). NaN, infinite or ±2⁶² and beyond ("max", as cgroups write it): no limit at that row.
    pub threshold: &'a [f64],
}

/// From which side the threshold is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// The value rises to the threshold (memory to its limit).
    #[default]
    Up,
    /// The value falls to the threshold (free bytes to zero).
    Down,
}

/// An earlier life of the same workload: what its present one may be like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Life {
    /// Its length, s. Lives without a positive, finite length are left out.
    pub life_s: f64,
    /// Mean slope, units of the value per second (negative where the value falls to its threshold).
    pub slope_per_s: f64,
    /// Whether it ended at the threshold (else by a deploy, a restart, a release).
    pub hit: bool,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The moment of the forecast, µs; rows after it are not looked at (T7).
    pub as_of_us: i64,
    /// `probability` is that of a hit within this many seconds after `as_of_us`.
    pub horizon_s: f64,
    /// Further horizons, s, at which the probability is wanted too ([`Forecast::also`]): from the same paths, so at next to
    /// no cost. Those that are not positive, or beyond 100 times `horizon_s`, are left out.
    pub also_s: Vec<f64>,
    /// Number of simulated paths (16 to 100,000; values outside are clamped).
    pub paths: usize,
    /// Seed of the paths; [`crate::seed_of`] derives one from series and time.
    pub seed: u64,
    /// From which side the threshold is met.
    pub direction: Direction,
    /// No forecast is made from a series whose last row is older than this; `None`: ten times its median cadence, or if that
    /// is longer `stale_share` of the time its rows span, but at most the horizon.
    pub stale_after_s: Option<f64>,
    /// How long a gap may be beside the history. 0 where whatever has no rows has ended, as the container of a running server.
    pub stale_share: f64,
    /// Length of a cycle that is known beforehand, s: a day. `None`: only cycles that the values themselves show.
    pub season_s: Option<f64>,
    /// Share of lives that end at their threshold where this is asked, between 0 and 1: shifts the odds of the probability.
    /// `None` (or out of range): as in the training runs, [`crate::calibration::PREVALENCE`].
    pub prevalence: Option<f64>,
    /// Earlier lives of the same workload that are not in the series (those in it are found there).
    pub earlier: Vec<Life>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            as_of_us: 0,
            horizon_s: 900.0,
            also_s: Vec::new(),
            paths: 1000,
            seed: 0,
            direction: Direction::Up,
            stale_after_s: None,
            stale_share: 0.1,
            season_s: Some(86_400.0),
            prevalence: None,
            earlier: Vec::new(),
        }
    }
}

/// Why no forecast is made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CannotSay {
    /// No usable row at or before the asked time.
    #[error("no data at or before the asked time")]
    NoData,
    /// Too few rows since the last restart.
    #[error("only {have} points since the last restart, {need} are needed")]
    TooFewPoints {
        /// Usable rows.
        have: usize,
        /// Rows needed.
        need: usize,
    },
    /// The newest row has no limit.
    #[error("no limit is set")]
    NoThreshold,
    /// The newest row is too old to speak about the asked time.
    #[error("the newest point is {age_s:.0} s old, at most {limit_s:.0} s are accepted")]
    Stale {
        /// Age of the newest usable row, s.
        age_s: f64,
        /// The accepted age, s.
        limit_s: f64,
    },
    /// The range of the values exceeds what can be computed with.
    #[error("the values span more than can be computed with")]
    NotFinite,
    /// The slices of the series differ in length.
    #[error("times, values and thresholds differ in length: {ts}, {value}, {threshold}")]
    Shape {
        /// Length of `ts_us`.
        ts: usize,
        /// Length of `value`.
        value: usize,
        /// Length of `threshold`.
        threshold: usize,
    },
    /// The horizon is not a positive number of seconds.
    #[error("the horizon must be a positive number of seconds")]
    Horizon,
}

impl CannotSay {
    /// A stable short code for machines.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoData => "no_data",
            Self::TooFewPoints { .. } => "too_few_points",
            Self::NoThreshold => "no_threshold",
            Self::Stale { .. } => "stale",
            Self::NotFinite => "not_finite",
            Self::Shape { .. } => "shape",
            Self::Horizon => "horizon",
        }
    }
}

/// Central interval of the time to the hit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower end, seconds after `as_of_us`.
    pub low_s: f64,
    /// Upper end, seconds after `as_of_us`; `None`: open.
    pub high_s: Option<f64>,
}

/// Central intervals, nested by construction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Intervals {
    /// Holds the hit with 50 % probability (if the growth goes on).
    pub p50: Interval,
    /// With 80 %.
    pub p80: Interval,
    /// With 95 %.
    pub p95: Interval,
    /// With 99 %.
    pub p99: Interval,
}

/// Why the present segment starts where it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentReason {
    /// The first row.
    Start,
    /// The value fell at once to a fraction of what it was.
    Restart,
    /// The threshold changed. The values before it are still used.
    LimitChange,
    /// Slope or level changed.
    ChangePoint,
}

impl SegmentReason {
    /// A stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Restart => "restart",
            Self::LimitChange => "limit_change",
            Self::ChangePoint => "change_point",
        }
    }
}

/// What the chance that the growth goes on was derived from.
#[derive(Debug, Clone, PartialEq)]
pub struct Persistence {
    /// Start of the present growth, µs.
    pub onset_us: i64,
    /// How long it has been going on, s.
    pub age_s: f64,
    /// Earlier growth of this series that ended in a release before the threshold.
    pub released: usize,
    /// Mean chance, over the paths that hit before the horizon, that the growth lasts until they do; `None` if no path does.
    pub survives: Option<f64>,
}

impl Forecast {
    /// Whether the value is at its threshold already.
    pub(crate) fn is_crossed(&self) -> bool {
        self.eta_s == Some(0.0) && self.intervals.p99.high_s == Some(0.0)
    }
}

/// The probability at a further horizon.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlook {
    /// The horizon, s.
    pub horizon_s: f64,
    /// P(hit within it); not smaller than at a shorter horizon.
    pub probability: f64,
    /// What it was derived from.
    pub evidence: Evidence,
}

/// The answer of [`crate::time_to_threshold`].
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// Median time to the hit in seconds after `as_of_us`, given that the growth goes on. `None`: it does not grow, or
    /// more than half of the paths do not hit within 100 horizons.
    pub eta_s: Option<f64>,
    /// Intervals around it. Without any hit: from 100 horizons, open.
    pub intervals: Intervals,
    /// P(hit within `horizon_s`), including the chance that the growth stops before.
    pub probability: f64,
    /// The asked horizon, s.
    pub horizon_s: f64,
    /// The same at [`Options::also_s`], by rising horizon.
    pub also: Vec<Outlook>,
    /// The model with the largest weight.
    pub model: ModelKind,
    /// All models considered with their weights (sum 1), largest first.
    pub weights: Vec<(ModelKind, f64)>,
    /// Robust slope of the present segment, units per second.
    pub slope_per_s: f64,
    /// The newest value.
    pub level: f64,
    /// The threshold in force.
    pub threshold: f64,
    /// Span of the values the models were fitted to, s.
    pub window_s: f64,
    /// Number of those values.
    pub samples: usize,
    /// Rows dropped because their value was not finite.
    pub dropped: usize,
    /// Start of the present segment, µs.
    pub segment_start_us: i64,
    /// Why it starts there.
    pub segment_reason: SegmentReason,
    /// Robust standard deviation of the residuals, unit of the value.
    pub residual_scale: f64,
    /// Chance that the growth goes on, and its sources.
    pub persistence: Persistence,
    /// What the probability was derived from.
    pub evidence: Evidence,
}
