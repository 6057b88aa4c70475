//! What is kept of a series: bounded, whatever its length, and ready for the next row.
//!
//! Up to [`RAW`] rows are kept as they are. Beyond, blocks of equally many rows keep their first, lowest, highest and last
//! row (M4: Jugel et al. 2014, PVLDB 7(10)): what a course looks like, its peaks and its sudden falls survive, and every
//! kept row was observed. When there are too many blocks, neighbours are merged. A row costs O(1), amortised.

use crate::prepare::Rows;
use crate::{CannotSay, Direction, Forecast, Options, calibration, forecast, stats};

/// Rows kept as they are.
const RAW: usize = 2048;
/// Rows per block when blocks are first made.
const FIRST_BLOCK: usize = 16;
/// Blocks before neighbours are merged.
const MAX_BLOCKS: usize = 512;
/// Growth is looked at over these shares of the kept rows, counted from the newest.
const SHARES: [usize; 6] = [1, 2, 4, 8, 16, 32];
/// A series heads for its threshold if its growth would carry it there within so many horizons …
const HORIZONS: f64 = 4.0;
/// … or if this share of the way from its lowest kept value is behind it.
const NEAR: f64 = 0.8;

/// From here on a threshold is none: cgroup v1 writes "unlimited" as 2⁶³ rounded down to a page.
const UNLIMITED: f64 = (1_u64 << 62) as f64;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Row {
    ts_us: i64,
    /// Rising towards the threshold.
    v: f64,
    /// Infinite: none.
    limit: f64,
}

/// First, lowest, highest and last row of a run of rows.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Block {
    first: Row,
    lowest: Row,
    highest: Row,
    last: Row,
}

impl Block {
    fn of(row: Row) -> Self {
        Self { first: row, lowest: row, highest: row, last: row }
    }

    /// Joined with a later one.
    fn with(&self, later: &Self) -> Self {
        let lowest = if later.lowest.v < self.lowest.v { later.lowest } else { self.lowest };
        let highest = if later.highest.v > self.highest.v { later.highest } else { self.highest };
        Self { first: self.first, lowest, highest, last: later.last }
    }

    /// Its rows in order of time, without repetition.
    fn rows(&self) -> impl Iterator<Item = Row> {
        let (a, b) = if self.lowest.ts_us <= self.highest.ts_us {
            (self.lowest, self.highest)
        } else {
            (self.highest, self.lowest)
        };
        let mut before = None;
        [self.first, a, b, self.last].into_iter().filter(move |r| {
            let is_new = before.is_none_or(|t| r.ts_us > t);
            before = Some(r.ts_us);
            is_new
        })
    }
}

/// The state of one series, fed one row at a time in order of time. Evaluating it gives, bit for bit, what
/// [`crate::time_to_threshold`] gives over all its rows (T6). At most about 70 kB.
///
/// ```
/// use tapio_models::{Direction, Options, SeriesState};
///
/// let mut state = SeriesState::new(Direction::Up);
/// for i in 0..300_i64 {
///     state.push(i * 1_000_000, 200e6 + 2e6 * i as f64, 1e9);
/// }
/// assert!(state.heads_for_threshold(900.0));
/// let forecast = state.forecast(&Options { as_of_us: 299_000_000, ..Options::default() })?;
/// assert!((forecast.eta_s.expect("a line hits") - 101.0).abs() < 5.0);
/// # Ok::<(), tapio_models::CannotSay>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesState {
    direction: Direction,
    /// All rows but the newest, while they are few; then empty.
    raw: Vec<Row>,
    blocks: Vec<Block>,
    /// Rows in each of `blocks`.
    per_block: usize,
    /// The block that is being filled, and its number of rows.
    open: Option<(Block, usize)>,
    /// May still be replaced by a row of the same time.
    newest: Option<Row>,
    lowest: f64,
    dropped: usize,
    late: usize,
}

impl SeriesState {
    /// No row yet.
    #[must_use]
    pub fn new(direction: Direction) -> Self {
        Self {
            direction,
            raw: Vec::new(),
            blocks: Vec::new(),
            per_block: FIRST_BLOCK,
            open: None,
            newest: None,
            lowest: f64::INFINITY,
            dropped: 0,
            late: 0,
        }
    }

    /// Takes the next row. A value that is not finite is dropped and counted; a threshold that is not finite, or 2⁶² or
    /// beyond ("max"), is no limit at that row; a row of the same time as the newest replaces it. `false`: the row is older than the newest one, and
    /// was left out and counted.
    pub fn push(&mut self, ts_us: i64, value: f64, threshold: f64) -> bool {
        if !value.is_finite() {
            self.dropped += 1;
            return true;
        }
        let sign = self.sign();
        // NaN is not below it either.
        let limit = if threshold.abs() < UNLIMITED { sign * threshold } else { f64::INFINITY };
        let row = Row { ts_us, v: sign * value, limit };
        match self.newest {
            Some(newest) if ts_us < newest.ts_us => {
                self.late += 1;
                return false;
            }
            Some(newest) if ts_us > newest.ts_us => self.keep(newest),
            _ => {}
        }
        self.newest = Some(row);
        true
    }

