//! Tests across the crates, in one binary: a link costs seconds.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod arch;
mod backtest;
mod certificates;
mod eyes;
mod limits;
mod live;
mod packs;
mod peers;
mod readme;
mod server;
mod slt;
