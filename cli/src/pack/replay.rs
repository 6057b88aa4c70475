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
    evaluate::{Walk, line, oom},
    manifest::{PackError, Truth, sha256},
};
use crate::{
    Globals,
    args::OutputForm,
    error::CliError,
    model::SubjectReport,
    time::{clock_time, parse_time, rfc3339},
    units::{bytes_words, duration_words, interval_words},
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
    let walk = Walk::open(&args.pack, args.step)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let print = |out: &mut dyn Write, text: &str| {
        out.write_all(text.as_bytes()).map_err(|e| CliError::output(&e))
    };
    let times = walk.times();
    if !json {
        print(&mut out, &header(&walk))?;
    }
    // Lines are printed at the end in JSON, at once for humans: only then is there something to wait for.
    let bar = if json { ProgressBar::new(times.len() as u64) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("replaying {bar:30} {pos}/{len}, {eta} left") {
        bar.set_style(style);
    }
    let mut watched: Vec<Watched> = Vec::new();
    let mut transcript = String::new();
    let mut killed = false;
    for at in times {
        let text_at = rfc3339(at);
        for report in &walk.evaluate(at).await? {
            let _ = writeln!(transcript, "{}", line(&text_at, report));
            let series_id = report.subject.series_id;
            let index =
                watched.iter().position(|w| w.series_id == series_id).unwrap_or_else(|| {
                    watched.push(Watched { series_id, alarm: Alarm::new(), first: None });
                    watched.len() - 1
                });
            let Some(w) = watched.get_mut(index) else { continue };
            let change = w.alarm.push(at, oom(report).and_then(|p| p.probability));
            if change == AlarmChange::Raised && w.first.is_none() {
                w.first = Some(at);
            }
            if !json && report.subject.kind != "node" {
                let raised = change == AlarmChange::Raised;
                let truth = walk.manifest.truth.iter().find(|t| time_of(t).is_ok_and(|t| t <= at));
                if let (Some(t), false) = (truth, killed) {
                    killed = true;
                    print(&mut out, &kernel_line(t))?;
                }
                if !killed {
                    print(&mut out, &human_line(at, report, raised))?;
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

fn header(walk: &Walk) -> String {
    let m = &walk.manifest;
    format!(
        "REPLAY: {} ({})\n  Recorded: {} .. {} on {}\n  Command:  {}\n\n  \
         {:8}  {:>22}  {:>10}  {:>21}  {:>16}\n",
        m.name,
        if m.truth.is_empty() { "nothing failed" } else { "ended by the kernel" },
        m.start,
        m.end,
        m.kernel,
        m.command,
        "TIME",
        "MEMORY / LIMIT",
        "OOM IN",
        "80 % INTERVAL",
        "P(WITHIN 15 MIN)"
    )
}

fn human_line(at: i64, report: &SubjectReport, raised: bool) -> String {
    let r = &report.resources;
    let memory = match r.memory_limit_bytes.zip(r.memory_headroom_bytes) {
        Some((limit, headroom)) => {
            format!("{} / {}", bytes_words((limit - headroom) as f64), bytes_words(limit as f64))
        }
        None => "not known".into(),
    };
    let prediction = oom(report);
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
        "  {:8}  {memory:>22}  {eta:>10}  {interval:>21}  {probability:>16}{mark}\n",
        clock_time(at)
    )
}

fn kernel_line(t: &Truth) -> String {
    let at = time_of(t).map_or_else(|_| t.at.clone(), clock_time);
    format!(
        "  {at:8}  ✗ the kernel killed a process in {} for lack of memory ({})\n",
        t.subject, t.counter
    )
}

fn summary(walk: &Walk, first_alarm: Option<i64>, lead: Option<f64>, digest: &str) -> String {
    let said = match (first_alarm, lead) {
        (Some(a), Some(l)) => {
            format!("Alarm at {}, {} before the kernel's kill.", clock_time(a), duration_words(l))
        }
        (Some(a), None) => {
            format!("Alarm at {}, and nothing had failed when the recording ended.", clock_time(a))
        }
        (None, _) if walk.manifest.truth.is_empty() => "No alarm, and nothing failed.".into(),
        (None, _) => "No alarm: the kill came unannounced.".into(),
    };
    format!(
        "\n{said}\nAn alarm is P ≥ 0.5 in three evaluations in a row. sha256 of all lines: {}\n",
        digest
    )
}
