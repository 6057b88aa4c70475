//! Packs: recording and replaying.

use std::process::ExitCode;

use crate::{
    Globals,
    args::{RecordArgs, ReplayArgs},
    error::CliError,
};

/// Records a pack.
///
/// # Errors
/// Always: not in this build.
pub async fn record(_args: RecordArgs, _globals: &Globals) -> Result<ExitCode, CliError> {
    Err(CliError::tool("`tapio record` is not in this build"))
}

/// Replays a pack.
///
/// # Errors
/// Always: not in this build.
pub async fn replay(_args: ReplayArgs, _globals: &Globals) -> Result<ExitCode, CliError> {
    Err(CliError::tool("`tapio replay` is not in this build"))
}
