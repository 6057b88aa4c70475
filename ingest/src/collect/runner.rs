//! The loop: tick on time, store, count what could not be stored.

use std::{future::Future, time::Duration};

use tapio_store::SinkError;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Collector, CollectorError};
use crate::{Ingest, Severity};

/// How often an append is tried before its rows are given up.
const ATTEMPTS: u32 = 4;

/// Ticks at the collector's interval and stores each tick, until `shutdown` resolves; answers the collector then.
///
/// A tick that takes longer than the interval makes the next one late; ticks that fall out are counted
/// (`collector`, `ticks_missed`), as are rows that could not be stored after four tries (`rows_lost`).
///
/// # Errors
/// [`CollectorError::Ended`] if the collector panics.
pub async fn run(
    ingest: Ingest,
    mut collector: Collector,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<Collector, CollectorError> {
    let period = collector.options.interval.max(Duration::from_millis(1));
    let health = collector.options.health.clone();
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut last: Option<Instant> = None;
    tokio::pin!(shutdown);
    loop {
        let scheduled = tokio::select! {
            () = &mut shutdown => return Ok(collector),
            at = ticks.tick() => at,
        };
        if let Some(last) = last {
            let passed = (scheduled - last).as_secs_f64() / period.as_secs_f64();
            let missed = passed.round() as i64 - 1;
            if missed > 0 {
                let detail = format!("{missed} tick(s) fell out: reading or storing took too long");
                health.count("collector", "ticks_missed", missed, Severity::Warning, detail);
            }
        }
        last = Some(scheduled);
        let (back, tick) = tokio::task::spawn_blocking(move || {
            let now = collector.options.clock.now_us();
            let tick = collector.tick(now);
            (collector, tick)
        })
        .await
        .map_err(|e| CollectorError::Ended(e.to_string()))?;
        collector = back;

        let mut pause = Duration::from_millis(100);
        for attempt in 1..=ATTEMPTS {
            match ingest.append_tick(tick.batches.clone(), tick.through_us).await {
                Ok(_) => break,
                Err(SinkError::Closed) => return Ok(collector),
                Err(e) if attempt == ATTEMPTS => {
                    let rows = tick.batches.iter().map(|b| b.num_rows() as i64).sum();
                    tracing::error!("{rows} rows lost: {e}");
                    health.count("collector", "rows_lost", rows, Severity::Error, e.to_string());
                    collector.tell_series_again();
                }
                Err(_) => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
            }
        }
    }
}
