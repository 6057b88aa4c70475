//! `tapio fix`: prints the commands, never runs them.

use std::process::ExitCode;

use super::{degraded, literal, no_binary_form, print_bytes, print_value, target};
use crate::{
    Globals,
    args::{FixArgs, OutputForm},
    error::{CliError, EXIT_TOOL},
    model,
    render::{Style, human, json, table},
    source::{Freshness, Source},
};

/// Runs the command. Exit code 2 if there is something to fix and `--dry-run` was not given, since nothing was applied.
pub async fn run(args: FixArgs, globals: &Globals) -> Result<ExitCode, CliError> {
    let form = globals.args.output;
    no_binary_form(form, "fix")?;
    let source = Source::open(globals, Freshness::Required).await?;
    let target = target::full_target(&args.target, &globals.args);
    let sql = format!("SELECT * FROM tapio_check({})", literal(&target));
    let reports = model::check_reports(&source.query(&sql, source.as_of()).await?.1);
    target::one(&target, &reports, &source).await?;
    let origin = source.origin(&reports);
    let sql = format!("SELECT * FROM tapio_fixes({})", literal(&target));
    let (schema, batches) = source.query(&sql, origin.as_of).await?;
    let fixes = model::fixes(&batches);
    if form == OutputForm::Csv {
        print_bytes(table::csv(&schema, &batches).as_bytes())?;
    } else {
        let degraded = degraded(&source).await?;
        if form == OutputForm::Human {
            let style = Style::detect(globals.args.color);
            let text = human::fix(&target, &origin, &fixes, args.dry_run, &degraded, style);
            print_bytes(text.as_bytes())?;
        } else {
            print_value(&json::fix(&target, &origin, &fixes, args.dry_run, &degraded), form)?;
        }
    }
    if fixes.is_empty() || args.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "error: this version does not apply fixes itself; nothing was changed. Run the command by hand, or say \
         --dry-run to only see it"
    );
    Ok(ExitCode::from(EXIT_TOOL))
}
