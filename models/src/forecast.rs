//! Time to threshold, put together.

use crate::cycles::{self, Cycles};
use crate::fit::line::Line;
use crate::fit::seasonal::Seasonal;
use crate::fit::{Fit, Fitter, SlopePrior, Trend};
use crate::passage::{Above, Replay, first_passage};
use crate::persistence::Going;
use crate::prepare::{MAX_POINTS, MIN_POINTS, Points, Rows};
use crate::report::{FAR, Path, Report};
use crate::residuals::{Peaks, Rises};
use crate::rng::Draws;
use crate::segment::{self, Segment, Teeth};
use crate::stack::{Share, stack};
use crate::wander::{self, Climbs};
use crate::{
    CannotSay, Direction, Forecast, Life, ModelKind, Options, SegmentReason, Series, calibration,
    changepoint, stats,
};

/// Significance asked of growth (one-sided trend test) before any model of growth is considered.
const GROWTH_P: f64 = 0.05;
/// Growth is searched for in vain (and cheaply) where not even this is met and the newest block is no outlier.
const SCREEN_P: f64 = 0.2;
/// From this share of a known cycle on, seen and asked, it is considered.
const SEASON_FROM: f64 = 0.3;
/// Blocks of the trend test: their means are almost independent where the points are not.
const TREND_BLOCKS: usize = 12;
/// Significance asked of teeth that become higher.
const RISE_P: f64 = 0.02;
/// Fits are compared at no more than so many points.
const JUDGED: usize = 40;
/// A trend is followed at so many points between which it is straight.
const NODES: usize = 64;
/// Blocks of the peaks.
const BLOCKS: usize = 20;

/// When does the series meet its threshold? See the [crate documentation](crate) for an example.
///
/// The value is segmented (restarts, changed limits, change points), the models are fitted to the present segment and
/// weighted by how well they would have forecast it, and simulated paths of the mixture are followed to the threshold
/// (DESIGN §6). The papers behind each step are named in its module.
///
/// # Errors
///
/// [`CannotSay`] where no forecast can be made. A series that does not grow is not an error: its `eta_s` is `None`.
pub fn time_to_threshold(series: &Series<'_>, options: &Options) -> Result<Forecast, CannotSay> {
    let mut forecast = uncalibrated(series, options)?;
    calibration::apply(&mut forecast, options.prevalence);
    Ok(forecast)
}

/// What the models alone say: the input of the calibration.
pub(crate) fn uncalibrated(series: &Series<'_>, options: &Options) -> Result<Forecast, CannotSay> {
    if !(options.horizon_s > 0.0 && options.horizon_s.is_finite()) {
        return Err(CannotSay::Horizon);
    }
    of_rows(&Rows::new(series, options)?, options)
}

/// As [`uncalibrated`], from clean rows.
pub(crate) fn of_rows(rows: &Rows, options: &Options) -> Result<Forecast, CannotSay> {
    let n = rows.len();
    if n == 0 {
        return Err(CannotSay::NoData);
    }
    let threshold = rows.limit[n - 1];
    if threshold == f64::INFINITY {
        return Err(CannotSay::NoThreshold);
    }
    let limit_s = options.stale_after_s.unwrap_or_else(|| stale_after(rows, options));
    let age_s = -rows.t[n - 1];
    if n > 1 && age_s > limit_s {
        return Err(CannotSay::Stale { age_s, limit_s });
    }
    let mut report = Report::new(rows, options);
    if rows.v[n - 1] >= threshold {
        return Ok(report.crossed());
    }
    if n < MIN_POINTS {
        return Err(CannotSay::TooFewPoints { have: n, need: MIN_POINTS });
    }
    let segment = segment::segment(rows, options.season_s);
    if n - segment.start < MIN_POINTS {
        return Err(CannotSay::TooFewPoints { have: n - segment.start, need: MIN_POINTS });
    }
    report.starts(segment.start, segment.reason);
    let course = Course::new(rows, &segment, threshold, options)?;
    Ok(course.forecast(report, &segment, options))
}

