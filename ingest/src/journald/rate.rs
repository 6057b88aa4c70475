//! How many lines a unit may have stored: token buckets per unit, by the journal's own time.
//!
//! By the journal's time, not by the time of reading: a backlog that is read at once keeps what it would have kept
//! when it was written, and what is read again is judged alike (T6).

use std::collections::HashMap;

/// Units that have buckets of their own; the others share one.
const UNITS: usize = 1024;
/// Units whose losses are named one by one.
const NAMED: usize = 64;

/// Lines of one unit that are stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimit {
    /// Lines per second in the long run, for each of two classes: debug and info lines; and warnings, worse, and
    /// whatever has a kind of its own.
    pub per_second: u32,
    /// Lines at once, for each of the two.
    pub burst: u32,
}

impl Default for RateLimit {
    /// Above what journald itself lets through of a service on average (10,000 in 30 s, journald.conf(5)) at once, and
    /// below it in the long run: stored lines are rows that every later query passes over.
    fn default() -> Self {
        Self { per_second: 200, burst: 5_000 }
    }
}

#[derive(Debug, Clone, Copy)]
struct Buckets {
    at_us: i64,
    low: f64,
    high: f64,
}

/// The buckets of all units, and what they refused.
#[derive(Debug)]
pub(crate) struct Limiter {
    limit: RateLimit,
    units: HashMap<String, Buckets>,
    others: Option<Buckets>,
    refused: HashMap<String, u64>,
    refused_others: u64,
}

impl Limiter {
    pub(crate) fn new(limit: RateLimit) -> Self {
        Self {
            limit,
            units: HashMap::new(),
            others: None,
            refused: HashMap::new(),
            refused_others: 0,
        }
    }

    /// Whether a line of `unit` at `now_us` is stored. `high`: warnings, worse and typed kinds; they may also use what
    /// is there for debug and info lines, so whenever such a line is refused, a debug or info line would be too.
    pub(crate) fn admit(&mut self, unit: &str, high: bool, now_us: i64) -> bool {
        let limit = self.limit;
        let full =
            Buckets { at_us: now_us, low: f64::from(limit.burst), high: f64::from(limit.burst) };
        if !self.units.contains_key(unit) {
            if self.units.len() >= UNITS {
                // A full bucket is as good as a new one.
                self.units.retain(|_, b| !b.refill(limit, now_us));
            }
            if self.units.len() < UNITS {
                self.units.insert(unit.to_owned(), full);
            }
        }
        let buckets = match self.units.get_mut(unit) {
            Some(own) => own,
            None => self.others.get_or_insert(full),
        };
        buckets.refill(limit, now_us);
        let bucket = match high && buckets.high >= 1.0 {
            true => &mut buckets.high,
            false => &mut buckets.low,
        };
        if *bucket >= 1.0 {
            *bucket -= 1.0;
            return true;
        }
        if let Some(n) = self.refused.get_mut(unit) {
            *n += 1;
        } else if self.refused.len() < NAMED {
            self.refused.insert(unit.to_owned(), 1);
        } else {
            self.refused_others += 1;
        }
        false
    }

    /// What was refused since the start, as "UNIT N", most first, at most eight units by name.
    pub(crate) fn refused(&self) -> String {
        let mut units: Vec<(&str, u64)> =
            self.refused.iter().map(|(u, n)| (u.as_str(), *n)).collect();
        units.sort_unstable_by_key(|(u, n)| (std::cmp::Reverse(*n), *u));
        let rest: u64 = units.iter().skip(8).map(|(_, n)| n).sum::<u64>() + self.refused_others;
        let mut text: Vec<String> = units.iter().take(8).map(|(u, n)| format!("{u} {n}")).collect();
        if rest > 0 {
            text.push(format!("others {rest}"));
        }
        text.join(", ")
    }
}

impl Buckets {
    /// Fills up for the time that passed; answers whether both are full. Time that goes back starts anew from there.
    fn refill(&mut self, limit: RateLimit, now_us: i64) -> bool {
        let burst = f64::from(limit.burst);
        let passed = now_us.saturating_sub(self.at_us).max(0) as f64 / 1e6;
        self.at_us = now_us;
        for bucket in [&mut self.low, &mut self.high] {
            *bucket = (*bucket + passed * f64::from(limit.per_second)).min(burst);
        }
        self.low.min(self.high) >= burst
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_flood_of_one_unit_is_cut_and_named() {
        let mut l = Limiter::new(RateLimit { per_second: 10, burst: 100 });
        let stored = (0..1000).filter(|_| l.admit("loud.service", false, 0)).count();
        assert_eq!(stored, 100);
        assert!(l.admit("loud.service", true, 0), "a warning still fits");
        assert!(l.admit("quiet.service", false, 0), "another unit is not concerned");
        assert_eq!((0..100).filter(|_| l.admit("loud.service", false, 1_000_000)).count(), 10);
        assert_eq!(l.refused(), "loud.service 990");
        // The clock was set back by an hour: it goes on from there.
        assert!(!l.admit("loud.service", false, -3_600_000_000));
        assert!(l.admit("loud.service", false, -3_599_000_000));
    }

    #[test]
    fn names_are_bounded() {
        let mut l = Limiter::new(RateLimit { per_second: 1, burst: 1 });
        for i in 0..5_000 {
            for _ in 0..2 {
                l.admit(&format!("u{i}"), false, 0);
            }
        }
        assert!(l.units.len() <= UNITS && l.refused.len() <= NAMED);
        assert_eq!(l.refused().matches(',').count(), 8);
        let sum: u64 = l
            .refused()
            .split(", ")
            .map(|p| p.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
            .sum();
        // The first 1,024 have a line each, the others one line together.
        assert_eq!(sum, 10_000 - 1_025);
        // Later all buckets are full again, and new units get their own.
        assert!(l.admit("new", false, 2_000_000) && l.units.contains_key("new"));
    }

    proptest! {
        /// Whenever a warning is refused, an info line of that unit at that moment would be too.
        #[test]
        fn no_warning_before_an_info_line(
            lines in proptest::collection::vec((any::<bool>(), 0i64..300_000), 1..300),
        ) {
            let mut l = Limiter::new(RateLimit { per_second: 5, burst: 10 });
            let mut now = 0;
            for (high, step) in lines {
                now += step;
                if !l.admit("u", high, now) && high {
                    prop_assert!(!l.admit("u", false, now));
                }
            }
        }
    }
}
