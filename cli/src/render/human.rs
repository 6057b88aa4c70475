//! The human output of `check`, `why` and `fix` in the form of DESIGN §7. Pure: values in, text out.

use std::fmt::Write;

use super::{
    spark::{Trend, sparkline},
    style::Style,
};
use crate::{
    measure::Measure,
    model::{
        CONFIDENCE_MIN_N, Degraded, Evidence, Fix, Origin, Prediction, SubjectReport, WhyEntry,
        WhyReport, status_rank, worst_status,
    },
    time::{clock_time, minute},
    units::{amount_words, bytes_words, duration_words, interval_words, percent_words},
};

/// How many healthy subjects a check of everything shows by name.
const SHOWN_QUIET: usize = 10;
/// How many facts an insight shows; JSON has them all.
const SHOWN_FACTS: usize = 8;

/// What `check` shows.
#[derive(Debug, Clone, Copy)]
pub struct CheckView<'a> {
    /// As the user gave it; `None` = everything.
    pub target: Option<&'a str>,
    /// Where it came from.
    pub origin: &'a Origin,
    /// All subjects.
    pub reports: &'a [SubjectReport],
    /// Fixes of all of them.
    pub fixes: &'a [Fix],
    /// What is missing.
    pub degraded: &'a [Degraded],
    /// Recent levels by series id.
    pub trends: &'a [(i64, Trend)],
}

/// `tapio check`.
pub fn check(view: &CheckView<'_>, style: Style) -> String {
    let mut out = String::new();
    match (view.target, view.reports) {
        (Some(target), [one]) => subject_block(&mut out, target, one, view, style),
        _ => everything(&mut out, view, style),
    }
    degraded_lines(&mut out, view.degraded, style);
    origin_line(&mut out, view.origin, style);
    out
}

fn everything(out: &mut String, view: &CheckView<'_>, style: Style) {
    let status = worst_status(view.reports);
    let title = view.target.unwrap_or("everything");
    line(out, &style.bold(&format!("HEALTH STATUS: {title}")));
    let count = |s: &str| view.reports.iter().filter(|r| r.status == s).count();
    line(
        out,
        &format!(
            "  Status: {}   {} unhealthy, {} degraded, {} healthy, {} unknown",
            style.by_level(status, &status.to_uppercase()),
            count("unhealthy"),
            count("degraded"),
            count("healthy"),
            count("unknown"),
        ),
    );
    let mut order: Vec<&SubjectReport> = view.reports.iter().collect();
    order.sort_by_key(|r| {
        let level = r.resources.memory_level_bytes.unwrap_or(0);
        (std::cmp::Reverse(status_rank(&r.status)), std::cmp::Reverse(level))
    });
    for r in order.iter().filter(|r| status_rank(&r.status) >= 2) {
        line(out, "");
        subject_block(out, &r.subject.as_target(), r, view, style);
    }
    let healthy = order.iter().filter(|r| r.status == "healthy").copied();
    let (certificates, rest): (Vec<_>, Vec<_>) =
        healthy.partition(|r| r.subject.kind == "certificate");
    let (mut disks, others): (Vec<_>, Vec<_>) =
        rest.into_iter().partition(|r| r.subject.kind == "filesystem");
    let disk = Measure::of("disk_full");
    let free = |r: &SubjectReport| {
        let (used, most) = disk.and_then(|m| m.now(&r.resources)).unwrap_or((0, 1));
        1.0 - used as f64 / most.max(1) as f64
    };
    disks.sort_by(|a, b| free(a).total_cmp(&free(b)));
    quiet(out, "HEALTHY", "largest", &others, memory, style);
    quiet(out, "HEALTHY FILESYSTEMS", "fullest", &disks, |r| share(disk, r), style);
    // The relation has them by date.
    let date = |r: &SubjectReport| expiry(r, view.origin.as_of);
    quiet(out, "HEALTHY CERTIFICATES", "next to expire", &certificates, date, style);
}