/// Rows of so many cadences ago are new enough.
const STALE_CADENCES: f64 = 10.0;

/// Default of [`Options::stale_after_s`].
fn stale_after(rows: &Rows, options: &Options) -> f64 {
    let span_s = rows.t[rows.len() - 1] - rows.t[0];
    (STALE_CADENCES * rows.cadence).max((options.stale_share * span_s).min(options.horizon_s))
}

/// The present segment in scaled units: u = time from `as_of` over the span of the segment, y = distance from the
/// newest value over the range.
struct Course {
    start: usize,
    span_s: f64,
    scale: f64,
    u: Vec<f64>,
    y: Vec<f64>,
    threshold: f64,
    horizon: f64,
    cadence: f64,
    season: Option<f64>,
}

impl Course {
    fn new(
        rows: &Rows,
        segment: &Segment,
        threshold: f64,
        options: &Options,
    ) -> Result<Self, CannotSay> {
        let start = segment.start;
        let (t, v) = (&rows.t[start..], &rows.v[start..]);
        let span_s = t[t.len() - 1] - t[0];
        let range = stats::range(v);
        // A constant series has no scale of its own.
        let last = v[v.len() - 1];
        let scale = if range > 0.0 { range } else { threshold - last };
        if !(span_s > 0.0 && scale > 0.0 && scale.is_finite() && (threshold - last).is_finite()) {
            return Err(CannotSay::NotFinite);
        }
        Ok(Self {
            start,
            span_s,
            scale,
            u: t.iter().map(|t| t / span_s).collect(),
            y: v.iter().map(|v| (v - last) / scale).collect(),
            threshold: (threshold - last) / scale,
            horizon: options.horizon_s / span_s,
            cadence: rows.cadence / span_s,
            season: options.season_s.map(|s| s / span_s).filter(|s| *s > 0.0),
        })
    }

