//! `tapio fix`: prints the commands, never runs them.

use std::process::ExitCode;

use super::{
    degraded, no_binary_form, print_bytes, print_value,
    target::{self, Asked},
};
use crate::{
    Globals,
    args::{FixArgs, OutputForm},
    error::{CliError, EXIT_TOOL},
    model,
    render::{Style, human, json, table},
};

/// Runs the command. Exit code 2 if there is something to fix and `--dry-run` was not given, since nothing was applied.
pub async fn run(args: FixArgs, globals: &Globals) -> Result<ExitCode, CliError> {
    let form = globals.args.output;
    no_binary_form(form, "fix")?;
    let Asked { source, target, origin, schema, batches, .. } =
        target::ask(&args.target, "tapio_fixes", globals).await?;
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
