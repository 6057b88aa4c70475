//! Walks through a pack with a virtual clock: the same relations as everywhere, as of one time after the other.

use std::{path::Path, sync::Arc, time::Duration};

use arrow::datatypes::Int64Type;
use arrow::{array::AsArray, datatypes::TimestampMicrosecondType};
use serde_json::{Value, json};
use tapio_query::{Engine, EngineOptions};
use tapio_sql::PatternCatalog;
use tapio_store::{HotSource, Store};

use super::{manifest::Manifest, source::PackSource};
use crate::{
    error::CliError,
    model::{Prediction, SubjectReport, check_reports},
    render::json,
    time::steps,
};

/// What is asked at every step. The relation orders its rows.
const CHECK: &str = "SELECT * FROM tapio_check('') WHERE type IS NOT NULL OR pattern IS NOT NULL";

/// A pack with an engine over it.
pub(crate) struct Walk {
    pub manifest: Manifest,
    pub source: Arc<PackSource>,
    engine: Arc<Engine>,
    step_us: i64,
}

impl Walk {
    pub(crate) fn open(pack: &Path, step: Duration) -> Result<Self, CliError> {
        let manifest = Manifest::read(pack).map_err(CliError::tool)?;
        let source = PackSource::open(pack, &manifest).map_err(CliError::tool)?;
        let patterns = PatternCatalog::builtin().map_err(CliError::tool)?;
        let options =
            EngineOptions { hot: source.clone(), ..EngineOptions::new(Store::memory(), patterns) };
        let engine = Engine::new(options).map_err(CliError::tool)?;
        let step_us = i64::try_from(step.as_micros()).unwrap_or(i64::MAX).max(1);
        Ok(Self { manifest, source, engine, step_us })
    }

    pub(crate) fn step_seconds(&self) -> f64 {
        self.step_us as f64 / 1e6
    }

    /// The times of the evaluations: every step after the first tick, and the last tick.
    pub(crate) fn times(&self) -> Vec<i64> {
        let (first, last) = self.source.ticks();
        steps(first, last, self.step_us)
    }

    /// What `tapio check` says as of `at`, one report per subject with a prediction or an insight.
    pub(crate) async fn evaluate(&self, at: i64) -> Result<Vec<SubjectReport>, CliError> {
        let (_, batches) = self.engine.sql(CHECK, Some(at)).await.map_err(CliError::tool)?;
        Ok(check_reports(&batches))
    }

    /// Used memory against the limit of a subject, for the baselines: (ts µs, value, limit).
    pub(crate) fn memory(&self, series_id: i64) -> Vec<(i64, f64, f64)> {
        let mut out = Vec::new();
        for hot in self.source.hot("resources").batches {
            let b = &hot.batch;
            let column = |n: &str| b.column_by_name(n)?.as_primitive_opt::<Int64Type>();
            let ts = b
                .column_by_name("ts")
                .and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
            let (Some(ids), Some(limit), Some(headroom), Some(ts)) = (
                column("series_id"),
                column("memory_limit_bytes"),
                column("memory_headroom_bytes"),
                ts,
            ) else {
                continue;
            };
            for (((id, limit), headroom), ts) in ids.iter().zip(limit).zip(headroom).zip(ts) {
                if id == Some(series_id)
                    && let (Some(l), Some(h), Some(t)) = (limit, headroom, ts)
                {
                    out.push((t, (l - h) as f64, l as f64));
                }
            }
        }
        out.sort_by_key(|p| p.0);
        out
    }
}

/// The prediction of memory running out, if there is one.
pub(crate) fn oom(report: &SubjectReport) -> Option<&Prediction> {
    report.predictions.iter().find(|p| p.kind == "oom")
}

/// The line of one subject at one time, as `replay -o json` prints it.
pub(crate) fn line(at: &str, report: &SubjectReport) -> Value {
    let prediction = report.predictions.first().map(|p| json::prediction(p, &report.subject));
    let insights: Vec<&str> = report.insights.iter().map(|i| i.id.as_str()).collect();
    json!({
        "at": at,
        "subject": json::subject(&report.subject),
        "prediction": prediction,
        "insights": insights,
    })
}
