//! A series from a file, evaluated step by step.

use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tapio_models::{generator::Run, score::score_runs};

use super::{BacktestArgs, Scored, blocking, csv, runs::Rows, score_options, scores, steps::times};
use crate::{error::CliError, time::rfc3339};

/// Steps are never closer than this, unless asked.
const SHORTEST_STEP_US: i64 = 10_000_000;

struct Asked {
    rows: Rows,
    step_us: i64,
}

/// Scores a file.
///
/// # Errors
/// Exit code 2, naming file and line.
pub(super) async fn backtest(
    file: &Path,
    args: &BacktestArgs,
    json: bool,
) -> Result<Scored, CliError> {
    let Some(threshold) = args.threshold.filter(|t| t.is_finite()) else {
        return Err(CliError::tool("--threshold must be a finite number"));
    };
    let points = csv::read(file)?;
    if points.repeated > 0 {
        eprintln!("warning: {} row(s) repeat a time, the last of each counts", points.repeated);
    }
    let rows = Rows {
        threshold: vec![threshold; points.ts_us.len()],
        ts_us: points.ts_us,
        value: points.value,
        direction: args.direction.into(),
        horizon_s: args.horizon_s(),
        workload: 0,
    };
    let cadence_us = rows.cadence_us();
    let runs = rows.runs(&rows.crossings());
    let step = args.step.map(|s| i64::try_from(s.as_micros()).unwrap_or(i64::MAX));
    let step_us = step.unwrap_or(cadence_us.max(SHORTEST_STEP_US)).max(1);
    let asked = Asked { rows, step_us };
    let times = match asked.rows.ts_us[..] {
        [first, .., last] => times(first, last, step_us)?,
        _ => Vec::new(),
    };
    let bar = ProgressBar::new(times.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} evaluations") {
        bar.set_style(style);
    }
    let (steps, report, asked) = {
        let (bar, runs) = (bar.clone(), runs.clone());
        blocking(move || {
            let steps = asked.rows.course().steps(&times, &bar);
            (steps, score_runs(&runs, &score_options()), asked)
        })
        .await?
    };
    bar.finish_and_clear();
    let input = file.display().to_string();
    let text = if json {
        let line = json!({
            "input": input,
            "horizon_seconds": asked.rows.horizon_s,
            "step_seconds": asked.step_us as f64 / 1e6,
            "runs": runs.iter().map(run_json).collect::<Vec<_>>(),
            "steps": steps,
            "scores": scores::methods_json(&report),
        });
        format!("{line}\n")
    } else {
        let crossings: Vec<String> = runs.iter().filter_map(|r| r.event_us).map(rfc3339).collect();
        format!(
            "BACKTEST: {input}\n  {} values, one every {} s; threshold {threshold}; {}\n\n{}",
            asked.rows.ts_us.len(),
            cadence_us as f64 / 1e6,
            match crossings.is_empty() {
                true => "it was never met".to_owned(),
                false => format!("met at {}", crossings.join(", ")),
            },
            scores::methods_table(&report)
        )
    };
    Ok((text, report, input))
}

fn run_json(r: &Run) -> Value {
    json!({
        "onset": rfc3339(r.onset_us),
        "end": rfc3339(r.end_us),
        "event": r.event_us.map(rfc3339),
    })
}
