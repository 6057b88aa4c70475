//! What a large batch holds from a time on.
//!
//! The times that count begin within the oldest batch that counts, at each question one tick later. Its rows need not be
//! read each time: what they come to from each of its times on is made once, from the newest backwards.

use std::sync::Arc;

use super::kept::State;

/// States of one batch; between their times rows are read.
const STARTS: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Suffixes {
    /// Rising in time.
    parts: Vec<Suffix>,
}

/// All rows of a batch from a time on.
#[derive(Debug)]
pub(super) struct Suffix {
    /// The time, µs.
    pub(super) start: i64,
    /// The newest time before it.
    pub(super) before: i64,
    pub(super) state: Arc<State>,
}

impl Suffixes {
    /// Of parts that rise in time.
    pub(super) fn new(parts: Vec<Suffix>) -> Self {
        Self { parts }
    }

    /// The largest suffix that holds nothing before `first`.
    pub(super) fn from(&self, first: i64) -> Option<&Suffix> {
        self.parts.get(self.parts.partition_point(|p| p.start < first))
    }

    pub(super) fn bytes(&self) -> usize {
        self.parts.iter().map(|p| p.state.bytes()).sum()
    }
}

/// Where suffixes begin in rows with these times, rising, each with the newest time before it. Times before `first` are
/// left out: the next question asks about later ones.
pub(super) fn starts(times: impl Iterator<Item = i64>, first: i64) -> Vec<(i64, i64)> {
    let mut times: Vec<i64> = times.filter(|t| *t >= first).collect();
    times.sort_unstable();
    times.dedup();
    let n = times.len().min(STARTS);
    let place = |i: usize| i * times.len() / n;
    let before = |i: usize| if i == 0 { first.saturating_sub(1) } else { times[i - 1] };
    (0..n).map(place).map(|i| (times[i], before(i))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_begin_at_each_time_that_counts_or_evenly() {
        let of = |times: &[i64], first| starts(times.iter().copied(), first);
        assert_eq!(of(&[], 0), []);
        assert_eq!(of(&[7, 7], 8), []);
        assert_eq!(of(&[5, 9, 7, 5], 6), [(7, 5), (9, 7)]);
        let many = starts((0..170).rev(), 10);
        assert_eq!(many.len(), STARTS);
        assert_eq!((many[0], many[1], many[15]), ((10, 9), (20, 19), (160, 159)));
    }
}
