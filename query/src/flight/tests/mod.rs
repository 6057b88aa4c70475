//! The service and the client against each other on loopback, and against peers that are none.

mod client;
mod fixture;
mod peers;
mod service;
