//! Approach to a plateau, y = a − b·exp(−k·t): the first-order response (Newton's law of cooling; Mitscherlich 1909).
//!
//! What a cache, a pool or a heap does while it warms up. Its plateau may lie above the threshold (then it hits) or
//! below (then it never does): a warm-up is not a leak.

use super::curve::{Bases, PLATEAUS, Shape};
use crate::prepare::Points;

/// Powers below one, in eighths.
const POWERS: [u8; 4] = [4, 5, 6, 7];
pub(crate) fn bases(points: &Points) -> Bases {
    // Before anything is seen, either kind is as likely as the other.
    let of = |shapes: usize| 1.0 / shapes as f64;
    let plateaus = PLATEAUS.map(|s| (s, of(PLATEAUS.len())));
    let powers = POWERS.map(|q| (Shape::power(0.0, q), of(POWERS.len())));
    Bases::new(points, plateaus.into_iter().chain(powers))
}
