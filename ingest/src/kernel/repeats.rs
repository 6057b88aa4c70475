//! Telling what repeats: the first at once, then at most once a minute with how often it happened.

use std::{collections::HashMap, hash::Hash};

/// µs in which the same is told once.
const QUIET_US: i64 = 60_000_000;
/// Things that are told apart.
const PLACES: usize = 4096;

/// What happened when.
#[derive(Debug)]
pub(super) struct Repeats<K> {
    told: HashMap<K, (i64, u64)>,
    dropped: i64,
}

impl<K> Default for Repeats<K> {
    fn default() -> Self {
        Self { told: HashMap::new(), dropped: 0 }
    }
}

impl<K: Hash + Eq> Repeats<K> {
    /// `Some(n)`: to be told now, for it happened `n` times since it was told last.
    pub(super) fn seen(&mut self, key: K, ts: i64) -> Option<u64> {
        if let Some((told, since)) = self.told.get_mut(&key) {
            *since += 1;
            if ts - *told < QUIET_US {
                return None;
            }
            *told = ts;
            return Some(std::mem::take(since));
        }
        if self.told.len() >= PLACES {
            self.told.retain(|_, (told, _)| ts - *told < QUIET_US);
        }
        if self.told.len() >= PLACES {
            self.dropped += 1;
            return None;
        }
        self.told.insert(key, (ts, 0));
        Some(1)
    }

    /// How many were not told because too many different things happened at once, since the last call.
    pub(super) fn dropped(&mut self) -> i64 {
        std::mem::take(&mut self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_and_the_rest_once_a_minute() {
        let mut r = Repeats::default();
        let second = 1_000_000;
        assert_eq!(r.seen("a", 0), Some(1));
        assert_eq!(r.seen("b", 0), Some(1));
        assert!((1..60).all(|s| r.seen("a", s * second).is_none()));
        assert_eq!(r.seen("a", 60 * second), Some(60));
        assert_eq!(r.seen("a", 119 * second), None);
        assert_eq!(r.seen("a", 500 * second), Some(2));
    }

    #[test]
    fn too_many_different_things_are_counted() {
        let mut r = Repeats::default();
        let told = (0..5000).filter(|k| r.seen(*k, 0).is_some()).count();
        assert_eq!((told, r.dropped()), (PLACES, 5000 - PLACES as i64));
        assert_eq!(r.dropped(), 0);
        assert_eq!(r.seen(4999, QUIET_US), Some(1));
        assert_eq!(r.told.len(), 1, "what is quiet again makes room");
    }
}