    fn forecast(&self, mut report: Report<'_>, segment: &Segment, options: &Options) -> Forecast {
        let base = self.start;
        let teeth = segment.teeth.as_ref();
        if teeth.is_none() && !self.may_grow() {
            return self.flat(report, 0);
        }
        let marks = teeth.map(|t| self.marks(t));
        let hull = match marks {
            Some(marks) => self.pick(marks),
            None => Points { u: self.u.clone(), y: self.y.clone() },
        };
        let thin = hull.thin();
        let change = changepoint::last_change(&thin, self.season);
        let first_of = |point: usize| -> usize {
            // A run of means is counted from the end; its first row starts the segment.
            let per = hull.len().div_ceil(MAX_POINTS).max(1);
            let at = (thin.len() - point) * per;
            hull.len().saturating_sub(at)
        };
        let (from, onset) = (first_of(change.start), first_of(change.onset));
        let row_of = |point: usize| match marks {
            Some(marks) if point > 0 => marks[point] - base,
            Some(_) => 0,
            None => point,
        };
        if change.start > 0 {
            report.starts(base + row_of(from), SegmentReason::ChangePoint);
        }
        let first = row_of(from);
        let course = Points { u: self.u[first..].to_vec(), y: self.y[first..].to_vec() };
        let mut hull = hull.from(from);
        let mut thin = hull.thin();
        let peaks: Vec<usize> = teeth.map_or_else(Vec::new, |t| {
            t.peaks.iter().filter_map(|p| p.checked_sub(base + first)).collect()
        });
        let steps = if teeth.is_some() {
            Some(cycles::falls(&course.y, &peaks))
        } else {
            Line::fit(&thin.u, &thin.y).and_then(|line| {
                let over = course.over(|u| line.predict(u).mean);
                let steps = cycles::steps(&course.u, &over)?;
                // What repeats is no part of the trend.
                hull = cycles::without_steps(&course, &over, &steps);
                thin = hull.thin();
                Some(steps)
            })
        };
        let p = self.trend_p(&hull, &thin, change.cycle);
        if p >= GROWTH_P || thin.len() < 3 {
            return self.flat(report, first);
        }
        let lives = self.lives(segment, options);
        let prior = SlopePrior::of(&lives, self.span_s / self.scale);
        let cycle = self.cycle(&thin, change.cycle);
        // Floors and peaks scatter: the newest one is no place to start from.
        let walks = teeth.is_none();
        let fitter = Fitter::new(&thin, cycle, prior, walks);
        let fits = fitter.fit(thin.len());
        let kinds: Vec<ModelKind> = fits.iter().map(|f| f.0).collect();
        let mut shares = stack(&fitter, &thin, &kinds, self.horizon);
        // Independent blocks rise by chance less often than a walk does; teeth do not walk.
        let by_walking = if walks { wander::walk_p(&thin.y) } else { 0.0 };
        floor_flat(&mut shares, stats::null_posterior(p.max(by_walking)));
        let over = over_trend(&course, &thin, &fits);
        let cycles = steps.and_then(|s| Cycles::new(&course.u, &over, &s));
        let peaks = if teeth.is_some() {
            let of = |x: &[f64]| peaks.iter().map(|p| x[*p]).collect::<Vec<f64>>();
            Peaks::in_blocks(&of(&course.u), &of(&over), peaks.len())
        } else {
            Peaks::in_blocks(&course.u, &over, BLOCKS)
        };
        let replay = match cycles {
            Some(cycles) => Replay::Cycles(cycles),
            None if teeth.is_some() => Replay::Never,
            None => Replay::Rises(Rises::new(&course.u, &over)),
        };
        let above = Above { peaks, replay };
        let going = Going {
            age: -self.u[row_of(onset)],
            released: lives.iter().filter(|l| !l.hit).map(|l| l.life_s / self.span_s).collect(),
            hits: lives.iter().filter(|l| l.hit).count(),
        };
        report.onset(base + row_of(onset));
        let rise_from = stats::median(&thin.y[..thin.len().min(3)]);
        let paths = self.paths(&fits, &shares, above, &going, rise_from, options);
        let still = self.still(first);
        let slope = fits.iter().find_map(|(_, f)| match f {
            Fit::Line(l) => Some((l.slope, l.noise)),
            Fit::Seasonal(s) => Some(s.slope()),
            _ => None,
        });
        if teeth.is_some() {
            for s in &mut shares {
                if s.kind == ModelKind::Line {
                    s.kind = ModelKind::SawTooth;
                }
            }
        }
        let (slope, noise) = slope.unwrap_or((0.0, 0.0));
        report.fitted(first + base, slope * self.scale / self.span_s, noise * self.scale);
        report.paths(
            self.span_s,
            &shares,
            &paths,
            |horizon| still.probability(self.threshold, horizon),
            going.released.len(),
        )
    }

    /// P-value of a rise, as it is or beside the wave where there is one: the smaller of the two.
    fn trend_p(&self, hull: &Points, thin: &Points, cycle: Option<f64>) -> f64 {
        let wave = cycle.and_then(|c| Seasonal::fit(&thin.u, &thin.y, c));
        let level: Vec<f64> = match &wave {
            Some(w) => hull.over(|u| w.wave(u)),
            None => hull.y.clone(),
        };
        let p = |y: &[f64]| stats::kendall_p(&stats::block_means(y, TREND_BLOCKS));
        p(&level).min(p(&hull.y))
    }

    /// The cycle to consider: one that was found, or a known one, which is a possible cause of a rise long before it has
    /// been seen whole.
    fn cycle(&self, thin: &Points, found: Option<f64>) -> Option<f64> {
        let span = thin.u.last().zip(thin.u.first()).map_or(0.0, |(b, a)| b - a);
        let possible = |s: &f64| span >= SEASON_FROM * s && self.horizon >= SEASON_FROM * s;
        found.or_else(|| self.season.filter(possible))
    }

