//! The loop: read, make rows, store with the cursor, start journalctl again when it ends.

use std::{future::Future, pin::Pin, process::ExitStatus, sync::Arc, time::Duration};

use tapio_sql::TableDef;
use tapio_store::SinkError;
use tokio::{
    io::AsyncReadExt,
    process::Child,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    COMPONENT, JournalOptions, SOURCE,
    cursor::{Cursor, Sequence},
    entry::Entry,
    lines::Lines,
    rate::Limiter,
    row::{self, Reader, Row},
    source::{Said, Start, command, has_journal, roots},
};
use crate::{Health, Ingest, Severity, hot::table_def};

/// A batch is stored when its texts take this much, whatever the number of rows.
const BATCH_BYTES: usize = 1 << 20;
/// An entry waits so long for those that come with it.
const LINGER: Duration = Duration::from_millis(10);
/// Longest pause between two tries to store a batch.
const STORE_PAUSE: Duration = Duration::from_secs(5);
/// Reading is said to be behind from here on.
const BEHIND_SECONDS: i64 = 60;
/// A child that lived so long was not stillborn: the pause before the next one is the first again.
const SETTLED: Duration = Duration::from_secs(10);
/// What is not seen without the journal.
const COST: &str = "log lines, failures and restarts of units, and the kernel's and kubelet's messages are not seen";

/// Follows the journal until `shutdown` resolves, and stores what it says. Never fails: what is missing is said in
/// `health` and tried again.
///
/// A stored entry has its cursor in the same frame (T5): after a restart, also by `kill -9`, reading goes on behind it.
/// What cannot be stored waits; journald keeps the rest. At the first start it begins
/// [`JournalOptions::first_window`] ago.
pub async fn run(
    ingest: Ingest,
    options: JournalOptions,
    shutdown: impl Future<Output = ()> + Send,
) {
    let health = ingest.health().clone();
    let Some(def) = table_def("events") else {
        health.set(COMPONENT, "no_table", 1, Severity::Error, "there is no table events");
        return;
    };
    let (first, longest) = options.retry;
    let absent = options.absent_retry;
    let mut follower = Follower::new(ingest, options, def);
    let mut shutdown = Shutdown { future: Box::pin(shutdown), done: false };
    let mut pause = first;
    loop {
        let started = Instant::now();
        let wait = match follower.follow(&mut shutdown).await {
            End::Stopped => return,
            End::Absent { metric, detail } => {
                let detail = format!("{detail}: {COST}");
                if health.value(COMPONENT, metric) == 0 {
                    tracing::warn!("journald: {detail}");
                }
                health.set(COMPONENT, metric, 1, Severity::Warning, detail);
                absent
            }
            End::Ended(why) => {
                if started.elapsed() > SETTLED {
                    pause = first;
                }
                let detail = format!(
                    "journalctl ended ({why}); it is started again and nothing is lost by it"
                );
                tracing::warn!("journald: {detail}");
                health.count(COMPONENT, "restarts", 1, Severity::Warning, detail);
                let wait = pause;
                pause = (pause * 2).min(longest);
                wait
            }
        };
        tokio::select! {
            () = shutdown.wait() => return,
            () = sleep(wait) => {}
        }
    }
}

/// A future that may be waited for again after it has resolved.
struct Shutdown<F> {
    future: Pin<Box<F>>,
    done: bool,
}

impl<F: Future<Output = ()>> Shutdown<F> {
    async fn wait(&mut self) {
        if !self.done {
            self.future.as_mut().await;
            self.done = true;
        }
    }
}

