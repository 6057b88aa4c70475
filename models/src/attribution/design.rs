//! From the caller's table to rows and columns of a regression.

use super::nnls::Gram;
use super::{CannotAttribute, NoClaim, RouteWindows};
use crate::segment;

/// Rows that a fit needs at least.
const MIN_ROWS: usize = 8;
/// Rows beyond the number of columns.
const MIN_FREEDOM: usize = 4;
/// Rows in which a route has to be called.
const MIN_CALLED: usize = 4;
/// Routes with a column of their own: bounds the cost. The rarest of more share one column.
const MAX_ROUTES: usize = 64;
/// Columns beside those of routes: the rare routes together, and the own growth.
const BESIDE_ROUTES: usize = 2;
/// A column of which no more than this share of its square is left beside the others depends on them.
const DEPENDS: f64 = 1e-9;

/// What is regressed on what. The columns are routes, then what all the rare routes did together (if there are any), then
/// the number of windows (the own growth).
pub(super) struct Design {
    /// Usable windows.
    pub(super) used: Vec<usize>,
    pub(super) from_floor_to_floor: bool,
    /// Growth per row.
    pub(super) growth: Vec<f64>,
    /// Whether the row follows the one before it without a gap: they share a reading.
    pub(super) follows: Vec<bool>,
    /// Column by column.
    pub(super) columns: Vec<Vec<f64>>,
    /// Columns that do not depend on those before them, the own growth always.
    pub(super) independent: Vec<usize>,
    /// Per route: its column in `columns`.
    place: Vec<Option<usize>>,
    /// Per route: why it cannot be estimated.
    no_claim: Vec<Option<NoClaim>>,
}

impl Design {
    pub(super) fn new(windows: &RouteWindows<'_>) -> Result<Self, CannotAttribute> {
        let (n, routes) = (windows.growth_bytes.len(), windows.routes);
        if n.checked_mul(routes) != Some(windows.requests.len()) {
            let requests = windows.requests.len();
            return Err(CannotAttribute::Shape { windows: n, requests, routes });
        }
        let counts = |w: usize| &windows.requests[w * routes..(w + 1) * routes];
        let is_used = |w: usize| {
            windows.growth_bytes[w].is_finite()
                && counts(w).iter().all(|c| c.is_finite() && *c >= 0.0)
        };
        let used: Vec<usize> = (0..n).filter(|w| is_used(*w)).collect();
        let (spans, from_floor_to_floor) = spans(windows, &used);
        if spans.len() < MIN_ROWS {
            return Err(CannotAttribute::TooFewWindows { have: spans.len(), need: MIN_ROWS });
        }
        let sum = |of: &dyn Fn(usize) -> f64| -> Vec<f64> {
            spans.iter().map(|s| s.clone().map(of).sum()).collect()
        };
        let mut out = Self {
            growth: sum(&|w| windows.growth_bytes[w]),
            follows: (0..spans.len())
                .map(|i| i > 0 && spans[i - 1].end == spans[i].start)
                .collect(),
            columns: Vec::new(),
            independent: Vec::new(),
            place: vec![None; routes],
            no_claim: vec![None; routes],
            used,
            from_floor_to_floor,
        };
        let mut rare = vec![0.0; spans.len()];
        let by_route: Vec<Vec<f64>> = (0..routes).map(|r| sum(&|w| counts(w)[r])).collect();
        let common = common(&by_route, spans.len());
        for (r, column) in by_route.into_iter().enumerate() {
            if common[r] {
                out.place[r] = Some(out.columns.len());
                out.columns.push(column);
                continue;
            }
            let have = out.used.iter().filter(|w| counts(**w)[r] > 0.0).count();
            out.no_claim[r] =
                Some(if have == 0 { NoClaim::NotCalled } else { NoClaim::TooRare { have } });
            rare.iter_mut().zip(column).for_each(|(sum, c)| *sum += c);
        }
        if rare.iter().any(|c| *c > 0.0) {
            for (place, why) in out.place.iter_mut().zip(&out.no_claim) {
                if matches!(why, Some(NoClaim::TooRare { .. })) {
                    *place = Some(out.columns.len());
                }
            }
            out.columns.push(rare);
        }
        out.columns.push(spans.iter().map(|s| s.len() as f64).collect());
        out.find_dependent();
        Ok(out)
    }

    /// The column of a route that can be estimated, or why it cannot. Index into `independent`.
    pub(super) fn column_of(&self, route: usize) -> Result<usize, NoClaim> {
        if let Some(why) = &self.no_claim[route] {
            return Err(why.clone());
        }
        let place = self.place[route];
        self.independent.iter().position(|c| Some(*c) == place).ok_or(NoClaim::NotCalled)
    }

    /// The column a route is counted in, also with others.
    pub(super) fn place_of(&self, route: usize) -> Option<usize> {
        self.place[route]
    }

    /// Routes that have the column to themselves.
    pub(super) fn route_at(&self, column: usize) -> Option<usize> {
        let alone = |r: &usize| !matches!(self.no_claim[*r], Some(NoClaim::TooRare { .. }));
        (0..self.place.len()).filter(alone).find(|r| self.place[*r] == Some(column))
    }

