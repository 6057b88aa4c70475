//! One file per command: ask a source, render, choose the exit code.

mod check;
mod config;
mod doctor;
mod fix;
mod schema;
mod sql;
mod target;
mod why;

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
};

use arrow::array::RecordBatch;
use clap::CommandFactory;
use serde_json::Value;

use crate::{
    Globals,
    args::{Cli, Command, OutputForm},
    error::CliError,
    model::{self, Degraded},
    render::to_yaml,
    source::Source,
};

/// Runs a command.
///
/// # Errors
/// A message with the exit code; see [`CliError`].
pub async fn run(cli: Cli) -> Result<ExitCode, CliError> {
    // These work without a configuration, or on a broken one.
    let command = match cli.command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tapio", &mut script);
            return print_bytes(&script);
        }
        Command::Schema { name } => return schema::run(name.as_deref()),
        Command::Config(args) => return config::run(args.command, &cli.global),
        Command::Doctor => return doctor::run(&cli.global).await,
        other => other,
    };
    let globals = Globals::new(cli.global)?;
    match command {
        Command::Check(args) => check::run(args, &globals).await,
        Command::Why(args) => why::run(args, &globals).await,
        Command::Fix(args) => fix::run(args, &globals).await,
        Command::Sql(args) => sql::run(args, &globals).await,
        Command::Record(args) => crate::pack::record(&args, &globals).await,
        Command::Replay(args) => crate::pack::replay(&args, &globals).await,
        Command::Backtest(args) => crate::backtest::run(&args, &globals).await,
        // Done above.
        Command::Config(_)
        | Command::Doctor
        | Command::Completions { .. }
        | Command::Schema { .. } => Ok(ExitCode::SUCCESS),
    }
}

/// Writes data to stdout; a reader that went away is no error.
pub fn print_bytes(bytes: &[u8]) -> Result<ExitCode, CliError> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|e| CliError::output(&e))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes one JSON value as JSON (indented for a terminal) or YAML.
fn print_value(value: &Value, form: OutputForm) -> Result<ExitCode, CliError> {
    let text = match form {
        OutputForm::Yaml => to_yaml(value),
        _ if std::io::stdout().is_terminal() => format!("{value:#}\n"),
        _ => format!("{value}\n"),
    };
    print_bytes(text.as_bytes())
}

/// Refuses the forms that only `sql` has.
fn no_binary_form(form: OutputForm, command: &str) -> Result<(), CliError> {
    if matches!(form, OutputForm::Arrow | OutputForm::Parquet) {
        return Err(CliError::tool(format!(
            "`tapio {command}` has no -o arrow or parquet; select the relation instead, for example \
             tapio sql \"SELECT * FROM tapio_check('')\" -o parquet"
        )));
    }
    Ok(())
}

/// A text as an SQL literal.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// What the source could not read.
async fn degraded(source: &Source) -> Result<Vec<Degraded>, CliError> {
    let (_, batches): (_, Vec<RecordBatch>) =
        source.query("SELECT * FROM tapio_degraded()", None).await?;
    let mut list = model::degraded(&batches);
    list.extend(source.degraded().iter().cloned());
    Ok(list)
}
