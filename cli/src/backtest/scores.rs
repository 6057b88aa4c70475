//! Scores as JSON and as tables.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};
use tapio_models::score::{
    AlarmScore, EtaScore, FamilyScore, HorizonScore, LevelScore, MethodScore, ReliabilityPoint,
    Report, Skill,
};

/// The rival that operators know stands under its own name; its other forms say what they are.
fn name(method: &str) -> &str {
    match method {
        "predict_linear_15m" => "predict_linear",
        other => other,
    }
}

/// `{"tapio": {…}, "predict_linear": {…}, …}`.
pub(super) fn methods_json(report: &Report) -> Value {
    let one = |m: &MethodScore| (name(m.name).to_owned(), method_json(m));
    Value::Object(report.methods.iter().map(one).collect::<Map<_, _>>())
}

fn method_json(m: &MethodScore) -> Value {
    let horizon = |h: &HorizonScore| json!({"horizon_seconds": h.horizon_s, "runs": h.runs, "score": h.brier.score});
    let point = |p: &ReliabilityPoint| json!({"stated": p.stated, "observed": p.observed, "share": p.share});
    let brier = m.brier.as_ref().map(|b| {
        json!({
            "score": b.score,
            "reliability": b.reliability,
            "resolution": b.resolution,
            "uncertainty": b.uncertainty,
            "horizons": m.horizons.iter().map(horizon).collect::<Vec<_>>(),
            "diagram": b.points.iter().map(point).collect::<Vec<_>>(),
        })
    });
    json!({
        "cannot_say_share": m.cannot_say,
        "eta": m.eta.iter().map(eta_json).collect::<Vec<_>>(),
        "brier": brier,
        "alarms": alarms_json(&m.alarms),
    })
}

fn eta_json(e: &EtaScore) -> Value {
    let level = |l: &LevelScore| json!({"level": l.level, "coverage": l.coverage, "interval_score": l.interval_score});
    json!({
        "life_left": e.left,
        "runs": e.runs,
        "missed_share": e.missed,
        "median_abs_error": e.median_error,
        "late_share": e.late,
        "intervals": e.levels.iter().map(level).collect::<Vec<_>>(),
    })
}

fn alarms_json(a: &AlarmScore) -> Value {
    json!({
        "foreseeable_events": a.foreseeable,
        "recall_at_quarter": a.recall_quarter,
        "recall": a.recall,
        "median_lead_seconds": a.median_lead_s,
        "median_lead_share": a.median_lead_share,
        "unforeseeable_events": a.unforeseeable,
        "unforeseeable_recall": a.unforeseeable_recall,
        "false_episodes": a.false_episodes,
        "false_episodes_upper95": a.false_upper95,
        "early_episodes": a.early_episodes,
        "quiet_runs": a.quiet,
        "quiet_rate": a.quiet_rate,
        "quiet_rate_upper95": a.quiet_upper95,
        "precision_at_prevalence_0.01": a.precision_1_percent,
        "precision_at_prevalence_0.001": a.precision_01_percent,
    })
}

fn skill_json(s: &Skill) -> Value {
    json!({"skill": s.skill, "low95": s.low, "high95": s.high})
}

/// All figures of generated runs.
pub(super) fn generated_json(r: &Report) -> Value {
    let mut value = summary_json(r);
    if let Value::Object(map) = &mut value {
        map.insert("input".into(), json!(format!("generated:{}", r.part.as_str())));
        map.insert("seed".into(), json!(r.seed));
        let family = |f: &FamilyScore| {
            json!({
                "name": f.name, "runs": f.runs, "events": f.events,
                "median_abs_error": {"0.5": f.error[0], "0.1": f.error[1]},
                "coverage_80": f.coverage80, "recall_at_quarter": f.recall_quarter,
                "false_rate": f.false_rate,
                "brier": {"tapio": f.brier[0], "best_rival": f.brier[1]},
            })
        };
        map.insert("families".into(), r.families.iter().map(family).collect());
    }
    value
}

/// Figures of all runs together.
pub(super) fn summary_json(r: &Report) -> Value {
    let by_horizon = r.skill_by_horizon.iter().map(|(horizon_s, rival, s)| {
        json!({"horizon_seconds": horizon_s, "rival": name(rival), "skill": skill_json(s)})
    });
    json!({
        "runs": r.runs,
        "events": r.events,
        "steps": r.steps,
        "scores": methods_json(r),
        "best_rival": r.skill.map(|(rival, _)| name(rival)),
        "brier_skill": r.skill.map(|(_, s)| skill_json(&s)),
        "brier_skill_by_horizon": by_horizon.collect::<Vec<_>>(),
    })
}

fn percent(x: f64) -> String {
    format!("{:.0} %", 100.0 * x)
}

fn or_dash(x: Option<f64>) -> String {
    x.map_or_else(|| "-".to_owned(), percent)
}

