//! Approach to a plateau, y = a − b·exp(−k·t): the first-order response (Newton's law of cooling; Mitscherlich 1909).
//!
//! What a cache, a pool or a heap does while it warms up. Its plateau may lie above the threshold (then it hits) or
//! below (then it never does): a warm-up is not a leak. Powers of time below one describe a warm-up as well at first, but
//! have no plateau: with them among the shapes a recorded one raised an alarm.

use super::curve::{Bases, Shape};
use crate::prepare::Points;

/// From almost straight to a plateau reached after a tenth of the window.
const RATES: [f64; 13] = [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.5, 9.0, 14.0];

pub(crate) fn bases(points: &Points) -> Bases {
    Bases::new(points, RATES.map(|r| (Shape::Exp(-r), 1.0)))
}
