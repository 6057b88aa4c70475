//! Courses that lead to their limit.

use super::noise::{Teeth, Traffic};
use super::observe::{Course, DAY_S, Setting};
use super::{Family, ranges};

/// Ticks over which a course is made before it is given up: it may hit later than intended, or be censored.
const TOO_LATE: f64 = 1.6;

pub(super) fn course(family: Family, s: &mut Setting<'_>) -> Course {
    let base = s.draws.between(ranges::BASE_SHARE);
    let quiet = match family {
        Family::LateLeak => (s.draws.between((0.6, 2.0)) * s.life as f64) as usize,
        // A warm history shows a daily wave before the leak begins.
        Family::DailyLeak | Family::TrafficLeak => {
            (s.draws.between((0.0, 1.0)) * DAY_S / s.tick_s) as usize
        }
        _ => s.quiet(),
    };
    match family {
        Family::RoughLeak => {
            s.noise = s.noise.clone().rough();
            shaped(s, base, quiet, |x| x)
        }
        Family::PowerLeak => {
            let power = s.draws.between(ranges::POWER);
            shaped(s, base, quiet, move |x| x.powf(power))
        }
        Family::SlowingLeak => {
            let power = s.draws.between(ranges::SLOWING_POWER);
            shaped(s, base, quiet, move |x| x.powf(power))
        }
        Family::ExponentialLeak => {
            let rate = s.draws.between(ranges::EXPONENTIAL_RATE);
            shaped(s, base, quiet, move |x| ((rate * x).exp() - 1.0) / (rate.exp() - 1.0))
        }
        Family::SlopeChanges => slope_changes(s, base, quiet),
        Family::DailyLeak => daily(s, base, quiet),
        Family::NightPause => night_pause(s, base, quiet),
        Family::RequestLeak => request_leak(s, base, quiet),
        Family::TrafficLeak => traffic_leak(s, base, quiet),
        Family::CollectorLeak => collector(s, base, quiet),
        Family::GenerationLeak => generations(s, base, quiet),
        Family::CacheLeak => cache(s, base, quiet),
        Family::BatchLeak => batches(s, base, quiet),
        Family::RandomSteps => random_steps(s, base, quiet),
        Family::LimitChange => limit_change(s, base, quiet),
        Family::CronLeak => cron(s, base, quiet),
        Family::DiskFill => cleaned(s, base, quiet, (0.02, 0.1)),
        Family::RotatedDisk => cleaned(s, base, quiet, (0.1, 0.35)),
        _ => shaped(s, base, quiet, |x| x),
    }
}

