//! The published ranges from which runs are drawn. Shares are of the capacity (limit, size of the disk, 100 %).
//!
//! They are fixed: a change makes other runs and so another benchmark. Sizes, noise and cadences follow what containers
//! show: allocators hand out memory in pages of 4 KiB to arenas of some MiB, collectors sample every 1 s to 5 min, noise is
//! correlated and has heavy tails, and points are missing.

/// One scale of time: the horizon that is asked, and what it is asked about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TimeScale {
    /// Horizon of the probability and of the alarm, s.
    pub horizon_s: f64,
    /// Length of a life (onset to event), s, log-uniform; also the length of runs without an event.
    pub life_s: (f64, f64),
    /// Cadences, s, equally likely.
    pub cadence_s: &'static [f64],
}

/// 15 minutes, 1 hour, 24 hours.
pub const TIME_SCALES: [TimeScale; 3] = [
    TimeScale { horizon_s: 900.0, life_s: (300.0, 2_700.0), cadence_s: &[1.0, 2.0, 5.0, 10.0] },
    TimeScale {
        horizon_s: 3_600.0,
        life_s: (1_500.0, 12_000.0),
        cadence_s: &[5.0, 10.0, 15.0, 30.0, 60.0],
    },
    TimeScale {
        horizon_s: 86_400.0,
        life_s: (18_000.0, 280_000.0),
        cadence_s: &[20.0, 30.0, 60.0, 120.0, 300.0],
    },
];
/// Cadences of coarsely sampled runs, s; their lives are at least [`COARSE_LIFE_SAMPLES`] samples long.
pub const COARSE_CADENCE_S: &[f64] = &[60.0, 120.0, 180.0, 300.0];
/// Shortest life of a coarsely sampled run, in samples.
pub const COARSE_LIFE_SAMPLES: f64 = 20.0;
/// The measured course exists at so many ticks per sample: an event happens between samples.
pub const TICKS_PER_SAMPLE: usize = 3;

/// Memory limits, bytes, log-uniform.
pub const MEMORY_BYTES: (f64, f64) = (64.0 * 1024.0 * 1024.0, 64.0 * 1024.0 * 1024.0 * 1024.0);
/// Disk sizes, bytes, log-uniform.
pub const DISK_BYTES: (f64, f64) = (1e10, 4e12);
/// Pages to arenas: memory grows in such quanta, bytes, log-uniform.
pub const QUANTUM_BYTES: (f64, f64) = (4096.0, 4.0 * 1024.0 * 1024.0);
/// Percent series are rounded to one of these.
pub const PERCENT_STEP: &[f64] = &[0.01, 0.1, 1.0];

/// Level before a leak, share of the capacity.
pub const BASE_SHARE: (f64, f64) = (0.08, 0.55);
/// Quiet time before a leak, share of its life; half of the runs have none.
pub const QUIET_SHARE: (f64, f64) = (0.1, 1.0);
/// Standard deviation of the correlated noise, share of the capacity, log-uniform.
pub const NOISE_SHARE: (f64, f64) = (0.000_5, 0.02);
/// Its lag-1 correlation from tick to tick.
pub const NOISE_CORRELATION: (f64, f64) = (0.0, 0.97);
/// Transients (requests that allocate and free): mean number per 100 samples, drawn for 60 % of the runs.
pub const TRANSIENTS_PER_100: (f64, f64) = (0.2, 5.0);
/// Their height: Pareto with this tail exponent from one noise deviation upwards …
pub const TRANSIENT_TAIL: f64 = 1.8;
/// … but never more than this share of the capacity.
pub const TRANSIENT_MAX_SHARE: f64 = 0.12;
/// Length of a transient, samples.
pub const TRANSIENT_SAMPLES: (f64, f64) = (0.4, 4.0);

/// Share of runs with irregular sampling, and its jitter as a share of the cadence.
pub const JITTER: (f64, f64) = (0.35, 0.4);
/// Share of runs with single missing samples, and the largest share of samples missing.
pub const MISSING: (f64, f64) = (0.4, 0.25);
/// Share of runs with a gap, and the longest gap as a share of the life.
pub const GAP: (f64, f64) = (0.25, 0.15);

/// Exponent of growth that accelerates by a power of time.
pub const POWER: (f64, f64) = (1.5, 3.0);
/// Exponent of growth that slows down and still hits (fragmentation, ageing).
pub const SLOWING_POWER: (f64, f64) = (0.55, 0.9);
/// Rate of exponential growth, per life.
pub const EXPONENTIAL_RATE: (f64, f64) = (1.5, 4.5);
/// Number of steps from base to limit of a leak by steps.
pub const STEPS: (f64, f64) = (8.0, 70.0);
/// Amplitude of a daily wave, share of the capacity.
pub const DAILY_SHARE: (f64, f64) = (0.03, 0.2);
/// Share of the day in which a leak that pauses at night works.
pub const AWAKE: (f64, f64) = (0.35, 0.7);
/// Change of traffic: standard deviation of its logarithm.
pub const TRAFFIC_SPREAD: (f64, f64) = (0.2, 0.8);
/// Height of the teeth of a collector, share of the capacity.
pub const TOOTH_SHARE: (f64, f64) = (0.05, 0.35);
/// Teeth in a life.
pub const TEETH: (f64, f64) = (10.0, 80.0);
/// Level at which a ramp or a warm-up ends, share of the capacity.
pub const PLATEAU_SHARE: (f64, f64) = (0.45, 0.93);
/// Length of a fast ramp (a start, a burst), share of a life, log-uniform.
pub const FAST_RAMP: (f64, f64) = (0.008, 0.12);
/// Level of a run that stays close to its limit.
pub const NEAR_LIMIT_SHARE: (f64, f64) = (0.86, 0.96);
/// Factor by which a limit is changed.
pub const LIMIT_FACTOR: (f64, f64) = (0.75, 2.0);
/// Lives before the last one.
pub const EARLIER_LIVES: (f64, f64) = (1.0, 4.0);
/// Spread of the slopes of the lives of one workload: standard deviation of the logarithm.
pub const LIVES_SPREAD: (f64, f64) = (0.05, 0.5);
