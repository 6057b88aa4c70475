//! What a large batch holds from a time on.
//!
//! The times that count begin within the oldest batch that counts, at each question one tick later. Its rows need not be
//! read each time: what they come to from each of its times on is made once, from the newest backwards.

use std::sync::Arc;

use super::kept::State;

/// States of one batch; between their times rows are read.
const STARTS: usize = 16;

#[derive(Debug)]
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

/// Where suffixes begin in rows with these times, rising, each with the newest time before it.
pub(super) fn starts(mut times: Vec<i64>) -> Vec<(i64, i64)> {
    times.sort_unstable();
    times.dedup();
    let later = times.len().saturating_sub(1);
    let n = later.min(STARTS);
    let place = |i: usize| if later <= STARTS { i } else { i * times.len() / (STARTS + 1) };
    (1..=n).map(place).map(|i| (times[i], times[i - 1])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_begin_at_each_later_time_or_evenly() {
        assert_eq!(starts(vec![]), []);
        assert_eq!(starts(vec![7, 7]), []);
        assert_eq!(starts(vec![5, 9, 7, 5]), [(7, 5), (9, 7)]);
        let many = starts((0..170).rev().collect());
        assert_eq!(many.len(), STARTS);
        assert_eq!((many[0], many[15]), ((10, 9), (160, 159)));
        assert_eq!(starts((0..17).collect()).len(), 16);
        assert_eq!(starts((0..18).collect()).len(), 16);
    }
}
