//! Packs: the whole path, from the recorded rows through the relations, against what the kernel says happened.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tapio_models::{
    Alarm, AlarmChange, Direction, Report, generator::Run, predict_linear, score::score_groups,
};

use super::{BacktestArgs, Scored, blocking, runs::Rows, score_options, scores};
use crate::{
    error::CliError,
    measure::Measure,
    pack::{
        MANIFEST,
        evaluate::{Walk, prediction},
        time_of,
    },
    time::rfc3339,
    units::duration_words,
};

/// Time between two evaluations, unless asked.
const STEP: Duration = Duration::from_secs(5);
/// Prometheus' usual rule: the line through the last 15 minutes is above the limit 15 minutes from now.
const BASELINE_WINDOW_S: f64 = 900.0;

/// One evaluation of the subject that matters.
#[derive(Debug, Clone)]
struct Step {
    at: i64,
    eta: Option<f64>,
    low: Option<f64>,
    high: Option<f64>,
    low99: Option<f64>,
    high99: Option<f64>,
    probability: Option<f64>,
    baseline: Option<f64>,
}

/// How one method did.
#[derive(Debug, Clone, Default)]
struct Score {
    first_alarm: Option<i64>,
    lead_s: Option<f64>,
    life_left: Option<f64>,
    false_alarms: usize,
}

struct Outcome {
    name: String,
    run: Option<Run>,
    truth: Option<i64>,
    life_s: f64,
    horizon_s: f64,
    steps: Vec<Step>,
    step_s: f64,
    tapio: Score,
    linear: Score,
}

/// Scores packs.
///
/// # Errors
/// [`CliError`] for a pack that cannot be read, and for a folder without packs.
pub(super) async fn backtest(args: &BacktestArgs, json: bool) -> Result<Scored, CliError> {
    let packs = expand(&args.packs)?;
    let bar = ProgressBar::new(packs.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    // All are opened first: a wrong path is told before anything takes time.
    let walks = packs.iter().map(|p| Walk::open(p, args.step.unwrap_or(STEP), args.horizon));
    let walks = walks.collect::<Result<Vec<_>, _>>()?;
    let mut outcomes = Vec::new();
    for walk in walks {
        bar.set_message(walk.manifest.name.clone());
        outcomes.push(run(&walk, args.horizon_s()).await?);
        bar.inc(1);
    }
    bar.set_message("rivals");
    let runs: Vec<Vec<Run>> = outcomes.iter().map(|o| o.run.iter().cloned().collect()).collect();
    let (each, report) = blocking(move || score_groups(&runs, &score_options())).await?;
    bar.finish_and_clear();
    let mut text: String = if json {
        let line = |(o, r): (&Outcome, &Report)| format!("{}\n", json_report(o, r));
        outcomes.iter().zip(&each).map(line).collect()
    } else {
        table(&outcomes)
    };
    if outcomes.len() > 1 {
        text += &match json {
            true => format!("{}\n", json!({"summary": scores::summary_json(&report)})),
            false => {
                format!("\n{}{}", scores::methods_table(&report), scores::skill_lines(&report))
            }
        };
    }
    let name = format!("{} pack(s)", outcomes.len());
    Ok((text, report, name))
}

/// A pack is itself; any other folder is the packs in it, by name.
fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>, CliError> {
    let is_pack = |p: &Path| p.join(MANIFEST).exists();
    let mut packs = Vec::new();
    for path in paths {
        if is_pack(path) || !path.is_dir() {
            packs.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path)
            .map_err(|e| CliError::tool(format!("cannot read {}: {e}", path.display())))?;
        let mut inside: Vec<PathBuf> =
            entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| is_pack(p)).collect();
        if inside.is_empty() {
            return Err(CliError::tool(format!(
                "{} is no pack and holds none: a pack is a folder with a {MANIFEST}, made by tapio record",
                path.display()
            )));
        }
        inside.sort();
        packs.extend(inside);
    }
    Ok(packs)
}