fn score(x: Option<f64>) -> String {
    x.map_or_else(|| "-".to_owned(), |x| format!("{x:.4}"))
}

/// Small shares are told apart from none.
fn precision(x: Option<f64>) -> String {
    x.map_or_else(|| "-".to_owned(), |x| format!("{:.1} %", 100.0 * x))
}

/// One line per method.
pub(super) fn methods_table(r: &Report) -> String {
    let mut out = format!(
        "{:30} {:>7} {:>7} {:>7} {:>7} {:>7} {:>8} {:>7} {:>7}\n",
        "METHOD", "ETA ½", "ETA ¼", "ETA ⅒", "80 %", "BRIER", "ALARM ¼", "FALSE", "SILENT"
    );
    for m in &r.methods {
        let error = |i: usize| or_dash(m.eta.get(i).and_then(|e| e.median_error));
        let held: Vec<f64> =
            m.eta.iter().filter_map(|e| e.levels.get(1)).map(|l| l.coverage).collect();
        let held = (!held.is_empty()).then(|| held.iter().sum::<f64>() / held.len() as f64);
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "{:30} {:>7} {:>7} {:>7} {:>7} {:>7} {:>8} {:>7} {:>7}",
            name(m.name),
            error(0),
            error(1),
            error(2),
            or_dash(held),
            score(m.brier.as_ref().map(|b| b.score)),
            or_dash(m.alarms.recall_quarter),
            m.alarms.false_episodes,
            or_dash(m.cannot_say)
        );
    }
    out += "\nETA: median error of the ETA when that share of the life was left. 80 %: how often the 80 % interval held the\n\
            event. BRIER: of the probabilities within all asked horizons. ALARM ¼: events with the alarm on at a quarter of the life.\n\
            FALSE: workloads with an alarm and no event within the horizon (known only of what was watched for so long).\n\
            SILENT: could not say.\n";
    out
}

/// Skill against the best rival, over all horizons and at each.
pub(super) fn skill_lines(r: &Report) -> String {
    let skill = |s: &Skill| format!("{:+.2} (95 %: {:+.2} to {:+.2})", s.skill, s.low, s.high);
    let mut out = String::new();
    if let Some((rival, s)) = &r.skill {
        let _ = writeln!(out, "\nBrier skill of tapio against {}: {}", name(rival), skill(s));
    }
    for (horizon_s, rival, s) in &r.skill_by_horizon {
        let horizon = crate::units::duration_words(*horizon_s);
        let _ = writeln!(out, "  within {horizon}, against {}: {}", name(rival), skill(s));
    }
    out
}

/// The tables of generated runs.
pub(super) fn generated_table(r: &Report) -> String {
    let mut out = format!(
        "BACKTEST: {} generated runs of the {} families, {} events, {} evaluations (seed {})\n\n{}",
        r.runs,
        r.part.as_str(),
        r.events,
        r.steps,
        r.seed,
        methods_table(r)
    );
    out += &skill_lines(r);
    if let Some(t) = r.methods.first() {
        let a = &t.alarms;
        let _ = writeln!(
            out,
            "Alarms of tapio: {} of {} events that could be foreseen, {} of {} that could not (bursts, steps)\n\
             False alarms: {} episodes (upper 95 % bound {:.0}), in {} of {} quiet runs (upper 95 % bound {})\n\
             Precision if 1 % of all lives end so: {}; if 0.1 % do: {}",
            or_dash(a.recall),
            a.foreseeable,
            or_dash(a.unforeseeable_recall),
            a.unforeseeable,
            a.false_episodes,
            a.false_upper95,
            or_dash(a.quiet_rate),
            a.quiet,
            or_dash(a.quiet_upper95),
            precision(a.precision_1_percent),
            precision(a.precision_01_percent)
        );
        for e in &t.eta {
            let levels: Vec<String> = e
                .levels
                .iter()
                .map(|l| format!("{} held {}", percent(l.level), percent(l.coverage)))
                .collect();
            let _ = writeln!(
                out,
                "Intervals with {} of the life left: {}",
                percent(e.left),
                levels.join(", ")
            );
        }
    }
    let _ = writeln!(
        out,
        "\n{:22} {:>5} {:>6} {:>7} {:>7} {:>7} {:>8} {:>7} {:>8} {:>8}",
        "FAMILY", "RUNS", "EVENTS", "ETA ½", "ETA ⅒", "80 %", "ALARM ¼", "FALSE", "BRIER", "RIVAL"
    );
    for f in &r.families {
        let _ = writeln!(
            out,
            "{:22} {:>5} {:>6} {:>7} {:>7} {:>7} {:>8} {:>7} {:>8} {:>8}",
            f.name,
            f.runs,
            f.events,
            or_dash(f.error[0]),
            or_dash(f.error[1]),
            or_dash(f.coverage80),
            or_dash(f.recall_quarter),
            percent(f.false_rate),
            score(f.brier[0]),
            score(f.brier[1])
        );
    }
    out
}
