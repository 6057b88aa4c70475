//! Kernel programs of Tapio and the typed records they yield; no Arrow here.
//!
//! This version holds the records and the probe of what the running kernel offers ([`KernelSupport`], shown by
//! `tapio doctor`). It loads no program yet: what Tapio knows of memory comes from cgroup files.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod record;
mod support;

pub use record::{OomVictim, ProcessExit, RssSample};
pub use support::{Feature, KernelSupport};