    /// Earlier lives, in the series and beside it, with slopes towards the threshold.
    fn lives(&self, segment: &Segment, options: &Options) -> Vec<Life> {
        let sign = if options.direction == Direction::Up { 1.0 } else { -1.0 };
        let beside = options
            .earlier
            .iter()
            .map(|l| Life { slope_per_s: sign * l.slope_per_s, ..*l })
            .filter(|l| l.life_s > 0.0 && l.life_s.is_finite() && l.slope_per_s.is_finite());
        beside.chain(segment.lives.iter().copied()).collect()
    }

    /// The rows of teeth that tell where they are heading: their floors are what is kept, but where they rise with it (a
    /// collector that runs when the heap is twice what it was after the last collection) the peaks do.
    fn marks<'a>(&self, teeth: &'a Teeth) -> &'a [usize] {
        let height = |peak: &usize| {
            let before = teeth.floors.partition_point(|floor| floor < peak).checked_sub(1)?;
            Some(self.y[peak - self.start] - self.y[teeth.floors[before] - self.start])
        };
        let heights: Vec<f64> = teeth.peaks.iter().filter_map(height).collect();
        if stats::kendall_p(&heights) < RISE_P { &teeth.peaks } else { &teeth.floors }
    }

    fn pick(&self, rows: &[usize]) -> Points {
        Points {
            u: rows.iter().map(|&i| self.u[i - self.start]).collect(),
            y: rows.iter().map(|&i| self.y[i - self.start]).collect(),
        }
    }

    /// Cheap screen: a trend over the whole segment, or a newest block far above the others.
    fn may_grow(&self) -> bool {
        let means = stats::block_means(&self.y, TREND_BLOCKS);
        if stats::kendall_p(&means) < SCREEN_P {
            return true;
        }
        let Some((last, before)) = means.split_last() else {
            return false;
        };
        let spread = stats::robust_sd(before);
        before.len() < 4 || last - stats::median(before) > 3.0 * spread
    }

    /// What may happen without any growth: peaks since `first`, climbs in all of the segment.
    fn still(&self, first: usize) -> Still {
        Still {
            peaks: Peaks::in_blocks(&self.u[first..], &self.y[first..], BLOCKS),
            climbs: Climbs::new(&self.u, &self.y),
        }
    }

    fn flat(&self, mut report: Report<'_>, first: usize) -> Forecast {
        let still = self.still(first);
        let n = self.u.len();
        let halves = (first + n) / 2;
        // Rise from the first to the second half: the slope is only told, nothing follows from it.
        let middle = |x: &[f64]| stats::median(x);
        let du = middle(&self.u[halves..]) - middle(&self.u[first..halves.max(first + 1)]);
        let dy = middle(&self.y[halves..]) - middle(&self.y[first..halves.max(first + 1)]);
        let slope = if du > 0.0 { dy / du } else { 0.0 };
        report.fitted(
            self.start + first,
            slope * self.scale / self.span_s,
            stats::robust_sd(&self.y[first..]) * self.scale,
        );
        let share = Share { kind: ModelKind::Flat, weight: 1.0, inflate: 1.0 };
        let flat = |horizon| still.probability(self.threshold, horizon);
        report.paths(self.span_s, &[share], &[], flat, 0)
    }

    fn paths(
        &self,
        fits: &[(ModelKind, Fit)],
        shares: &[Share],
        mut above: Above<'_>,
        going: &Going,
        rise_from: f64,
        options: &Options,
    ) -> Vec<Path> {
        let mut draws = Draws::new(options.seed);
        let growing: f64 =
            shares.iter().filter(|s| s.kind != ModelKind::Flat).map(|s| s.weight).sum();
        let total = options.paths.clamp(16, 100_000) as f64;
        let mut out = Vec::with_capacity(total as usize + 8);
        let mut quota = 0.0;
        for ((kind, fit), share) in fits.iter().zip(shares) {
            if *kind == ModelKind::Flat || growing <= 0.0 {
                continue;
            }
            // Systematic: each model gets its share of the paths to within one.
            quota += share.weight / growing * total;
            while (out.len() as f64) + 0.5 < quota {
                let trend = fit.draw(&mut draws, share.inflate);
                let e = -draws.uniform().ln();
                let hit = first_passage(&trend, &mut above, self.threshold, e, FAR * self.horizon);
                let age = match trend {
                    // A straight course of this slope cannot have risen for longer than the rise took.
                    Trend::Line { level, slope } => ((level - rise_from) / slope).max(0.0),
                    Trend::Exp { .. }
                    | Trend::Power { .. }
                    | Trend::Wave { .. }
                    | Trend::Local(_) => going.age,
                };
                let (survives, repeats) = if hit.is_finite() {
                    (going.survives(age, hit), going.repeats(age, hit))
                } else {
                    (0.0, 0.0)
                };
                // Rows come at ticks: neither the newest value nor the hit is known better than to one of them.
                let tick = (draws.uniform() + draws.uniform() - 1.0) * self.cadence;
                let seen = (hit + tick).max(0.0);
                let hit = if seen <= FAR * self.horizon { seen } else { f64::INFINITY };
                out.push(Path { hit, survives, repeats });
            }
        }
        out
    }
}

