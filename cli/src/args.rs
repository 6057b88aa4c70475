//! The command line: subcommands, flags, help with examples.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum, builder::Styles};

use crate::{
    backtest::BacktestArgs,
    pack::{RecordArgs, ReplayArgs},
    units::parse_duration,
};

/// Tells what in your Kubernetes or Linux fleet will fail next, when, why, and what command fixes it.
#[derive(Debug, Parser)]
#[command(name = "tapio", version, styles = Styles::styled(), after_long_help = EXAMPLES)]
pub struct Cli {
    /// Flags that every command takes.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  tapio check                      what is wrong or will be, everywhere
  tapio check nginx.service        one systemd unit
  tapio check /system.slice/x.service -o json | jq '.predictions[0].eta_seconds'
  tapio check cert:/etc/kubernetes/pki/apiserver.crt   until when a certificate is valid
  tapio why pid:4242               the cause, with evidence
  tapio fix my-job --dry-run       the exact command that would help
  tapio sql \"SELECT name, eta_seconds FROM tapio_check('') WHERE probability > 0.5\"

Where answers come from: a tapio-server if one answers (--server, correlation.server), else the local store
(--store, storage.url), else a few seconds of live observation of this machine. The output says which of the three.

Targets, in this order: pid:N, disk:MOUNT, cert:FILE, a cgroup path, ns/kind/name, kind/name, ns/name, then a bare name as
workload > pod > systemd unit > last part of a cgroup > node > mount point > certificate. Several matches are listed.

Exit codes: 0 fine, 1 something is unhealthy, 2 tapio could not do its job (bad target, no data, stale data).";

/// Flags that every command takes.
#[derive(Debug, Clone, Default, Args)]
pub struct GlobalArgs {
    /// Form of the output; arrow and parquet for `sql` only
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORM")]
    pub output: OutputForm,
    /// Ask this tapio-server (host:port or URL) and nothing else
    #[arg(long, global = true, value_name = "URL")]
    pub server: Option<String>,
    /// Read this store (folder or URL) and nothing else
    #[arg(long, global = true, value_name = "URL")]
    pub store: Option<String>,
    /// Answer as it stood then: RFC 3339, seconds since the epoch, or -15m
    #[arg(long, global = true, value_name = "TIME", allow_hyphen_values = true)]
    pub as_of: Option<String>,
    /// When to use colours
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub color: ColorChoice,
    /// Say more on stderr (-vv: everything)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Kubernetes namespace of the target
    #[arg(short, long, global = true, value_name = "NS", conflicts_with = "all_namespaces")]
    pub namespace: Option<String>,
    /// All namespaces (which is also the default)
    #[arg(short = 'A', long, global = true)]
    pub all_namespaces: bool,
    /// Configuration file (default: $TAPIO_CONFIG, ./tapio-config.yaml, ~/.config/tapio/config.yaml,
    /// /etc/tapio/tapio-config.yaml)
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Form of the output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputForm {
    /// For people.
    #[default]
    Human,
    /// JSON, as published by `tapio schema`.
    Json,
    /// The same as YAML.
    Yaml,
    /// The rows of the relation.
    Csv,
    /// Arrow IPC stream (`sql` only).
    Arrow,
    /// A Parquet file (`sql` only).
    Parquet,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Health and predictions of a target, or of everything
    #[command(after_long_help = "Examples:\n  tapio check\n  tapio check api-service -n shop\n  \
        tapio check /kubepods/besteffort/pod1234 -o json\n  tapio check my-job --as-of -10m --store /var/lib/tapio")]
    Check(TargetArgs),
    /// Why something fails or will fail, with evidence; or that no cause is proven
    #[command(after_long_help = "Examples:\n  tapio why my-job\n  tapio why pid:4242 -o json")]
    Why(RequiredTarget),
    /// The commands that would help, what they cost and what they buy
    #[command(
        after_long_help = "This version prints the exact commands and never runs them: run them yourself.\n\n\
        Examples:\n  tapio fix my-job --dry-run\n  tapio fix my-job --dry-run -o json | jq -r '.fixes[0].command'"
    )]
    Fix(FixArgs),
    /// Any SQL over the tables and relations; without QUERY it is read from stdin
    #[command(after_long_help = "Examples:\n  tapio sql 'SELECT * FROM tapio_targets(NULL)'\n  \
        tapio sql \"SELECT * FROM tapio_check('my-job')\" -o json\n  \
        tapio sql 'SELECT * FROM resources' -o parquet > resources.parquet\n  echo 'SHOW TABLES' | tapio sql")]
    Sql(SqlArgs),
    /// Record what happens on this machine into a pack that can be replayed
    #[command(after_long_help = "Examples:\n  \
        tapio record --out incident --memory-limit 256MiB -- ./leaky   (in a memory cgroup of its own; needs root)\n  \
        tapio record --out machine --duration 5m\n  \
        tapio record --out day --every 10s --duration 24h\n  \
        tapio record --out last-hour --store /var/lib/tapio --since -1h --cgroup /system.slice/x.service")]
    Record(RecordArgs),
    /// Replay a pack with a virtual clock: the same answers, byte for byte
    #[command(after_long_help = "Examples:\n  tapio replay datasets/oom-linear\n  \
        tapio replay datasets/oom-linear -o json | tail -n 1 | jq .summary")]
    Replay(ReplayArgs),
    /// Score forecasts: how early, how right, how sure, beside what operators use today
    #[command(after_long_help = "Examples:\n  tapio backtest datasets\n  \
        tapio backtest datasets/oom-linear -o json | jq .scores\n  \
        tapio backtest --series free.csv --threshold 0 --direction down --horizon 24h --html report.html\n  \
        tapio backtest --generated")]
    Backtest(BacktestArgs),
    /// Write, show or check the configuration
    Config(ConfigArgs),
    /// Check what Tapio needs on this machine, and what is lost without it
    #[command(
        after_long_help = "Each line is one check that was really made: ok, degraded (Tapio works, with less) or \
        fail. Exit code 1 if one fails.\n\nExamples:\n  tapio doctor\n  tapio doctor -o json | jq '.checks[] | select(.status != \"ok\")'"
    )]
    Doctor,
    /// Print the shell completions
    #[command(
        after_long_help = "Examples:\n  tapio completions bash > /etc/bash_completion.d/tapio\n  \
        tapio completions zsh > ~/.zfunc/_tapio"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the JSON Schema of a command's JSON output
    Schema {
        /// The output: check, why, fix, replay or doctor; without it they are listed
        name: Option<String>,
    },
}