/// Follows the measure until it hits, or for too long.
fn follow(
    s: &mut Setting<'_>,
    quiet: usize,
    mut signal: impl FnMut(&mut Setting<'_>, usize) -> f64,
) -> Course {
    let end = quiet + (TOO_LATE * s.life as f64) as usize;
    let mut level = Vec::with_capacity(end);
    for tick in 0..end.max(2) {
        let at = signal(s, tick);
        let measured = s.measured(at);
        level.push(measured);
        if tick >= quiet && measured >= 1.05 {
            break;
        }
    }
    Course::new(level, quiet)
}

/// base + (1 − base)·shape(x), x = share of the life that is over.
fn shaped(s: &mut Setting<'_>, base: f64, quiet: usize, shape: impl Fn(f64) -> f64) -> Course {
    follow(s, quiet, |s, tick| {
        base + (1.0 - base) * shape(tick.saturating_sub(quiet) as f64 / s.life as f64)
    })
}

fn slope_changes(s: &mut Setting<'_>, base: f64, quiet: usize) -> Course {
    let first = s.draws.between((0.2, 0.55));
    let second = if s.draws.chance(0.5) { s.draws.between((first + 0.1, 0.8)) } else { 2.0 };
    let slopes = [0; 3].map(|_| s.draws.log_between((0.4, 2.5)));
    let mut level = base;
    follow(s, quiet, |s, tick| {
        if tick >= quiet {
            let x = (tick - quiet) as f64 / s.life as f64;
            let slope = slopes[usize::from(x > first) + usize::from(x > second)];
            level += slope * (1.0 - base) / s.life as f64;
        }
        level
    })
}

fn daily(s: &mut Setting<'_>, base: f64, quiet: usize) -> Course {
    let wave = s.draws.between(ranges::DAILY_SHARE).min(1.0 - base);
    follow(s, quiet, |s, tick| {
        let x = tick.saturating_sub(quiet) as f64 / s.life as f64;
        let up = 0.5 - 0.5 * (std::f64::consts::TAU * s.day(tick)).cos();
        base + (1.0 - base - 0.5 * wave) * x + wave * up * up
    })
}

fn night_pause(s: &mut Setting<'_>, base: f64, quiet: usize) -> Course {
    let awake = s.draws.between(ranges::AWAKE);
    let per_tick = (1.0 - base) / (s.life as f64 * awake);
    let mut level = base;
    follow(s, quiet, |s, tick| {
        if tick >= quiet && s.day(tick) < awake {
            level += per_tick;
        }
        level
    })
}

fn request_leak(s: &mut Setting<'_>, base: f64, quiet: usize) -> Course {
    let memory = s.life as f64 * s.draws.between((0.01, 0.15));
    let mut traffic = Traffic::new(s.draws, memory);
    let working = s.draws.between((0.0, 0.06));
    let mut level = base;
    follow(s, quiet, |s, tick| {
        let now = traffic.next(s.draws);
        if tick >= quiet {
            level += (1.0 - base) / s.life as f64 * now;
        }
        level + working * (now - 1.0).min(3.0)
    })
}

fn traffic_leak(s: &mut Setting<'_>, base: f64, quiet: usize) -> Course {
    let memory = 3_600.0 / s.tick_s;
    let mut traffic = Traffic::new(s.draws, memory);
    let working = s.draws.between(ranges::DAILY_SHARE);
    let mut level = base;
    follow(s, quiet, |s, tick| {
        let day = 1.0 - 0.8 * (std::f64::consts::TAU * s.day(tick)).cos();
        let now = day * traffic.next(s.draws).min(3.0);
        if tick >= quiet {
            level += (1.0 - base) / s.life as f64 * now;
        }
        level + 0.5 * working * day
    })
}

fn collector(s: &mut Setting<'_>, base: f64, quiet: usize) -> Course {
    let height = s.draws.between(ranges::TOOTH_SHARE).min(0.8 - base * 0.5);
    let period = s.life as f64 / s.draws.log_between(ranges::TEETH);
    let mut teeth = Teeth::new(s.draws, height, period);
    follow(s, quiet, |s, tick| {
        let x = tick.saturating_sub(quiet) as f64 / s.life as f64;
        base + (1.0 - base - height).max(0.1) * x + teeth.next(s.draws)
    })
}

fn generations(s: &mut Setting<'_>, base: f64, quiet: usize) -> Course {
    let height = s.draws.between(ranges::TOOTH_SHARE);
    let period = s.life as f64 / s.draws.log_between((8.0, 25.0));
    let mut minor = Teeth::new(s.draws, 0.3 * height, period / 7.0);
    let mut major = Teeth::new(s.draws, 0.7 * height, period);
    follow(s, quiet, |s, tick| {
        let x = tick.saturating_sub(quiet) as f64 / s.life as f64;
        base + (1.0 - base - height).max(0.1) * x + minor.next(s.draws) + major.next(s.draws)
    })
}

fn cache(s: &mut Setting<'_>, base: f64, quiet: usize) -> Course {
    let most = s.draws.between((0.03, 0.2));
    let fill = s.life as f64 * s.draws.between((0.05, 0.3));
    let mut cache = 0.0;
    follow(s, quiet, |s, tick| {
        let x = tick.saturating_sub(quiet) as f64 / s.life as f64;
        let anonymous = base + (1.0 - base) * x;
        // The kernel gives the cache back as the room becomes small, and now and then on its own.
        let room = (1.0 - anonymous - 0.02).clamp(0.0, most);
        cache += (room - cache) / fill.max(1.0);
        if s.draws.chance(0.3 / fill.max(1.0)) {
            cache *= s.draws.between((0.2, 0.8));
        }
        anonymous + cache.min(room)
    })
}

fn batches(s: &mut Setting<'_>, base: f64, quiet: usize) -> Course {
    let steps = s.draws.log_between(ranges::STEPS);
    let period = s.life as f64 / steps;
    let late = s.draws.between((0.0, 0.2));
    let mut next = quiet as f64;
    let mut level = base;
    follow(s, quiet, |s, tick| {
        if tick as f64 >= next {
            level += (1.0 - base) / steps * s.draws.between((0.8, 1.2));
            next += period * (1.0 + late * s.draws.normal()).max(0.2);
        }
        level
    })
}

fn random_steps(s: &mut Setting<'_>, base: f64, quiet: usize) -> Course {
    let steps = s.draws.log_between(ranges::STEPS);
    let mut level = base;
    follow(s, quiet, |s, tick| {
        if tick >= quiet && s.draws.chance(steps / s.life as f64) {
            level += (1.0 - base) / steps * s.draws.exponential().min(4.0);
        }
        level
    })
}

fn limit_change(s: &mut Setting<'_>, base: f64, quiet: usize) -> Course {
    let after = s.draws.log_between(ranges::LIMIT_FACTOR);
    let base = base.min(0.8 * after);
    // It is changed while the level is below both limits.
    let latest = ((0.9 * after.min(1.0) - base) / (after - base)).clamp(0.05, 0.7);
    let at = quiet + (s.draws.between((0.3, 1.0)) * latest * s.life as f64) as usize;
    let mut level = Vec::new();
    for tick in 0..quiet + (TOO_LATE * s.life as f64) as usize {
        let x = tick.saturating_sub(quiet) as f64 / s.life as f64;
        let measured = s.measured(base + (after - base) * x);
        level.push(measured);
        if measured >= 1.05 * after {
            break;
        }
    }
    let mut course = Course::new(level, quiet);
    course.limit = (0..course.level.len()).map(|i| if i < at { 1.0 } else { after }).collect();
    course
}

fn cron(s: &mut Setting<'_>, base: f64, quiet: usize) -> Course {
    let height = s.draws.between((0.05, 0.25));
    let period = s.life as f64 / s.draws.log_between((8.0, 40.0));
    let length = s.draws.between((0.1, 0.35));
    let phase = s.draws.uniform();
    follow(s, quiet, |s, tick| {
        let x = tick.saturating_sub(quiet) as f64 / s.life as f64;
        let on = (tick as f64 / period + phase).fract() < length;
        base + (1.0 - base - height).max(0.2) * x + if on { height } else { 0.0 }
    })
}

/// Fills; every so often a part is deleted.
fn cleaned(s: &mut Setting<'_>, base: f64, quiet: usize, share: (f64, f64)) -> Course {
    let times = s.draws.log_between((6.0, 40.0));
    let share = s.draws.between(share);
    let period = s.life as f64 / times;
    let gross = (1.0 - base) / s.life as f64;
    // What is deleted each time is a share of what was written since.
    let slope = gross / (1.0 - share.min(0.6));
    let mut traffic = Traffic::new(s.draws, s.life as f64 * 0.05);
    let (mut level, mut since, mut next) = (base, 0.0, period);
    follow(s, quiet, |s, tick| {
        let now = 0.5 + 0.5 * traffic.next(s.draws).min(4.0);
        if tick >= quiet {
            level += slope * now;
            since += slope * now;
        }
        if tick as f64 >= next {
            level -= share * since * s.draws.between((0.7, 1.3));
            since = 0.0;
            next += period * s.draws.between((0.8, 1.2));
        }
        level
    })
}
