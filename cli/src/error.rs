//! Errors of the command line and the exit codes they lead to.

use std::{fmt, process::ExitCode};

/// Something is unhealthy, or a fix failed.
pub const EXIT_UNHEALTHY: u8 = 1;
/// The tool could not do its job: bad target, no data, stale data, bad configuration.
pub const EXIT_TOOL: u8 = 2;

/// A message for the user with the exit code it leads to. The message says what was tried and what to do.
#[derive(Debug)]
pub struct CliError {
    /// For stderr.
    pub message: String,
    /// 1 or 2.
    pub code: u8,
    /// The reader of our output went away: not an error, and nothing to say.
    pub broken_pipe: bool,
}

impl CliError {
    /// The tool could not do its job.
    pub fn tool(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), code: EXIT_TOOL, broken_pipe: false }
    }

    /// Output could not be written.
    pub fn output(e: &std::io::Error) -> Self {
        let broken_pipe = e.kind() == std::io::ErrorKind::BrokenPipe;
        Self { broken_pipe, ..Self::tool(format!("cannot write the output: {e}")) }
    }

    /// Prints the message, if there is something to say, and gives the code.
    pub fn report(&self) -> ExitCode {
        if self.broken_pipe {
            return ExitCode::SUCCESS;
        }
        eprintln!("error: {}", self.message);
        ExitCode::from(self.code)
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CliError {}