/// `horizon_s`: where the pack's own rows do not say it.
async fn run(walk: &Walk, mut horizon_s: f64) -> Result<Outcome, CliError> {
    let truth = walk.manifest.truth.first();
    let truth_at = truth.map(time_of).transpose()?;
    // Of each subject its own steps; the one that matters is the one that was killed, else the likeliest to be.
    let measure = walk.measure();
    let mut subjects: Vec<(i64, [Option<String>; 2], Vec<Step>)> = Vec::new();
    for at in walk.times() {
        for report in walk.evaluate(at).await? {
            let p = prediction(&report, &measure);
            if report.subject.kind == "node" || (p.is_none() && measure != Measure::OOM) {
                continue;
            }
            horizon_s = p.and_then(|p| p.horizon_seconds).unwrap_or(horizon_s);
            let id = report.subject.series_id;
            let index = subjects.iter().position(|s| s.0 == id).unwrap_or_else(|| {
                let s = &report.subject;
                let names = [s.cgroup.clone(), Some(s.as_target())];
                subjects.push((id, names, Vec::new()));
                subjects.len() - 1
            });
            let Some(subject) = subjects.get_mut(index) else { continue };
            subject.2.push(Step {
                at,
                eta: p.and_then(|p| p.eta_seconds),
                low: p.and_then(|p| p.eta_low_seconds),
                high: p.and_then(|p| p.eta_high_seconds),
                low99: p.and_then(|p| p.eta_low99_seconds),
                high99: p.and_then(|p| p.eta_high99_seconds),
                probability: p.and_then(|p| p.probability),
                baseline: None,
            });
        }
    }
    let worst = |steps: &[Step]| steps.iter().filter_map(|s| s.probability).fold(0.0, f64::max);
    let chosen = match truth {
        Some(t) => {
            let is_it = |n: &Option<String>| {
                n.as_deref().is_some_and(|n| n.strip_prefix("disk:").unwrap_or(n) == t.subject)
            };
            subjects.into_iter().find(|s| s.1.iter().any(is_it))
        }
        None => subjects.into_iter().max_by(|a, b| worst(&a.2).total_cmp(&worst(&b.2))),
    };
    let Some((series_id, _, mut steps)) = chosen else {
        return Err(CliError::tool(format!(
            "{}: nothing in it has a limit, so there is nothing to score",
            walk.manifest.name
        )));
    };
    let levels = walk.levels(series_id, measure).await?;
    for s in &mut steps {
        s.baseline = baseline(&levels, s.at, horizon_s);
    }
    let start = levels.first().map_or(0, |m| m.0);
    let end = truth_at.or_else(|| levels.last().map(|m| m.0)).unwrap_or(start);
    let life_s = (end - start) as f64 / 1e6;
    if let Some(t) = truth_at {
        steps.retain(|s| s.at <= t);
    }
    let tapio = score(&steps, truth_at, life_s, horizon_s, |s| s.probability);
    let linear = score(&steps, truth_at, life_s, horizon_s, |s| s.baseline);
    let recorded = recorded(&levels, truth_at, horizon_s, &walk.manifest.name);
    Ok(Outcome {
        name: walk.manifest.name.clone(),
        run: recorded,
        truth: truth_at,
        life_s,
        horizon_s,
        steps,
        step_s: walk.step_seconds(),
        tapio,
        linear,
    })
}

/// The rows as a run, up to the kill; `None` if there are none before it.
fn recorded(
    levels: &[(i64, f64, f64)],
    truth: Option<i64>,
    horizon_s: f64,
    name: &str,
) -> Option<Run> {
    let rows = Rows {
        ts_us: levels.iter().map(|m| m.0).collect(),
        value: levels.iter().map(|m| m.1).collect(),
        threshold: levels.iter().map(|m| m.2).collect(),
        direction: Direction::Up,
        horizon_s,
        workload: name.bytes().fold(0, |h: u64, b| h.wrapping_mul(31).wrapping_add(b.into())),
    };
    let events: Vec<i64> = truth.into_iter().collect();
    rows.runs(&events).into_iter().next()
}

/// 1 if `predict_linear(level[15m], horizon) >= limit` at `at`, 0 if not; `None` without two points.
fn baseline(levels: &[(i64, f64, f64)], at: i64, horizon_s: f64) -> Option<f64> {
    let seen: Vec<_> = levels.iter().filter(|m| m.0 <= at).collect();
    let ts: Vec<i64> = seen.iter().map(|m| m.0).collect();
    let value: Vec<f64> = seen.iter().map(|m| m.1).collect();
    let limit = seen.last()?.2;
    let ahead = predict_linear(&ts, &value, at, BASELINE_WINDOW_S, horizon_s)?;
    Some(if ahead >= limit { 1.0 } else { 0.0 })
}

fn score(
    steps: &[Step],
    truth: Option<i64>,
    life_s: f64,
    horizon_s: f64,
    probability: impl Fn(&Step) -> Option<f64>,
) -> Score {
    let mut alarm = Alarm::new();
    let mut score = Score::default();
    for s in steps {
        if alarm.push(s.at, probability(s)) == AlarmChange::Raised {
            let hit = truth.is_some_and(|t| (t - s.at) as f64 <= horizon_s * 1e6);
            if !hit {
                score.false_alarms += 1;
            }
            score.first_alarm.get_or_insert(s.at);
        }
    }
    if let (Some(a), Some(t)) = (score.first_alarm, truth) {
        let lead = (t - a) as f64 / 1e6;
        score.lead_s = Some(lead);
        score.life_left = (life_s > 0.0).then(|| lead / life_s);
    }
    score
}

