//! What operators use today, and simple statistics: the rivals a forecast has to beat on the same runs.
//!
//! Rules that answer yes or no are scored twice: as they are, and with the rates at which their answers came true on the
//! training part. Nothing here sees the test part.

mod features;
mod predict_linear;

pub use predict_linear::predict_linear;

pub(crate) use features::Features;

use crate::logistic::{Logistic, Row};
use crate::score::{Answers, MAX_HORIZONS};

/// A rival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Baseline {
    /// `predict_linear(x[15m], horizon)` beyond the threshold: probability 0 or 1.
    PredictLinear15m,
    /// The same over 1 h, or what history there is.
    PredictLinear1h,
    /// The margin of `predict_linear(x[15m], horizon)`, logistic on the training part.
    Calibrated15m,
    /// The same over 1 h.
    Calibrated1h,
    /// Logistic on level and slope.
    LevelAndSlope,
    /// The share of hits in the training part.
    Climatology,
    /// More than 90 % used for 5 minutes, with its rates on the training part.
    Usage90,
    /// The growth of two windows in a row carries to the threshold, with its rates on the training part.
    TwoWindows,
}

impl Baseline {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::PredictLinear15m,
        Self::PredictLinear1h,
        Self::Calibrated15m,
        Self::Calibrated1h,
        Self::LevelAndSlope,
        Self::Climatology,
        Self::Usage90,
        Self::TwoWindows,
    ];

    /// A stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PredictLinear15m => "predict_linear_15m",
            Self::PredictLinear1h => "predict_linear_1h",
            Self::Calibrated15m => "predict_linear_15m_calibrated",
            Self::Calibrated1h => "predict_linear_1h_calibrated",
            Self::LevelAndSlope => "level_and_slope",
            Self::Climatology => "climatology",
            Self::Usage90 => "usage_90",
            Self::TwoWindows => "two_windows",
        }
    }

    fn inputs(self, f: &Features) -> [f64; 3] {
        let yes = |b: bool| if b { 1.0 } else { 0.0 };
        match self {
            Self::PredictLinear15m | Self::Calibrated15m => [1.0, squash(f.margin_15m), 0.0],
            Self::PredictLinear1h | Self::Calibrated1h => [1.0, squash(f.margin_1h), 0.0],
            Self::LevelAndSlope => [1.0, f.level, squash(f.slope)],
            Self::Climatology => [1.0, 0.0, 0.0],
            Self::Usage90 => [1.0, yes(f.usage_90), 0.0],
            Self::TwoWindows => [1.0, yes(f.two_windows), 0.0],
        }
    }
}

/// Margins have a long tail that a logistic curve should not follow.
fn squash(x: f64) -> f64 {
    let x = if x.is_finite() { x } else { 0.0 };
    x.signum() * (1.0 + x.abs() / 0.05).ln()
}

/// The rivals, fitted per horizon.
#[derive(Debug, Clone)]
pub struct Baselines {
    fits: Vec<(f64, Vec<Logistic<3>>)>,
}

impl Baselines {
    /// Fits on training steps: features, label and weight, by horizon.
    pub(crate) fn fit(horizons: &[f64], steps: &[(usize, Features, bool, f64)]) -> Self {
        let fits = horizons.iter().enumerate().take(MAX_HORIZONS).map(|(h, &horizon_s)| {
            let of_baseline = |b: &Baseline| {
                let rows: Vec<Row<3>> = steps
                    .iter()
                    .filter(|s| s.0 == h)
                    .map(|(_, f, y, w)| (b.inputs(f), *y, *w))
                    .collect();
                Logistic::fit(&rows)
            };
            (horizon_s, Baseline::ALL.iter().map(of_baseline).collect())
        });
        Self { fits: fits.collect() }
    }

    /// What `baseline` says; probability of the base rate where there is nothing to say.
    pub(crate) fn say(&self, baseline: Baseline, horizon_s: f64, f: &Features) -> Answers {
        let fit = self.fits.iter().find(|x| x.0 == horizon_s);
        let index = Baseline::ALL.iter().position(|b| *b == baseline);
        let calibrated =
            fit.and_then(|x| x.1.get(index?)).map(|l| l.probability(&baseline.inputs(f)));
        let hard = |margin: f64| Some(if margin >= 0.0 { 1.0 } else { 0.0 });
        let (probability, eta_s) = match baseline {
            Baseline::PredictLinear15m => (hard(f.margin_15m), f.eta_15m),
            Baseline::PredictLinear1h => (hard(f.margin_1h), f.eta_1h),
            Baseline::Calibrated15m => (calibrated, f.eta_15m),
            Baseline::Calibrated1h => (calibrated, f.eta_1h),
            _ => (calibrated, None),
        };
        // A yes-or-no rule raises its alarm when it says yes, whatever rate it came true at.
        let alarm = match baseline {
            Baseline::Usage90 => Some(if f.usage_90 { 1.0 } else { 0.0 }),
            Baseline::TwoWindows => Some(if f.two_windows { 1.0 } else { 0.0 }),
            _ => probability,
        };
        Answers { probability, alarm, eta_s, intervals: None }
    }

    /// Base rate of the training part at a horizon.
    pub(crate) fn base_rate(&self, horizon_s: f64) -> f64 {
        let nothing = Features::default();
        self.say(Baseline::Climatology, horizon_s, &nothing).probability.unwrap_or(0.0)
    }
}
