//! What is measured besides the course: correlated noise, transients with a heavy tail.

use super::ranges;
use crate::rng::Draws;

/// A stateful source of noise, as a share of the capacity, one value per tick.
#[derive(Debug, Clone)]
pub(super) struct Noise {
    pub(super) sd: f64,
    correlation: f64,
    state: f64,
    /// Chance that a transient starts at a tick.
    rate: f64,
    transient: f64,
    left: usize,
}

impl Noise {
    pub(super) fn new(draws: &mut Draws) -> Self {
        let sd = draws.log_between(ranges::NOISE_SHARE);
        let correlation = draws.between(ranges::NOISE_CORRELATION);
        let per_sample = if draws.chance(0.6) {
            draws.log_between(ranges::TRANSIENTS_PER_100) / 100.0
        } else {
            0.0
        };
        Self {
            sd,
            correlation,
            state: draws.normal(),
            rate: per_sample / ranges::TICKS_PER_SAMPLE as f64,
            transient: 0.0,
            left: 0,
        }
    }

    /// Transients as frequent as the ranges allow.
    pub(super) fn rough(mut self) -> Self {
        self.sd = self.sd.max(0.003);
        self.rate = ranges::TRANSIENTS_PER_100.1 / 100.0 / ranges::TICKS_PER_SAMPLE as f64;
        self
    }

    pub(super) fn next(&mut self, draws: &mut Draws) -> f64 {
        let fresh = (1.0 - self.correlation * self.correlation).sqrt();
        self.state = self.correlation * self.state + fresh * draws.normal();
        if self.left > 0 {
            self.left -= 1;
        } else {
            self.transient = 0.0;
        }
        if self.rate > 0.0 && draws.chance(self.rate) {
            let height = self.sd * (draws.exponential() / ranges::TRANSIENT_TAIL).exp();
            self.transient = height.min(ranges::TRANSIENT_MAX_SHARE);
            let samples = draws.between(ranges::TRANSIENT_SAMPLES);
            self.left = (samples * ranges::TICKS_PER_SAMPLE as f64) as usize;
        }
        self.sd * self.state + self.transient
    }
}

/// Traffic around one: the logarithm is an Ornstein–Uhlenbeck process (Uhlenbeck & Ornstein 1930).
#[derive(Debug, Clone)]
pub(super) struct Traffic {
    spread: f64,
    stay: f64,
    state: f64,
}

impl Traffic {
    /// `memory`: ticks over which it forgets.
    pub(super) fn new(draws: &mut Draws, memory: f64) -> Self {
        Self {
            spread: draws.between(ranges::TRAFFIC_SPREAD),
            stay: (-1.0 / memory.max(1.0)).exp(),
            state: draws.normal(),
        }
    }

    pub(super) fn next(&mut self, draws: &mut Draws) -> f64 {
        self.state = self.stay * self.state + (1.0 - self.stay * self.stay).sqrt() * draws.normal();
        (self.spread * self.state - 0.5 * self.spread * self.spread).exp()
    }
}

/// The teeth of a collector: the height above the floor at each tick.
#[derive(Debug, Clone)]
pub(super) struct Teeth {
    height: f64,
    period: f64,
    phase: f64,
    top: f64,
}

impl Teeth {
    pub(super) fn new(draws: &mut Draws, height: f64, period: f64) -> Self {
        Self { height, period, phase: draws.uniform(), top: 1.0 }
    }

    pub(super) fn next(&mut self, draws: &mut Draws) -> f64 {
        // Allocation is not quite steady, and a collection starts a little earlier or later.
        self.phase += (0.4 + 1.2 * draws.uniform()) / self.period;
        if self.phase >= self.top {
            self.phase = 0.05 * draws.uniform();
            self.top = 0.85 + 0.3 * draws.uniform();
        }
        self.height * self.phase
    }
}
