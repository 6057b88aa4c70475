//! Packs: recorded pieces of history that can be replayed, byte for byte.
//!
//! A pack is a folder with Parquet files, one per table, and a `manifest.json`. [`record()`] makes one from a command that
//! runs in a memory cgroup of its own, from this machine as it runs, or from a store; [`replay()`] walks through it with a
//! virtual clock; [`backtest()`] scores the walk against what really happened.

mod args;
mod backtest;
mod evaluate;
mod manifest;
mod record;
mod replay;
mod source;
mod write;

pub use args::{BacktestArgs, LimitChange, RecordArgs, ReplayArgs};
pub use backtest::backtest;
pub use manifest::{Manifest, PackError, PackFile, PackKind, Truth};
pub use record::record;
pub use replay::replay;
pub use source::PackSource;
