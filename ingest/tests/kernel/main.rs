//! The collector with its kernel programs on the real kernel: real processes, cgroups of the tests' own, nothing simulated.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../../ebpf/tests/kernel/attached.rs"]
mod attached;
#[path = "../../../ebpf/tests/kernel/client.rs"]
mod client;
#[allow(dead_code)]
#[path = "../../../ebpf/tests/kernel/lab.rs"]
mod lab;
mod machine;
mod oom;
mod processes;
mod rights;
mod rows;
mod traffic;
