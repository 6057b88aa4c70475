//! Labelled runs to fit on and to be judged by.
//!
//! A run is one life of one subject: a measured course until it meets its limit or is seen no longer. Every number is
//! drawn from the [`ranges`], seeded by family, number and the caller's seed: the same call gives the same bits. The
//! families of the two [`Part`]s are disjoint, so whatever is fitted on the training part is judged on shapes it has not
//! seen.
//!
//! The truth is taken from the measured course itself (with its noise, between the samples), not from the formula behind
//! it: the event is the first tick at which it reaches its limit.

mod courses;
mod lives;
mod noise;
mod observe;
mod quiet;
pub mod ranges;

use crate::rng::{Draws, seed_of};
use crate::{Direction, Life, Series};
use observe::{Gauge, Made, Turn};

/// What may be fitted on, and what only judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// Constants may be fitted on these families.
    Train,
    /// Only for the final score.
    Test,
}

impl Part {
    /// A stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }
}

/// Whether a forecaster could have known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// It grows towards its limit over its whole life.
    Foreseeable,
    /// It meets its limit by a burst or a step that nothing announces.
    Unforeseeable,
    /// It does not meet its limit (if chance makes it do so, nothing announced it).
    Quiet,
}

macro_rules! families {
    ($($(#[$doc:meta])* $name:ident, $text:literal, $part:ident, $kind:ident;)*) => {
        /// A way in which a resource is used.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Family {
            $($(#[$doc])* $name,)*
        }

        impl Family {
            /// All of them.
            pub const ALL: &'static [Family] = &[$(Family::$name,)*];

            /// A stable name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The part it belongs to.
            #[must_use]
            pub fn part(self) -> Part {
                match self { $(Self::$name => Part::$part,)* }
            }

            /// Whether its events can be foreseen.
            #[must_use]
            pub fn kind(self) -> Kind {
                match self { $(Self::$name => Kind::$kind,)* }
            }
        }
    };
}

families! {
    /// A straight leak in allocator steps.
    SteadyLeak, "steady_leak", Train, Foreseeable;
    /// Growth by a power of time above one.
    PowerLeak, "power_leak", Train, Foreseeable;
    /// A slow leak under a daily wave.
    DailyLeak, "daily_leak", Train, Foreseeable;
    /// Bytes retained per request under randomly wandering traffic.
    RequestLeak, "request_leak", Train, Foreseeable;
    /// A collector's teeth on rising floors.
    CollectorLeak, "collector_leak", Train, Foreseeable;
    /// A leak of anonymous memory while the page cache fills and is reclaimed below the same measure.
    CacheLeak, "cache_leak", Train, Foreseeable;
    /// A batch adds the same amount again and again.
    BatchLeak, "batch_leak", Train, Foreseeable;
    /// Several lives of one workload in one series, each killed at its limit.
    Lives, "lives", Train, Foreseeable;
    /// Free bytes of a disk that fall to zero, with deletions in between.
    DiskFill, "disk_fill", Train, Foreseeable;
    /// A leak that begins somewhere in a long quiet history.
    LateLeak, "late_leak", Train, Foreseeable;
    /// Noise around a level.
    Flat, "flat", Train, Quiet;
    /// Exponential approach to a plateau after a start.
    WarmUp, "warm_up", Train, Quiet;
    /// A collector's teeth without a leak.
    Collector, "collector", Train, Quiet;
    /// A daily wave without a leak.
    Daily, "daily", Train, Quiet;
    /// Bursts at regular times that go away.
    Cron, "cron", Train, Quiet;
    /// A straight ramp that stops below the limit.
    RampStops, "ramp_stops", Train, Quiet;
    /// A random walk that is pulled back to its mean.
    MeanReverting, "mean_reverting", Train, Quiet;
    /// A leak that a deploy ends before the limit, again and again.
    Deploys, "deploys", Train, Quiet;
    /// A start: a fast straight rise to a plateau.
    StartUp, "start_up", Train, Quiet;
    /// Fast ramps out of the quiet that are held and released, once or a few times.
    Bursts, "bursts", Train, Quiet;
    /// A burst out of the quiet that meets the limit within a few samples.
    BurstHits, "burst_hits", Train, Unforeseeable;

    /// A straight leak under heavy-tailed transients, irregularly sampled, with gaps.
    RoughLeak, "rough_leak", Test, Foreseeable;
    /// Growth that feeds itself.
    ExponentialLeak, "exponential_leak", Test, Foreseeable;
    /// Growth that slows down and still hits.
    SlowingLeak, "slowing_leak", Test, Foreseeable;
    /// A leak that pauses at night.
    NightPause, "night_pause", Test, Foreseeable;
    /// Bytes retained per request under daily traffic, beside a working set that follows the traffic.
    TrafficLeak, "traffic_leak", Test, Foreseeable;
    /// Minor and major collections over a leak: the envelope of the peaks hits.
    GenerationLeak, "generation_leak", Test, Foreseeable;
    /// The limit is changed during the leak.
    LimitChange, "limit_change", Test, Foreseeable;
    /// A leak sampled every 1 to 5 minutes.
    CoarseLeak, "coarse_leak", Test, Foreseeable;
    /// A percentage, rounded, that grows to its limit.
    PercentFill, "percent_fill", Test, Foreseeable;
    /// Steps of random size at random times.
    RandomSteps, "random_steps", Test, Foreseeable;
    /// The slope changes once or twice on the way.
    SlopeChanges, "slope_changes", Test, Foreseeable;
    /// Several lives in one series, some ended by a deploy.
    MixedLives, "mixed_lives", Test, Foreseeable;
    /// A leak below bursts at regular times: a burst hits.
    CronLeak, "cron_leak", Test, Foreseeable;
    /// A log partition that is rotated and still fills.
    RotatedDisk, "rotated_disk", Test, Foreseeable;
    /// A warm-up in two stages.
    StagedWarmUp, "staged_warm_up", Test, Quiet;
    /// A ramp of load that ends in a plateau, along an S.
    LoadRamp, "load_ramp", Test, Quiet;
    /// A level close to the limit, for good.
    NearLimit, "near_limit", Test, Quiet;
    /// Level shifts at deploys and configuration changes.
    LevelShifts, "level_shifts", Test, Quiet;
    /// A page cache that fills up to a bound and is kept there.
    CacheFills, "cache_fills", Test, Quiet;
    /// A random walk below its limit.
    Wander, "wander", Test, Quiet;
    /// Daily traffic with a trend over the morning, weekdays and a quiet night.
    DailyTraffic, "daily_traffic", Test, Quiet;
    /// A disk that is cleaned in time, again and again.
    CleanedDisk, "cleaned_disk", Test, Quiet;
    /// Growth that is released before the limit, once or twice.
    Released, "released", Test, Quiet;
    /// One step out of the quiet that meets the limit.
    StepHits, "step_hits", Test, Unforeseeable;
}

/// A labelled run. Samples at or after the event do not exist: the subject is gone.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Family it was drawn from; `None` for a recording.
    pub family: Option<Family>,
    /// Number within the family and seed (or within the recordings).
    pub number: u64,
    /// Whether an event of this run could be foreseen.
    pub is_foreseeable: bool,
    /// Identity of the workload; runs of one workload count once in false alarms.
    pub workload: u64,
    /// Times of the samples, µs, rising.
    pub ts_us: Vec<i64>,
    /// Values, unit of the threshold.
    pub value: Vec<f64>,
    /// Threshold in force at each sample.
    pub threshold: Vec<f64>,
    /// From which side the threshold is met.
    pub direction: Direction,
    /// Size of the resource (the first limit, the size of the disk, 100 %), unit of the value.
    pub capacity: f64,
    /// Asked horizon, s.
    pub horizon_s: f64,
    /// Nominal distance of the samples, s.
    pub cadence_s: f64,
    /// Start of the course that leads to the event, µs (for quiet runs: the start of the present life).
    pub onset_us: i64,
    /// When the measured course met its limit, µs; `None`: it was not seen to.
    pub event_us: Option<i64>,
    /// The last moment at which it was watched, µs (the event, or the censored end).
    pub end_us: i64,
    /// Earlier lives of the workload in this series, oldest first.
    pub earlier: Vec<Life>,
}

impl Run {
    /// The samples as a series.
    #[must_use]
    pub fn series(&self) -> Series<'_> {
        Series { ts_us: &self.ts_us, value: &self.value, threshold: &self.threshold }
    }

    /// Name of the family, or `recorded`.
    #[must_use]
    pub fn family_name(&self) -> &'static str {
        self.family.map_or("recorded", Family::as_str)
    }

    /// Whether a hit within `horizon_s` after `at_us` happened; `None` where the watch ended too early to know.
    #[must_use]
    pub fn hits_within(&self, at_us: i64, horizon_s: f64) -> Option<bool> {
        let until = at_us.saturating_add((horizon_s * 1e6) as i64);
        match self.event_us {
            Some(event) => Some(event <= until),
            None => (self.end_us >= until).then_some(false),
        }
    }
}

