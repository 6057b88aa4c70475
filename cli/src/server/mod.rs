//! `tapio-server`: collects, stores, evaluates and serves until it is told to stop.

mod backend;
mod eval;

use std::{io::Write, path::Path, process::ExitCode, sync::Arc};

use tapio_ingest::{
    Collector, CollectorOptions, Ingest, IngestOptions, KernelOptions, Severity,
    drop_loading_capabilities,
    journald::{self, JournalOptions},
};
use tapio_query::flight::{FlightOptions, ServeError, serve};
use tapio_sql::PatternCatalog;
use tapio_store::Store;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{args::ServerCli, config::Config, engine, error::CliError};
use backend::Backend;

/// What is made before there are threads: the configuration, and the collector with its kernel programs.
pub struct Prepared {
    config: Config,
    collector: Collector,
}

/// Reads the configuration, loads the kernel programs and gives up the capabilities that only loading needs.
///
/// # Errors
/// Exit code 2: configuration, no /proc.
pub fn prepare(cli: &ServerCli) -> Result<Prepared, CliError> {
    let mut config = Config::load(cli.config.as_deref())?;
    if let Some(store) = &cli.store {
        config.storage_url.clone_from(store);
    }
    config.wal_dir = cli.wal_dir.clone().or(config.wal_dir);
    config.listen = cli.listen.clone().or(config.listen);

    let kernel = config
        .ebpf_enabled
        .then(|| KernelOptions { memory: config.ebpf_memory_tracking, ..KernelOptions::default() });
    let collector = Collector::new(CollectorOptions {
        interval: cli.cadence,
        kernel,
        certificates: config.certificates(),
        ..Default::default()
    })
    .map_err(CliError::tool)?;
    if config.ebpf_enabled
        && let Err(e) = drop_loading_capabilities()
    {
        let detail = format!("the capabilities that loading needed could not be given up: {e}");
        tracing::warn!("{detail}");
        let health = &collector.options().health;
        health.set("collector.ebpf", "capabilities_kept", 1, Severity::Warning, detail);
    }
    Ok(Prepared { config, collector })
}

/// Runs the server.
///
/// # Errors
/// Exit code 2 if it cannot start: store, write-ahead directory, address.
pub async fn run(cli: ServerCli, prepared: Prepared) -> Result<ExitCode, CliError> {
    let Prepared { config, collector } = prepared;
    let mut patterns = PatternCatalog::builtin().map_err(CliError::tool)?;
    if let Some(dir) = &cli.patterns_dir {
        patterns.add_dir(dir).map_err(CliError::tool)?;
    }
    // Before anything is opened, so that no signal is lost.
    let mut terminate = signal(SignalKind::terminate()).map_err(CliError::tool)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CliError::tool)?;

    let store = Store::open(&config.storage_url, true).map_err(CliError::tool)?;
    store.check_writable().await.map_err(CliError::tool)?;
    let options = IngestOptions {
        health: collector.options().health.clone(),
        ..IngestOptions::new(store.clone(), config.wal_dir())
    };
    let ingest = Ingest::open(options).await.map_err(CliError::tool)?;
    log_start(&config, &ingest);

    let listener = bind(&config.listen_address()).await?;
    let address = listener.local_addr().map_err(CliError::tool)?;
    let engine = engine::open(store, Arc::new(ingest.clone()), patterns, &config)?;

    let (stop, stopping) = watch::channel(false);
    let stopped = |mut stopping: watch::Receiver<bool>| async move {
        let _ = stopping.wait_for(|s| *s).await;
    };
    let mut collecting =
        tokio::spawn(tapio_ingest::run(ingest.clone(), collector, stopped(stopping.clone())));
    let following = config.systemd_enabled.then(|| {
        let options = JournalOptions::default();
        tokio::spawn(journald::run(ingest.clone(), options, stopped(stopping.clone())))
    });
    let evaluating = tokio::spawn(eval::run(
        engine.clone(),
        ingest.clone(),
        cli.evaluate_every,
        stopping.clone(),
    ));
    let options =
        FlightOptions { query_timeout: Some(config.query_limit), ..FlightOptions::default() };
    let mut serving =
        tokio::spawn(serve(listener, Arc::new(Backend(engine)), options, stopped(stopping)));

    announce(&address.to_string(), cli.addr_file.as_deref())?;
    let mut failure = None;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        ended = &mut serving => {
            failure = Some(match ended {
                Ok(Err(e @ ServeError::Open { .. })) => format!("{e} (server.listen, --listen)"),
                Ok(Err(e)) => e.to_string(),
                Ok(Ok(())) => "the service ended by itself; this is a bug".into(),
                Err(e) => format!("the service ended unexpectedly: {e}; this is a bug"),
            });
        }
        ended = &mut collecting => {
            failure = Some(match ended {
                Ok(Err(e)) => e.to_string(),
                Ok(Ok(_)) => "the collector ended by itself; this is a bug".into(),
                Err(e) => format!("the collector ended unexpectedly: {e}; this is a bug"),
            });
        }
    }
    let _ = stop.send(true);
    if !collecting.is_finished() {
        let _ = collecting.await;
    }
    if let Some(following) = following {
        let _ = following.await;
    }
    let _ = evaluating.await;
    if !serving.is_finished() {
        let _ = serving.await;
    }
    match ingest.shutdown().await {
        Ok(_) => tracing::info!("all rows are in files; stopped"),
        Err(e) => {
            tracing::error!("the last flush failed, the rows stay in the write-ahead log: {e}")
        }
    }
    failure.map_or(Ok(ExitCode::SUCCESS), |e| Err(CliError::tool(e)))
}

