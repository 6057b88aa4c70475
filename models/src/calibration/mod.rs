//! From what the models say to what comes true.
//!
//! **Probability**: beta calibration (Kull, Silva Filho & Flach 2017), logit P = a·ln p − b·ln(1 − p) + c, whose three
//! parameters are straight lines in the logarithm of the horizon over the span of what was seen: one map per horizon,
//! shrunk towards its neighbours. Its first p is the probability that the simulated paths hit if the growth goes on (what
//! speaks against a hit), its second the one with the chance that the growth lasts (what speaks for it): a ramp that is
//! young beside its way to go is not sure to arrive. Both are drawn a little towards one half, so that no finite evidence
//! becomes certainty. Where nothing grows there is nothing to calibrate: among the training runs every fifth such statement
//! is followed by an event (a leak too young to be seen, a burst), but that is their share of incidents, not a fleet's. So
//! the probability stays what the models say: that a peak meets the threshold.
//!
//! **Intervals**: split conformal (Vovk et al. 2005; Lei et al. 2018) on the logarithm of the remaining time, with one
//! score per run; a run that was watched no longer is a lower bound (Candès, Lei & Ren, arXiv 2103.09763).
//!
//! The constants are fitted on the training families of [`crate::generator`] alone and live in `constants.rs`, which
//! [`fit`] writes. They hold for the share of incidents among those runs ([`PREVALENCE`]): see
//! [`crate::Options::prevalence`] for another one.

mod constants;
mod fit;

pub use constants::PREVALENCE;
pub use fit::{Fitted, fit};

use crate::logistic::sigmoid;
use crate::{Evidence, Forecast, Interval};

/// Probabilities are drawn towards one half by this share.
const SOFTEN: f64 = 0.1;
/// Logarithm of the horizon over the span: beyond these the fit has seen too little.
const SPANS: (f64, f64) = (-2.5, 3.0);
/// Narrowest interval before the correction: logarithm of its end over the median.
const NARROWEST: f64 = 0.03;

/// Inputs of the map: 1, h, ln p, h·ln p, −ln(1 − q), −h·ln(1 − q).
fn inputs(e: &Evidence) -> [f64; 6] {
    let soft = |p: f64| SOFTEN + (1.0 - 2.0 * SOFTEN) * p.clamp(0.0, 1.0);
    let h = e.horizon_spans.max(f64::MIN_POSITIVE).ln().clamp(SPANS.0, SPANS.1);
    let (hit, miss) = (soft(e.if_it_goes_on).ln(), -(1.0 - soft(e.as_modelled)).ln());
    [1.0, h, hit, h * hit, miss, h * miss]
}

/// Whether any growth was considered.
fn grows(e: &Evidence) -> bool {
    e.flat < 1.0
}

/// The calibrated probability; `prevalence` of incidents where it is used, if it is known.
pub(crate) fn probability(k: &[f64; 6], e: &Evidence, prevalence: Option<f64>) -> f64 {
    if !grows(e) {
        return e.as_modelled;
    }
    let x = inputs(e);
    // A map that falls would turn evidence around: its two slopes are cut at zero.
    let a = (k[2] + k[3] * x[1]).max(0.0);
    let b = (k[4] + k[5] * x[1]).max(0.0);
    let odds = |p: f64| (p / (1.0 - p)).ln();
    let shift =
        prevalence.filter(|p| *p > 0.0 && *p < 1.0).map_or(0.0, |p| odds(p) - odds(PREVALENCE));
    sigmoid(k[0] + k[1] * x[1] + a * x[2] + b * x[4] + shift)
}

/// Calibrates a forecast of the models.
pub(crate) fn apply(forecast: &mut Forecast, prevalence: Option<f64>) {
    if forecast.is_crossed() {
        return;
    }
    let calibrated = |e: &Evidence| probability(&constants::BETA, e, prevalence);
    let asked = calibrated(&forecast.evidence);
    forecast.probability = asked;
    // A longer time holds the shorter one, whatever the maps say: the asked horizon stands, the others follow.
    let own = forecast.horizon_s;
    let mut least = asked;
    for o in forecast.also.iter_mut().filter(|o| o.horizon_s >= own) {
        least = least.max(calibrated(&o.evidence));
        o.probability = least;
    }
    let mut most = asked;
    for o in forecast.also.iter_mut().rev().filter(|o| o.horizon_s < own) {
        most = most.min(calibrated(&o.evidence));
        o.probability = most;
    }
    let Some(eta) = forecast.eta_s else { return };
    let i = &mut forecast.intervals;
    let all = [&mut i.p50, &mut i.p80, &mut i.p95, &mut i.p99];
    let mut outer = (eta, Some(eta));
    for (interval, k) in all.into_iter().zip(constants::STRETCH) {
        let (below, above) = widths(eta, interval);
        let low = eta * (-k * below).exp();
        let high = above.map(|a| eta * (k * a).exp());
        // Nested, whatever the constants are.
        interval.low_s = low.min(outer.0);
        interval.high_s = match (high, outer.1) {
            (Some(high), Some(inner)) if high.is_finite() => Some(high.max(inner)),
            _ => None,
        };
        outer = (interval.low_s, interval.high_s);
    }
}

/// Logarithms of the median over the lower end and of the upper end (`None`: open) over the median, at least
/// [`NARROWEST`].
fn widths(eta: f64, i: &Interval) -> (f64, Option<f64>) {
    let log = |high: f64, low: f64| (high / low.max(1e-9 * high)).ln().max(0.0) + NARROWEST;
    if eta <= 0.0 {
        return (NARROWEST, i.high_s.map(|_| NARROWEST));
    }
    (log(eta, i.low_s), i.high_s.map(|high| log(high, eta)))
}

#[cfg(test)]
mod tests;