/// How following ended.
enum End {
    /// Told to, or the pipeline is shut down.
    Stopped,
    /// There is nothing to follow.
    Absent { metric: &'static str, detail: String },
    /// The child ended.
    Ended(String),
}

/// What was taken since the last append.
#[derive(Debug, Default)]
struct Pending {
    rows: Vec<Row>,
    bytes: usize,
    /// When its first entry came.
    since: Option<Instant>,
    dropped: i64,
    cut: i64,
    suppressed: i64,
    /// When the journal got the last entry, µs.
    last_us: i64,
}

struct Follower {
    ingest: Ingest,
    health: Arc<Health>,
    options: JournalOptions,
    def: Arc<TableDef>,
    reader: Reader,
    limiter: Limiter,
    sequence: Sequence,
    /// Cursor of the last entry that was taken, stored or not.
    position: Option<String>,
    /// The first entry that comes should be the one of `position`.
    resuming: bool,
    /// Lines since the last good one that were no entries.
    unread: u64,
    /// This user does not see every entry, so holes in the numbering say nothing.
    restricted: bool,
    pending: Pending,
    /// When the last append was acknowledged.
    stored_at: Option<Instant>,
}

impl Follower {
    fn new(ingest: Ingest, options: JournalOptions, def: Arc<TableDef>) -> Self {
        let mut follower = Self {
            health: ingest.health().clone(),
            position: ingest.cursor(SOURCE),
            ingest,
            def,
            reader: Reader::default(),
            limiter: Limiter::new(options.rate),
            options,
            sequence: Sequence::default(),
            resuming: false,
            unread: 0,
            restricted: false,
            pending: Pending::default(),
            stored_at: None,
        };
        if let Some(at) = follower.position.as_deref().and_then(Cursor::parse) {
            follower.sequence.next(&at);
            follower.reader.resume(at.boot);
        }
        follower
    }

    /// One child, from its start to its end.
    async fn follow<F: Future<Output = ()>>(&mut self, shutdown: &mut Shutdown<F>) -> End {
        let roots = roots(&self.options);
        if !roots.iter().any(|r| has_journal(r)) {
            let places: Vec<_> = roots.iter().map(|r| r.display().to_string()).collect();
            let detail = format!("there is no journal in {}", places.join(" or "));
            return End::Absent { metric: "no_journal", detail };
        }
        let mut child = match command(&self.options, &self.start()).spawn() {
            Ok(child) => child,
            Err(e) => {
                let program = self.options.journalctl.display();
                let detail = format!("cannot start {program}: {e}; install systemd's journalctl");
                return End::Absent { metric: "no_journalctl", detail };
            }
        };
        for metric in ["no_journal", "no_journalctl"] {
            self.clear(metric, "the journal is followed");
        }
        self.resuming = self.position.is_some();
        let mut said = Said::default();
        let end = self.read(&mut child, &mut said, shutdown).await;
        let ended = matches!(end, End::Ended(_));
        let last = Duration::from_secs(u64::from(ended));
        let status = match timeout(last, child.wait()).await {
            Ok(status) => status,
            // Nothing is lost by killing it: it only reads.
            Err(_) => child.kill().await.map(|()| ExitStatus::default()),
        };
        if !ended {
            return end;
        }
        let text = said.text();
        if self.resuming && text.contains("cursor") {
            let detail = format!(
                "the journal refuses the stored position: {text}; reading begins at its time, and what was stored since comes again under its id"
            );
            tracing::warn!("journald: {detail}");
            self.health.count(COMPONENT, "position_lost", 1, Severity::Warning, detail);
            let time = self.position.take().and_then(|c| Cursor::parse(&c)?.realtime_us());
            self.pending.last_us = time.unwrap_or(0);
        }
        End::Ended(how(status, &text))
    }

    fn start(&self) -> Start {
        if let Some(cursor) = &self.position {
            return Start::At(cursor.clone());
        }
        let window = i64::try_from(self.options.first_window.as_secs()).unwrap_or(i64::MAX);
        let begin = (self.options.clock.now_us() / 1_000_000).saturating_sub(window);
        Start::Since(begin.max(self.pending.last_us / 1_000_000).max(0))
    }

