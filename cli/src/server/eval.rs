//! Continuous evaluation: every pattern, every few seconds, as of the newest acknowledged tick; never as of now (T6).

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use arrow::{array::BooleanArray, compute::filter_record_batch};
use tapio_ingest::{Ingest, Severity};
use tapio_query::{Engine, QueryError, insights, predictions};
use tapio_sql::TableBatch;
use tapio_store::{HotSource, RowSink};
use tokio::{sync::watch, time::MissedTickBehavior};

use crate::{cell, time::now_us};

/// Evaluates until `stop` turns true.
pub async fn run(
    engine: Arc<Engine>,
    ingest: Ingest,
    every: Duration,
    mut stop: watch::Receiver<bool>,
) {
    let mut ticks = tokio::time::interval(every.max(Duration::from_millis(100)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut episodes = Episodes::default();
    let mut last = None;
    loop {
        tokio::select! {
            _ = stop.wait_for(|s| *s) => return,
            _ = ticks.tick() => {}
        }
        let Some(as_of) = ingest.data_through_us().filter(|t| Some(*t) != last) else { continue };
        last = Some(as_of);
        let names: Vec<String> = engine.patterns().iter().map(|p| p.name.clone()).collect();
        for pattern in names {
            let start = Instant::now();
            let result = tokio::select! {
                _ = stop.wait_for(|s| *s) => return,
                r = evaluate(&engine, &pattern, as_of, &mut episodes) => r,
            };
            let stored = match result {
                Ok(batches) if batches.is_empty() => Ok(0),
                Ok(batches) => ingest.append(batches).await.map_err(|e| e.to_string()),
                Err(e) => Err(e.to_string()),
            };
            if let Err(e) = stored {
                tracing::warn!("pattern {pattern}: {e}");
                let detail = format!("pattern {pattern} as of {as_of}: {e}");
                ingest.health().count("evaluation", "failed", 1, Severity::Error, detail);
            }
            tracing::debug!(pattern, ms = start.elapsed().as_millis() as u64, "evaluated");
        }
    }
}

async fn evaluate(
    engine: &Engine,
    pattern: &str,
    as_of: i64,
    episodes: &mut Episodes,
) -> Result<Vec<TableBatch>, QueryError> {
    let rows = engine.evaluate(pattern, as_of).await?;
    let stored_at = now_us().max(as_of);
    let mut batches = Vec::new();
    batches.extend(predictions(pattern, &rows, as_of, stored_at)?);
    batches.extend(episodes.news(pattern, insights(pattern, &rows, as_of, stored_at)?));
    Ok(batches)
}

/// Pattern, series, type of prediction.
type Key = (String, i64, String);

/// The findings that stand, so that each is stored when it starts and when its severity changes, not every time.
#[derive(Debug, Default)]
struct Episodes {
    standing: HashMap<Key, String>,
}

impl Episodes {
    /// The rows that are news; forgets the findings that ended.
    fn news(&mut self, pattern: &str, found: Option<TableBatch>) -> Option<TableBatch> {
        let mut now = HashMap::new();
        let mut mask = Vec::new();
        if let Some(found) = &found {
            for row in cell::rows(std::slice::from_ref(found.batch())) {
                let series = row.int("series_id").unwrap_or_default();
                let key = (pattern.to_owned(), series, row.text("type").unwrap_or_default());
                let severity = row.text("severity").unwrap_or_default();
                mask.push(self.standing.get(&key) != Some(&severity));
                now.insert(key, severity);
            }
        }
        self.standing.retain(|(p, ..), _| p != pattern);
        self.standing.extend(now);
        let found = found?;
        let rows = filter_record_batch(found.batch(), &BooleanArray::from(mask)).ok()?;
        (rows.num_rows() > 0).then(|| TableBatch::try_new(found.def().clone(), rows).ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::{
        array::{
            ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
        },
        compute::cast,
    };

    fn found(rows: &[(i64, &str)]) -> Option<TableBatch> {
        let def = tapio_sql::catalog().get("insights").unwrap();
        let n = rows.len();
        let columns = def
            .columns
            .iter()
            .map(|c| {
                let values: ArrayRef = match c.name.as_str() {
                    "series_id" => Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0))),
                    "severity" => Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.1))),
                    "score" => Arc::new(Float64Array::from(vec![0.5; n])),
                    "ts" | "observed_at" | "window_start" | "window_end" => Arc::new(
                        TimestampMicrosecondArray::from(vec![1_000; n]).with_timezone("UTC"),
                    ),
                    _ => Arc::new(StringArray::from(vec!["x"; n])),
                };
                cast(&values, &c.ty.arrow()).unwrap()
            })
            .collect();
        let batch = RecordBatch::try_new(def.schema(), columns).unwrap();
        Some(TableBatch::try_new(def.clone(), batch).unwrap())
    }

    #[test]
    fn only_a_start_and_a_change_are_news() {
        let mut e = Episodes::default();
        let mut news = |rows: &[(i64, &str)]| e.news("p", found(rows)).map_or(0, |b| b.num_rows());
        assert_eq!(news(&[(1, "warning"), (2, "critical")]), 2);
        assert_eq!(news(&[(1, "warning"), (2, "critical")]), 0);
        assert_eq!(news(&[(1, "critical"), (2, "critical")]), 1);
        assert_eq!(news(&[(2, "critical")]), 0);
        assert_eq!(news(&[(1, "critical"), (2, "critical")]), 1);
        assert_eq!(e.news("other", None).map_or(0, |b| b.num_rows()), 0);
        assert_eq!(e.standing.len(), 2);
    }
}
