//! `tapio backtest`: how early, how right and how sure, per run, beside what operators use today on the same rows.

mod args;
mod csv;
mod html;
mod packs;
mod runs;
mod scores;
mod series;
mod steps;
mod store;

use std::{path::Path, process::ExitCode};

pub use args::{BacktestArgs, Families, Side};
use tapio_models::score::{Report, ScoreOptions, scoreboard};

use crate::{Globals, args::OutputForm, commands::print_bytes, error::CliError};

/// How far ahead probabilities speak unless asked, as the patterns of memory and of processes say.
const HORIZON_S: f64 = 900.0;

impl BacktestArgs {
    fn horizon_s(&self) -> f64 {
        self.horizon.map_or(HORIZON_S, |h| h.as_secs_f64())
    }
}

/// Scores packs, a store, a series or generated runs.
///
/// # Errors
/// Exit code 2: an input that cannot be read, naming file and line; a page that cannot be written.
pub async fn run(args: &BacktestArgs, globals: &Globals) -> Result<ExitCode, CliError> {
    if !matches!(globals.args.output, OutputForm::Human | OutputForm::Json) {
        return Err(CliError::tool("backtest prints human or json (-o json: one line per input)"));
    }
    let json = globals.args.output == OutputForm::Json;
    let (text, report, name) = if args.generated {
        let (part, runs, seed) = (args.part.into(), args.runs, args.seed);
        let options = ScoreOptions { part, runs, seed, ..score_options() };
        let bar = spinner("scoring generated runs");
        let report = blocking(move || scoreboard(&options)).await?;
        bar.finish_and_clear();
        let name = format!("generated runs, {} families, seed {seed}", report.part.as_str());
        let text = match json {
            true => format!("{}\n", scores::generated_json(&report)),
            false => scores::generated_table(&report),
        };
        (text, report, name)
    } else if let Some(file) = &args.series {
        series::backtest(file, args, json).await?
    } else if let [one] = &args.packs[..]
        && store::is_store(one)
    {
        store::backtest(one, args, globals, json).await?
    } else {
        packs::backtest(args, json).await?
    };
    if let Some(path) = &args.html {
        write_page(path, &html::page(&name, &report))?;
    }
    print_bytes(text.as_bytes())
}

fn score_options() -> ScoreOptions {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    ScoreOptions { threads, ..ScoreOptions::default() }
}

/// Runs something that computes for long beside the runtime.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, CliError> {
    tokio::task::spawn_blocking(work).await.map_err(CliError::tool)
}

fn spinner(what: &'static str) -> indicatif::ProgressBar {
    let bar = indicatif::ProgressBar::new_spinner().with_message(what);
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    bar
}

fn write_page(path: &Path, page: &str) -> Result<(), CliError> {
    std::fs::write(path, page)
        .map_err(|e| CliError::tool(format!("cannot write {}: {e}", path.display())))
}

/// What an input came to: what is printed, and the scores behind it with a name for them.
type Scored = (String, Report, String);

#[cfg(test)]
mod tests {
    use std::{fmt::Write as _, fs, path::PathBuf};

    use clap::Parser;
    use serde_json::Value;
    use tapio_models::generator::Part;

    use super::*;
    use crate::{
        args::{Cli, Command},
        schemas::assert_valid,
    };

    fn args(line: &[&str]) -> BacktestArgs {
        match Cli::parse_from(["tapio", "backtest"].iter().chain(line)).command {
            Command::Backtest(args) => args,
            other => panic!("{other:?}"),
        }
    }

    fn lines(text: &str) -> Vec<Value> {
        let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        lines.iter().for_each(|l| assert_valid("backtest", l));
        lines
    }

    #[tokio::test]
    async fn every_input_has_scores_of_one_shape() {
        let pack = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../datasets/oom-linear");
        let pack = pack.to_str().unwrap();
        let of_packs = args(&[pack, pack, "--step", "30s", "--horizon", "2m"]);
        let of_packs = lines(&packs::backtest(&of_packs, true).await.unwrap().0);
        assert_eq!(of_packs.len(), 3, "two packs and their summary");
        assert_eq!(of_packs[0]["horizon_seconds"], 120.0);
        assert!(of_packs[0]["scores"]["tapio"]["lead_seconds"].as_f64().unwrap() <= 121.0);

        let dir = tempfile::tempdir().unwrap();
        let csv = dir.path().join("leak.csv");
        let mut text = String::from("time,value\n");
        for i in 0..120 {
            writeln!(text, "{},{}", 10 * i, i + i % 3).unwrap();
        }
        fs::write(&csv, text).unwrap();
        let of_series = args(&["--series", csv.to_str().unwrap(), "--threshold", "100"]);
        let of_series = series::backtest(&csv, &of_series, true).await.unwrap().0;
        let of_series = lines(&of_series);

        let options = ScoreOptions { runs: 21, baseline_runs: 21, ..score_options() };
        let generated = scoreboard(&ScoreOptions { part: Part::Train, ..options });
        let generated = lines(&format!("{}\n", scores::generated_json(&generated)));

        let methods = |line: &Value| -> Vec<String> {
            line["scores"].as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(methods(&of_series[0]), methods(&generated[0]));
        assert_eq!(methods(&of_packs[0]), methods(&generated[0]));
    }
}
