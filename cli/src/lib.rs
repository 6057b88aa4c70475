//! The command line `tapio` and the server `tapio-server`: composition, arguments, rendering.
//!
//! Rendering is pure (batches in, text out: [`render`]); what talks to the world is [`source`], [`server`] and the
//! commands. Data goes to stdout, all else to stderr.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

pub mod args;
pub mod backtest;
pub mod cage;
pub mod cell;
pub mod commands;
pub mod config;
mod engine;
pub mod error;
mod live;
mod measure;
pub mod model;
pub mod pack;
pub mod render;
pub mod schemas;
pub mod server;
pub mod source;
pub mod time;
pub mod units;

use args::GlobalArgs;
use config::Config;
use error::CliError;

/// What every command needs: the global flags, the configuration with the flags applied, and the time.
#[derive(Debug, Clone)]
pub struct Globals {
    /// The flags as given.
    pub args: GlobalArgs,
    /// The configuration; `--store` stands in `storage_url` already.
    pub config: Config,
    /// `--as-of`, µs.
    pub as_of_us: Option<i64>,
    /// When the command started, µs; for ages of data, never for answers.
    pub now_us: i64,
}

impl Globals {
    /// Loads the configuration and reads `--as-of`.
    ///
    /// # Errors
    /// Exit code 2: a bad configuration or time.
    pub fn new(args: GlobalArgs) -> Result<Self, CliError> {
        let mut config = Config::load(args.config.as_deref())?;
        if let Some(store) = &args.store {
            config.storage_url.clone_from(store);
        }
        let now_us = time::now_us();
        let as_of_us = args
            .as_of
            .as_deref()
            .map(|t| time::parse_time(t, now_us))
            .transpose()
            .map_err(|e| CliError::tool(format!("--as-of: {e}")))?;
        Ok(Self { args, config, as_of_us, now_us })
    }
}

/// Starts logging to stderr: warnings, with `-v` information, with `-vv` everything; `RUST_LOG` overrides.
pub fn init_logging(verbose: u8, quiet_level: &str) {
    use tracing_subscriber::{EnvFilter, fmt};
    let level = match verbose {
        0 => quiet_level,
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr())
        && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    // A second initialisation (tests in one process) keeps the first.
    let _ = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi).try_init();
}
