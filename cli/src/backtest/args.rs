//! Arguments of `backtest`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use tapio_models::{
    Direction,
    generator::Part,
    score::{RUNS, SEED},
};

use crate::units::parse_duration;

/// Arguments of `tapio backtest`.
#[derive(Debug, Clone, Args)]
pub struct BacktestArgs {
    /// Packs, folders that hold packs, or one store
    #[arg(required_unless_present_any = ["series", "generated"], conflicts_with_all = ["series", "generated"])]
    pub packs: Vec<PathBuf>,
    /// Score a CSV file with the columns time,value (seconds since the epoch or RFC 3339)
    #[arg(long, value_name = "FILE", requires = "threshold", conflicts_with = "generated")]
    pub series: Option<PathBuf>,
    /// With --series: the value that must not be met
    #[arg(long, value_name = "X", allow_negative_numbers = true, requires = "series")]
    pub threshold: Option<f64>,
    /// With --series: from which side the threshold is met
    #[arg(long, value_enum, default_value = "up", value_name = "DIRECTION", requires = "series")]
    pub direction: Side,
    /// How far ahead a probability speaks (default: 15m; packs: as the patterns say, 24h for filesystems)
    #[arg(long, value_parser = parse_positive, value_name = "TIME", conflicts_with = "generated")]
    pub horizon: Option<Duration>,
    /// Time between two evaluations (default: packs 5s; --series its cadence, at least 10s; a store, with -o json, 1/64 of
    /// each life)
    #[arg(long, value_parser = parse_positive, value_name = "TIME")]
    pub step: Option<Duration>,
    /// Score generated runs of all families that the method was not fitted on
    #[arg(long)]
    pub generated: bool,
    /// With --generated: which families; the method was fitted on those of train
    #[arg(long, value_enum, default_value = "test", value_name = "PART", requires = "generated")]
    pub part: Families,
    /// With --generated: runs in all
    #[arg(long, default_value_t = RUNS, value_name = "N", requires = "generated")]
    pub runs: usize,
    /// With --generated: seed of the runs
    #[arg(long, default_value_t = SEED, value_name = "N", requires = "generated")]
    pub seed: u64,
    /// Write a page with reliability diagram and forecast cones, too
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

fn parse_positive(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("must be longer than nothing".into()),
        time => Ok(time),
    }
}

/// [`Direction`] on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Side {
    /// The value rises to the threshold.
    Up,
    /// The value falls to the threshold.
    Down,
}

impl From<Side> for Direction {
    fn from(side: Side) -> Self {
        match side {
            Side::Up => Self::Up,
            Side::Down => Self::Down,
        }
    }
}

/// [`Part`] on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Families {
    /// Those that models and calibration were fitted on.
    Train,
    /// All others.
    Test,
}

impl From<Families> for Part {
    fn from(families: Families) -> Self {
        match families {
            Families::Train => Self::Train,
            Families::Test => Self::Test,
        }
    }
}
