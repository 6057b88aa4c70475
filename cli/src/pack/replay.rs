//! `tapio replay`: what Tapio would have said, tick by tick.

use std::{
    fmt::Write as _,
    io::{self, BufWriter, Write},
    process::ExitCode,
};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tapio_models::{Alarm, AlarmChange};

use super::{
    args::ReplayArgs,
    evaluate::{Walk, line, prediction},
    manifest::{PackError, Truth, sha256},
};
use crate::{
    Globals,
    args::OutputForm,
    error::CliError,
    measure::Measure,
    model::SubjectReport,
    time::{clock_time, parse_time, rfc3339},
    units::{amount_words, duration_words, interval_words},
};

/// An alarm of one subject.
struct Watched {
    series_id: i64,
    alarm: Alarm,
    first: Option<i64>,
}

/// Replays a pack.
///
/// # Errors
/// [`CliError`] for a pack that cannot be read.
pub async fn replay(args: &ReplayArgs, globals: &Globals) -> Result<ExitCode, CliError> {
    let json = match globals.args.output {
        OutputForm::Human => false,
        OutputForm::Json => true,
        _ => {
            return Err(CliError::tool(
                "replay prints human or json (-o json: one line per evaluation)",
            ));
        }
    };
    let walk = Walk::open(&args.pack, args.step, None)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let print = |out: &mut dyn Write, text: &str| {
        out.write_all(text.as_bytes()).map_err(|e| CliError::output(&e))
    };
    let times = walk.times();
    let measure = walk.measure();
    let mut headed = json;
    // Lines are printed at the end in JSON, at once for humans: only then is there something to wait for.
    let bar = if json { ProgressBar::new(times.len() as u64) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("replaying {bar:30} {pos}/{len}, {eta} left") {
        bar.set_style(style);
    }
    let mut watched: Vec<Watched> = Vec::new();
    let mut transcript = String::new();
    let mut happened = false;
    for at in times {
        let text_at = rfc3339(at);
        for report in &walk.evaluate(at).await? {
            let _ = writeln!(transcript, "{}", line(&text_at, report, &measure));
            let series_id = report.subject.series_id;
            let index =
                watched.iter().position(|w| w.series_id == series_id).unwrap_or_else(|| {
                    watched.push(Watched { series_id, alarm: Alarm::new(), first: None });
                    watched.len() - 1
                });
            let Some(w) = watched.get_mut(index) else { continue };
            let change = w.alarm.push(at, prediction(report, &measure).and_then(|p| p.probability));
            if change == AlarmChange::Raised && w.first.is_none() {
                w.first = Some(at);
            }
            let shown = match measure.kind {
                "oom" => report.subject.kind != "node",
                _ => prediction(report, &measure).is_some(),
            };
            if !json && shown {
                if !headed {
                    headed = true;
                    let p = prediction(report, &measure).and_then(|p| p.horizon_seconds);
                    print(&mut out, &header(&walk, &measure, p))?;
                }
                let raised = change == AlarmChange::Raised;
                let truth = walk.manifest.truth.iter().find(|t| time_of(t).is_ok_and(|t| t <= at));
                if let (Some(t), false) = (truth, happened) {
                    happened = true;
                    print(&mut out, &truth_line(t, &measure))?;
                }
                if !happened {
                    print(&mut out, &human_line(at, report, &measure, raised))?;
                }
                out.flush().map_err(|e| CliError::output(&e))?;
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let first_alarm = watched.iter().filter_map(|w| w.first).min();
    let truth_at = walk.manifest.truth.first().map(time_of).transpose()?;
    let lead = first_alarm.zip(truth_at).map(|(a, t)| (t - a) as f64 / 1e6);
    let digest = sha256(transcript.as_bytes());
    if json {
        print(&mut out, &transcript)?;
        let truth: Vec<_> =
            walk.manifest.truth.iter().map(|t| json!({"type": t.ty, "at": t.at})).collect();
        let summary = json!({"summary": {
            "truth": truth,
            "first_alarm_at": first_alarm.map(rfc3339),
            "lead_seconds": lead,
            "output_sha256": digest,
        }});
        print(&mut out, &format!("{summary}\n"))?;
    } else {
        if !headed {
            print(&mut out, &header(&walk, &measure, None))?;
        }
        print(&mut out, &summary(&walk, first_alarm, lead, &digest))?;
    }
    out.flush().map_err(|e| CliError::output(&e))?;
    Ok(ExitCode::SUCCESS)
}

/// When a truth happened, in µs.
pub(crate) fn time_of(truth: &Truth) -> Result<i64, CliError> {
    parse_time(&truth.at, 0).map_err(|message| {
        CliError::tool(PackError::File { path: super::manifest::MANIFEST.into(), message })
    })
}

fn header(walk: &Walk, measure: &Measure, horizon_s: Option<f64>) -> String {
    let m = &walk.manifest;
    let within = match horizon_s.map(|s| s.round() as i64) {
        None => "P".to_owned(),
        Some(s) if s % 3600 == 0 => format!("P(WITHIN {} H)", s / 3600),
        Some(s) => format!("P(WITHIN {} MIN)", s / 60),
    };
    format!(
        "REPLAY: {} ({})\n  Recorded: {} .. {} on {}\n  Command:  {}\n\n  \
         {:8}  {:>22}  {:>12}  {:>21}  {within:>16}\n",
        m.name,
        match (m.truth.is_empty(), measure.kind) {
            (true, _) => "nothing failed",
            (false, "oom") => "ended by the kernel",
            _ => "an incident",
        },
        m.start,
        m.end,
        m.kernel,
        m.command,
        "TIME",
        measure.title,
        measure.eta_title,
        "80 % INTERVAL",
    )
}

fn human_line(at: i64, report: &SubjectReport, measure: &Measure, raised: bool) -> String {
    let words = |n: i64| amount_words(measure.kind, n as f64);
    let level = match measure.now(&report.resources) {
        Some((level, most)) => format!("{} / {}", words(level), words(most)),
        None => "not known".into(),
    };
    let prediction = prediction(report, measure);
    let eta = prediction.and_then(|p| p.eta_seconds);
    let interval = prediction
        .filter(|_| eta.is_some())
        .and_then(|p| interval_words(p.eta_low_seconds, p.eta_high_seconds))
        .unwrap_or_else(|| "-".into());
    let eta = eta.map_or_else(|| "cannot say".into(), duration_words);
    let probability = prediction
        .and_then(|p| p.probability)
        .map_or_else(|| "-".into(), |p| format!("{:.0} %", p * 100.0));
    let mark = if raised { "  ← ALARM" } else { "" };
    format!(
        "  {:8}  {level:>22}  {eta:>12}  {interval:>21}  {probability:>16}{mark}\n",
        clock_time(at)
    )
}

fn truth_line(t: &Truth, measure: &Measure) -> String {
    let at = time_of(t).map_or_else(|_| t.at.clone(), clock_time);
    format!("  {at:8}  ✗ {} {} ({})\n", measure.happened, t.subject, t.counter)
}

fn summary(walk: &Walk, first_alarm: Option<i64>, lead: Option<f64>, digest: &str) -> String {
    let said = match (first_alarm, lead) {
        (Some(a), Some(l)) => {
            let what =
                if walk.measure() == Measure::OOM { "the kernel's kill" } else { "it happened" };
            format!("Alarm at {}, {} before {what}.", clock_time(a), duration_words(l))
        }
        (Some(a), None) => {
            format!("Alarm at {}, and nothing had failed when the recording ended.", clock_time(a))
        }
        (None, _) if walk.manifest.truth.is_empty() => "No alarm, and nothing failed.".into(),
        (None, _) => "No alarm: it came unannounced.".into(),
    };
    format!(
        "\n{said}\nAn alarm is P ≥ 0.5 in three evaluations in a row. sha256 of all lines: {}\n",
        digest
    )
}