/// A target that may be left out.
#[derive(Debug, Args)]
pub struct TargetArgs {
    /// What to look at (see `tapio --help`); without it: everything
    pub target: Option<String>,
}

/// A target that must be there.
#[derive(Debug, Args)]
pub struct RequiredTarget {
    /// What to look at (see `tapio --help`)
    pub target: String,
}

/// Arguments of `fix`.
#[derive(Debug, Args)]
pub struct FixArgs {
    /// What to fix (see `tapio --help`)
    pub target: String,
    /// Print what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask (this version never applies a fix by itself, so it changes nothing)
    #[arg(long)]
    pub yes: bool,
}

/// Arguments of `sql`.
#[derive(Debug, Args)]
pub struct SqlArgs {
    /// The statement
    pub query: Option<String>,
}

/// Arguments of `config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Write a commented configuration
    Init {
        /// Where to
        #[arg(default_value = "./tapio-config.yaml")]
        path: PathBuf,
        /// Overwrite an existing file
        #[arg(long)]
        force: bool,
    },
    /// Print the configuration in force, and the file it came from
    Show,
    /// Check a configuration: unknown keys, wrong types
    Validate {
        /// The file (default: the one in force)
        path: Option<PathBuf>,
    },
}

/// Collects, stores, forecasts and serves: the server of Tapio.
#[derive(Debug, Parser)]
#[command(
    name = "tapio-server",
    version,
    after_long_help = "Examples:\n  tapio-server\n  \
    tapio-server --config tapio-config.yaml\n  tapio-server --store /data/tapio --listen 127.0.0.1:0 --addr-file addr\n\n\
    SIGTERM or Ctrl-C flushes and stops. Exit codes: 0 stopped, 2 could not start (the message says why)."
)]
pub struct ServerCli {
    /// Configuration file (default: as for tapio)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder or URL of the store (storage.url)
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// Folder of the write-ahead log (storage.wal_dir)
    #[arg(long, value_name = "DIR")]
    pub wal_dir: Option<PathBuf>,
    /// Address to listen on (server.listen); port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Write the address that was taken to this file
    #[arg(long, value_name = "FILE")]
    pub addr_file: Option<PathBuf>,
    /// Folder with patterns (*.sql) of your own
    #[arg(long, value_name = "DIR")]
    pub patterns_dir: Option<PathBuf>,
    /// Time between two collections
    #[arg(long, value_parser = parse_duration, default_value = "1s", value_name = "TIME")]
    pub cadence: Duration,
    /// Time between two evaluations of the patterns
    #[arg(long, value_parser = parse_duration, default_value = "5s", value_name = "TIME")]
    pub evaluate_every: Duration,
    /// Say more on stderr (-vv: everything)
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_lines_are_sound() {
        Cli::command().debug_assert();
        ServerCli::command().debug_assert();
    }

    #[test]
    fn global_flags_stand_before_and_after_the_command() {
        for line in [
            "tapio -o json --as-of -15m check x -n shop",
            "tapio check x -n shop -o json --as-of -15m",
        ] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(cli.global.output, OutputForm::Json);
            assert_eq!(cli.global.as_of.as_deref(), Some("-15m"));
            assert_eq!(cli.global.namespace.as_deref(), Some("shop"));
        }
        assert!(Cli::try_parse_from(["tapio", "check", "-A", "-n", "x"]).is_err());
        assert!(Cli::try_parse_from(["tapio", "why"]).is_err());
        let cli = Cli::try_parse_from("tapio record --out d -- cmd -x".split(' ')).unwrap();
        let Command::Record(r) = cli.command else { panic!("record") };
        assert_eq!(r.command, ["cmd", "-x"]);
    }
}
