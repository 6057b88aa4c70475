//! Rendering: values and batches in, text out; nothing here reads a clock, a terminal (but [`Style::detect`]) or a store.

pub mod human;
pub mod json;
mod spark;
mod style;
pub mod table;
mod yaml;

#[cfg(test)]
mod tests;

pub use spark::{Trend, sparkline};
pub use style::Style;
pub use yaml::to_yaml;
