//! The scoreboard on generated runs: `cargo run --release --example scoreboard -- --part test`.

use std::process::ExitCode;

use tapio_models::generator::Part;
use tapio_models::score::{ScoreOptions, render, scoreboard};

const USAGE: &str = "scoreboard [--part train|test] [--runs N] [--seed N] [--threads N]";

fn options() -> Result<ScoreOptions, String> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut options = ScoreOptions { threads, ..ScoreOptions::default() };
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next().ok_or_else(|| format!("{name} needs a value\n{USAGE}"))?;
        let number = || value.parse().map_err(|_| format!("{name}: {value:?} is not a number"));
        match name.as_str() {
            "--part" => {
                options.part = match value.as_str() {
                    "train" => Part::Train,
                    "test" => Part::Test,
                    _ => return Err(format!("--part: {value:?} is neither train nor test")),
                }
            }
            "--runs" => options.runs = number()?,
            "--seed" => options.seed = number()? as u64,
            "--threads" => options.threads = number()?,
            _ => return Err(format!("unknown option {name}\n{USAGE}")),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    match options() {
        Ok(options) => {
            print!("{}", render(&scoreboard(&options)));
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}
