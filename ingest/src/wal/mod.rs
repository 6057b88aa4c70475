//! The write-ahead log: numbered segments of checksummed frames in one directory that one process owns.

mod dir;
mod frame;
mod recover;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use dir::WalDir;
pub(crate) use frame::encode_payload;
pub(crate) use recover::{Recovered, recover};
pub(crate) use writer::{Sink, WalHandle};
