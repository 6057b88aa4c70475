//! Tests of the engine as a whole, over small stores.

mod engine;
mod relations;
pub(crate) mod world;
