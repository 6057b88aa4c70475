//! `tapio why`.

use std::process::ExitCode;

use super::{degraded, literal, no_binary_form, print_bytes, print_value, target};
use crate::{
    Globals,
    args::{OutputForm, RequiredTarget},
    error::CliError,
    model,
    render::{Style, human, json, table},
    source::{Freshness, Source},
};

/// Runs the command. "No cause proven" is an answer: exit code 0.
pub async fn run(args: RequiredTarget, globals: &Globals) -> Result<ExitCode, CliError> {
    let form = globals.args.output;
    no_binary_form(form, "why")?;
    let source = Source::open(globals, Freshness::Required).await?;
    let target = target::full_target(&args.target, &globals.args);
    let sql = format!("SELECT * FROM tapio_check({})", literal(&target));
    let reports = model::check_reports(&source.query(&sql, source.as_of()).await?.1);
    target::one(&target, &reports, &source).await?;
    let origin = source.origin(&reports);
    let sql = format!("SELECT * FROM tapio_why({})", literal(&target));
    let (schema, batches) = source.query(&sql, origin.as_of).await?;
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
