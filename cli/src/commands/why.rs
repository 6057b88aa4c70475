//! `tapio why`.

use std::process::ExitCode;

use super::{
    degraded, no_binary_form, print_bytes, print_value,
    target::{self, Asked},
};
use crate::{
    Globals,
    args::{OutputForm, RequiredTarget},
    error::CliError,
    model,
    render::{Style, human, json, table},
};

/// Runs the command. "No cause proven" is an answer: exit code 0.
pub async fn run(args: RequiredTarget, globals: &Globals) -> Result<ExitCode, CliError> {
    let form = globals.args.output;
    no_binary_form(form, "why")?;
    let Asked { source, target, reports, origin, schema, batches } =
        target::ask(&args.target, "tapio_why", globals).await?;
    if form == OutputForm::Csv {
        return print_bytes(table::csv(&schema, &batches).as_bytes());
    }
    let report = model::why_report(&batches);
    let degraded = degraded(&source).await?;
    if form != OutputForm::Human {
        return print_value(&json::why(&target, &origin, &report, &degraded), form);
    }
    let confidence = reports
        .iter()
        .flat_map(|r| &r.predictions)
        .find(|p| p.probability.is_some())
        .map(|p| (p.confidence_rate, p.confidence_n));
    let style = Style::detect(globals.args.color);
    print_bytes(human::why(&target, &origin, &report, confidence, &degraded, style).as_bytes())
}