    /// Rows that were older than the newest one when they came.
    #[must_use]
    pub fn late(&self) -> usize {
        self.late
    }

    fn sign(&self) -> f64 {
        if self.direction == Direction::Up { 1.0 } else { -1.0 }
    }

    fn keep(&mut self, row: Row) {
        self.lowest = self.lowest.min(row.v);
        if self.blocks.is_empty() && self.raw.len() < RAW {
            self.raw.push(row);
            return;
        }
        if self.blocks.is_empty() {
            self.blocks.reserve_exact(MAX_BLOCKS);
            for run in self.raw.chunks_exact(FIRST_BLOCK) {
                if let Some(block) = run.iter().map(|r| Block::of(*r)).reduce(|a, b| a.with(&b)) {
                    self.blocks.push(block);
                }
            }
            self.raw = Vec::new();
        }
        let (block, n) = match self.open {
            Some((block, n)) => (block.with(&Block::of(row)), n + 1),
            None => (Block::of(row), 1),
        };
        self.open = Some((block, n));
        if n < self.per_block {
            return;
        }
        self.blocks.push(block);
        self.open = None;
        if self.blocks.len() >= MAX_BLOCKS {
            // In place: a pair moves to half of its index, and an odd last block stays the last.
            let half = self.blocks.len().div_ceil(2);
            for i in 0..half {
                let first = self.blocks[2 * i];
                self.blocks[i] =
                    self.blocks.get(2 * i + 1).map_or(first, |later| first.with(later));
            }
            self.blocks.truncate(half);
            self.per_block *= 2;
        }
    }

    /// Whether a full forecast is worth its cost: the growth over the whole, the newest half, quarter … thirty-second would
    /// reach the threshold within four horizons, or 80 % of the way from the lowest value to the threshold is behind. O(1).
    /// `false` without a limit or with fewer than five rows.
    #[must_use]
    pub fn heads_for_threshold(&self, horizon_s: f64) -> bool {
        let Some(newest) = self.newest else { return false };
        let kept = if self.blocks.is_empty() { self.raw.len() } else { self.blocks.len() };
        if newest.limit == f64::INFINITY || kept + 1 < crate::prepare::MIN_POINTS {
            return false;
        }
        let left = newest.limit - newest.v;
        if left <= 0.0 || newest.v - self.lowest >= NEAR * (newest.limit - self.lowest) {
            return true;
        }
        // The newest level is the higher of the newest rows: noise must not hide growth.
        let now = self.at(kept - 1).v.max(newest.v);
        SHARES.iter().any(|share| {
            let then = self.at(kept - kept.div_ceil(*share));
            let time = (newest.ts_us as f64 - then.ts_us as f64) * 1e-6;
            time > 0.0 && (now - then.v) / time * horizon_s * HORIZONS >= left
        })
    }

    fn at(&self, i: usize) -> Row {
        if self.blocks.is_empty() { self.raw[i] } else { self.blocks[i].last }
    }

    /// As [`crate::time_to_threshold`] over all rows that were pushed. The direction is that of the state; rows later than
    /// `as_of_us` cannot be taken back: it is moved to the newest row.
    ///
    /// # Errors
    ///
    /// [`CannotSay`] where no forecast can be made.
    pub fn forecast(&self, options: &Options) -> Result<Forecast, CannotSay> {
        if !(options.horizon_s > 0.0 && options.horizon_s.is_finite()) {
            return Err(CannotSay::Horizon);
        }
        let as_of_us = self.newest.map_or(options.as_of_us, |r| options.as_of_us.max(r.ts_us));
        let options = Options { as_of_us, direction: self.direction, ..options.clone() };
        let mut answer = forecast::of_rows(&self.rows(as_of_us), &options)?;
        calibration::apply(&mut answer, options.prevalence);
        Ok(answer)
    }

    /// The kept rows, as the models see them.
    pub(crate) fn rows(&self, as_of_us: i64) -> Rows {
        let open = self.open.map(|o| o.0);
        let kept = self.raw.len() + 4 * (self.blocks.len() + 1) + 1;
        let mut rows = Rows {
            ts_us: Vec::with_capacity(kept),
            t: Vec::with_capacity(kept),
            v: Vec::with_capacity(kept),
            limit: Vec::with_capacity(kept),
            cadence: self.cadence(),
            dropped: self.dropped,
        };
        let reduced = self.blocks.iter().chain(&open).flat_map(Block::rows);
        for row in self.raw.iter().copied().chain(reduced).chain(self.newest) {
            rows.ts_us.push(row.ts_us);
            rows.t.push((i128::from(row.ts_us) - i128::from(as_of_us)) as f64 * 1e-6);
            rows.v.push(row.v);
            rows.limit.push(row.limit);
        }
        rows
    }

