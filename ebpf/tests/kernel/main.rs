//! The kernel programs against the running kernel. Needs root: without it every test is skipped loudly, with `CI=true` it
//! fails. Each test has cgroups and namespaces of its own, named after its process, and leaves nothing.
#![allow(clippy::unwrap_used, clippy::panic)]

mod attached;
mod child;
mod client;
mod dns;
mod http;
mod lab;
mod load;
mod machine;
mod memory;
mod net;
mod oom;
mod parser;
