//! Kernel programs of Tapio and the typed records they yield; no Arrow here.
//!
//! [`Programs::load`] loads the programs one by one and says which ones could not be loaded and what that costs. A thread of
//! the collector then reads tables once a second and ring buffers every 50 ms; nothing here waits or starts a thread.
//! [`KernelSupport`] asks the kernel what it offers without loading anything (`tapio doctor`).
//!
//! The sources are in `programs/` (C, CO-RE); `build-objects.sh` makes the committed objects from them.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod block;
mod counters;
mod cpu;
mod dns;
mod dns_question;
mod histogram;
mod http;
mod load;
mod memory;
mod net;
mod object;
mod oom;
mod raw;
mod record;
mod support;

pub use block::{Block, BlockOperation, BlockRequests};
pub use cpu::{Cpu, CpuWaits};
pub use dns::{Dns, DnsAnswers, DnsFailure};
pub use dns_question::dns_question;
pub use histogram::{LATENCY_BUCKETS, LatencyBuckets, latency_bounds_us};
pub use http::{Http, HttpTransactions, Method, Side};
pub use load::{LoadOptions, Programs};
pub use memory::Memory;
pub use net::{ConnectFailure, FailedConnect, Flow, FlowSide, Net};
pub use object::{Loss, NotLoaded, ReadError};
pub use oom::Oom;
pub use record::{
    CgroupIds, CgroupLevel, ExitStatus, LifeEvent, LifeKind, OomLimit, OomVictim, ProcessMemory,
    ResidentMemory,
};
pub use support::{Feature, KernelSupport};
