//! journalctl as a child process.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::Command;

use super::{JournalOptions, entry::FIELDS};

/// Where reading begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Start {
    /// At this entry, which comes first if the journal still has it; else at the next one that it has.
    At(String),
    /// At the first entry after this time, seconds since the epoch.
    Since(i64),
}

/// The command that follows the journal from there on.
///
/// `--cursor` and not `--after-cursor`, which (systemd 252) passes over the first entry even if it is not the one that
/// the cursor names, and so loses one more after a vacuum. `--merge`, because `--follow` alone keeps to the present boot
/// and would leave out the end of the one before; the match on the machine keeps out what other machines and containers
/// sent here. `--all`, because values above 4 KiB are null otherwise.
pub(crate) fn command(options: &JournalOptions, start: &Start) -> Command {
    let mut c = Command::new(&options.journalctl);
    c.args(["--follow", "--merge", "--no-tail", "--all", "--no-pager", "--output=json"]);
    c.arg(format!("--output-fields={}", FIELDS.join(",")));
    match start {
        Start::At(cursor) => c.arg(format!("--cursor={cursor}")),
        Start::Since(seconds) => c.arg(format!("--since=@{seconds}")),
    };
    match &options.directory {
        Some(dir) => {
            c.arg("--directory").arg(dir);
        }
        None => {
            let id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
            if !id.trim().is_empty() {
                c.arg(format!("_MACHINE_ID={}", id.trim()));
            }
        }
    }
    // Its sentences are looked at, so they must be the English ones.
    c.env("LC_ALL", "C").env_remove("SYSTEMD_LOG_LEVEL");
    c.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    c
}

/// Where journal files are looked for.
pub(crate) fn roots(options: &JournalOptions) -> Vec<PathBuf> {
    match &options.directory {
        Some(dir) => vec![dir.clone()],
        None => vec!["/var/log/journal".into(), "/run/log/journal".into()],
    }
}

/// Whether there is a journal file in the directory or in one below it. Without any, `journalctl --follow` waits for
/// ever and says nothing.
pub(crate) fn has_journal(root: &Path) -> bool {
    let entries = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten();
    let is_journal =
        |path: &Path| path.extension().is_some_and(|e| e == "journal" || e == "journal~");
    entries(root).any(|e| {
        let path = e.path();
        is_journal(&path) || (path.is_dir() && entries(&path).any(|e| is_journal(&e.path())))
    })
}

/// The end of what the child said on standard error.
#[derive(Debug, Default)]
pub(crate) struct Said {
    tail: Vec<u8>,
}

impl Said {
    const KEPT: usize = 2 << 10;

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        let over = self.tail.len().saturating_sub(Self::KEPT);
        self.tail.drain(..over);
    }

    /// As one line.
    pub(crate) fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.tail);
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Whether this user does not see everything (sd-journal's hint and error).
    pub(crate) fn restricted(&self) -> bool {
        let text = self.text();
        text.contains("not seeing messages") || text.contains("insufficient permissions")
    }
}
