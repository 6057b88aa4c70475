//! What the tests of this module share.

use std::{future::Future, path::Path, time::Duration};

use arrow::{array::RecordBatch, compute::cast, datatypes::DataType};
use serde_json::Value;
use tapio_store::{HotSource, Store};
use tokio::{sync::oneshot, task::JoinHandle, time::Instant};

use super::{JournalOptions, run, standalone::DEADLINE};
use crate::{Ingest, IngestOptions};

pub(super) fn ingest_options(dir: &Path) -> IngestOptions {
    let store = Store::open(dir.join("store").to_str().unwrap(), true).unwrap();
    IngestOptions {
        health_interval: Duration::from_secs(3600),
        retry: (Duration::from_millis(20), Duration::from_millis(100)),
        ..IngestOptions::new(store, dir.join("wal"))
    }
}

/// Options that follow a directory and try again fast.
pub(super) fn journal_options(log: &Path) -> JournalOptions {
    JournalOptions {
        directory: Some(log.to_owned()),
        node: "n1".into(),
        batch_delay: Duration::from_millis(20),
        retry: (Duration::from_millis(10), Duration::from_millis(50)),
        absent_retry: Duration::from_millis(20),
        ..JournalOptions::default()
    }
}

/// The rows of `events` that are hot; times are µs since the epoch.
pub(super) fn rows(ingest: &Ingest) -> Vec<Value> {
    let mut out = Vec::new();
    let mut writer = arrow::json::LineDelimitedWriter::new(&mut out);
    for hot in ingest.hot("events").batches {
        let schema = hot.batch.schema();
        let columns = schema.fields().iter().zip(hot.batch.columns()).map(|(f, c)| {
            let is_time = matches!(f.data_type(), DataType::Timestamp(..));
            let column = if is_time { cast(c, &DataType::Int64).unwrap() } else { c.clone() };
            (f.name().clone(), column)
        });
        writer.write(&RecordBatch::try_from_iter(columns.collect::<Vec<_>>()).unwrap()).unwrap();
    }
    writer.finish().unwrap();
    drop(writer);
    let lines = out.split(|b| *b == b'\n').filter(|l| !l.is_empty());
    lines.map(|l| serde_json::from_slice(l).unwrap()).collect()
}

/// Waits until there is an answer.
pub(super) async fn until<T>(what: &str, mut f: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = f() {
            return answer;
        }
        assert!(begin.elapsed() < DEADLINE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A collector that runs.
pub(super) struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    pub(super) fn start(ingest: &Ingest, options: JournalOptions) -> Self {
        let (stop, stopped) = oneshot::channel();
        let stopped = async move {
            let _ = stopped.await;
        };
        Self { stop, task: tokio::spawn(run(ingest.clone(), options, stopped)) }
    }

    pub(super) fn end(self) -> impl Future<Output = ()> {
        let _ = self.stop.send(());
        async move { self.task.await.unwrap() }
    }
}