/// Names some subjects that nothing is wrong with.
fn quiet(
    out: &mut String,
    title: &str,
    which: &str,
    reports: &[&SubjectReport],
    level: impl Fn(&SubjectReport) -> String,
    style: Style,
) {
    if reports.is_empty() {
        return;
    }
    line(out, "");
    let note = match reports.len() {
        n if n > SHOWN_QUIET => format!(" ({which} {SHOWN_QUIET} of {n})"),
        _ => String::new(),
    };
    line(out, &style.bold(&format!("{title}{note}:")));
    for r in reports.iter().take(SHOWN_QUIET) {
        let text = format!("  {:<10} {}", r.subject.kind, r.subject.as_target());
        line(out, &format!("{text:<60}  {}", level(r)));
    }
}

fn subject_block(
    out: &mut String,
    title: &str,
    r: &SubjectReport,
    view: &CheckView<'_>,
    style: Style,
) {
    line(out, &style.bold(&format!("HEALTH STATUS: {title}")));
    line(out, &format!("  Status: {}", style.by_level(&r.status, &r.status.to_uppercase())));
    line(out, &format!("  Subject: {}", subject_line(r)));
    let mut facts = Vec::new();
    if r.subject.kind == "filesystem" {
        facts.push(format!("Disk: {}", share(Measure::of("disk_full"), r)));
        facts.push(format!("Inodes: {}", share(Measure::of("inodes"), r)));
    } else if r.subject.kind == "certificate" {
        let date = |us: Option<i64>| us.map_or_else(|| "no date".into(), minute);
        facts.push(format!("Valid since: {}", date(r.resources.not_before)));
        facts.push(format!("Valid until: {}", date(r.resources.not_after)));
    } else {
        facts.push(format!("Memory: {}", memory(r)));
        facts.push(match r.resources.cpu_percent {
            Some(p) => format!("CPU: {p:.0}%"),
            None => "CPU: not known".into(),
        });
        if r.resources.pids_limit.is_some() {
            facts.push(format!("Pids: {}", share(Measure::of("pids"), r)));
        }
        if r.resources.fds_limit.is_some() {
            facts.push(format!("File descriptors: {}", share(Measure::of("fds"), r)));
        }
        if let Some(bytes) = r.resources.heap_limit_bytes {
            facts.push(format!("Its own heap limit: {}", bytes_words(bytes as f64)));
        }
    }
    if let Some(n) = r.resources.restarts {
        facts.push(format!("Restarts: {n}"));
    }
    if let Some(n) = r.resources.oom_kills.filter(|n| *n > 0) {
        facts.push(format!("OOM kills: {n}"));
    }
    line(out, &format!("  {}", facts.join("   ")));
    if let Some(age) = r.age_seconds.filter(|_| r.status == "unknown") {
        line(
            out,
            &format!("  Last seen {} before: gone, or its collector is", duration_words(age)),
        );
    }
    if !r.predictions.is_empty() {
        line(out, &style.bold("🔮 PREDICTIONS:"));
        for p in &r.predictions {
            if p.is_date() {
                known_date(out, p, r, view, style);
                continue;
            }
            let of_this = |(id, t): &&(i64, Trend)| *id == r.subject.series_id && t.kind == p.kind;
            let trend = view.trends.iter().find(of_this).map(|(_, t)| t);
            prediction(out, p, r, trend, style);
        }
    }
    if r.insights.is_empty() {
        return;
    }
    line(out, &style.bold("💡 INSIGHTS:"));
    for i in &r.insights {
        let severity = style.by_level(&i.severity, &format!("[{}]", i.severity));
        line(out, &format!("   {severity} {}", i.title));
        if let Some(detail) = &i.detail {
            line(out, &format!("     {detail}"));
        }
        if !i.evidence.is_empty() {
            line(out, "     Evidence:");
            evidence(out, "     ", &i.evidence, style);
        }
        let fixes: Vec<_> =
            view.fixes.iter().filter(|f| f.insight_id.as_deref() == Some(&i.id)).collect();
        if !fixes.is_empty() {
            line(out, "     Suggested fixes:");
        }
        for (n, f) in fixes.iter().enumerate() {
            line(out, &format!("       [{}] {}", n + 1, f.description));
            line(out, &format!("           $ {}", f.command));
        }
        line(out, &style.dim(&format!("     id {}", i.id)));
    }
}

