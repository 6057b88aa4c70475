//! Arguments of `record` and `replay`.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::Args;

use crate::units::{parse_bytes, parse_duration};

/// Arguments of `tapio record`.
#[derive(Debug, Clone, Args)]
pub struct RecordArgs {
    /// Folder of the pack; must not exist or be empty
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Stop after this time (default: when COMMAND ends, else on Ctrl-C)
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    pub duration: Option<Duration>,
    /// Time between two samples (at least a second)
    #[arg(long, value_parser = parse_every, default_value = "1s", value_name = "TIME", conflicts_with = "since")]
    pub every: Duration,
    /// Record only this cgroup, its ancestors and the node (default: all)
    #[arg(long, value_name = "PATH", conflicts_with = "command")]
    pub cgroup: Option<String>,
    /// Hard memory limit of the cgroup that COMMAND runs in
    #[arg(long, value_parser = parse_bytes, value_name = "SIZE", requires = "command")]
    pub memory_limit: Option<u64>,
    /// Most processes and threads in that cgroup; one more being refused counts as an incident
    #[arg(long, value_name = "NUMBER", requires = "command")]
    pub pids_limit: Option<u64>,
    /// Change that limit after a time, for example 120s=192MiB (may be repeated)
    #[arg(long, value_name = "TIME=SIZE", requires = "command")]
    pub change_limit: Vec<LimitChange>,
    /// Record what kernel programs see, too: HTTP, connections, OOM victims (needs root)
    #[arg(long)]
    pub kernel: bool,
    /// Record the filesystem that is mounted here, too; it is full, or has no inodes left, counts as an incident
    #[arg(long, value_name = "MOUNT")]
    pub filesystem: Option<PathBuf>,
    /// Take the rows from the store (--store or storage.url) instead: from this time on
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, conflicts_with_all = ["command", "duration"])]
    pub since: Option<String>,
    /// With --since: up to this time (default: the newest row)
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, requires = "since")]
    pub until: Option<String>,
    /// Licence of the recorded data, as SPDX identifier
    #[arg(long, default_value = "Apache-2.0", value_name = "SPDX")]
    pub license: String,
    /// Command to run and record, in a memory cgroup of its own
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

fn parse_every(text: &str) -> Result<Duration, String> {
    let every = parse_duration(text)?;
    if every < Duration::from_secs(1) {
        return Err(format!("{text:?} is less than a second"));
    }
    Ok(every)
}

/// Arguments of `tapio replay`.
#[derive(Debug, Clone, Args)]
pub struct ReplayArgs {
    /// Folder of the pack
    pub pack: PathBuf,
    /// Time between two evaluations
    #[arg(long, value_parser = parse_duration, default_value = "5s", value_name = "TIME")]
    pub step: Duration,
}

/// A limit and when it comes into force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitChange {
    /// Time since the start of the recording.
    pub after: Duration,
    /// New limit in bytes.
    pub bytes: u64,
}

impl FromStr for LimitChange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (after, bytes) =
            text.split_once('=').ok_or_else(|| format!("expected TIME=SIZE, got {text:?}"))?;
        Ok(Self { after: parse_duration(after)?, bytes: parse_bytes(bytes)? })
    }
}
