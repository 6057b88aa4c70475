//! Tests of the engine as a whole, over small stores.

mod certificates;
mod engine;
mod incremental;
mod relations;
mod reuse;
pub(crate) mod world;