    fn cadence(&self) -> f64 {
        let seconds = |a: &Row, b: &Row| (i128::from(b.ts_us) - i128::from(a.ts_us)) as f64 * 1e-6;
        let mut gaps: Vec<f64> = if self.blocks.is_empty() {
            let last = self.raw.last().zip(self.newest.as_ref()).map(|(a, b)| seconds(a, b));
            self.raw.windows(2).map(|w| seconds(&w[0], &w[1])).chain(last).collect()
        } else {
            let per = (self.per_block - 1) as f64;
            self.blocks.iter().map(|b| seconds(&b.first, &b.last) / per).collect()
        };
        stats::median_mut(&mut gaps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::{Family, Run, run_of};
    use crate::{Series, time_to_threshold};
    use proptest::prelude::*;

    fn fed(run: &Run, upto: usize) -> SeriesState {
        let mut state = SeriesState::new(run.direction);
        for i in 0..upto {
            assert!(state.push(run.ts_us[i], run.value[i], run.threshold[i]));
        }
        state
    }

    #[test]
    fn fed_row_by_row_is_from_scratch() {
        for (family, number) in [
            (Family::SteadyLeak, 0),
            (Family::DiskFill, 1),
            (Family::Lives, 2),
            (Family::DailyLeak, 0),
            (Family::Collector, 3),
        ] {
            let run = run_of(family, number, 7);
            for share in [3, 6, 10] {
                let n = run.ts_us.len() * share / 10;
                let options = Options {
                    as_of_us: run.ts_us[n - 1],
                    horizon_s: run.horizon_s,
                    direction: run.direction,
                    paths: 200,
                    ..Options::default()
                };
                let scratch = time_to_threshold(
                    &Series {
                        ts_us: &run.ts_us[..n],
                        value: &run.value[..n],
                        threshold: &run.threshold[..n],
                    },
                    &options,
                );
                assert_eq!(fed(&run, n).forecast(&options), scratch, "{family:?} {share}");
            }
        }
    }

    #[test]
    fn the_screen_spares_quiet_series_and_few_others() {
        let (mut quiet, mut spared, mut likely, mut missed) = (0, 0, 0, Vec::new());
        for (family, number) in Family::ALL.iter().flat_map(|f| (0..3).map(move |i| (*f, i))) {
            let run = run_of(family, number, 3);
            for share in [4, 6, 8, 10] {
                let n = run.ts_us.len() * share / 10;
                let state = fed(&run, n);
                let options = Options {
                    as_of_us: run.ts_us[n - 1],
                    horizon_s: run.horizon_s,
                    paths: 200,
                    ..Options::default()
                };
                let Ok(f) = state.forecast(&options) else { continue };
                let heads = state.heads_for_threshold(run.horizon_s);
                if f.probability < 0.1 {
                    quiet += 1;
                    spared += usize::from(!heads);
                } else if f.probability >= 0.5 {
                    likely += 1;
                    missed
                        .extend((!heads).then(|| format!("{family:?} {share}: {}", f.probability)));
                }
            }
        }
        assert!(spared * 3 > quiet, "only {spared} of {quiet} quiet ones are spared");
        assert!(missed.len() * 50 <= likely, "of {likely} likely ones: {missed:?}");
    }

    #[test]
    fn a_long_series_stays_small_and_keeps_its_extremes() {
        let mut state = SeriesState::new(Direction::Up);
        for i in 0..300_000_i64 {
            let v = if i == 123_456 { 900.0 } else { 100.0 + (i % 7) as f64 };
            state.push(i * 1_000_000, v, 1000.0);
        }
        let rows = state.rows(300_000_000_000);
        assert!(rows.len() <= 4 * (MAX_BLOCKS + 1) + 1, "{}", rows.len());
        assert!(rows.ts_us.is_sorted_by(|a, b| a < b));
        assert!(rows.v.contains(&900.0));
        assert_eq!((rows.ts_us[0], *rows.ts_us.last().unwrap()), (0, 299_999_000_000));
        assert!((rows.cadence - 1.0).abs() < 1e-9, "{}", rows.cadence);
    }

    #[test]
    fn odd_rows() {
        let mut state = SeriesState::new(Direction::Down);
        assert!(state.push(5, 1.0, 0.0));
        assert!(state.push(5, 2.0, 0.0), "the later of two rows at one time counts");
        assert!(!state.push(4, 9.0, 0.0));
        assert!(state.push(6, f64::NAN, 0.0));
        assert!(state.push(7, 1.0, f64::INFINITY));
        let rows = state.rows(7);
        assert_eq!((rows.v, rows.dropped, state.late()), (vec![-2.0, -1.0], 1, 1));
        assert_eq!(rows.limit, [0.0, f64::INFINITY]);
        assert!(!state.heads_for_threshold(60.0));
    }

    proptest! {
        #[test]
        fn any_rows(rows in proptest::collection::vec((any::<i64>(), any::<f64>(), any::<f64>()), 0..60), horizon: f64) {
            let mut state = SeriesState::new(Direction::Up);
            for (t, v, l) in rows {
                state.push(t, v, l);
            }
            let _ = state.heads_for_threshold(horizon);
            let _ = state.forecast(&Options { horizon_s: horizon, paths: 16, ..Options::default() });
        }
    }
}
