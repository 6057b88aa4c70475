//! The collector of the journal: follows `journalctl` and stores every entry as an event (`source` = `journald`).
//!
//! journalctl runs as a child and prints one JSON object per entry. The journal's cursor is stored in the frame of the
//! rows it belongs to (T5), so after any end reading goes on behind the last stored entry: none is lost, none comes
//! twice. journald keeps what is not read yet; while rows cannot be stored the child waits on its pipe.
//!
//! | what | kind |
//! |---|---|
//! | any line | `log` |
//! | the kernel's lines about lack of memory | `oom.constraint_log`, `oom.kill_log`, `oom.invoked_log`, `oom.reaped_log`; a kill is counted elsewhere as `oom.kill` |
//! | systemd's messages with an id | `unit.start`, `unit.stop`, `unit.failed`, `unit.restarted`, `unit.oom_killed`, …, `process.core_dumped`, `node.started`, `node.shutdown`, … |
//! | kubelet's and containerd's | `container.back_off`, `container.probe_failed`, `container.image_pull_failed`, `pod.evicted`, `node.pressure`, `runtime.request_failed`, … |
//! | the first entry of another boot | `node.boot`, beside the entry's own row |
//!
//! Lost or left out, and counted in `health` as `collector.journald` (T8): `entries_missing` (holes in the journal's own
//! numbering, as after a vacuum), `position_lost`, `lines_dropped` (rate limit), `lines_too_long`, `lines_malformed`,
//! `messages_cut`, `suppressed_by_journald`, `restarts` of journalctl, `appends_waited`; gauges `no_journalctl`,
//! `no_journal`, `restricted`, `behind_seconds`.

mod cursor;
mod entry;
mod follow;
mod kernel;
mod kubernetes;
mod lines;
mod output;
mod pairs;
mod rate;
#[cfg(test)]
mod real_journald;
mod row;
mod source;
#[cfg(test)]
mod standalone;
mod systemd;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc, time::Duration};

pub use follow::run;
pub use output::events_of;
pub use rate::RateLimit;

use crate::{Clock, SystemClock, collect::hostname};

/// Name of the stored cursor, and of the component in `health`.
const SOURCE: &str = "journald";
const COMPONENT: &str = "collector.journald";

/// What to read and how much of it to keep.
#[derive(Debug, Clone)]
pub struct JournalOptions {
    /// The program (default `journalctl`, found by `PATH`).
    pub journalctl: PathBuf,
    /// Read the files of this directory and of the directories in it, as a host's journal mounted into a container
    /// (default: the journal of this machine).
    pub directory: Option<PathBuf>,
    /// Node name in the rows (default: the host name).
    pub node: String,
    /// At the first start, without a stored cursor: begin so long ago (default 15 min). Tapio is often installed right
    /// after something broke, and the last minutes say what; the whole history would take minutes to read and tell
    /// of machines that are long mended.
    pub first_window: Duration,
    /// Rows of one append at most, about (default 500).
    pub batch_rows: usize,
    /// Time between two appends at least, unless `batch_rows` are there before (default 200 ms).
    pub batch_delay: Duration,
    /// A line of journalctl's output beyond this is passed over (default 1 MiB).
    pub line_bytes: usize,
    /// A message is cut here (default 4 KiB).
    pub message_bytes: usize,
    /// Lines per unit.
    pub rate: RateLimit,
    /// First and longest pause before journalctl is started again (default 1 s and 1 min).
    pub retry: (Duration, Duration),
    /// Pause while there is no journalctl or no journal (default 5 min).
    pub absent_retry: Duration,
    /// The time of `observed_at`.
    pub clock: Arc<dyn Clock>,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            journalctl: "journalctl".into(),
            directory: None,
            node: hostname(),
            first_window: Duration::from_secs(15 * 60),
            batch_rows: 500,
            batch_delay: Duration::from_millis(200),
            line_bytes: 1 << 20,
            message_bytes: 4 << 10,
            rate: RateLimit::default(),
            retry: (Duration::from_secs(1), Duration::from_secs(60)),
            absent_retry: Duration::from_secs(300),
            clock: Arc::new(SystemClock),
        }
    }
}
