//! ETA and intervals where a share of the life is left.

use super::{Answers, LEVELS};
use crate::stats;

/// Where an open interval ends for its score, in true remaining times.
const OPEN: f64 = 100.0;
/// Shortest time a logarithm is taken of, as a share of the true remaining time.
const SHORT: f64 = 0.01;

/// Coverage and sharpness of one level.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LevelScore {
    /// Nominal level.
    pub level: f64,
    /// Share of the runs whose interval held the event ("cannot say" did not).
    pub coverage: f64,
    /// Mean interval score of the logarithm of the remaining time (Winkler 1972; Gneiting & Raftery 2007): its width plus
    /// 2/α times what it missed by. Less is better; an open end counts as a hundred times the truth.
    pub interval_score: f64,
}

/// ETA and intervals with one share of the life left.
#[derive(Debug, Clone, PartialEq)]
pub struct EtaScore {
    /// Share of the life left.
    pub left: f64,
    /// Runs scored.
    pub runs: usize,
    /// Share of them without an ETA; `None` without runs.
    pub missed: Option<f64>,
    /// Median of |ETA − truth| / truth; a missing ETA counts as infinitely wrong. `None`: more than half are missing, or no
    /// runs.
    pub median_error: Option<f64>,
    /// Share of runs whose ETA came too late (later than the event), of those with an ETA; `None` without such.
    pub late: Option<f64>,
    /// Intervals; empty for a method that has none.
    pub levels: Vec<LevelScore>,
}

/// `answers`: what was said, and the true remaining time, s.
pub(crate) fn score(left: f64, answers: &[(Answers, f64)]) -> EtaScore {
    let n = answers.len();
    let share = |k: usize, of: usize| (of > 0).then(|| k as f64 / of as f64);
    let mut errors: Vec<f64> = answers
        .iter()
        .map(|(a, truth)| a.eta_s.map_or(f64::INFINITY, |eta| (eta - truth).abs() / truth))
        .collect();
    let said = answers.iter().filter(|(a, _)| a.eta_s.is_some()).count();
    let late = answers.iter().filter(|(a, t)| a.eta_s.is_some_and(|eta| eta > *t)).count();
    let median = stats::median_mut(&mut errors);
    let has_intervals = answers.iter().any(|(a, _)| a.intervals.is_some());
    let levels = LEVELS.iter().enumerate().filter(|_| has_intervals).map(|(i, &level)| {
        let held = answers.iter().filter(|(a, truth)| {
            a.intervals.is_some_and(|all| {
                all[i].low_s <= *truth && all[i].high_s.is_none_or(|high| *truth <= high)
            })
        });
        let losses: Vec<f64> = answers
            .iter()
            .map(|(a, truth)| {
                let (low, high) = a.intervals.map_or((SHORT * truth, OPEN * truth), |all| {
                    (all[i].low_s, all[i].high_s.unwrap_or(OPEN * truth))
                });
                let log = |x: f64| (x / truth).clamp(SHORT, OPEN).ln();
                let (low, high) = (log(low), log(high));
                // The truth is at 0.
                high - low + 2.0 / (1.0 - level) * (low.max(0.0) + (-high).max(0.0))
            })
            .collect();
        LevelScore {
            level,
            coverage: held.count() as f64 / n as f64,
            interval_score: losses.iter().sum::<f64>() / n as f64,
        }
    });
    EtaScore {
        left,
        runs: n,
        missed: share(n - said, n),
        median_error: (n > 0 && median.is_finite()).then_some(median),
        late: share(late, said),
        levels: levels.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Interval;

    fn said(eta_s: Option<f64>, low_s: f64, high_s: Option<f64>) -> Answers {
        let interval = Interval { low_s, high_s };
        Answers { eta_s, intervals: eta_s.map(|_| [interval; 3]), ..Answers::default() }
    }

    #[test]
    fn errors_coverage_and_interval_score() {
        let all = [
            (said(Some(90.0), 50.0, Some(200.0)), 100.0),
            (said(Some(120.0), 110.0, Some(200.0)), 100.0),
            (said(Some(130.0), 50.0, None), 100.0),
            (Answers::default(), 100.0),
        ];
        let s = score(0.5, &all);
        assert_eq!((s.runs, s.missed), (4, Some(0.25)));
        assert!((s.median_error.unwrap() - 0.25).abs() < 1e-12);
        assert!((s.late.unwrap() - 2.0 / 3.0).abs() < 1e-12);
        let level = s.levels[1];
        assert_eq!(level.coverage, 0.5);
        let ln = f64::ln;
        let expected =
            (ln(4.0) + (ln(200.0 / 110.0) + 10.0 * ln(1.1)) + ln(200.0) + ln(100.0 / 0.01)) / 4.0;
        assert!((level.interval_score - expected).abs() < 1e-9, "{level:?} {expected}");
        let missing = [(Answers::default(), 1.0), (Answers::default(), 1.0)];
        assert_eq!(score(0.5, &missing).median_error, None);
        let nothing = score(0.5, &[]);
        assert_eq!((nothing.median_error, nothing.missed, nothing.late), (None, None, None));
    }
}
