//! `tapio check`.

use std::process::ExitCode;

use super::{degraded, literal, no_binary_form, print_bytes, print_value, target};
use crate::{
    Globals,
    args::{OutputForm, TargetArgs},
    error::{CliError, EXIT_TOOL, EXIT_UNHEALTHY},
    measure::Measure,
    model::{self, SubjectReport, worst_status},
    render::{Style, Trend, human, json, table},
    source::{Freshness, Source},
};

/// How much of the past a sparkline shows, in seconds.
const TREND_SECONDS: i64 = 600;
/// How many sparklines are fetched at most.
const TRENDS: usize = 10;

/// Runs the command.
pub async fn run(args: TargetArgs, globals: &Globals) -> Result<ExitCode, CliError> {
    let form = globals.args.output;
    no_binary_form(form, "check")?;
    let source = Source::open(globals, Freshness::Required).await?;
    let wanted = args.target.as_deref().filter(|t| !t.is_empty());
    let target = wanted.map(|t| target::full_target(t, &globals.args));
    let sql = format!("SELECT * FROM tapio_check({})", literal(target.as_deref().unwrap_or("")));
    // With a target the namespace is part of it.
    let sql = match &globals.args.namespace {
        Some(ns) if target.is_none() => format!("{sql} WHERE namespace = {}", literal(ns)),
        _ => sql,
    };
    let (schema, batches) = source.query(&sql, source.as_of()).await?;
    let reports = model::check_reports(&batches);
    if let Some(target) = &target {
        target::one(target, &reports, &source).await?;
    }
    let code = exit_code(&reports);
    if form == OutputForm::Csv {
        print_bytes(table::csv(&schema, &batches).as_bytes())?;
        return Ok(code);
    }
    let origin = source.origin(&reports);
    let fixes = if reports.iter().any(|r| !r.insights.is_empty()) {
        let sql =
            format!("SELECT * FROM tapio_fixes({})", literal(target.as_deref().unwrap_or("")));
        model::fixes(&source.query(&sql, origin.as_of).await?.1)
    } else {
        Vec::new()
    };
    let degraded = degraded(&source).await?;
    if form != OutputForm::Human {
        print_value(&json::check(target.as_deref(), &origin, &reports, &fixes, &degraded), form)?;
        return Ok(code);
    }
    let style = Style::detect(globals.args.color);
    let trends = if style.width.is_some() {
        trends(&source, &reports, origin.as_of).await?
    } else {
        Vec::new()
    };
    let view = human::CheckView {
        target: target.as_deref(),
        origin: &origin,
        reports: &reports,
        fixes: &fixes,
        degraded: &degraded,
        trends: &trends,
    };
    print_bytes(human::check(&view, style).as_bytes())?;
    Ok(code)
}

/// 1 if something is unhealthy, 2 if nothing is known about anything that was asked for.
fn exit_code(reports: &[SubjectReport]) -> ExitCode {
    match worst_status(reports) {
        "unhealthy" => ExitCode::from(EXIT_UNHEALTHY),
        _ if reports.iter().all(|r| r.status == "unknown") => {
            eprintln!("error: no current data: nothing was seen of it in the last 30 seconds");
            ExitCode::from(EXIT_TOOL)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Recent levels behind the forecasts worth drawing.
async fn trends(
    source: &Source,
    reports: &[SubjectReport],
    as_of: Option<i64>,
) -> Result<Vec<(i64, Trend)>, CliError> {
    let mut trends = Vec::new();
    let foreseen = reports.iter().flat_map(|r| r.predictions.iter().map(move |p| (r, p)));
    let measured = foreseen.filter_map(|(r, p)| Some((r, p, r.ts?, Measure::of(&p.kind)?)));
    for (r, p, newest, measure) in
        measured.filter(|(_, p, ..)| p.eta_seconds.is_some()).take(TRENDS)
    {
        let since = crate::time::rfc3339(newest - TREND_SECONDS * 1_000_000);
        let sql = measure.sql(r.subject.series_id, Some(&since));
        let (_, batches) = source.query(&sql, as_of).await?;
        let points = crate::cell::rows(&batches)
            .filter_map(|row| {
                let age = (row.time("ts")? - newest) as f64 / 1e6;
                Some((age, row.float("level")?))
            })
            .collect();
        let trend = Trend {
            kind: p.kind.clone(),
            points,
            threshold: measure.now(&r.resources).map(|(_, most)| most as f64),
            eta_seconds: p.eta_seconds,
        };
        trends.push((r.subject.series_id, trend));
    }
    Ok(trends)
}
