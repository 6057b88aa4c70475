//! Approach to a plateau, y = a − b·exp(−k·t): the first-order response (Newton's law of cooling; Mitscherlich 1909).
//!
//! What a cache, a pool or a heap does while it warms up. Its plateau may lie above the threshold (then it hits) or
//! below (then it never does): a warm-up is not a leak.

use super::curve::{Bases, PLATEAUS};
use crate::prepare::Points;

pub(crate) fn bases(points: &Points) -> Bases {
    Bases::new(points, &PLATEAUS)
}
