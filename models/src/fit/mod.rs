//! The models. Each is fitted to scaled [`Points`](crate::prepare::Points), predicts with a standard deviation (to be
//! scored), and draws trends (to be followed to the threshold).

mod accelerating;
mod curve;
mod drift;
mod flat;
mod holt;
pub(crate) mod line;
mod local_trend;
mod prior;
mod saturating;
pub(crate) mod seasonal;

use crate::prepare::Points;
use crate::rng::Draws;

pub(crate) use prior::SlopePrior;

pub(crate) use curve::best_sse;

/// A model of how the value goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ModelKind {
    /// No growth.
    Flat,
    /// Theil–Sen line.
    Line,
    /// Walk with drift from the newest level.
    Drift,
    /// Undamped Holt (ETS AAN).
    Holt,
    /// Level with a slope that comes and goes around its mean.
    LocalTrend,
    /// Exponential approach to a plateau.
    Saturating,
    /// Growth that becomes faster: exponential or by a power of time.
    Accelerating,
    /// Line under a wave that repeats.
    Seasonal,
    /// Walk with drift from the newest level, under a wave that repeats.
    SeasonalDrift,
    /// Theil–Sen line through the floors of a saw-tooth.
    SawTooth,
}

impl ModelKind {
    /// A stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::Line => "line",
            Self::Drift => "drift",
            Self::Holt => "holt",
            Self::LocalTrend => "local_trend",
            Self::Saturating => "saturating",
            Self::Accelerating => "accelerating",
            Self::Seasonal => "seasonal",
            Self::SeasonalDrift => "seasonal_drift",
            Self::SawTooth => "saw_tooth",
        }
    }
}

/// A normal prediction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gaussian {
    pub(crate) mean: f64,
    pub(crate) sd: f64,
}

/// One possible course of the level from `as_of` (u = 0) on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trend<'a> {
    /// level + slope·u
    Line { level: f64, slope: f64 },
    /// a + b·exp(c·u)
    Exp { a: f64, b: f64, c: f64 },
    /// a + b·(u − start)^power, power > 0
    Power { a: f64, b: f64, start: f64, power: f64 },
    /// level + slope·u + wave(u)
    Wave { level: f64, slope: f64, wave: &'a seasonal::Wave },
    /// A quantile of a level with a slope that comes and goes.
    Local(local_trend::Course<'a>),
}

impl Trend<'_> {
    pub(crate) fn at(&self, u: f64) -> f64 {
        match *self {
            Self::Line { level, slope } => level + slope * u,
            Self::Exp { a, b, c } => a + b * (c * u).exp(),
            Self::Power { a, b, start, power } => a + b * (u - start).max(0.0).powf(power),
            Self::Wave { level, slope, wave } => level + slope * u + wave.at(u),
            Self::Local(course) => course.at(u),
        }
    }

    /// When the course reaches `y`: 0 if it is there already, infinite if it never is.
    pub(crate) fn reaches(&self, y: f64) -> f64 {
        let u = match *self {
            _ if self.at(0.0) >= y => return 0.0,
            Self::Line { level, slope } if slope > 0.0 => (y - level) / slope,
            Self::Exp { a, b, c } if b * c > 0.0 => ((y - a) / b).ln() / c,
            Self::Power { a, b, start, power } if b > 0.0 => {
                start + ((y - a) / b).powf(1.0 / power)
            }
            Self::Wave { level, slope, wave } => wave.reaches(level, slope, y),
            Self::Local(course) => course.reaches(y),
            Self::Line { .. } | Self::Exp { .. } | Self::Power { .. } => f64::INFINITY,
        };
        // Beyond the plateau the logarithm is NaN.
        if u >= 0.0 { u } else { f64::INFINITY }
    }
}

/// A fitted model.
#[derive(Debug, Clone)]
pub(crate) enum Fit {
    Flat(flat::Flat),
    Line(line::Line),
    Drift(drift::Drift),
    Holt(holt::Holt),
    LocalTrend(local_trend::LocalTrend),
    Curve(curve::Curve),
    Seasonal(Box<seasonal::Seasonal>),
    Walk(Box<seasonal::Walk>),
}

