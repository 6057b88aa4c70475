//! Prints how well the generated test runs can be foreseen at all, beside Tapio:
//! `cargo run --release -p tapio-models --example floor [SEED [train]]` (`train`: the training families).

use tapio_models::ScoreOptions;
use tapio_models::generator::Part;
use tapio_models::score::{self, Errors};

/// Draws of each event.
const FUTURES: usize = 101;

fn main() -> Result<(), std::num::ParseIntError> {
    let seed = std::env::args().nth(1).map_or(Ok(score::SEED), |seed| seed.parse())?;
    let part =
        if std::env::args().nth(2).as_deref() == Some("train") { Part::Train } else { Part::Test };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let scores =
        score::floor(&ScoreOptions { part, seed, threads, ..ScoreOptions::default() }, FUTURES);
    println!("{:18} EVENTS    FLOOR ½ ¼ ⅒       TAPIO ½ ¼ ⅒       BIAS ⅒       CLOSE ⅒", "FAMILY");
    for (family, at) in scores {
        let percent = |x: f64| format!("{:.1}", 100.0 * x);
        let row = |of: &dyn Fn(&score::FloorScore) -> Errors| -> String {
            at.iter().map(|s| format!("{:>6}", percent(of(s).median))).collect()
        };
        let Some(last) = at.last() else { continue };
        println!(
            "{family:18} {:6} {} {} {:>6}{:>6} {:>6}{:>6}",
            last.events,
            row(&|s| s.floor),
            row(&|s| s.tapio),
            percent(last.floor.bias),
            percent(last.tapio.bias),
            percent(last.floor.close),
            percent(last.tapio.close),
        );
    }
    println!(
        "\nIn percent of the true remaining time where ½, ¼, ⅒ of the life was left. FLOOR: median error of one who knows\n\
         the law of the run. BIAS: median signed error, too late above 0, and CLOSE: events missed by at most {} %: floor, Tapio.",
        100.0 * score::CLOSE
    );
    Ok(())
}
