//! Courses that do not lead to their limit, or meet it without notice.

use super::noise::{Teeth, Traffic};
use super::observe::{Course, Setting};
use super::{Family, ranges};

pub(super) fn course(family: Family, s: &mut Setting<'_>) -> Course {
    // As long as the incidents with their quiet time are.
    let extra = s.draws.between((0.2, 1.8));
    let n = ((1.0 + extra) * s.life as f64) as usize;
    match family {
        Family::WarmUp => warm_up(s, n, 1),
        Family::StagedWarmUp => warm_up(s, n, 2),
        Family::Collector => collector(s, n),
        Family::Daily => daily(s, n, false),
        Family::DailyTraffic => daily(s, n, true),
        Family::Cron => cron(s, n),
        Family::RampStops => ramp(s, n, |x| x),
        Family::LoadRamp => ramp(s, n, |x| x * x * (3.0 - 2.0 * x)),
        Family::MeanReverting => wander(s, n, true),
        Family::Wander => wander(s, n, false),
        Family::NearLimit => near_limit(s, n),
        Family::LevelShifts => shifts(s, n),
        Family::CacheFills => cache(s, n),
        Family::CleanedDisk => cleaned(s, n),
        Family::Released => released(s, n),
        Family::StartUp => start_up(s, n),
        Family::Bursts => bursts(s, n),
        Family::BurstHits => burst(s, n, (1.0, 6.0)),
        Family::StepHits => burst(s, n, (0.0, 0.5)),
        _ => flat(s, n),
    }
}

