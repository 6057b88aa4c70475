//! Packs: recorded pieces of history that can be replayed, byte for byte.
//!
//! A pack is a folder with Parquet files, one per table, and a `manifest.json`. [`record()`] makes one from a command that
//! runs in a memory cgroup of its own, from this machine as it runs, or from a store; [`replay()`] walks through it with a
//! virtual clock.

mod args;
pub(crate) mod evaluate;
mod manifest;
mod record;
mod replay;
mod source;
mod truth;
mod write;

pub use args::{LimitChange, RecordArgs, ReplayArgs};
pub(crate) use manifest::MANIFEST;
pub use manifest::{Manifest, PackError, PackFile, PackKind, Truth};
pub use record::record;
pub use replay::replay;
pub(crate) use replay::time_of;
pub use source::PackSource;
