//! Live observation: a few seconds of the real collector into a store in memory.

use std::{
    io::IsTerminal,
    sync::Arc,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tapio_ingest::{Collector, CollectorOptions, Ingest, IngestOptions, Severity};
use tapio_store::{HotSource, Store};

use crate::{config::Config, engine::LocalEngine, error::CliError, model::Degraded};

/// How long is looked.
const LENGTH: Duration = Duration::from_secs(5);
/// How often.
const INTERVAL: Duration = Duration::from_millis(250);

/// What was observed. Its write-ahead log is deleted with it.
pub struct Observation {
    ingest: Ingest,
    length: Duration,
    // After the pipeline that writes there.
    _wal: tempfile::TempDir,
}

impl Observation {
    /// How long was really looked.
    pub fn seconds(&self) -> f64 {
        self.length.as_secs_f64()
    }

    /// `observed_at` of the last tick.
    pub fn data_through_us(&self) -> Option<i64> {
        self.ingest.data_through_us()
    }

    /// What the collector could not read.
    pub fn degraded(&self) -> Vec<Degraded> {
        let entries = self.ingest.health().entries().into_iter();
        entries
            .filter(|e| e.severity > Severity::Info && e.value > 0)
            .map(|e| Degraded {
                component: e.component.into(),
                subject: Some(e.metric.into()),
                detail: e.detail,
                count: Some(e.value),
            })
            .collect()
    }
}

/// Looks for five seconds, with a progress bar on a terminal.
///
/// # Errors
/// Exit code 2 if nothing can be observed here.
pub async fn observe(config: &Config) -> Result<(LocalEngine, Observation), CliError> {
    let wal = tempfile::Builder::new().prefix("tapio-live-").tempdir().map_err(|e| {
        CliError::tool(format!(
            "cannot create a temporary folder for live observation: {e}; set TMPDIR"
        ))
    })?;
    let store = Store::memory();
    let options = IngestOptions::new(store.clone(), wal.path());
    let ingest = Ingest::open(options).await.map_err(CliError::tool)?;
    let options = CollectorOptions {
        interval: INTERVAL,
        filesystem_interval: INTERVAL,
        certificates: config.certificates(),
        health: ingest.health().clone(),
        ..CollectorOptions::default()
    };
    let collector = Collector::new(options).map_err(CliError::tool)?;
    if !std::io::stderr().is_terminal() {
        eprintln!(
            "note: no server and no fresh store: observing this machine for {} s",
            LENGTH.as_secs()
        );
    }
    let start = Instant::now();
    let looking = tapio_ingest::run(ingest.clone(), collector, progress());
    looking.await.map_err(CliError::tool)?;
    let observation = Observation { ingest: ingest.clone(), length: start.elapsed(), _wal: wal };
    if observation.data_through_us().is_none() {
        return Err(CliError::tool(
            "live observation of this machine yielded no row; `tapio doctor` says what is missing",
        ));
    }
    Ok((LocalEngine::new(store, Arc::new(ingest), config)?, observation))
}

/// Resolves after [`LENGTH`]; shows how far it is.
async fn progress() {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let steps = (LENGTH.as_millis() / INTERVAL.as_millis()) as u64;
    let bar = ProgressBar::with_draw_target(Some(steps), target);
    if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:20}] {elapsed}/5s") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message("observing this machine");
    for _ in 0..steps {
        tokio::time::sleep(INTERVAL).await;
        bar.inc(1);
    }
    bar.finish_and_clear();
}
