//! Walks through a pack with a virtual clock: the same relations as everywhere, as of one time after the other.

use std::{path::Path, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tapio_query::{Engine, EngineOptions};
use tapio_sql::{ParameterValue, PatternCatalog};
use tapio_store::{HotSource, Store};

use super::{manifest::Manifest, source::PackSource};
use crate::{
    cell::{Row, rows},
    error::CliError,
    measure::Measure,
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
    /// `horizon`: within which time an event counts, unless as the patterns say.
    pub(crate) fn open(
        pack: &Path,
        step: Duration,
        horizon: Option<Duration>,
    ) -> Result<Self, CliError> {
        let manifest = Manifest::read(pack).map_err(CliError::tool)?;
        let source = PackSource::open(pack, &manifest).map_err(CliError::tool)?;
        let mut patterns = PatternCatalog::builtin().map_err(CliError::tool)?;
        if let Some(horizon) = horizon {
            patterns
                .set_default("horizon_seconds", &ParameterValue::Float64(horizon.as_secs_f64()));
        }
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

    /// What the pack is about: what ended it, else filesystems where it has some, else memory.
    pub(crate) fn measure(&self) -> Measure {
        match self.manifest.truth.first() {
            Some(t) => Measure::of(&t.ty).unwrap_or(Measure::OOM),
            None if self.source.hot("disks").batches.is_empty() => Measure::OOM,
            None => Measure::of("disk_full").unwrap_or(Measure::OOM),
        }
    }

    /// Level and limit of a subject, for the baselines: (ts µs, level, limit).
    pub(crate) async fn levels(
        &self,
        series_id: i64,
        measure: Measure,
    ) -> Result<Vec<(i64, f64, f64)>, CliError> {
        let sql = measure.sql(series_id, None);
        let (_, batches) = self.engine.sql(&sql, None).await.map_err(CliError::tool)?;
        let level = |row: Row<'_>| Some((row.time("ts")?, row.float("level")?, row.float("most")?));
        Ok(rows(&batches).filter_map(level).collect())
    }
}

/// What a report predicts of one kind, if anything.
pub(crate) fn prediction<'a>(
    report: &'a SubjectReport,
    measure: &Measure,
) -> Option<&'a Prediction> {
    report.predictions.iter().find(|p| p.kind == measure.kind)
}

/// The line of one subject at one time, as `replay -o json` prints it.
pub(crate) fn line(at: &str, report: &SubjectReport, measure: &Measure) -> Value {
    let prediction = prediction(report, measure).map(|p| json::prediction(p, &report.subject));
    let insights: Vec<&str> = report.insights.iter().map(|i| i.id.as_str()).collect();
    json!({
        "at": at,
        "subject": json::subject(&report.subject),
        "prediction": prediction,
        "insights": insights,
    })
}
