//! DataFusion engine over the store, relations, and the Flight SQL service and client that carry the answers.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod flight;
