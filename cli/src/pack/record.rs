//! `tapio record`: makes a pack of what really happens (or happened).

use std::{
    process::{Child, Command, ExitCode, ExitStatus},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use arrow::array::AsArray;
use indicatif::{ProgressBar, ProgressStyle};
use tapio_ingest::{Clock, Collector, CollectorOptions, Filesystems, KernelOptions, SystemClock};
use tapio_query::{Engine, EngineOptions};
use tapio_sql::{PatternCatalog, TableBatch, catalog};
use tapio_store::Store;

use super::{
    args::{LimitChange, RecordArgs},
    truth::{self, Watch},
    write::{About, Rows, prepare, write},
};
use crate::{
    Globals,
    args::OutputForm,
    cage::Cage,
    commands::print_bytes,
    error::CliError,
    measure::Measure,
    time::{parse_time, rfc3339},
    units::bytes_words,
};

/// Ticks after the end of the command, so that its end is on record, and the time between them.
const TICKS_AFTER: u32 = 3;
const TICK_AFTER: Duration = Duration::from_secs(1);
/// Time between two looks, between ticks, at whether the command has ended or its limit is due to change.
const LOOK: Duration = Duration::from_millis(100);

/// Makes a pack.
///
/// # Errors
/// [`CliError`] if the folder cannot be written, the command not started, or nothing was observed.
pub async fn record(args: &RecordArgs, globals: &Globals) -> Result<ExitCode, CliError> {
    prepare(&args.out).map_err(CliError::tool)?;
    let (rows, about) = match &args.since {
        Some(since) => from_store(args, since, &globals.config.storage_url).await?,
        None => {
            let args = args.clone();
            let stop = Arc::new(AtomicBool::new(false));
            let stopped = stop.clone();
            tokio::spawn(async move {
                if tokio::signal::ctrl_c().await.is_ok() {
                    stopped.store(true, Ordering::Relaxed);
                }
            });
            let observed = tokio::task::spawn_blocking(move || observe(&args, &stop));
            observed.await.map_err(CliError::tool)??
        }
    };
    let manifest = write(&args.out, rows, about).map_err(CliError::tool)?;
    if matches!(globals.args.output, OutputForm::Json) {
        let text = serde_json::to_string(&manifest).map_err(CliError::tool)?;
        print_bytes(format!("{text}\n").as_bytes())
    } else {
        let rows: u64 = manifest.files.iter().map(|f| f.rows).sum();
        let what = match manifest.truth.first() {
            Some(t) => {
                let happened = Measure::of(&t.ty).map_or(t.ty.as_str(), |m| m.happened);
                format!("{happened} {} at {}", t.subject, t.at)
            }
            None => "nothing failed".into(),
        };
        let (out, start, end) = (args.out.display(), &manifest.start, &manifest.end);
        print_bytes(format!("{out}: {rows} rows, {start} .. {end}, {what}\n").as_bytes())
    }
}

/// Runs the command, if there is one, and collects until it ends, the time is over or `stop` is set.
fn observe(args: &RecordArgs, stop: &AtomicBool) -> Result<(Rows, About), CliError> {
    let cage = match args.command.is_empty() {
        true => None,
        false => {
            let limit = args.memory_limit.unwrap_or(i64::MAX as u64 & !0xfff);
            let name = format!("tapio-record-{}", std::process::id());
            let cage = Cage::new(&name, limit).map_err(CliError::tool)?;
            if let Some(most) = args.pids_limit {
                cage.set_pids_limit(most).map_err(CliError::tool)?;
            }
            Some(cage)
        }
    };
    let filter = cage.as_ref().map(Cage::path).or_else(|| args.cgroup.clone());
    // Without a filter the whole machine is recorded.
    let filesystems = match (&args.filesystem, &filter) {
        (Some(path), _) => Filesystems::At(path.clone()),
        (None, Some(_)) => Filesystems::None,
        (None, None) => Filesystems::All,
    };
    let options = CollectorOptions {
        filter,
        filesystems,
        filesystem_interval: args.every,
        kernel: args.kernel.then(KernelOptions::default),
        ..CollectorOptions::default()
    };
    let mut collector = Collector::new(options).map_err(CliError::tool)?;
    let mut child = match &cage {
        Some(cage) => Some(Running::start(cage, &args.command)?),
        None => None,
    };
    let truth = Mutex::new(Vec::new());
    let done = AtomicBool::new(false);
    let rows = thread::scope(|scope| {
        if let Some(cage) = &cage {
            let pid = child.as_ref().map(|c| c.0.id());
            let watch = Watch { cage, filesystem: args.filesystem.as_deref(), pid };
            let (truth, done) = (&truth, &done);
            scope.spawn(move || watch.run(truth, done));
        }
        let rows = ticks(args, &mut collector, cage.as_ref(), child.as_mut(), stop);
        done.store(true, Ordering::Relaxed);
        rows
    })?;
    let mut truth = truth.into_inner().unwrap_or_default();
    if cage.is_none() {
        truth = truth::kills(&rows, args.cgroup.as_deref());
    }
    let command = if args.command.is_empty() {
        "(this machine as it ran)".into()
    } else {
        args.command.join(" ")
    };
    Ok((rows, About { command, license: args.license.clone(), truth }))
}

/// Ticks on time, changes the limit when it is due, and ends with the command.
fn ticks(
    args: &RecordArgs,
    collector: &mut Collector,
    cage: Option<&Cage>,
    mut child: Option<&mut Running>,
    stop: &AtomicBool,
) -> Result<Rows, CliError> {
    let mut rows = Rows::default();
    let mut changes: Vec<LimitChange> = args.change_limit.clone();
    changes.sort_by_key(|c| c.after);
    let bar = progress(args.duration);
    let clock = SystemClock;
    let start = Instant::now();
    let mut next = start;
    let mut after = 0;
    loop {
        let collected = collector.tick(clock.now_us());
        rows.tick(collected.through_us);
        collected.batches.into_iter().for_each(|b| rows.add(b));
        let elapsed = start.elapsed();
        bar.set_position(elapsed.as_secs());
        let ended = has_ended(&mut child)?;
        let stopped = || stop.load(Ordering::Relaxed);
        let over = args.duration.is_some_and(|d| elapsed >= d) || stopped();
        if over && !ended {
            break;
        }
        if ended {
            after += 1;
            if after > TICKS_AFTER {
                break;
            }
        }
        next += if ended { TICK_AFTER } else { args.every };
        loop {
            let is_due = |c: &&LimitChange| c.after <= start.elapsed();
            while let (Some(cage), Some(c)) = (cage, changes.first().filter(is_due)) {
                cage.set_limit(c.bytes).map_err(CliError::tool)?;
                bar.println(format!("limit is now {}", bytes_words(c.bytes as f64)));
                changes.remove(0);
            }
            if !ended && has_ended(&mut child)? {
                next = Instant::now();
            }
            let wait = next.saturating_duration_since(Instant::now());
            if wait.is_zero() || stopped() {
                break;
            }
            thread::sleep(wait.min(LOOK));
        }
    }
    bar.finish_and_clear();
    Ok(rows)
}

fn has_ended(child: &mut Option<&mut Running>) -> Result<bool, CliError> {
    Ok(match child {
        Some(c) => c.ended()?.is_some(),
        None => false,
    })
}

fn progress(duration: Option<Duration>) -> ProgressBar {
    let (bar, template) = match duration {
        Some(d) => (ProgressBar::new(d.as_secs()), "recording {bar:30} {pos}/{len} s"),
        None => (ProgressBar::new_spinner(), "{spinner} recording for {pos} s, Ctrl-C ends it"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// A command that is ended with the recording.
struct Running(Child);

impl Running {
    fn start(cage: &Cage, command: &[String]) -> Result<Self, CliError> {
        let Some((program, args)) = command.split_first() else {
            return Err(CliError::tool("there is no command to run"));
        };
        let mut command: Command = cage.command(program, args);
        command.spawn().map(Self).map_err(|e| CliError::tool(format!("cannot run {program}: {e}")))
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>, CliError> {
        self.0.try_wait().map_err(CliError::tool)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The rows of a store between two times.
async fn from_store(
    args: &RecordArgs,
    since: &str,
    store: &str,
) -> Result<(Rows, About), CliError> {
    let now = SystemClock.now_us();
    let since = parse_time(since, now).map_err(|e| CliError::tool(format!("--since: {e}")))?;
    let until = match &args.until {
        Some(t) => parse_time(t, now).map_err(|e| CliError::tool(format!("--until: {e}")))?,
        None => i64::MAX,
    };
    let store = Store::open(store, false).map_err(CliError::tool)?;
    let patterns = PatternCatalog::builtin().map_err(CliError::tool)?;
    let engine = Engine::new(EngineOptions::new(store, patterns)).map_err(CliError::tool)?;
    let under = match &args.cgroup {
        None => String::new(),
        Some(path) => {
            let path = path.trim_end_matches('/').replace('\'', "''");
            format!(
                " AND series_id IN (SELECT series_id FROM series WHERE kind = 'node' OR cgroup = '{path}' \
                 OR starts_with(cgroup, '{path}/') OR starts_with('{path}/', concat(cgroup, '/')))"
            )
        }
    };
    let time = |us: i64| format!("arrow_cast({us}, 'Timestamp(Microsecond, Some(\"UTC\"))')");
    let mut recorded = Rows::default();
    for (table, since) in
        [("resources", since), ("disks", since), ("http", since), ("events", since), ("series", 0)]
    {
        let Some(def) = catalog().get(table) else { continue };
        // Certificates are not in packs, so neither are their names.
        let but = if table == "series" { " AND kind <> 'certificate'" } else { "" };
        let sql = format!(
            "SELECT * FROM {table} WHERE ts >= {} AND ts <= {}{under}{but}",
            time(since),
            time(until.min(i64::MAX / 1000))
        );
        let (_, batches) = engine.sql(&sql, Some(i64::MAX)).await.map_err(CliError::tool)?;
        for batch in batches {
            if table == "resources"
                && let Some(ts) = batch.column_by_name("ts").and_then(|c| {
                    c.as_primitive_opt::<arrow::datatypes::TimestampMicrosecondType>()
                })
            {
                ts.iter().flatten().for_each(|t| recorded.tick(t));
            }
            recorded.add(TableBatch::try_new(def.clone(), batch).map_err(CliError::tool)?);
        }
    }
    let truth = truth::kills(&recorded, args.cgroup.as_deref());
    let command = format!("(from a store, {} on)", rfc3339(since));
    Ok((recorded, About { command, license: args.license.clone(), truth }))
}
