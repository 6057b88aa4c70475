//! Growth that becomes faster: y = a + b·exp(k·t) where it feeds itself (Malthus 1798: retry storms, work whose size
//! grows with what is already held), y = a + b·t^p where a rising load leaks (a ramp of requests gives p = 2).

use super::curve::{Bases, GROWTHS};
use crate::prepare::Points;

pub(crate) fn bases(points: &Points) -> Bases {
    Bases::new(points, &GROWTHS)
}