fn subject_line(r: &SubjectReport) -> String {
    let s = &r.subject;
    let mut text = match &s.namespace {
        Some(ns) => format!("{} {ns}/{}", s.kind, s.name),
        None => format!("{} {}", s.kind, s.name),
    };
    let place = s.cgroup.as_deref().or(s.path.as_deref());
    if let Some(place) = place.filter(|p| *p != s.name) {
        let _ = write!(text, " ({place})");
    }
    if let Some(node) = s.node.as_deref().filter(|_| s.kind != "node") {
        let _ = write!(text, " on {node}");
    }
    text
}

/// How much of what there is is in use.
fn share(measure: Option<Measure>, r: &SubjectReport) -> String {
    let known = measure.and_then(|m| Some((m, m.now(&r.resources)?)));
    let Some((measure, (level, most))) = known else { return "not known".into() };
    let words = |n: i64| amount_words(measure.kind, n as f64);
    let share = if most > 0 { level as f64 / most as f64 * 100.0 } else { 100.0 };
    format!("{}/{} ({share:.1}%)", words(level), words(most))
}

fn memory(r: &SubjectReport) -> String {
    let x = &r.resources;
    let Some(level) = x.memory_level_bytes.or(x.memory_usage_bytes) else {
        return "not known".into();
    };
    let used = bytes_words(level as f64);
    match (x.memory_limit_bytes, x.memory_headroom_bytes) {
        (Some(limit), _) if limit > 0 => {
            let share = level as f64 / limit as f64 * 100.0;
            format!("{used}/{} ({share:.1}%)", bytes_words(limit as f64))
        }
        (_, Some(left)) => {
            format!("{used}, {} left below a parent's limit", bytes_words(left as f64))
        }
        _ => format!("{used} (no limit)"),
    }
}

/// `expires on 2026-12-05 11:20 UTC, in 12 days`.
fn expiry(r: &SubjectReport, as_of: Option<i64>) -> String {
    let Some(until) = r.resources.not_after else { return "has no expiration date".into() };
    let date = minute(until);
    match as_of.map(|t| (until - t) as f64 / 1e6) {
        Some(left) if left > 0.0 => format!("expires on {date}, in {}", duration_words(left)),
        Some(left) => format!("expired on {date}, {} ago", duration_words(-left)),
        None => format!("is valid until {date}"),
    }
}

/// A known date: no interval, no probability, nothing to be confident about.
fn known_date(
    out: &mut String,
    p: &Prediction,
    r: &SubjectReport,
    view: &CheckView<'_>,
    style: Style,
) {
    let text = match &p.cannot_say {
        Some(why) => format!("Cannot say when {} expires: {why}", r.subject.name),
        None => {
            let path = r.subject.path.as_deref().unwrap_or("?");
            let expiry = expiry(r, view.origin.as_of);
            format!("{} {} ({path}) {expiry}", r.subject.noun(), r.subject.name)
        }
    };
    let level = match status_rank(&r.status) {
        3 => style.by_level("critical", &text),
        2 => style.by_level("warning", &text),
        _ => text,
    };
    line(out, &format!("   → {level}"));
}