    async fn read<F: Future<Output = ()>>(
        &mut self,
        child: &mut Child,
        said: &mut Said,
        shutdown: &mut Shutdown<F>,
    ) -> End {
        let (Some(mut out), Some(mut err)) = (child.stdout.take(), child.stderr.take()) else {
            return End::Ended("without its pipes".into());
        };
        let mut lines = Lines::new(self.options.line_bytes);
        let mut buffer = vec![0; 64 << 10];
        let mut errors = vec![0; 1 << 10];
        let mut err_open = true;
        loop {
            let due = self.due();
            tokio::select! {
                // A hint that entries are hidden comes before the entries.
                biased;
                () = shutdown.wait() => {
                    // Once: what is not stored is read again at the next start.
                    let _ = self.append().await;
                    return End::Stopped;
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                n = err.read(&mut errors), if err_open => match n {
                    Ok(n) if n > 0 => {
                        said.push(&errors[..n]);
                        self.look_at(said);
                    }
                    _ => err_open = false,
                },
                n = out.read(&mut buffer) => match n {
                    Ok(n) if n > 0 => self.push(&mut lines, &buffer[..n]),
                    _ => {
                        if self.store(shutdown).await.is_err() {
                            return End::Stopped;
                        }
                        if err_open {
                            let rest = timeout(Duration::from_secs(1), err.read(&mut errors)).await;
                            said.push(&errors[..rest.ok().and_then(Result::ok).unwrap_or(0)]);
                        }
                        return End::Ended(String::new());
                    }
                },
            }
            let p = &self.pending;
            let full = p.rows.len() >= self.options.batch_rows || p.bytes >= BATCH_BYTES;
            let late = self.due().is_some_and(|due| due <= Instant::now());
            if (full || late) && self.store(shutdown).await.is_err() {
                return End::Stopped;
            }
        }
    }

    /// When what is pending is stored at the latest: a moment after its first entry, unless the last append was just now.
    fn due(&self) -> Option<Instant> {
        let due = self.pending.since? + LINGER;
        Some(self.stored_at.map_or(due, |at| due.max(at + self.options.batch_delay)))
    }

    fn push(&mut self, lines: &mut Lines, bytes: &[u8]) {
        let before = lines.too_long;
        lines.push(bytes, |line| self.take(line));
        let skipped = lines.too_long - before;
        if skipped > 0 {
            self.unread += skipped;
            let detail =
                format!("entries above {} bytes were passed over", self.options.line_bytes);
            self.count("lines_too_long", skipped, Severity::Warning, detail);
        }
    }

    /// Takes one line of journalctl's output.
    fn take(&mut self, line: &[u8]) {
        let entry = match Entry::parse(line, self.options.message_bytes) {
            Ok(entry) => entry,
            Err(e) => {
                self.unread += 1;
                let detail = format!("a line of journalctl was passed over: {e}");
                return self.count("lines_malformed", 1, Severity::Warning, detail);
            }
        };
        let at = entry.position();
        if std::mem::take(&mut self.resuming)
            && let Some(stored) = &self.position
        {
            let known = match (Cursor::parse(stored), &at) {
                (Some(stored), Some(at)) => stored.same_entry(at),
                _ => *stored == entry.cursor,
            };
            if known {
                return;
            }
            let detail = "the entry that was stored last is no longer in the journal; entries_missing says how many after it, if their numbers tell";
            self.count("position_lost", 1, Severity::Warning, detail.into());
        }
        if let Some(at) = &at {
            let missing = self.sequence.next(at).saturating_sub(self.unread);
            if missing > 0 && !self.restricted {
                let detail = format!(
                    "{missing} entries before number {} did not come: vacuumed before they were read, or damaged",
                    at.number
                );
                self.count("entries_missing", missing, Severity::Error, detail);
            }
        }
        self.unread = 0;
        let p = &mut self.pending;
        p.since.get_or_insert_with(Instant::now);
        p.last_us = entry.realtime_us;
        if let Some(row) = self.reader.boot(&entry) {
            p.bytes += row.bytes();
            p.rows.push(row);
        }
        let row = self.reader.row(&entry);
        if self.limiter.admit(unit(&entry), row.is_high(), entry.realtime_us) {
            p.cut += i64::from(entry.value("MESSAGE").is_some_and(super::entry::Value::is_cut));
            p.suppressed = p.suppressed.saturating_add(row::suppressed(&row));
            p.bytes += row.bytes();
            p.rows.push(row);
        } else {
            p.dropped += 1;
        }
        self.position = Some(entry.cursor);
    }

    /// Stores what is pending; tries until it is stored. `Err`: told to stop, or the pipeline is shut down.
    async fn store<F: Future<Output = ()>>(
        &mut self,
        shutdown: &mut Shutdown<F>,
    ) -> Result<(), ()> {
        let mut pause = Duration::from_millis(100);
        loop {
            match self.append().await {
                Ok(()) => return Ok(()),
                Err(SinkError::Closed) => return Err(()),
                Err(e) => {
                    let detail = format!("entries wait in the journal, which keeps them: {e}");
                    self.count("appends_waited", 1, Severity::Warning, detail);
                }
            }
            tokio::select! {
                () = shutdown.wait() => return Err(()),
                () = sleep(pause) => pause = (pause * 2).min(STORE_PAUSE),
            }
        }
    }

    /// Rows and position in one frame; lines that were dropped advance the position too.
    async fn append(&mut self) -> Result<(), SinkError> {
        let p = &self.pending;
        let (Some(_), Some(position)) = (p.since, &self.position) else { return Ok(()) };
        let now = self.options.clock.now_us();
        let batches = match row::batch(&self.def, &p.rows, &self.options.node, now) {
            Ok(_) if p.rows.is_empty() => Vec::new(),
            Ok(batch) => vec![batch],
            Err(e) => {
                tracing::error!("{e}");
                self.count("rows_lost", p.rows.len() as u64, Severity::Error, e.to_string());
                Vec::new()
            }
        };
        self.ingest.append_with_cursor(SOURCE, position, batches).await?;
        self.stored_at = Some(Instant::now());
        let p = std::mem::take(&mut self.pending);
        self.tell(&p, now);
        // The vector's memory is kept, the rest begins anew.
        self.pending = Pending { rows: p.rows, last_us: p.last_us, ..Pending::default() };
        self.pending.rows.clear();
        Ok(())
    }

    /// Counts what was left out of a batch that is stored.
    fn tell(&self, p: &Pending, now_us: i64) {
        if p.dropped > 0 {
            let detail = format!(
                "lines beyond {} a second and unit, debug and info first, since the start: {}",
                self.options.rate.per_second,
                self.limiter.refused()
            );
            self.health.count(COMPONENT, "lines_dropped", p.dropped, Severity::Warning, detail);
        }
        let cut = format!(
            "messages are cut at {} bytes; attributes.message_bytes has their length",
            self.options.message_bytes
        );
        self.health.count(COMPONENT, "messages_cut", p.cut, Severity::Info, cut);
        let suppressed = "journald itself refused lines of services that wrote too many (RateLimitBurst in journald.conf)";
        self.health.count(
            COMPONENT,
            "suppressed_by_journald",
            p.suppressed,
            Severity::Warning,
            suppressed,
        );
        let behind = now_us.saturating_sub(p.last_us) / 1_000_000;
        if behind >= BEHIND_SECONDS {
            let detail = "seconds between the journal and what of it is stored; answers about log lines lag as much";
            self.health.set(COMPONENT, "behind_seconds", behind, Severity::Info, detail);
        } else {
            self.clear("behind_seconds", "reading keeps up");
        }
    }

    fn look_at(&mut self, said: &Said) {
        if said.restricted() && !self.restricted {
            self.restricted = true;
            let detail = format!(
                "this user does not see all entries (join the group systemd-journal): {}",
                said.text()
            );
            tracing::warn!("journald: {detail}");
            self.health.set(COMPONENT, "restricted", 1, Severity::Warning, detail);
        }
    }

    fn count(&self, metric: &'static str, n: u64, severity: Severity, detail: String) {
        let n = i64::try_from(n).unwrap_or(i64::MAX);
        self.health.count(COMPONENT, metric, n, severity, detail);
    }

    /// A gauge that was raised is taken back.
    fn clear(&self, metric: &'static str, detail: &str) {
        if self.health.value(COMPONENT, metric) != 0 {
            self.health.set(COMPONENT, metric, 0, Severity::Info, detail);
        }
    }
}

/// Whose line it is, for the rate limit: the container, else the unit, else the identifier, else how it came.
fn unit(entry: &Entry) -> &str {
    let names = ["CONTAINER_NAME", "_SYSTEMD_UNIT", "SYSLOG_IDENTIFIER", "_TRANSPORT"];
    names.iter().map(|f| entry.text(f)).find(|t| !t.is_empty()).unwrap_or_default()
}

/// How a child ended, for a human.
fn how(status: std::io::Result<ExitStatus>, said: &str) -> String {
    let status = match status {
        Ok(status) => status.to_string(),
        Err(e) => e.to_string(),
    };
    if said.is_empty() { status } else { format!("{status}: {said}") }
}
