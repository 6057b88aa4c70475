//! Growth that becomes faster: y = a + b·exp(k·t) where it feeds itself (Malthus 1798: retry storms, work whose size
//! grows with what is already held), y = a + b·t^p where a rising load leaks (a ramp of requests gives p = 2); from the
//! start of what is seen or from a time within it.

use super::curve::{Bases, FORECAST_GROWTHS};
use crate::prepare::Points;

pub(crate) fn bases(points: &Points) -> Bases {
    Bases::new(points, &FORECAST_GROWTHS)
}