fn prediction(
    out: &mut String,
    p: &Prediction,
    r: &SubjectReport,
    trend: Option<&Trend>,
    style: Style,
) {
    // Types that this version does not know can come from user patterns.
    let (noun, verb) =
        Measure::of(&p.kind).map_or((p.kind.as_str(), "reach its limit"), |m| (m.noun, m.verb));
    if let (None, Some(reason)) = (p.probability, &p.cannot_say) {
        line(out, &format!("   → Cannot say when {noun}: {reason}"));
        return;
    }
    let horizon = p.horizon_seconds.map(duration_words);
    let within = horizon.map(|h| format!(" within {h}")).unwrap_or_default();
    let chance = match p.probability {
        Some(share) => format!("probability {}{within}", percent_words(share)),
        None => "probability not known".into(),
    };
    match p.eta_seconds {
        Some(eta) => {
            let likely = p.probability.is_some_and(|share| share >= 0.5);
            let interval = interval_words(p.eta_low_seconds, p.eta_high_seconds)
                .map(|i| format!("80 % interval {i}, "))
                .unwrap_or_default();
            let text = format!(
                "{} {} {} in {}",
                r.subject.noun(),
                if likely { "will" } else { "may" },
                verb,
                duration_words(eta)
            );
            let level = if likely { "critical" } else { "warning" };
            line(out, &format!("   → {} ({interval}{chance})", style.by_level(level, &text)));
        }
        None => line(out, &format!("   → No {noun} in sight ({chance})")),
    }
    if let (Some(trend), Some(width)) = (trend, style.width)
        && let Some((history, forecast)) = sparkline(trend, width.saturating_sub(40).min(60))
    {
        let limit =
            trend.threshold.map(|t| format!(" {}", amount_words(&p.kind, t))).unwrap_or_default();
        let bar = if forecast.is_empty() { "" } else { "│" };
        line(
            out,
            &format!(
                "     {history}{bar}{}{}",
                style.by_level("warning", &forecast),
                style.dim(&limit)
            ),
        );
    }
    let mut basis = Vec::new();
    if let Some(slope) = p.slope_per_second {
        basis.push(format!("slope {}/s", amount_words(&p.kind, slope)));
    }
    if let Some(model) = &p.model {
        basis.push(format!("model {model}"));
    }
    if let Some(window) = p.window_seconds {
        let samples = p.samples.map(|n| format!(" ({n} samples)")).unwrap_or_default();
        basis.push(format!("over {}{samples}", duration_words(window)));
    }
    basis.push(format!("confidence {}", confidence(p.confidence_rate, p.confidence_n)));
    line(out, &format!("     {}", style.dim(&basis.join(", "))));
}

/// The observed rate of such statements with its n, or why there is none.
pub fn confidence(rate: Option<f64>, n: Option<i64>) -> String {
    let n = n.unwrap_or(0);
    match rate {
        Some(rate) => format!("{} (n = {n})", percent_words(rate)),
        None => format!("not yet known: n = {n} of {CONFIDENCE_MIN_N}"),
    }
}

fn evidence(out: &mut String, indent: &str, facts: &[Evidence], style: Style) {
    for e in facts.iter().take(SHOWN_FACTS) {
        let mut text = format!("{indent}- {}", e.fact);
        if let Some(id) = &e.event_id {
            text.push_str(&style.dim(&format!(" [{id}]")));
        }
        line(out, &text);
    }
    if facts.len() > SHOWN_FACTS {
        line(out, &format!("{indent}- and {} more (-o json has all)", facts.len() - SHOWN_FACTS));
    }
}

/// `tapio why`; `confidence` is that of the pattern's predictions for this target.
pub fn why(
    target: &str,
    origin: &Origin,
    report: &WhyReport,
    pattern_confidence: Option<(Option<f64>, Option<i64>)>,
    degraded: &[Degraded],
    style: Style,
) -> String {
    let mut out = String::new();
    let found = report.verdict == "cause_found";
    let analysis = match report.causes.first().filter(|_| found) {
        Some(cause) => format!("ANALYSIS: {} in {target}", finding(report, cause)),
        None => format!("ANALYSIS: No cause proven for {target}"),
    };
    line(&mut out, &style.bold(&analysis));
    line(&mut out, &style.bold("ROOT CAUSE:"));
    if report.causes.is_empty() {
        let remark = report.remark.as_deref().unwrap_or("the data at hand prove none");
        line(&mut out, &format!("  → No cause proven: {remark}"));
    }
    for c in &report.causes {
        let score = c.score.map(|s| format!(" (score {s:.2})")).unwrap_or_default();
        line(&mut out, &format!("  → {}{}", c.title, style.dim(&score)));
        if let Some(detail) = &c.detail {
            line(&mut out, &format!("    {detail}"));
        }
        if !c.evidence.is_empty() {
            line(&mut out, "    Evidence:");
            evidence(&mut out, "    ", &c.evidence, style);
        }
    }
    if !report.chain.is_empty() {
        line(&mut out, &style.bold("CORRELATION CHAIN:"));
        for (n, step) in report.chain.iter().enumerate() {
            let when = step.evidence.first().and_then(|e| e.ts.as_deref());
            let when = when.map(|t| style.dim(&format!(" (at {t})"))).unwrap_or_default();
            line(&mut out, &format!("  {}. {}{when}", n + 1, step.title));
        }
    }
    if let Some(pattern) = &report.pattern {
        let (rate, n) = pattern_confidence.unwrap_or_default();
        line(&mut out, &format!("PATTERN MATCH: {pattern} (confidence: {})", confidence(rate, n)));
    }
    if !report.recommendations.is_empty() {
        line(&mut out, &style.bold("RECOMMENDED ACTION:"));
        for r in &report.recommendations {
            recommendation(&mut out, r);
        }
    }
    degraded_lines(&mut out, degraded, style);
    origin_line(&mut out, origin, style);
    out
}