/// The step at which a share `f` of the life is left, as far as the steps allow.
fn step_at(r: &Outcome, f: f64) -> Option<&Step> {
    let at = r.truth? as f64 - f * r.life_s * 1e6;
    r.steps.iter().rfind(|s| s.at as f64 <= at)
}

fn eta_error(r: &Outcome, f: f64) -> Option<f64> {
    let s = step_at(r, f)?;
    let left = (r.truth? - s.at) as f64 / 1e6;
    Some((s.eta? - left) / left)
}

fn inside99(r: &Outcome, f: f64) -> Option<bool> {
    let s = step_at(r, f)?;
    let left = (r.truth? - s.at) as f64 / 1e6;
    Some(s.low99? <= left && s.high99.is_none_or(|h| left <= h))
}

/// Scores have the same keys as those of any input (`report`: of the recorded rows through `models`); what the whole path
/// said step by step stands beside them under the two methods that walked it.
fn json_report(r: &Outcome, report: &Report) -> Value {
    let walked = |s: &Score| {
        json!({
            "first_alarm_at": s.first_alarm.map(rfc3339),
            "lead_seconds": s.lead_s,
            "life_left": s.life_left,
            "false_alarms": s.false_alarms,
        })
    };
    let mut tapio = walked(&r.tapio);
    if let Some(map) = tapio.as_object_mut() {
        for (key, f) in [("0.5", 0.5), ("0.25", 0.25), ("0.1", 0.1)] {
            map.insert(format!("eta_error_{key}"), json!(eta_error(r, f)));
            map.insert(format!("inside_99_{key}"), json!(inside99(r, f)));
        }
    }
    let mut scores = scores::methods_json(report);
    for (method, walked) in [("tapio", tapio), ("predict_linear", walked(&r.linear))] {
        if let (Some(all), Value::Object(walked)) = (scores[method].as_object_mut(), walked) {
            all.extend(walked);
        }
    }
    let steps: Vec<Value> = r
        .steps
        .iter()
        .map(|s| {
            json!({
                "at": rfc3339(s.at),
                "eta_seconds": s.eta,
                "eta_low_seconds": s.low,
                "eta_high_seconds": s.high,
                "probability": s.probability,
            })
        })
        .collect();
    json!({
        "input": r.name,
        "horizon_seconds": r.horizon_s,
        "step_seconds": r.step_s,
        "life_seconds": r.life_s,
        "steps": steps,
        "scores": scores,
    })
}

fn table(reports: &[Outcome]) -> String {
    let mut out = format!(
        "{:24}  {:>6}  {:>22}  {:>9}  {:>9}  {:>9}  {:>22}\n",
        "PACK", "LIFE", "TAPIO: ALARM", "ETA ½", "ETA ¼", "99 % HIT", "PREDICT_LINEAR: ALARM"
    );
    for r in reports {
        let alarm = |s: &Score| match (s.lead_s, s.life_left, s.false_alarms, r.truth) {
            (Some(lead), Some(left), _, _) => {
                format!("{} before ({:.0} %)", duration_words(lead), left * 100.0)
            }
            (_, _, 0, None) => "none".into(),
            (_, _, n, None) => format!("{n} false"),
            _ => "missed".into(),
        };
        let error = |f: f64| {
            eta_error(r, f).map_or_else(|| "-".to_owned(), |e| format!("{:+.0} %", e * 100.0))
        };
        let hits: Vec<bool> = [0.5, 0.25, 0.1].iter().filter_map(|f| inside99(r, *f)).collect();
        let hits = if hits.is_empty() {
            "-".to_owned()
        } else {
            format!("{}/{}", hits.iter().filter(|h| **h).count(), hits.len())
        };
        out += &format!(
            "{:24}  {:>6}  {:>22}  {:>9}  {:>9}  {:>9}  {:>22}\n",
            r.name,
            format!("{:.0} s", r.life_s),
            alarm(&r.tapio),
            error(0.5),
            error(0.25),
            hits,
            alarm(&r.linear)
        );
    }
    out += "\nALARM: P(within the horizon) ≥ 0.5 in three evaluations in a row; in brackets the share of the life that was left.\n\
            ETA ½, ¼: error of the median ETA when that share of the life was left. 99 % HIT: the 99 % interval held\n\
            what happened, at ½, ¼ and ⅒ of the life. PREDICT_LINEAR: predict_linear(level[15m], horizon) ≥ limit, three\n\
            times. The horizon is 15 minutes, of filesystems 24 hours.\n";
    out
}
