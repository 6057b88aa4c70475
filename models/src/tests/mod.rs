//! Tests across the modules: synthetic families that resemble recorded ones, and properties of any input.

mod families;
mod properties;
mod scenarios;
