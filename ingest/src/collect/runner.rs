//! The loop: tick on time, store, count what could not be stored.

use std::{future::Future, time::Duration};

use tapio_sql::TableBatch;
use tapio_store::{RowSink, SinkError};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Collector, CollectorError};
use crate::{Health, Ingest, Severity};

/// How often an append is tried before its rows are given up.
const ATTEMPTS: u32 = 4;

/// How often is looked for what should not wait for a tick.
const URGENT_EVERY: Duration = Duration::from_millis(200);

/// Ticks at the collector's interval and stores each tick, until `shutdown` resolves; answers the collector then. What the
/// kernel programs tell and is urgent is stored between ticks.
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
    let mut urgent = interval(URGENT_EVERY);
    urgent.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut last: Option<Instant> = None;
    tokio::pin!(shutdown);
    loop {
        let scheduled = tokio::select! {
            biased;
            () = &mut shutdown => return Ok(collector),
            at = ticks.tick() => at,
            _ = urgent.tick() => {
                if let Some(batch) = collector.urgent()
                    && let Stored::Closed = store(&ingest, &health, vec![batch], None).await
                {
                    return Ok(collector);
                }
                continue;
            }
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

        match store(&ingest, &health, tick.batches, Some(tick.through_us)).await {
            Stored::Yes => {}
            Stored::No => collector.tell_series_again(),
            Stored::Closed => return Ok(collector),
        }
    }
}

enum Stored {
    Yes,
    /// The rows are lost and counted.
    No,
    /// The pipeline is shut down.
    Closed,
}

/// Appends rows, of a whole tick if they come with a time.
async fn store(
    ingest: &Ingest,
    health: &Health,
    batches: Vec<TableBatch>,
    through_us: Option<i64>,
) -> Stored {
    let rows = batches.iter().map(|b| b.num_rows() as i64).sum();
    let mut pause = Duration::from_millis(100);
    for attempt in 1..=ATTEMPTS {
        let batches = batches.clone();
        let appended = match through_us {
            Some(through_us) => ingest.append_tick(batches, through_us).await.map(drop),
            None => ingest.append(batches).await.map(drop),
        };
        match appended {
            Ok(()) => return Stored::Yes,
            Err(SinkError::Closed) => return Stored::Closed,
            Err(e) if attempt == ATTEMPTS => {
                tracing::error!("{rows} rows lost: {e}");
                health.count("collector", "rows_lost", rows, Severity::Error, e.to_string());
            }
            Err(_) => {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        }
    }
    Stored::No
}
