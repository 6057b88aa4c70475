//! From a measured course to what a collector saw of it.

use super::noise::Noise;
use super::ranges::{self, TICKS_PER_SAMPLE, TimeScale};
use super::{Family, Kind, Run, courses, lives, quiet};
use crate::rng::Draws;
use crate::{Direction, Life};

/// A day, s.
pub(super) const DAY_S: f64 = 86_400.0;

/// The clock and the sources of chance of one run.
pub(super) struct Setting<'a> {
    pub(super) draws: &'a mut Draws,
    pub(super) noise: Noise,
    pub(super) tick_s: f64,
    /// Intended length of a life, ticks.
    pub(super) life: usize,
    /// Time of day at tick 0, share of a day.
    phase: f64,
    /// Ticks measured so far.
    ticks: usize,
    turn: Option<Turn>,
}

/// From a tick on, other chance.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    /// Ticks that stay as they are.
    pub(super) after: usize,
    pub(super) seed: u64,
}

impl Setting<'_> {
    /// Time of day at a tick, share of a day.
    pub(super) fn day(&self, tick: usize) -> f64 {
        (self.phase + tick as f64 * self.tick_s / DAY_S).fract()
    }

    /// Ticks of quiet before a leak.
    pub(super) fn quiet(&mut self) -> usize {
        if self.draws.chance(0.5) {
            return 0;
        }
        (self.draws.between(ranges::QUIET_SHARE) * self.life as f64) as usize
    }

    /// Signal plus noise; called once for each tick, in order.
    pub(super) fn measured(&mut self, signal: f64) -> f64 {
        let measured = (signal + self.noise.next(self.draws)).max(0.0);
        self.ticks += 1;
        if let Some(turn) = self.turn.filter(|t| t.after == self.ticks) {
            *self.draws = Draws::new(turn.seed);
        }
        measured
    }
}

/// A measured course, one value per tick, shares of the capacity.
#[derive(Debug, Clone)]
pub(super) struct Course {
    pub(super) level: Vec<f64>,
    /// Limit by tick; empty: one throughout.
    pub(super) limit: Vec<f64>,
    /// Tick at which the course that leads to the event starts; events are looked for from here on.
    pub(super) onset: usize,
    pub(super) earlier: Vec<(usize, f64, bool)>,
}

impl Course {
    pub(super) fn new(level: Vec<f64>, onset: usize) -> Self {
        Self { level, limit: Vec::new(), onset, earlier: Vec::new() }
    }

    fn limit(&self, tick: usize) -> f64 {
        self.limit.get(tick).copied().unwrap_or(1.0)
    }
}

/// Unit of the value.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Unit {
    Memory,
    Disk,
    Percent,
}

fn unit_of(family: Family) -> Unit {
    match family {
        Family::DiskFill | Family::RotatedDisk | Family::CleanedDisk => Unit::Disk,
        Family::PercentFill => Unit::Percent,
        _ => Unit::Memory,
    }
}

/// Daily courses need days.
fn is_daily(family: Family) -> bool {
    matches!(
        family,
        Family::DailyLeak
            | Family::NightPause
            | Family::TrafficLeak
            | Family::Daily
            | Family::DailyTraffic
    )
}

fn scale_of(family: Family, draws: &mut Draws) -> (TimeScale, f64, f64) {
    let coarse = family == Family::CoarseLeak;
    let [quick, .., slow] = ranges::TIME_SCALES;
    let scale = match draws.below(ranges::TIME_SCALES.len()) {
        _ if is_daily(family) => slow,
        0 if coarse => ranges::TIME_SCALES[1],
        0 => quick,
        i => ranges::TIME_SCALES[i],
    };
    let cadences = if coarse { ranges::COARSE_CADENCE_S } else { scale.cadence_s };
    let cadence = cadences[draws.below(cadences.len())];
    let least = if is_daily(family) { 1.2 * DAY_S } else { 0.0 };
    let shortest = scale.life_s.0.max(least).max(if coarse {
        ranges::COARSE_LIFE_SAMPLES * cadence
    } else {
        0.0
    });
    (scale, cadence, draws.log_between((shortest, scale.life_s.1)))
}

/// A run before anybody looks at it.
pub(super) struct Made {
    horizon_s: f64,
    cadence_s: f64,
    life_s: f64,
    pub(super) workload: u64,
    course: Course,
}

impl Made {
    /// `turn`: the first ticks are those of the run without it, and so is all that was drawn before them.
    pub(super) fn new(family: Family, draws: &mut Draws, turn: Option<Turn>) -> Self {
        let (scale, cadence_s, life_s) = scale_of(family, draws);
        let tick_s = cadence_s / TICKS_PER_SAMPLE as f64;
        let noise = Noise::new(draws);
        let phase = draws.uniform();
        let workload = (draws.uniform() * 2_f64.powi(52)) as u64;
        let life = (life_s / tick_s).round() as usize;
        let mut setting = Setting { draws, noise, tick_s, life, phase, ticks: 0, turn };
        let course = match family.kind() {
            _ if matches!(family, Family::Lives | Family::MixedLives | Family::Deploys) => {
                lives::course(family, &mut setting)
            }
            Kind::Foreseeable => courses::course(family, &mut setting),
            Kind::Unforeseeable | Kind::Quiet => quiet::course(family, &mut setting),
        };
        Self { horizon_s: scale.horizon_s, cadence_s, life_s, workload, course }
    }

