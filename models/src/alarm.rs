//! From probabilities to episodes.

/// A probability from which on an evaluation speaks for an alarm.
pub const ALARM_RAISE_THRESHOLD: f64 = 0.5;
/// A probability below which an evaluation speaks for the end of an episode.
pub const ALARM_CLEAR_THRESHOLD: f64 = 0.3;
/// How many evaluations in a row have to say so, for the start and for the end.
pub const ALARM_EVALUATIONS_THRESHOLD: u32 = 3;

/// What an evaluation changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlarmChange {
    /// Nothing.
    None,
    /// An episode starts with this evaluation.
    Raised,
    /// The episode ends with this evaluation.
    Cleared,
}

/// State of the alarm of one subject: raised after [`ALARM_EVALUATIONS_THRESHOLD`] evaluations in a row with a
/// probability of at least [`ALARM_RAISE_THRESHOLD`], cleared after as many in a row below [`ALARM_CLEAR_THRESHOLD`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Alarm {
    last_us: Option<i64>,
    active_since_us: Option<i64>,
    streak: u32,
}

impl Alarm {
    /// No episode yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One evaluation at `at_us`. `None` (cannot say) and NaN break a run of evaluations but change nothing else: an
    /// episode does not end because the data stopped. An evaluation that is not later than the last one is ignored.
    pub fn push(&mut self, at_us: i64, probability: Option<f64>) -> AlarmChange {
        if self.last_us.is_some_and(|last| at_us <= last) {
            return AlarmChange::None;
        }
        self.last_us = Some(at_us);
        let speaks = match (self.active_since_us, probability) {
            (None, Some(p)) => p >= ALARM_RAISE_THRESHOLD,
            (Some(_), Some(p)) => p < ALARM_CLEAR_THRESHOLD,
            (_, None) => false,
        };
        self.streak = if speaks { self.streak + 1 } else { 0 };
        if self.streak < ALARM_EVALUATIONS_THRESHOLD {
            return AlarmChange::None;
        }
        self.streak = 0;
        if self.active_since_us.take().is_some() {
            AlarmChange::Cleared
        } else {
            self.active_since_us = Some(at_us);
            AlarmChange::Raised
        }
    }

    /// Whether an episode is running.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.active_since_us.is_some()
    }

    /// When the running episode was raised, µs.
    #[must_use]
    pub fn active_since_us(&self) -> Option<i64> {
        self.active_since_us
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(probabilities: &[Option<f64>]) -> Vec<(usize, AlarmChange)> {
        let mut alarm = Alarm::new();
        probabilities
            .iter()
            .enumerate()
            .map(|(i, p)| (i, alarm.push(i as i64, *p)))
            .filter(|(_, c)| *c != AlarmChange::None)
            .collect()
    }

    #[test]
    fn raised_by_the_third_and_cleared_by_the_third() {
        let p = [0.5, 0.6, 0.9, 0.29, 0.31, 0.29, 0.0, 0.1, 0.1].map(Some);
        assert_eq!(run(&p), [(2, AlarmChange::Raised), (7, AlarmChange::Cleared)]);
    }

    #[test]
    fn cannot_say_breaks_a_run() {
        let p = [Some(0.9), Some(0.9), None, Some(0.9), Some(f64::NAN), Some(0.9), Some(0.9)];
        assert_eq!(run(&p), []);
    }

    #[test]
    fn an_evaluation_counts_once() {
        let mut alarm = Alarm::new();
        for _ in 0..5 {
            assert_eq!(alarm.push(1, Some(1.0)), AlarmChange::None);
        }
        alarm.push(2, Some(1.0));
        assert_eq!(alarm.push(3, Some(1.0)), AlarmChange::Raised);
        assert_eq!(alarm.active_since_us(), Some(3));
    }
}
