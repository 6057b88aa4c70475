//! A store: the memory of every subject with a limit, against the kills that the kernel counted.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use indicatif::ProgressBar;
use serde_json::{Value, json};
use tapio_models::{Direction, generator::Run, score::score_runs};
use tapio_sql::PatternCatalog;
use tapio_store::{NoHotRows, Store};

use super::{
    BacktestArgs, Scored, blocking,
    runs::Rows,
    score_options, scores, spinner,
    steps::{Course, times},
};
use crate::{Globals, cell::rows, engine, error::CliError, time::rfc3339};

/// Steps of a life, unless asked.
const STEPS: i64 = 64;
const MEMORY: &str = "SELECT r.series_id, r.ts, CAST(r.memory_limit_bytes - r.memory_headroom_bytes AS DOUBLE) AS level, \
    CAST(r.memory_limit_bytes AS DOUBLE) AS \"limit\" \
    FROM resources r JOIN (SELECT DISTINCT series_id FROM series WHERE kind NOT IN ('node', 'process')) s \
    ON s.series_id = r.series_id \
    WHERE r.memory_limit_bytes IS NOT NULL AND r.memory_headroom_bytes IS NOT NULL ORDER BY r.series_id, r.ts";
const NAMES: &str = "SELECT series_id, max(workload_id) AS workload_id, CAST(max(coalesce(cgroup, name)) AS VARCHAR) AS name \
    FROM series GROUP BY series_id";
const KILLS: &str = "SELECT series_id, ts FROM events WHERE kind = 'oom.kill' AND series_id IS NOT NULL ORDER BY ts";

/// Whether the path or URL is that of a store.
pub(super) fn is_store(path: &Path) -> bool {
    path.to_string_lossy().contains("://") || path.join("resources/_delta_log").is_dir()
}

/// Scores what a store remembers.
///
/// # Errors
/// Exit code 2: a store that cannot be read, or in which nothing has a limit.
pub(super) async fn backtest(
    store: &Path,
    args: &BacktestArgs,
    globals: &Globals,
    as_json: bool,
) -> Result<Scored, CliError> {
    let input = store.to_string_lossy().into_owned();
    let bar = spinner("reading the store");
    let opened = Store::open(&input, false).map_err(CliError::tool)?;
    let patterns = PatternCatalog::builtin().map_err(CliError::tool)?;
    let engine = engine::open(opened, Arc::new(NoHotRows), patterns, &globals.config)?;
    let ask = async |sql| Ok::<_, CliError>(engine.sql(sql, None).await.map_err(CliError::tool)?.1);
    let mut subjects: BTreeMap<i64, (String, Rows, Vec<i64>)> = BTreeMap::new();
    for row in rows(&ask(MEMORY).await?) {
        let (Some(id), Some(t)) = (row.int("series_id"), row.time("ts")) else { continue };
        let (Some(level), Some(limit)) = (row.float("level"), row.float("limit")) else { continue };
        let rows = &mut subjects.entry(id).or_default().1;
        rows.ts_us.push(t);
        rows.value.push(level);
        rows.threshold.push(limit);
    }
    for row in rows(&ask(NAMES).await?) {
        let Some(subject) = row.int("series_id").and_then(|id| subjects.get_mut(&id)) else {
            continue;
        };
        subject.0 = row.text("name").unwrap_or_default();
        subject.1.workload = row.int("workload_id").unwrap_or_default().cast_unsigned();
    }
    for row in rows(&ask(KILLS).await?) {
        let subject = row.int("series_id").and_then(|id| subjects.get_mut(&id));
        if let (Some(subject), Some(t)) = (subject, row.time("ts")) {
            subject.2.push(t);
        }
    }
    let runs: Vec<(String, Run)> = subjects
        .into_values()
        .flat_map(|(name, rows, kills)| {
            let rows = Rows { direction: Direction::Up, horizon_s: args.horizon_s(), ..rows };
            rows.runs(&kills).into_iter().map(move |r| (name.clone(), r))
        })
        .collect();
    if runs.is_empty() {
        return Err(CliError::tool(format!(
            "{input}: nothing in this store has a memory limit, so there is nothing to score"
        )));
    }
    bar.set_message("scoring");
    let bare: Vec<Run> = runs.iter().map(|r| r.1.clone()).collect();
    let report = blocking(move || score_runs(&bare, &score_options())).await?;
    let text = if as_json {
        bar.set_message("evaluating the lives");
        let step_us = args.step.map(|s| i64::try_from(s.as_micros()).unwrap_or(i64::MAX));
        let lives = blocking(move || {
            let lives = runs.iter().map(|(name, run)| life_json(name, run, step_us));
            lives.collect::<Result<Vec<_>, _>>()
        });
        let mut line = scores::summary_json(&report);
        line["input"] = json!(input);
        line["horizon_seconds"] = json!(args.horizon_s());
        line["lives"] = json!(lives.await??);
        format!("{line}\n")
    } else {
        let kills = report.events;
        let lives = report.runs;
        format!(
            "BACKTEST: {input}\n  {lives} lives with a memory limit, {kills} ended by the kernel\n\n{}",
            scores::methods_table(&report)
        )
    };
    bar.finish_and_clear();
    Ok((text, report, input))
}

/// One life with what was said in it.
fn life_json(name: &str, run: &Run, step_us: Option<i64>) -> Result<Value, CliError> {
    let step_us = step_us.unwrap_or_else(|| {
        let share = (run.end_us - run.onset_us) / STEPS;
        share.max((run.cadence_s * 1e6) as i64)
    });
    let course = Course {
        ts_us: &run.ts_us,
        value: &run.value,
        threshold: &run.threshold,
        direction: run.direction,
        horizon_s: run.horizon_s,
        seed: run.workload.cast_signed(),
    };
    let times = times(run.onset_us, run.end_us, step_us)?;
    Ok(json!({
        "subject": name,
        "onset": rfc3339(run.onset_us),
        "end": rfc3339(run.end_us),
        "event": run.event_us.map(rfc3339),
        "step_seconds": step_us.max(1) as f64 / 1e6,
        "steps": course.steps(&times, &ProgressBar::hidden()),
    }))
}
