//! `tapio backtest`: how early, how right and how sure, per run, beside what operators use today on the same rows.

mod args;
mod csv;
mod html;
mod packs;
mod runs;
mod scores;
mod series;
mod store;

use std::{path::Path, process::ExitCode};

pub use args::{BacktestArgs, Families, Side};
use tapio_models::score::{Report, ScoreOptions, scoreboard};

use crate::{Globals, args::OutputForm, commands::print_bytes, error::CliError};

/// How far ahead probabilities about memory speak, as the pattern's default says.
const HORIZON_S: f64 = 900.0;

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
        store::backtest(one, globals, json).await?
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