impl Fit {
    /// The value at `u`, as it would be observed.
    pub(crate) fn predict(&self, u: f64) -> Gaussian {
        match self {
            Self::Flat(f) => f.predict(u),
            Self::Line(f) => f.predict(u),
            Self::Drift(f) => f.predict(u),
            Self::Holt(f) => f.predict(u),
            Self::LocalTrend(f) => f.predict(u),
            Self::Curve(f) => f.predict(u),
            Self::Seasonal(f) => f.predict(u),
            Self::Walk(f) => f.predict(u),
        }
    }

    /// A course drawn from the uncertainty of the parameters, with the uncertainty of growth multiplied by `inflate`.
    pub(crate) fn draw(&self, draws: &mut Draws, inflate: f64) -> Trend<'_> {
        // Every model takes three draws, so that path i of one model never moves those of another.
        let (z1, z2, u) = (draws.heavy(), draws.heavy(), draws.uniform());
        match self {
            Self::Flat(f) => f.draw(),
            Self::Line(f) => f.draw(z1 * inflate, z2),
            Self::Drift(f) => f.draw(z1 * inflate, z2),
            Self::Holt(f) => f.draw(z1 * inflate, z2),
            Self::LocalTrend(f) => f.draw(z1 * inflate, u),
            Self::Curve(f) => f.draw(z1 * inflate, z2, u),
            Self::Seasonal(f) => f.draw(z1 * inflate, z2),
            Self::Walk(f) => f.draw(z1 * inflate, z2),
        }
    }
}

/// Fits all models to the first `k` points.
pub(crate) struct Fitter<'a> {
    points: &'a Points,
    plateau: Option<curve::Bases>,
    growth: Option<curve::Bases>,
    holt: bool,
    /// Length of a cycle that the values may go through.
    cycle: Option<f64>,
    prior: Option<SlopePrior>,
    /// Whether what has wandered off its course may stay off.
    walks: bool,
}

impl<'a> Fitter<'a> {
    pub(crate) fn new(
        points: &'a Points,
        cycle: Option<f64>,
        prior: Option<SlopePrior>,
        walks: bool,
    ) -> Self {
        let enough = points.len() >= curve::MIN_POINTS;
        Self {
            points,
            plateau: enough.then(|| saturating::bases(points)),
            growth: enough.then(|| accelerating::bases(points)),
            holt: points.len() >= holt::MIN_POINTS,
            cycle,
            prior,
            walks,
        }
    }

    pub(crate) fn fit(&self, k: usize) -> Vec<(ModelKind, Fit)> {
        let (u, y) = (&self.points.u[..k], &self.points.y[..k]);
        let mut fits = vec![(ModelKind::Flat, Fit::Flat(flat::Flat::fit(u, y)))];
        let seasonal = self.cycle.and_then(|c| seasonal::Seasonal::fit(u, y, c));
        let line = line::Line::fit(u, y);
        if self.walks {
            let drift = line.as_ref().and_then(|l| drift::Drift::fit(u, y, l));
            fits.extend(drift.map(|d| (ModelKind::Drift, Fit::Drift(d))));
        }
        // A slope that comes and goes is told from a line by every point; beside a wave it would take the wave for its own.
        if self.walks && seasonal.is_none() {
            let trend = line.as_ref().and_then(|l| local_trend::LocalTrend::fit(u, y, l));
            fits.extend(trend.map(|t| (ModelKind::LocalTrend, Fit::LocalTrend(t))));
        } else if self.holt {
            let holt = line.as_ref().and_then(|l| holt::Holt::fit(u, y, l));
            fits.extend(holt.map(|h| (ModelKind::Holt, Fit::Holt(h))));
        }
        let line = line.map(|l| self.prior.map_or(l.clone(), |p| p.shrink(l)));
        fits.extend(line.map(|l| (ModelKind::Line, Fit::Line(l))));
        let curve = |bases: &Option<curve::Bases>| bases.as_ref().and_then(|b| b.fit(y));
        fits.extend(curve(&self.plateau).map(|c| (ModelKind::Saturating, Fit::Curve(c))));
        fits.extend(curve(&self.growth).map(|c| (ModelKind::Accelerating, Fit::Curve(c))));
        let walk = seasonal.as_ref().filter(|_| self.walks).and_then(|s| s.walk(u, y));
        fits.extend(walk.map(|w| (ModelKind::SeasonalDrift, Fit::Walk(Box::new(w)))));
        fits.extend(seasonal.map(|s| (ModelKind::Seasonal, Fit::Seasonal(Box::new(s)))));
        fits
    }
}