fn log_start(config: &Config, ingest: &Ingest) {
    let from = config.file.as_ref().map_or("defaults".into(), |f| f.display().to_string());
    tracing::info!(
        "store {}, write-ahead log {}, configuration {from}",
        config.storage_url,
        ingest.wal_dir().display()
    );
    let r = ingest.recovery();
    tracing::info!(
        frames = r.frames,
        rows = r.rows,
        rows_in_files = r.rows_in_files,
        tail_bytes = r.tail_bytes,
        damaged_bytes = r.damaged_bytes,
        damaged_frames = r.damaged_frames,
        batches_unknown = r.batches_unknown,
        "recovered from the write-ahead log"
    );
    // What was asked for and is not there must not look as if it were (T8).
    let missing = [
        (
            config.kubernetes_enabled,
            "collectors.kubernetes.enabled",
            "this version does not watch the Kubernetes API; pods are known by their cgroups",
        ),
        (!config.retention.is_empty(), "retention", "this version deletes nothing yet"),
    ];
    for (asked, key, why) in missing {
        if asked {
            tracing::warn!("{key}: {why}");
            ingest.health().set("configuration", key, 1, Severity::Warning, why);
        }
    }
}

async fn bind(address: &str) -> Result<TcpListener, CliError> {
    TcpListener::bind(address).await.map_err(|e| {
        let why = if e.kind() == std::io::ErrorKind::AddrInUse {
            "something else listens there (Prometheus uses 9090 too)"
        } else {
            "is it HOST:PORT of this machine?"
        };
        CliError::tool(format!(
            "cannot listen on {address}: {e}; {why}: choose another address with --listen or server.listen"
        ))
    })
}

/// Says where the server listens: a line on stdout, and the file that was asked for.
fn announce(address: &str, file: Option<&Path>) -> Result<(), CliError> {
    if let Some(path) = file {
        // Whole or not at all: someone is polling for it.
        let part = path.with_extension("part");
        std::fs::write(&part, format!("{address}\n"))
            .and_then(|()| std::fs::rename(&part, path))
            .map_err(|e| CliError::tool(format!("cannot write --addr-file {}: {e}", path.display())))?;
    }
    let mut out = std::io::stdout().lock();
    // Nobody may be reading; the server serves all the same.
    let _ = writeln!(out, "listening on {address}").and_then(|()| out.flush());
    Ok(())
}
