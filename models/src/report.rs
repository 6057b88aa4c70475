//! From simulated paths to the answer.

use crate::evidence::Evidence;
use crate::prepare::Rows;
use crate::stack::Share;
use crate::{
    Direction, Forecast, Interval, Intervals, ModelKind, Options, Outlook, Persistence,
    SegmentReason, segment,
};

/// Paths are followed for so many horizons.
pub(crate) const FAR: f64 = 100.0;

/// A simulated path.
pub(crate) struct Path {
    /// Time of the hit, unit of u; infinite: none.
    pub(crate) hit: f64,
    /// Chance that the growth lasts until then.
    pub(crate) survives: f64,
    /// The same, going by earlier growth alone.
    pub(crate) repeats: f64,
}

/// The forecast while it is put together.
pub(crate) struct Report<'a> {
    rows: &'a Rows,
    sign: f64,
    horizon_s: f64,
    also_s: Vec<f64>,
    start: usize,
    reason: SegmentReason,
    first: usize,
    onset: usize,
    slope: f64,
    residual_scale: f64,
}

impl<'a> Report<'a> {
    pub(crate) fn new(rows: &'a Rows, options: &Options) -> Self {
        let mut also_s: Vec<f64> = options.also_s.clone();
        also_s.retain(|h| *h > 0.0 && *h <= FAR * options.horizon_s);
        also_s.sort_unstable_by(f64::total_cmp);
        Self {
            rows,
            sign: if options.direction == Direction::Up { 1.0 } else { -1.0 },
            horizon_s: options.horizon_s,
            also_s,
            start: 0,
            reason: SegmentReason::Start,
            first: 0,
            onset: 0,
            slope: 0.0,
            residual_scale: 0.0,
        }
    }

    pub(crate) fn starts(&mut self, row: usize, reason: SegmentReason) {
        (self.start, self.reason, self.first, self.onset) = (row, reason, row, row);
    }

    pub(crate) fn onset(&mut self, row: usize) {
        self.onset = row;
    }

    pub(crate) fn fitted(&mut self, first: usize, slope: f64, residual_scale: f64) {
        (self.first, self.slope, self.residual_scale) = (first, slope, residual_scale);
    }

    pub(crate) fn crossed(&self) -> Forecast {
        let now = Interval { low_s: 0.0, high_s: Some(0.0) };
        let intervals = Intervals { p50: now, p80: now, p95: now, p99: now };
        let hit = |_: f64| (1.0, Evidence::default());
        self.finish(Some(0.0), intervals, hit, vec![(ModelKind::Flat, 1.0)], 0, None)
    }

    /// `flat`: P(a peak meets the threshold within a horizon, unit of u, without any growth).
    pub(crate) fn paths(
        self,
        span_s: f64,
        shares: &[Share],
        paths: &[Path],
        flat: impl Fn(f64) -> f64,
        released: usize,
    ) -> Forecast {
        let mut hits: Vec<f64> = paths.iter().map(|p| p.hit).collect();
        hits.sort_unstable_by(f64::total_cmp);
        let at = |q: f64| -> Option<f64> {
            let i = (q * hits.len() as f64) as usize;
            let hit = hits.get(i.min(hits.len().saturating_sub(1)))?;
            hit.is_finite().then_some(hit * span_s)
        };
        let far_s = FAR * self.horizon_s;
        let central = |share: f64| Interval {
            low_s: at(0.5 - 0.5 * share).map_or(far_s, |low| low.min(far_s)),
            high_s: at(0.5 + 0.5 * share),
        };
        let intervals = Intervals {
            p50: central(0.5),
            p80: central(0.8),
            p95: central(0.95),
            p99: central(0.99),
        };
        let weight_flat =
            shares.iter().find(|s| s.kind == ModelKind::Flat).map_or(0.0, |s| s.weight);
        let of_paths = |x: f64| if paths.is_empty() { 0.0 } else { x / paths.len() as f64 };
        let within = |horizon: f64| paths.iter().filter(move |p| p.hit <= horizon);
        let at_horizon = |horizon_s: f64| {
            let horizon = horizon_s / span_s;
            let flat = flat(horizon);
            let mixed = |growing: f64| {
                (weight_flat * flat + (1.0 - weight_flat) * of_paths(growing)).clamp(0.0, 1.0)
            };
            let evidence = Evidence {
                if_it_goes_on: mixed(within(horizon).map(|p| p.repeats).sum()),
                as_modelled: mixed(within(horizon).map(|p| p.survives).sum()),
                flat: weight_flat,
                horizon_spans: horizon,
            };
            (evidence.as_modelled, evidence)
        };
        let mut weights: Vec<(ModelKind, f64)> =
            shares.iter().map(|s| (s.kind, s.weight)).collect();
        weights.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let (sum, count) = within(self.horizon_s / span_s)
            .fold((0.0, 0_usize), |(sum, count), p| (sum + p.survives, count + 1));
        let survives = (count > 0).then(|| sum / count as f64);
        self.finish(at(0.5), intervals, at_horizon, weights, released, survives)
    }

    fn finish(
        &self,
        eta_s: Option<f64>,
        intervals: Intervals,
        at_horizon: impl Fn(f64) -> (f64, Evidence),
        weights: Vec<(ModelKind, f64)>,
        released: usize,
        survives: Option<f64>,
    ) -> Forecast {
        let rows = self.rows;
        let n = rows.len();
        let (probability, evidence) = at_horizon(self.horizon_s);
        let outlook = |&horizon_s: &f64| {
            let (probability, evidence) = at_horizon(horizon_s);
            Outlook { horizon_s, probability, evidence }
        };
        let change = segment::limit_change(rows, self.start);
        let (start, reason) =
            change.map_or((self.start, self.reason), |at| (at, SegmentReason::LimitChange));
        Forecast {
            eta_s,
            intervals,
            probability,
            horizon_s: self.horizon_s,
            also: self.also_s.iter().map(outlook).collect(),
            model: weights.first().map_or(ModelKind::Flat, |w| w.0),
            weights,
            slope_per_s: self.sign * self.slope,
            level: self.sign * rows.v[n - 1],
            threshold: self.sign * rows.limit[n - 1],
            window_s: rows.t[n - 1] - rows.t[self.first],
            samples: n - self.first,
            dropped: rows.dropped,
            segment_start_us: rows.ts_us[start],
            segment_reason: reason,
            residual_scale: self.residual_scale,
            evidence,
            persistence: Persistence {
                onset_us: rows.ts_us[self.onset],
                age_s: -rows.t[self.onset],
                released,
                survives,
            },
        }
    }
}
