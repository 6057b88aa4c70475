//! Tests of the engine as a whole, over small stores.

mod relations;
pub(crate) mod world;