/// Run `number` of `family`: a pure function of its arguments.
#[must_use]
pub fn run_of(family: Family, number: u64, seed: u64) -> Run {
    observe::run(family, number, &mut draws_of(family, number, seed))
}

/// When run `number` of `family` might have met its limit, µs, as far as it was decided at `from_us`: `n` draws of the
/// event, `None` where it is not seen to happen.
///
/// Each keeps all parameters of the run and its course up to `from_us`, and draws every later tick anew: exact draws from
/// the law of the event given everything that the generator knew by then. That is more than samples tell, and it holds
/// what was drawn beforehand: the slopes and their changes, the new limit, the rhythm of bursts, when the next deletion is.
/// The first tick always stays; from an event on nothing is left to chance.
#[must_use]
pub fn futures(family: Family, number: u64, seed: u64, from_us: i64, n: usize) -> Vec<Option<i64>> {
    let mut draws = draws_of(family, number, seed);
    let made = Made::new(family, &mut draws, None);
    let gauge = Gauge::new(family, &mut draws);
    let after = made.ticks_until(from_us).max(1);
    (0..n)
        .map(|future| {
            // A stream of its own: no run has a workload for a seed.
            let turn = Turn { after, seed: seed_of(made.workload.cast_signed(), future as i64) };
            Made::new(family, &mut draws_of(family, number, seed), Some(turn)).event_us(&gauge)
        })
        .collect()
}

fn draws_of(family: Family, number: u64, seed: u64) -> Draws {
    let name =
        family.as_str().bytes().fold(0_u64, |h, b| h.wrapping_mul(31).wrapping_add(b.into()));
    let key = name.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    Draws::new(seed_of(key.cast_signed(), seed.cast_signed()))
}

/// Families of `part`, in their fixed order.
pub fn families(part: Part) -> impl Iterator<Item = Family> {
    Family::ALL.iter().copied().filter(move |f| f.part() == part)
}

/// Identities of the runs of `part`: `runs` in all, spread evenly over its families.
pub fn plan(part: Part, runs: usize) -> Vec<(Family, u64)> {
    let all: Vec<Family> = families(part).collect();
    (0..runs).map(|i| (all[i % all.len()], (i / all.len()) as u64)).collect()
}

#[cfg(test)]
mod tests;
