//! Several lives of one workload in one series: killed at the limit, or ended by a deploy.

use super::observe::{Course, Setting};
use super::{Family, ranges};

pub(super) fn course(family: Family, s: &mut Setting<'_>) -> Course {
    let base = s.draws.between((0.05, 0.35));
    let spread = s.draws.between(ranges::LIVES_SPREAD);
    let earlier = s.draws.between(ranges::EARLIER_LIVES).round() as usize;
    let start_up = s.draws.between((0.2, 0.9));
    let mut level: Vec<f64> = Vec::new();
    let mut past = Vec::new();
    let mut onset = 0;
    for life in 0..=earlier {
        let is_last = life == earlier;
        let pace = (spread * s.draws.normal()).exp() * (1.0 - base) / s.life as f64;
        let cut = match family {
            Family::Deploys => s.draws.between((0.3, 0.85)),
            Family::MixedLives if !is_last && s.draws.chance(0.4) => s.draws.between((0.3, 0.9)),
            _ => 2.0,
        };
        onset = level.len();
        let begin = base * start_up;
        let mut x = 0.0;
        // A life that is not over after 1.6 times its length is seen no longer.
        for tick in 0..(1.6 * s.life as f64) as usize {
            // The process starts up fast, then leaks.
            let warm = 1.0 - (-(tick as f64) / (0.03 * s.life as f64)).exp();
            x += pace;
            let measured = s.measured(begin + (base - begin) * warm + x);
            level.push(measured);
            if measured >= if is_last { 1.05 } else { 1.0 } || base + x >= cut {
                break;
            }
        }
        if !is_last {
            let ticks = level.len() - onset;
            past.push((ticks, x, level.last().is_some_and(|l| *l >= 1.0)));
            // What the collector would have seen at the very limit is gone with the process.
            if let Some(last) = level.last_mut() {
                *last = last.min(0.999);
            }
        }
    }
    let mut course = Course::new(level, onset);
    course.earlier = past;
    course
}