fn trace(
    s: &mut Setting<'_>,
    n: usize,
    mut signal: impl FnMut(&mut Setting<'_>, usize) -> f64,
) -> Course {
    let level = (0..n.max(2))
        .map(|tick| {
            let at = signal(s, tick);
            s.measured(at)
        })
        .collect();
    Course::new(level, 0)
}

fn flat(s: &mut Setting<'_>, n: usize) -> Course {
    let level = s.draws.between((0.1, 0.85));
    trace(s, n, |_, _| level)
}

fn near_limit(s: &mut Setting<'_>, n: usize) -> Course {
    let level = s.draws.between(ranges::NEAR_LIMIT_SHARE);
    // What stands so close to its limit and lives is steady.
    s.noise.sd = s.noise.sd.min((1.0 - level) / 12.0);
    trace(s, n, |_, _| level)
}

fn warm_up(s: &mut Setting<'_>, n: usize, stages: usize) -> Course {
    let plateau = s.draws.between(ranges::PLATEAU_SHARE);
    let start = s.draws.between((0.02, 0.2));
    let pace = s.life as f64 * s.draws.log_between((0.03, 0.35));
    let second = s.draws.between((0.2, 0.6)) * s.life as f64;
    let split = if stages > 1 { s.draws.between((0.4, 0.8)) } else { 1.0 };
    trace(s, n, |_, tick| {
        let rise = |t: f64| if t > 0.0 { 1.0 - (-t / pace).exp() } else { 0.0 };
        let t = tick as f64;
        start + (plateau - start) * (split * rise(t) + (1.0 - split) * rise(t - second))
    })
}

fn collector(s: &mut Setting<'_>, n: usize) -> Course {
    let base = s.draws.between(ranges::BASE_SHARE);
    let height = s.draws.between(ranges::TOOTH_SHARE).min(0.88 - base);
    let period = s.life as f64 / s.draws.log_between(ranges::TEETH);
    let mut teeth = Teeth::new(s.draws, height, period);
    // The heap is warmed up first.
    let pace = period * s.draws.between((0.5, 4.0));
    trace(s, n, |s, tick| base * (1.0 - 0.5 * (-(tick as f64) / pace).exp()) + teeth.next(s.draws))
}

fn daily(s: &mut Setting<'_>, n: usize, traffic: bool) -> Course {
    let wave = s.draws.between((0.05, 0.45));
    let base = s.draws.between((0.1, 0.88 - wave));
    let memory = 1_800.0 / s.tick_s;
    let mut load = Traffic::new(s.draws, memory);
    trace(s, n, |s, tick| {
        let day = s.day(tick);
        let up = 0.5 - 0.5 * (std::f64::consts::TAU * day).cos();
        if traffic {
            // Office hours: a steep morning, an afternoon that fades.
            let busy = if day < 0.3 {
                0.0
            } else {
                ((day - 0.3) / 0.12).min(1.0) * (1.0 - day).min(0.3) / 0.3
            };
            base + wave * busy * (0.85 + 0.1 * load.next(s.draws).min(2.0))
        } else {
            base + wave * up
        }
    })
}

fn cron(s: &mut Setting<'_>, n: usize) -> Course {
    let base = s.draws.between(ranges::BASE_SHARE);
    let height = s.draws.between((0.1, 0.9 - base));
    let period = s.life as f64 / s.draws.log_between((4.0, 40.0));
    let length = s.draws.between((0.08, 0.4));
    let phase = s.draws.uniform();
    let sloped = s.draws.chance(0.5);
    trace(s, n, |_, tick| {
        let x = (tick as f64 / period + phase).fract();
        let shape = if x >= length {
            0.0
        } else if sloped {
            x / length
        } else {
            1.0
        };
        base + height * shape
    })
}

fn ramp(s: &mut Setting<'_>, n: usize, shape: impl Fn(f64) -> f64) -> Course {
    let base = s.draws.between(ranges::BASE_SHARE);
    let top = s.draws.between(ranges::PLATEAU_SHARE).max(base + 0.05);
    let from = s.quiet() as f64;
    let length = s.life as f64 * s.draws.between((0.2, 0.9));
    trace(s, n, |_, tick| {
        base + (top - base) * shape(((tick as f64 - from) / length).clamp(0.0, 1.0))
    })
}

fn wander(s: &mut Setting<'_>, n: usize, pulled: bool) -> Course {
    let mean = s.draws.between((0.2, 0.65));
    let spread = s.draws.between((0.03, 0.1));
    let memory = s.life as f64 * if pulled { s.draws.between((0.02, 0.2)) } else { 1.5 };
    let stay = (-1.0 / memory.max(1.0)).exp();
    let mut x = s.draws.normal();
    trace(s, n, |s, _| {
        x = stay * x + (1.0 - stay * stay).sqrt() * s.draws.normal();
        mean + spread * x
    })
}

fn shifts(s: &mut Setting<'_>, n: usize) -> Course {
    let mut level = s.draws.between((0.2, 0.7));
    let rate = s.draws.log_between((1.0, 6.0)) / n as f64;
    trace(s, n, |s, _| {
        if s.draws.chance(rate) {
            level = s.draws.between((0.15, 0.9));
        }
        level
    })
}

fn cache(s: &mut Setting<'_>, n: usize) -> Course {
    let base = s.draws.between((0.1, 0.4));
    let bound = s.draws.between((0.8, 0.96));
    let speed = (bound - base) / (s.life as f64 * s.draws.between((0.15, 0.7)));
    s.noise.sd = s.noise.sd.min((1.0 - bound) / 12.0);
    let mut cache = 0.0;
    trace(s, n, |s, _| {
        cache += speed * 2.0 * s.draws.uniform();
        if base + cache > bound {
            // Reclaim takes a little more than what was missing.
            cache = bound - base - s.draws.between((0.0, 0.03));
        }
        base + cache
    })
}

fn cleaned(s: &mut Setting<'_>, n: usize) -> Course {
    let high = s.draws.between((0.6, 0.92));
    let low = s.draws.between((0.15, high - 0.2));
    let period = s.life as f64 * s.draws.log_between((0.1, 0.7));
    let mut traffic = Traffic::new(s.draws, period * 0.1);
    let mut level = s.draws.between((low, high));
    trace(s, n, |s, _| {
        level += (high - low) / period * (0.5 + 0.5 * traffic.next(s.draws).min(4.0));
        if level > high {
            level = low * s.draws.between((0.9, 1.1));
        }
        level
    })
}

fn released(s: &mut Setting<'_>, n: usize) -> Course {
    let base = s.draws.between((0.1, 0.4));
    let top = s.draws.between((base + 0.25, 0.9));
    let from = s.quiet() as f64;
    let length = s.life as f64 * s.draws.between((0.15, 0.6));
    let hold = length * s.draws.between((0.05, 0.4));
    let times = 1.0 + s.draws.below(2) as f64;
    let period = length + hold + s.life as f64 * s.draws.between((0.1, 0.4));
    trace(s, n, |_, tick| {
        let t = tick as f64 - from;
        let within = t - (t / period).floor().clamp(0.0, times - 1.0) * period;
        if t < 0.0 || within > length + hold {
            base
        } else {
            base + (top - base) * (within / length).min(1.0)
        }
    })
}

fn start_up(s: &mut Setting<'_>, n: usize) -> Course {
    let start = s.draws.between((0.0, 0.1));
    let top = s.draws.between(ranges::PLATEAU_SHARE);
    let length = s.life as f64 * s.draws.log_between(ranges::FAST_RAMP);
    trace(s, n, |_, tick| start + (top - start) * (tick as f64 / length).min(1.0))
}

fn bursts(s: &mut Setting<'_>, n: usize) -> Course {
    let base = s.draws.between((0.1, 0.4));
    let mut top = s.draws.between((base + 0.2, 0.93));
    let ramp = s.life as f64 * s.draws.log_between(ranges::FAST_RAMP);
    let hold = ramp * s.draws.between((0.0, 2.0));
    let wait = s.life as f64 * s.draws.between((0.2, 0.8));
    let mut from = s.draws.between((0.05, 0.6)) * s.life as f64;
    trace(s, n, |s, tick| {
        let t = tick as f64 - from;
        if t > ramp + hold {
            from = tick as f64 + wait * s.draws.exponential();
            top = s.draws.between((base + 0.2, 0.93));
            return base;
        }
        base + (top - base) * (t / ramp).clamp(0.0, 1.0)
    })
}

/// Quiet, then to the limit within so many samples.
fn burst(s: &mut Setting<'_>, n: usize, samples: (f64, f64)) -> Course {
    let base = s.draws.between((0.15, 0.75));
    let at = (s.draws.between((0.3, 0.95)) * n as f64) as usize;
    let length = s.draws.between(samples) * ranges::TICKS_PER_SAMPLE as f64;
    let mut course = trace(s, n, |_, tick| {
        let x = (tick as f64 - at as f64 + 1.0) / length.max(1.0);
        base + (1.25 - base) * x.clamp(0.0, 1.0)
    });
    course.onset = at;
    course
}
