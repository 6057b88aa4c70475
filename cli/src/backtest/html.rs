//! A page of its own: the scores, the reliability diagram, forecasts as they stood.

use std::fmt::Write as _;

use tapio_models::score::{Cone, Report};
use tapio_sql::words::duration_words;

use super::scores;
use crate::time::rfc3339;

const STYLE: &str = "body{font:14px system-ui,sans-serif;margin:2em;max-width:72em;color:#222}\
pre{background:#f6f6f6;padding:1em;overflow-x:auto}svg{background:#fafafa;margin:.5em}\
text{font:11px system-ui,sans-serif;fill:#444}";

/// Side of a plot, px.
const SIDE: f64 = 300.0;
/// Room for labels, px.
const EDGE: f64 = 40.0;

/// The page; it loads nothing.
pub(super) fn page(name: &str, report: &Report) -> String {
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>tapio backtest: {0}</title><style>{STYLE}</style>\
         <h1>Backtest: {0}</h1><p>{1} runs, {2} of them with an event, {3} evaluations with a known outcome.</p><pre>{4}</pre>",
        escape(name),
        report.runs,
        report.events,
        report.steps,
        escape(&scores::methods_table(report))
    );
    out += "<h2>Reliability</h2><p>Stated probability against how often it came true; the area of a point is its share of \
            the statements. Points below the diagonal were too sure.</p>";
    out += &reliability(report);
    if !report.cones.is_empty() {
        out += "<h2>Forecasts as they stood</h2><p>Across: time of the run. Up: the predicted time of the event, median \
                and 80 % interval, on the same scale; the horizontal line is when it really came, the diagonal is now.</p>";
        for cone in &report.cones {
            out += &cone_plot(cone);
        }
    }
    out += "</html>\n";
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A plot with its title, what its axes show, and the values at their ends.
fn frame(title: &str, [across, up]: [&str; 2], ends: [&str; 2], inside: &str) -> String {
    let size = SIDE + 2.0 * EDGE;
    let (bottom, middle) = (EDGE + SIDE, EDGE + SIDE / 2.0);
    let text = |x: f64, y: f64, anchor: &str, turn: &str, words: &str| {
        format!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\"{turn}>{}</text>", escape(words))
    };
    let turned = format!(" transform=\"rotate(-90 {} {middle})\"", EDGE - 8.0);
    let labels = [
        text(EDGE, bottom + 16.0, "middle", "", ends[0]),
        text(bottom, bottom + 16.0, "middle", "", ends[1]),
        text(middle, bottom + 28.0, "middle", "", across),
        text(EDGE - 8.0, middle, "middle", &turned, up),
        text(EDGE - 6.0, bottom, "end", "", ends[0]),
        text(EDGE - 6.0, EDGE + 8.0, "end", "", ends[1]),
    ]
    .concat();
    format!(
        "<svg width=\"{size}\" height=\"{size}\" viewBox=\"0 0 {size} {size}\" role=\"img\" aria-label=\"{0}\">\
         <rect x=\"{EDGE}\" y=\"{EDGE}\" width=\"{SIDE}\" height=\"{SIDE}\" fill=\"none\" stroke=\"#bbb\"/>\
         <text x=\"{EDGE}\" y=\"18\">{0}</text>{labels}{inside}</svg>",
        escape(title)
    )
}

/// Where a point of the unit square lies.
fn place(x: f64, y: f64) -> (f64, f64) {
    (EDGE + SIDE * x.clamp(0.0, 1.0), EDGE + SIDE * (1.0 - y.clamp(0.0, 1.0)))
}

fn line((x1, y1): (f64, f64), (x2, y2): (f64, f64), style: &str) -> String {
    format!("<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {style}/>")
}

const FAINT: &str = "stroke=\"#bbb\" stroke-dasharray=\"4\"";

fn reliability(report: &Report) -> String {
    let mut out = String::new();
    for (name, brier) in report.methods.iter().filter_map(|m| Some((m.name, m.brier.as_ref()?))) {
        let mut inside = line(place(0.0, 0.0), place(1.0, 1.0), FAINT);
        for p in &brier.points {
            let (x, y) = place(p.stated, p.observed);
            // Writing to a string does not fail.
            let _ = write!(
                inside,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{:.1}\" fill=\"#07c\" fill-opacity=\".6\"><title>stated {:.2}, came \
                 true {:.2}, {:.1} % of the statements</title></circle>",
                2.0 + 16.0 * p.share.sqrt(),
                p.stated,
                p.observed,
                100.0 * p.share
            );
        }
        let title = format!("{name}: Brier {:.4}", brier.score);
        out += &frame(&title, ["stated", "came true"], ["0", "1"], &inside);
    }
    out
}

fn cone_plot(cone: &Cone) -> String {
    let (start, end) = (cone.run.onset_us, cone.run.end_us);
    let span = ((end - start) as f64).max(1.0);
    // The event is at two thirds, so that forecasts that came too late are seen.
    let scale = |us: f64| (us - start as f64) / span / 1.5;
    let mut inside = line(place(0.0, 0.0), place(1.0, 1.0), FAINT);
    inside += &line(place(0.0, 1.0 / 1.5), place(1.0, 1.0 / 1.5), "stroke=\"#c33\"");
    for p in cone.points.iter().filter(|p| p.at_us >= start) {
        let (at, x) = (p.at_us as f64, scale(p.at_us as f64));
        let y = |s: f64| scale(at + s * 1e6);
        if let Some(i) = p.intervals.map(|i| i[1]) {
            let high = i.high_s.map_or(1.0, y);
            inside += &line(
                place(x, y(i.low_s)),
                place(x, high),
                "stroke=\"#07c\" stroke-opacity=\".3\" stroke-width=\"3\"",
            );
        }
        if let Some(eta) = p.eta_s {
            let (cx, cy) = place(x, y(eta));
            let _ = write!(inside, "<circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"2\" fill=\"#024\"/>");
        }
    }
    let life = duration_words(span / 1e6);
    let what = match cone.run.family {
        Some(family) => format!("{} {}, {life} long", family.as_str(), cone.run.number),
        None => format!("recorded, {} to {}", rfc3339(start), rfc3339(end)),
    };
    let most = duration_words(1.5 * span / 1e6);
    frame(&what, ["asked after", "event foretold after"], ["0", &most], &inside)
}
