//! What a probability is derived from: numbers that depend neither on the unit nor on the origin of value and time.

/// What the statement rests on: the inputs of [`crate::calibration`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evidence {
    /// P(hit within the horizon) of the simulated paths, if the growth goes on for longer than earlier growth of the same
    /// workload that was released.
    pub if_it_goes_on: f64,
    /// The same with the chance that the growth lasts (see [`crate::Persistence`]).
    pub as_modelled: f64,
    /// Weight of "no growth"; 1 where no growth was considered.
    pub flat: f64,
    /// Horizon over the span of the present segment; 0 where the value is at its threshold already.
    pub horizon_spans: f64,
}

impl Default for Evidence {
    fn default() -> Self {
        Self { if_it_goes_on: 0.0, as_modelled: 0.0, flat: 1.0, horizon_spans: 0.0 }
    }
}
