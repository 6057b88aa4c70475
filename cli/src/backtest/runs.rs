//! Recorded rows as runs: what led to each event, and what came after the last.

use tapio_models::{Direction, Life, generator::Run};

use super::steps::Course;

/// Values on each side that a minimum is smoothed over.
const SMOOTH: usize = 2;
/// Fewer values are no run.
const SHORTEST: usize = 2;

/// Rows of one subject, rising in time.
#[derive(Debug, Clone, Default)]
pub(super) struct Rows {
    /// Times, µs.
    pub ts_us: Vec<i64>,
    pub value: Vec<f64>,
    /// The threshold at each row, unit of the value.
    pub threshold: Vec<f64>,
    pub direction: Direction,
    pub horizon_s: f64,
    /// Runs of one workload count once in false alarms.
    pub workload: u64,
}

impl Rows {
    /// The rows, as a forecaster is asked about them.
    pub(super) fn course(&self) -> Course<'_> {
        Course {
            ts_us: &self.ts_us,
            value: &self.value,
            threshold: &self.threshold,
            direction: self.direction,
            horizon_s: self.horizon_s,
            seed: self.workload.cast_signed(),
        }
    }

    fn is_met(&self, i: usize) -> bool {
        match self.direction {
            Direction::Up => self.value[i] >= self.threshold[i],
            Direction::Down => self.value[i] <= self.threshold[i],
        }
    }

    /// Median distance of neighbours, µs.
    pub(super) fn cadence_us(&self) -> i64 {
        let mut steps: Vec<i64> = self.ts_us.windows(2).map(|w| w[1] - w[0]).collect();
        steps.sort_unstable();
        steps.get(steps.len() / 2).copied().unwrap_or(1_000_000)
    }

    /// When the value met its threshold, coming from the safe side, µs.
    pub(super) fn crossings(&self) -> Vec<i64> {
        let mut at = Vec::new();
        let mut was_met = true;
        for i in 0..self.ts_us.len() {
            let is_met = self.is_met(i);
            if is_met && !was_met {
                at.push(self.ts_us[i]);
            }
            was_met = is_met;
        }
        at
    }

    /// One run up to each event (µs, rising), and a censored one for what came after the last.
    pub(super) fn runs(&self, events: &[i64]) -> Vec<Run> {
        let n = self.ts_us.len();
        let mut runs = Vec::new();
        let mut earlier: Vec<Life> = Vec::new();
        let mut start = 0;
        for event in events.iter().copied().map(Some).chain([None]) {
            // A life begins when the value is on the safe side again.
            while start < n && self.is_met(start) {
                start += 1;
            }
            let end = event.map_or(n, |e| self.ts_us.partition_point(|t| *t < e));
            if end < start + SHORTEST {
                continue;
            }
            let onset = match event {
                Some(_) => start + turning_point(&self.value[start..end], self.direction),
                None => start,
            };
            let end_us = event.unwrap_or(self.ts_us[end - 1]);
            runs.push(Run {
                family: None,
                number: runs.len() as u64,
                is_foreseeable: true,
                workload: self.workload,
                ts_us: self.ts_us[..end].to_vec(),
                value: self.value[..end].to_vec(),
                threshold: self.threshold[..end].to_vec(),
                direction: self.direction,
                capacity: self.capacity(start, end),
                horizon_s: self.horizon_s,
                cadence_s: self.cadence_us() as f64 / 1e6,
                onset_us: self.ts_us[onset],
                event_us: event,
                end_us,
                earlier: earlier.clone(),
            });
            let life_s = (end_us - self.ts_us[onset]) as f64 / 1e6;
            let rise = self.value[end - 1] - self.value[onset];
            let slope_per_s = if life_s > 0.0 { (rise / life_s).abs() } else { 0.0 };
            earlier.push(Life { life_s, slope_per_s, hit: true });
            start = end;
        }
        runs
    }

    /// The limit, or for what falls the most there was.
    fn capacity(&self, start: usize, end: usize) -> f64 {
        match self.direction {
            Direction::Up => self.threshold[start].abs(),
            Direction::Down => self.value[..end].iter().fold(0.0, |m: f64, v| m.max(v.abs())),
        }
    }
}

/// Where the course to the threshold began, seen afterwards: the last place at which the smoothed value was farthest
/// from the threshold.
fn turning_point(value: &[f64], direction: Direction) -> usize {
    let sign = if direction == Direction::Up { 1.0 } else { -1.0 };
    let smoothed = |i: usize| {
        let (from, to) = (i.saturating_sub(SMOOTH), (i + SMOOTH + 1).min(value.len()));
        let mut near: Vec<f64> = value[from..to].iter().map(|v| sign * v).collect();
        near.sort_by(f64::total_cmp);
        near[near.len() / 2]
    };
    let farthest = |best: (usize, f64), i| {
        let v = smoothed(i);
        if v <= best.1 { (i, v) } else { best }
    };
    (0..value.len()).fold((0, f64::INFINITY), farthest).0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(value: Vec<f64>, threshold: f64, direction: Direction) -> Rows {
        let n = value.len();
        Rows {
            ts_us: (0..n as i64).map(|i| i * 10_000_000).collect(),
            value,
            threshold: vec![threshold; n],
            direction,
            horizon_s: 900.0,
            workload: 0,
        }
    }

    #[test]
    fn each_crossing_ends_a_run_and_the_rest_is_censored() {
        let mut value: Vec<f64> = vec![5.0, 3.0, 1.0, 1.0, 4.0, 7.0, 9.0, 10.0, 12.0];
        value.extend([2.0, 2.0, 2.0, 5.0, 11.0, 1.0, 1.0, 1.0]);
        let up = rows(value.clone(), 10.0, Direction::Up);
        let up = up.runs(&up.crossings());
        let at = |i: i64| Some(i * 10_000_000);
        assert_eq!(up.iter().map(|r| r.event_us).collect::<Vec<_>>(), [at(7), at(13), None]);
        assert_eq!(up.iter().map(|r| r.ts_us.len()).collect::<Vec<_>>(), [7, 13, 17]);
        assert_eq!(up.iter().map(|r| r.earlier.len()).collect::<Vec<_>>(), [0, 1, 2]);
        assert!((20_000_000..=30_000_000).contains(&up[0].onset_us), "{}", up[0].onset_us);
        let down = rows(value.iter().map(|v| -v).collect(), -10.0, Direction::Down);
        assert_eq!(
            down.runs(&down.crossings())
                .iter()
                .map(|r| (r.onset_us, r.event_us))
                .collect::<Vec<_>>(),
            up.iter().map(|r| (r.onset_us, r.event_us)).collect::<Vec<_>>()
        );
    }

    #[test]
    fn what_is_beyond_its_threshold_has_no_run() {
        let beyond = rows(vec![11.0; 5], 10.0, Direction::Up);
        assert!(beyond.runs(&beyond.crossings()).is_empty());
    }

    #[test]
    fn a_kill_may_come_below_the_limit() {
        let killed = rows((0..50).map(f64::from).collect(), 60.0, Direction::Up);
        let runs = killed.runs(&[305_000_000]);
        assert_eq!(runs.iter().map(|r| r.event_us).collect::<Vec<_>>(), [Some(305_000_000), None]);
        assert_eq!((runs[0].ts_us.len(), runs[1].onset_us), (31, 310_000_000));
    }
}
