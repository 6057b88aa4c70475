//! Growth that becomes faster: y = a + b·exp(k·t) where it feeds itself (Malthus 1798: retry storms, work whose size
//! grows with what is already held), y = a + b·t^p where a rising load leaks (a ramp of requests gives p = 2); from the
//! start of what is seen or from a time within it.
//!
//! The grid is fine: a course between two shapes that lie far apart is forecast well by neither.

use super::curve::{Bases, Shape};
use crate::prepare::Points;

/// Powers from the start of what is seen, in quarters.
const POWERS: [u8; 10] = [5, 6, 7, 8, 9, 10, 11, 12, 14, 16];
/// Growth by e in so many parts of the window.
const RATES: [f64; 11] = [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 9.0];
/// Powers from a time within the window on, in quarters; the first is a line.
const LATE_POWERS: [u8; 7] = [4, 5, 6, 7, 8, 10, 12];
/// Growth by e in so many parts of what is left of the window from there on.
const LATE_RATES: [f64; 4] = [1.0, 2.0, 3.0, 4.5];
/// That time, in twentieths of the window.
const SINCE: std::ops::Range<u8> = 1..15;

pub(crate) fn bases(points: &Points) -> Bases {
    // Before anything is seen, each of the four kinds is as likely as the others.
    let of = |shapes: usize| 1.0 / shapes as f64;
    let powers = POWERS.map(|q| (Shape::power(0.0, q), of(POWERS.len())));
    let rates = RATES.map(|r| (Shape::Exp(r), of(RATES.len())));
    let late = SINCE.flat_map(|twentieth| {
        let since = 0.05 * f64::from(twentieth);
        let powers =
            LATE_POWERS.map(|q| (Shape::power(since, q), of(LATE_POWERS.len() * SINCE.len())));
        let rate = |r: f64| Shape::Late { since, rate: r / (1.0 - since) };
        powers.into_iter().chain(LATE_RATES.map(|r| (rate(r), of(LATE_RATES.len() * SINCE.len()))))
    });
    Bases::new(points, powers.into_iter().chain(rates).chain(late))
}