/// A course without growth.
struct Still {
    peaks: Peaks,
    climbs: Climbs,
}

impl Still {
    /// P(the threshold is met before a horizon): it stays around its level, or it wanders off as it did before, and which of
    /// the two is not known.
    fn probability(&self, threshold: f64, horizon: f64) -> f64 {
        let blocks = if self.peaks.block > 0.0 { horizon / self.peaks.block } else { 0.0 };
        let by_peaks = 1.0 - (-self.peaks.hazard(threshold) * blocks).exp();
        0.5 * (by_peaks + self.climbs.probability(threshold, horizon))
    }
}

/// The rows over the smooth trend that fits them best.
fn over_trend(rows: &Points, thin: &Points, fits: &[(ModelKind, Fit)]) -> Vec<f64> {
    let points = || thin.u.iter().zip(&thin.y).step_by(thin.len().div_ceil(JUDGED));
    let misfit = |f: &Fit| -> f64 { points().map(|(u, y)| (y - f.predict(*u).mean).abs()).sum() };
    let best = fits
        .iter()
        .filter(|f| {
            !matches!(
                f.1,
                Fit::Flat(_) | Fit::Holt(_) | Fit::Drift(_) | Fit::LocalTrend(_) | Fit::Walk(_)
            )
        })
        .map(|f| (&f.1, misfit(&f.1)))
        .min_by(|a, b| a.1.total_cmp(&b.1));
    let trend = |u: f64| best.map_or(0.0, |b| b.0.predict(u).mean);
    let n = rows.len();
    let (Some(first), Some(last)) = (rows.u.first(), rows.u.last()) else { return Vec::new() };
    let step = (last - first) / NODES as f64;
    if n <= 2 * NODES || step <= 0.0 {
        return rows.over(trend);
    }
    // A mixture of curves costs: many rows see it straight from node to node.
    let nodes: Vec<f64> = (0..=NODES).map(|i| trend(first + step * i as f64)).collect();
    rows.over(|u| {
        let x = (u - first) / step;
        let i = (x as usize).min(NODES - 1);
        nodes[i] + (nodes[i + 1] - nodes[i]) * (x - i as f64)
    })
}

/// Gives the flat model at least the weight that the trend test leaves to chance.
fn floor_flat(shares: &mut [Share], least: f64) {
    let flat = shares.iter().find(|s| s.kind == ModelKind::Flat).map_or(1.0, |s| s.weight);
    if flat >= least {
        return;
    }
    let squeeze = (1.0 - least) / (1.0 - flat);
    for s in shares {
        s.weight = if s.kind == ModelKind::Flat { least } else { s.weight * squeeze };
    }
}