    /// Growth from the first to the last usable window, and what the deepest fall took away.
    pub(super) fn kept_at_most(&self, windows: &RouteWindows<'_>) -> f64 {
        let (mut level, mut high, mut fall) = (0.0_f64, 0.0_f64, 0.0_f64);
        for w in &self.used {
            level += windows.growth_bytes[*w];
            high = high.max(level);
            fall = fall.max(high - level);
        }
        level + fall
    }

    /// Columns that are sums of others (two routes that are always called together) cannot be told apart from them,
    /// whichever of them is left out.
    fn find_dependent(&mut self) {
        let n = self.columns.len();
        let all = gram(&self.columns);
        let own = n - 1;
        let mut kept = vec![own];
        // Groups of columns that depend on each other: union by the smallest member.
        let mut group: Vec<usize> = (0..n).collect();
        for j in 0..own {
            let mut c: Vec<f64> = kept.iter().map(|k| all.at(*k, j)).collect();
            let xy = c.clone();
            let Some(factor) = all.of(&kept).factor() else { continue };
            factor.solve(&mut c);
            let explained: f64 = c.iter().zip(&xy).map(|(c, x)| c * x).sum();
            if all.at(j, j) - explained > DEPENDS * all.at(j, j) {
                kept.push(j);
                continue;
            }
            let length = |i: usize| all.at(i, i).sqrt();
            for (k, c) in kept.iter().zip(c) {
                if c.abs() * length(*k) > 1e-4 * length(j) {
                    let (a, b) = (group[j].min(group[*k]), group[j].max(group[*k]));
                    group.iter_mut().filter(|g| **g == b).for_each(|g| *g = a);
                }
            }
        }
        for j in 0..own {
            let Some(route) = self.route_at(j) else { continue };
            let with: Vec<usize> = (0..own).filter(|k| *k != j && group[*k] == group[j]).collect();
            if with.is_empty() && group[own] == group[j] {
                self.no_claim[route] = Some(NoClaim::Steady);
            } else if !with.is_empty() {
                let with = with.into_iter().filter_map(|k| self.route_at(k)).collect();
                self.no_claim[route] = Some(NoClaim::Collinear { with });
            }
        }
        kept.sort_unstable();
        self.independent = kept;
    }
}

/// Inner products of the columns.
pub(super) fn gram(columns: &[Vec<f64>]) -> Gram {
    let n = columns.len();
    let mut a = vec![0.0; n * n];
    for i in 0..n {
        for j in 0..=i {
            let dot: f64 = columns[i].iter().zip(&columns[j]).map(|(x, y)| x * y).sum();
            (a[i * n + j], a[j * n + i]) = (dot, dot);
        }
    }
    Gram { n, a }
}

/// Windows that make a row each: single ones, or what lies between two floors of a collector's teeth.
fn spans(windows: &RouteWindows<'_>, used: &[usize]) -> (Vec<std::ops::Range<usize>>, bool) {
    let n = windows.growth_bytes.len();
    let mut known = vec![false; n];
    used.iter().for_each(|w| known[*w] = true);
    let mut level = Vec::with_capacity(n + 1);
    level.push(0.0);
    for (w, growth) in windows.growth_bytes.iter().enumerate() {
        level.push(level[w] + if known[w] { *growth } else { 0.0 });
    }
    let floors = segment::floors(&level).unwrap_or_default();
    let whole = |f: &[usize]| known[f[0]..f[1]].iter().all(|k| *k).then_some(f[0]..f[1]);
    let teeth: Vec<_> = floors.windows(2).filter_map(whole).collect();
    // A fit of single windows sees few collections as what they are there: errors, large ones.
    let enough = MIN_ROWS.max(windows.routes.min(MAX_ROUTES) + BESIDE_ROUTES + MIN_FREEDOM);
    match teeth.len() >= enough {
        true => (teeth, true),
        false => (used.iter().map(|w| *w..w + 1).collect(), false),
    }
}

/// Routes that are called often enough for a column of their own.
fn common(by_route: &[Vec<f64>], rows: usize) -> Vec<bool> {
    let room = rows.saturating_sub(BESIDE_ROUTES + MIN_FREEDOM).min(MAX_ROUTES);
    let weight = |r: usize| {
        let c = &by_route[r];
        (c.iter().filter(|c| **c > 0.0).count(), c.iter().sum::<f64>())
    };
    let mut order: Vec<(usize, f64, usize)> =
        (0..by_route.len()).map(|r| (weight(r), r)).map(|((n, sum), r)| (n, sum, r)).collect();
    let heavier =
        |a: &(usize, f64, usize), b: &(usize, f64, usize)| b.0.cmp(&a.0).then(b.1.total_cmp(&a.1));
    order.retain(|o| o.0 >= MIN_CALLED);
    order.sort_by(|a, b| heavier(a, b));
    // Of equally rare ones none is preferred.
    let mut room = room.min(order.len());
    while room > 0 && room < order.len() && heavier(&order[room - 1], &order[room]).is_eq() {
        room -= 1;
    }
    let mut out = vec![false; by_route.len()];
    order[..room].iter().for_each(|o| out[o.2] = true);
    out
}