/// What kind of thing was found: the pattern's title, else the cause's.
fn finding(report: &WhyReport, cause: &WhyEntry) -> String {
    let title = report.pattern.as_deref().and_then(|name| {
        let catalog = tapio_sql::PatternCatalog::builtin().ok()?;
        catalog.get(name).map(|p| p.title.clone())
    });
    title.unwrap_or_else(|| cause.title.clone())
}

fn recommendation(out: &mut String, r: &WhyEntry) {
    line(out, &format!("  {}", r.title));
    if let Some(detail) = &r.detail {
        line(out, &format!("    {detail}"));
    }
}

/// `tapio fix`: the commands; nothing is ever run.
pub fn fix(
    target: &str,
    origin: &Origin,
    fixes: &[Fix],
    dry_run: bool,
    degraded: &[Degraded],
    style: Style,
) -> String {
    let mut out = String::new();
    line(&mut out, &format!("🔍 Analyzing issues for {target}..."));
    line(&mut out, &format!("Found {} fixable issue(s):", fixes.len()));
    for (n, f) in fixes.iter().enumerate() {
        line(&mut out, &style.bold(&format!("[{}] {}", n + 1, f.description)));
        let mut field = |name: &str, value: Option<&str>| {
            if let Some(v) = value {
                line(&mut out, &format!("    {name}: {v}"));
            }
        };
        field("Impact", f.impact.as_deref());
        field("Costs", f.cost.as_deref());
        field("Buys", f.buys.as_deref());
        field("Risk", Some(&f.risk));
        field("Command", Some(&f.command));
        field("Undo", f.undo_command.as_deref());
    }
    if !fixes.is_empty() {
        let note = if dry_run {
            "Dry run: nothing was changed."
        } else {
            "Nothing was changed: this version does not apply fixes itself. Run the commands above by hand."
        };
        line(&mut out, note);
    }
    degraded_lines(&mut out, degraded, style);
    origin_line(&mut out, origin, style);
    out
}

fn degraded_lines(out: &mut String, degraded: &[Degraded], style: Style) {
    for d in degraded {
        let subject = d.subject.as_deref().map(|s| format!(" {s}")).unwrap_or_default();
        let count = d.count.filter(|n| *n > 1).map(|n| format!(" ({n} times)")).unwrap_or_default();
        let text = format!("⚠ degraded: {}{subject}: {}{count}", d.component, d.detail);
        line(out, &style.by_level("warning", &text));
    }
}

fn origin_line(out: &mut String, origin: &Origin, style: Style) {
    let through = match (origin.as_of, origin.data_through) {
        (Some(at), Some(t)) if at != t => {
            format!(", as of {} with data through {}", clock_time(at), clock_time(t))
        }
        (_, Some(t)) => format!(", data through {} UTC", clock_time(t)),
        (Some(at), None) => format!(", as of {} UTC", clock_time(at)),
        (None, None) => String::new(),
    };
    let text = match origin.source {
        "server" => {
            format!("✅ Using advanced correlation analysis (server {}{through})", origin.detail)
        }
        "store" => format!("📦 From the local store {}{through}", origin.detail),
        _ => format!(
            "👀 From {} of live observation of this machine{through}; a running tapio-server sees further",
            origin.detail
        ),
    };
    line(out, &style.dim(&text));
}

fn line(out: &mut String, text: &str) {
    out.push_str(text.trim_end());
    out.push('\n');
}