    /// Time of a tick, µs.
    fn at(&self, tick: usize) -> i64 {
        let tick_us = self.cadence_s / TICKS_PER_SAMPLE as f64 * 1e6;
        (tick as f64 * tick_us) as i64
    }

    /// Number of ticks at or before `at_us`.
    pub(super) fn ticks_until(&self, at_us: i64) -> usize {
        (0..self.course.level.len()).take_while(|&tick| self.at(tick) <= at_us).count()
    }

    /// First tick at which the limit is met.
    fn event(&self, gauge: &Gauge) -> Option<usize> {
        let course = &self.course;
        (course.onset..course.level.len())
            .find(|&i| gauge.read(course.level[i]) >= course.limit(i) * gauge.capacity)
    }

    /// When the limit is met, µs.
    pub(super) fn event_us(&self, gauge: &Gauge) -> Option<i64> {
        self.event(gauge).map(|tick| self.at(tick))
    }
}

/// What turns shares of the capacity into the unit of the value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gauge {
    unit: Unit,
    capacity: f64,
    quantum: f64,
}

impl Gauge {
    pub(super) fn new(family: Family, draws: &mut Draws) -> Self {
        let unit = unit_of(family);
        let capacity = match unit {
            Unit::Memory => draws.log_between(ranges::MEMORY_BYTES).round(),
            Unit::Disk => draws.log_between(ranges::DISK_BYTES).round(),
            Unit::Percent => 100.0,
        };
        // Memory comes in pages and arenas, but never in a step of more than a hundredth of the whole.
        let quantum = match unit {
            Unit::Memory | Unit::Disk => {
                draws.log_between(ranges::QUANTUM_BYTES).min(0.01 * capacity).max(4096.0)
            }
            Unit::Percent => ranges::PERCENT_STEP[draws.below(ranges::PERCENT_STEP.len())],
        };
        Self { unit, capacity, quantum }
    }

    fn read(&self, level: f64) -> f64 {
        (level * self.capacity / self.quantum).round() * self.quantum
    }
}

pub(super) fn run(family: Family, number: u64, draws: &mut Draws) -> Run {
    let made = Made::new(family, draws, None);
    let gauge = Gauge::new(family, draws);
    observe(family, number, &made, &gauge, draws)
}

fn observe(family: Family, number: u64, made: &Made, gauge: &Gauge, draws: &mut Draws) -> Run {
    let &Made { horizon_s, cadence_s, life_s, workload, ref course } = made;
    let &Gauge { unit, capacity, .. } = gauge;
    let tick_s = cadence_s / TICKS_PER_SAMPLE as f64;
    let at = |tick: usize| made.at(tick);
    let measured = |tick: usize| gauge.read(course.level[tick]);
    let event = made.event(gauge);
    let last = event.unwrap_or(course.level.len() - 1);
    let jitter = if draws.chance(ranges::JITTER.0) { ranges::JITTER.1 } else { 0.0 };
    let missing =
        if draws.chance(ranges::MISSING.0) { draws.between((0.0, ranges::MISSING.1)) } else { 0.0 };
    let rough = family == Family::RoughLeak;
    let gap = if rough || draws.chance(ranges::GAP.0) {
        let ticks = draws.between((0.02, ranges::GAP.1)) * life_s / tick_s;
        let from = draws.below(last.max(1)) as f64;
        (from, from + ticks)
    } else {
        (0.0, 0.0)
    };
    let (jitter, missing) =
        if rough { (ranges::JITTER.1, missing.max(0.1)) } else { (jitter, missing) };
    // Disks are watched by what is free: it falls to zero.
    let direction = if unit == Unit::Disk { Direction::Down } else { Direction::Up };
    let mut run = Run {
        family: Some(family),
        number,
        is_foreseeable: family.kind() == Kind::Foreseeable,
        workload,
        ts_us: Vec::new(),
        value: Vec::new(),
        threshold: Vec::new(),
        direction,
        capacity,
        horizon_s,
        cadence_s,
        onset_us: at(course.onset),
        event_us: event.map(at),
        end_us: at(last),
        earlier: Vec::new(),
    };
    for sample in 0.. {
        let nominal = (sample * TICKS_PER_SAMPLE) as f64;
        let off = if jitter > 0.0 {
            draws.between((-jitter, jitter)) * TICKS_PER_SAMPLE as f64
        } else {
            0.0
        };
        let lost = missing > 0.0 && draws.chance(missing);
        let tick = (nominal + off).max(0.0).round() as usize;
        if nominal as usize > last {
            break;
        }
        let in_gap = nominal >= gap.0 && nominal < gap.1;
        if lost || in_gap || tick > last || event == Some(tick) {
            continue;
        }
        let ts = at(tick);
        if run.ts_us.last().is_some_and(|t| *t >= ts) {
            continue;
        }
        run.ts_us.push(ts);
        match direction {
            Direction::Up => {
                run.value.push(measured(tick));
                run.threshold.push(course.limit(tick) * capacity);
            }
            Direction::Down => {
                run.value.push(capacity - measured(tick));
                run.threshold.push(0.0);
            }
        }
    }
    run.earlier = course
        .earlier
        .iter()
        .map(|&(ticks, gained, hit)| {
            let life_s = ticks.max(1) as f64 * tick_s;
            let sign = if direction == Direction::Up { 1.0 } else { -1.0 };
            Life { life_s, slope_per_s: sign * gained * capacity / life_s, hit }
        })
        .collect();
    run
}
