//! Will the growth go on?
//!
//! Of growth that has lasted for an age a nothing else is known about its total length. The scale-free prior for a
//! duration (density ∝ 1/T, seen at a random moment: Gott 1993, Nature 363; Jeffreys 1939) gives
//! P(lasts another τ) = a / (a + τ), the survival of a Pareto law with exponent 1. Earlier growth of the same series
//! that ended by itself counts as equal evidence: n observed lengths beside one prior guess (a product-limit estimate
//! with a prior of weight one: Ferguson & Phadia 1979).

/// How long the present growth has lasted, and what earlier growth did.
#[derive(Debug, Clone, Default)]
pub(crate) struct Going {
    pub(crate) age: f64,
    /// Lengths of earlier growth that ended without a hit.
    pub(crate) released: Vec<f64>,
    /// Number of earlier lives that ended at the threshold.
    pub(crate) hits: usize,
}

impl Going {
    /// P(the growth, `age` old, goes on for another `more`).
    pub(crate) fn survives(&self, age: f64, more: f64) -> f64 {
        let age = age.min(self.age);
        if age <= 0.0 || age.is_nan() {
            return if more > 0.0 { 0.0 } else { 1.0 };
        }
        self.share(age, more, age / (age + more))
    }

    /// The same if nothing but earlier growth could end it: one without such a history goes on for ever.
    pub(crate) fn repeats(&self, age: f64, more: f64) -> f64 {
        self.share(age.min(self.age), more, 1.0)
    }

    /// Share of earlier growth that went on, with a prior guess of weight one. A life that hit did go on.
    fn share(&self, age: f64, more: f64, prior: f64) -> f64 {
        let longer_than =
            |length: f64| self.released.iter().filter(|d| **d > length).count() as f64;
        let hits = self.hits as f64;
        (prior + hits + longer_than(age + more)) / (1.0 + hits + longer_than(age))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_after_its_own_age() {
        let going = Going { age: 60.0, released: vec![], hits: 0 };
        assert_eq!(going.survives(60.0, 60.0), 0.5);
        assert_eq!(going.survives(90.0, 60.0), 0.5);
        assert_eq!(going.survives(30.0, 30.0), 0.5);
        assert_eq!(going.survives(0.0, 1.0), 0.0);
    }

    #[test]
    fn lives_that_hit_speak_for_a_hit() {
        let going = |hits| Going { age: 8.0, released: vec![10.0], hits };
        assert!(going(3).survives(8.0, 8.0) > 2.0 * going(0).survives(8.0, 8.0));
        assert_eq!(going(0).repeats(8.0, 8.0), 0.5);
        assert_eq!(going(2).repeats(8.0, 8.0), 0.75);
        assert_eq!(Going::default().repeats(1.0, 1e9), 1.0);
    }

    #[test]
    fn what_was_released_before_is_expected_again() {
        let going = Going { age: 8.0, released: vec![10.0, 10.0], hits: 0 };
        // 8 / (8 + 3) alone would be 0.73; both earlier ones ended before 11.
        assert!((going.survives(8.0, 3.0) - 8.0 / 11.0 / 3.0).abs() < 1e-12);
        // Once it lasts longer than they did, they say nothing any more.
        let going = Going { age: 12.0, released: vec![10.0, 10.0], hits: 0 };
        assert_eq!(going.survives(12.0, 12.0), 0.5);
    }
}
