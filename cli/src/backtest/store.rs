//! A store: the memory of every subject with a limit, against the kills that the kernel counted.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use serde_json::json;
use tapio_models::{Direction, generator::Run, score::score_runs};
use tapio_sql::PatternCatalog;
use tapio_store::{NoHotRows, Store};

use super::{HORIZON_S, Scored, blocking, runs::Rows, score_options, scores, spinner};
use crate::{Globals, cell::rows, engine, error::CliError, time::rfc3339};

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
            let rows = Rows { direction: Direction::Up, horizon_s: HORIZON_S, ..rows };
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
    bar.finish_and_clear();
    let text = if as_json {
        let run = |(name, r): &(String, Run)| json!({"subject": name, "onset": rfc3339(r.onset_us), "end": rfc3339(r.end_us), "event": r.event_us.map(rfc3339)});
        let mut line = scores::summary_json(&report);
        line["input"] = json!(input);
        line["horizon_seconds"] = json!(HORIZON_S);
        line["lives"] = runs.iter().map(run).collect();
        format!("{line}\n")
    } else {
        let kills = report.events;
        let lives = report.runs;
        format!(
            "BACKTEST: {input}\n  {lives} lives with a memory limit, {kills} ended by the kernel\n\n{}",
            scores::methods_table(&report)
        )
    };
    Ok((text, report, input))
}
