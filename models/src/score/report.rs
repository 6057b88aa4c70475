//! All figures in plain structs, and their table.

use std::fmt::Write as _;

use super::alarms::{self, AlarmScore};
use super::brier::{BrierScore, Said, Skill, brier, skill};
use super::eta::{self, EtaScore};
use super::walk::{Step, Walk};
use super::{Answers, CHECKPOINTS, ScoreOptions, horizon_index, horizons};
use crate::Interval;
use crate::baseline::{Baseline, Baselines};
use crate::generator::{Part, Run, ranges};

/// Brier score at one horizon.
#[derive(Debug, Clone, PartialEq)]
pub struct HorizonScore {
    /// Horizon, s.
    pub horizon_s: f64,
    /// Runs with at least one step whose outcome is known.
    pub runs: usize,
    /// Score and parts.
    pub brier: BrierScore,
}

/// All figures of one method.
#[derive(Debug, Clone, PartialEq)]
pub struct MethodScore {
    /// `tapio`, or the name of the rival.
    pub name: &'static str,
    /// Share of steps at which it could not say.
    pub cannot_say: f64,
    /// At .5, .25 and .1 of the life left, foreseeable runs.
    pub eta: Vec<EtaScore>,
    /// Per horizon.
    pub horizons: Vec<HorizonScore>,
    /// All horizons together.
    pub brier: BrierScore,
    /// Alarms.
    pub alarms: AlarmScore,
}

/// How Tapio did on one family.
#[derive(Debug, Clone, PartialEq)]
pub struct FamilyScore {
    /// Family.
    pub name: &'static str,
    /// Runs.
    pub runs: usize,
    /// Events among them.
    pub events: usize,
    /// Median ETA error where .5 and .1 of the life are left.
    pub error: [Option<f64>; 2],
    /// Coverage of the 80 % interval, checkpoints together.
    pub coverage80: Option<f64>,
    /// Share of its events with the alarm on at a quarter of the life left.
    pub recall_quarter: Option<f64>,
    /// Share of its runs with a false alarm.
    pub false_rate: f64,
    /// Brier score of Tapio and of the best rival.
    pub brier: [f64; 2],
}

/// A forecast as it stood, for a plot.
#[derive(Debug, Clone, PartialEq)]
pub struct ConePoint {
    /// When it was made, µs.
    pub at_us: i64,
    /// Median, s after it.
    pub eta_s: Option<f64>,
    /// 50, 80 and 95 % interval.
    pub intervals: Option<[Interval; 3]>,
    /// P(hit within the horizon).
    pub probability: Option<f64>,
}

/// A run and the forecasts made during it.
#[derive(Debug, Clone, PartialEq)]
pub struct Cone {
    /// The run.
    pub run: Run,
    /// Forecasts in order of time.
    pub points: Vec<ConePoint>,
}

/// The scoreboard.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Part that was scored.
    pub part: Part,
    /// Seed of the generator.
    pub seed: u64,
    /// Runs.
    pub runs: usize,
    /// Runs with an event.
    pub events: usize,
    /// Steps with a known outcome.
    pub steps: usize,
    /// Tapio first, then the rivals.
    pub methods: Vec<MethodScore>,
    /// The rival with the best Brier score over all horizons.
    pub best_rival: &'static str,
    /// Skill of Tapio against it: over all horizons, and per horizon (against the best rival there).
    pub skill: Skill,
    /// Horizon, name of the best rival there, skill.
    pub skill_by_horizon: Vec<(f64, &'static str, Skill)>,
    /// Tapio by family.
    pub families: Vec<FamilyScore>,
    /// Some runs with their forecasts.
    pub cones: Vec<Cone>,
}

type Answering<'a> = dyn Fn(&Run, &Step) -> Answers + 'a;

struct Method<'a> {
    name: &'static str,
    answer: Box<Answering<'a>>,
}

struct Scored {
    said: Vec<Said>,
    horizon: Vec<usize>,
    watched: Vec<alarms::Watched>,
    score: MethodScore,
}

pub(super) fn report(
    runs: &[Run],
    walks: &[Walk],
    baselines: &Baselines,
    options: &ScoreOptions,
) -> Report {
    let ours = Method { name: "tapio", answer: Box::new(|_, s: &Step| s.tapio) };
    let tapio = score_method(&ours, runs, walks, baselines);
    let rival = |b: &Baseline| {
        let b = *b;
        let answer = move |r: &Run, s: &Step| {
            let horizon_s = ranges::TIME_SCALES[horizon_index(r.horizon_s)].horizon_s;
            baselines.say(b, horizon_s, &s.features)
        };
        let method = Method { name: b.as_str(), answer: Box::new(answer) };
        score_method(&method, runs, walks, baselines)
    };
    let rivals: Vec<Scored> = Baseline::ALL.iter().map(rival).collect();
    let best = |h: Option<usize>| {
        let score = |s: &Scored| brier(&of_horizon(s, h)).score;
        rivals.iter().min_by(|a, b| score(a).total_cmp(&score(b)))
    };
    let against = |h: Option<usize>| {
        let rival = best(h);
        let s = rival.map(|r| skill(&of_horizon(&tapio, h), &of_horizon(r, h), options.seed));
        (rival.map_or("", |r| r.score.name), s.unwrap_or_default())
    };
    let (best_rival, all) = against(None);
    let skill_by_horizon = horizons()
        .iter()
        .enumerate()
        .map(|(h, &horizon_s)| {
            let (name, s) = against(Some(h));
            (horizon_s, name, s)
        })
        .collect();
    let families = families(runs, walks, &tapio, best(None));
    let cones = cones(runs, walks, options.cones);
    Report {
        part: options.part,
        seed: options.seed,
        runs: runs.len(),
        events: runs.iter().filter(|r| r.event_us.is_some()).count(),
        steps: tapio.said.len(),
        best_rival,
        skill: all,
        skill_by_horizon,
        families,
        cones,
        methods: std::iter::once(tapio).chain(rivals).map(|s| s.score).collect(),
    }
}

fn of_horizon(s: &Scored, h: Option<usize>) -> Vec<Said> {
    s.said
        .iter()
        .zip(&s.horizon)
        .filter(|(_, at)| h.is_none_or(|h| h == **at))
        .map(|(s, _)| *s)
        .collect()
}

fn score_method(m: &Method<'_>, runs: &[Run], walks: &[Walk], baselines: &Baselines) -> Scored {
    let (mut said, mut horizon, mut watched) = (Vec::new(), Vec::new(), Vec::new());
    let (mut silent, mut steps) = (0, 0);
    for (i, (run, walk)) in runs.iter().zip(walks).enumerate() {
        let h = horizon_index(run.horizon_s);
        let base = baselines.base_rate(horizons()[h]);
        let known = walk.steps.iter().filter(|s| s.label.is_some()).count();
        let mut alarm = Vec::with_capacity(walk.steps.len());
        for step in &walk.steps {
            let answer = (m.answer)(run, step);
            steps += 1;
            silent += usize::from(answer.probability.is_none());
            alarm.push((step.at_us, answer.alarm));
            if let Some(hit) = step.label {
                let p = answer.probability.unwrap_or(base);
                said.push(Said { run: i, p, hit, weight: 1.0 / known as f64 });
                horizon.push(h);
            }
        }
        watched.push(alarms::watch(run, alarm.into_iter()));
    }
    let eta = CHECKPOINTS
        .iter()
        .enumerate()
        .map(|(c, &left)| {
            let answers: Vec<(Answers, f64)> = runs
                .iter()
                .zip(walks)
                .filter(|(r, _)| r.is_foreseeable)
                .filter_map(|(r, w)| {
                    let step = w.checkpoints.get(c)?;
                    Some(((m.answer)(r, step), (r.event_us? - step.at_us) as f64 * 1e-6))
                })
                .collect();
            eta::score(left, &answers)
        })
        .collect();
    let by_horizon = horizons().into_iter().enumerate().map(|(h, horizon_s)| {
        let here: Vec<Said> =
            said.iter().zip(&horizon).filter(|x| *x.1 == h).map(|x| *x.0).collect();
        let mut of: Vec<usize> = here.iter().map(|s| s.run).collect();
        of.dedup();
        HorizonScore { horizon_s, runs: of.len(), brier: brier(&here) }
    });
    let score = MethodScore {
        name: m.name,
        cannot_say: if steps > 0 { silent as f64 / steps as f64 } else { 0.0 },
        eta,
        horizons: by_horizon.collect(),
        brier: brier(&said),
        alarms: alarms::score(runs, &watched),
    };
    Scored { said, horizon, watched, score }
}

fn families(
    runs: &[Run],
    walks: &[Walk],
    tapio: &Scored,
    rival: Option<&Scored>,
) -> Vec<FamilyScore> {
    let mut names: Vec<&'static str> = Vec::new();
    for r in runs {
        if !names.contains(&r.family_name()) {
            names.push(r.family_name());
        }
    }
    let one = |name: &'static str| {
        let here: Vec<usize> = (0..runs.len()).filter(|&i| runs[i].family_name() == name).collect();
        let events: Vec<usize> =
            here.iter().copied().filter(|&i| runs[i].event_us.is_some()).collect();
        let checkpoints = |c: usize| -> Vec<(Answers, f64)> {
            let of = |&i: &usize| {
                let step = walks[i].checkpoints.get(c)?;
                Some((step.tapio, (runs[i].event_us? - step.at_us) as f64 * 1e-6))
            };
            events.iter().filter_map(of).collect()
        };
        let together: Vec<(Answers, f64)> = (0..CHECKPOINTS.len()).flat_map(checkpoints).collect();
        let share = |k: usize, n: usize| (n > 0).then(|| k as f64 / n as f64);
        let said_of = |s: &Scored| {
            let of: Vec<Said> =
                s.said.iter().filter(|s| runs[s.run].family_name() == name).copied().collect();
            brier(&of).score
        };
        FamilyScore {
            name,
            runs: here.len(),
            events: events.len(),
            error: [0, 2].map(|c| eta::score(0.0, &checkpoints(c)).median_error),
            coverage80: (!events.is_empty())
                .then(|| eta::score(0.0, &together).levels.get(1).map_or(0.0, |l| l.coverage)),
            recall_quarter: share(
                events.iter().filter(|&&i| tapio.watched[i].in_time).count(),
                events.len(),
            ),
            false_rate: share(
                here.iter().filter(|&&i| tapio.watched[i].false_episodes > 0).count(),
                here.len(),
            )
            .unwrap_or(0.0),
            brier: [said_of(tapio), rival.map_or(0.0, said_of)],
        }
    };
    names.into_iter().map(one).collect()
}

fn cones(runs: &[Run], walks: &[Walk], wanted: usize) -> Vec<Cone> {
    let point = |s: &Step| ConePoint {
        at_us: s.at_us,
        eta_s: s.tapio.eta_s,
        intervals: s.tapio.intervals,
        probability: s.tapio.probability,
    };
    runs.iter()
        .zip(walks)
        .filter(|(r, _)| r.event_us.is_some() && r.is_foreseeable)
        .take(wanted)
        .map(|(run, walk)| Cone {
            run: run.clone(),
            points: walk.steps.iter().map(point).collect(),
        })
        .collect()
}

fn percent(x: f64) -> String {
    format!("{:.1} %", 100.0 * x)
}

/// The scoreboard as a table for a terminal.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    let or_dash = |x: Option<f64>| x.map_or_else(|| "-".to_owned(), percent);
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "{} part, seed {}: {} runs, {} events, {} steps with a known outcome",
        report.part.as_str(),
        report.seed,
        report.runs,
        report.events,
        report.steps
    );
    let _ = writeln!(
        out,
        "\n{:30} {:>8} {:>8} {:>8} | {:>7} {:>7} {:>7} | {:>7} {:>7} {:>7} {:>7} | {:>8} {:>8} {:>6} {:>8} {:>8}",
        "METHOD",
        "ETA ½",
        "ETA ¼",
        "ETA ⅒",
        "80% ½",
        "80% ¼",
        "80% ⅒",
        "BRIER",
        "15 min",
        "1 h",
        "24 h",
        "REC ¼",
        "UNFORES",
        "FALSE",
        "QUIET",
        "SILENT"
    );
    for m in &report.methods {
        let cover = |i: usize| or_dash(m.eta[i].levels.get(1).map(|l| l.coverage));
        let h = |i: usize| m.horizons.get(i).map_or(0.0, |h| h.brier.score);
        let _ = writeln!(
            out,
            "{:30} {:>8} {:>8} {:>8} | {:>7} {:>7} {:>7} | {:>7.4} {:>7.4} {:>7.4} {:>7.4} | {:>8} {:>8} {:>6} {:>8} {:>8}",
            m.name,
            or_dash(m.eta[0].median_error),
            or_dash(m.eta[1].median_error),
            or_dash(m.eta[2].median_error),
            cover(0),
            cover(1),
            cover(2),
            m.brier.score,
            h(0),
            h(1),
            h(2),
            percent(m.alarms.recall_quarter),
            percent(m.alarms.unforeseeable_recall),
            m.alarms.false_episodes,
            percent(m.alarms.quiet_rate),
            percent(m.cannot_say),
        );
    }
    let _ = writeln!(
        out,
        "\nskill against {}: {:.3} [{:.3}, {:.3}]",
        report.best_rival, report.skill.skill, report.skill.low, report.skill.high
    );
    for (h, name, s) in &report.skill_by_horizon {
        let _ = writeln!(
            out,
            "  at {h:.0} s against {name}: {:.3} [{:.3}, {:.3}]",
            s.skill, s.low, s.high
        );
    }
    if let Some(t) = report.methods.first() {
        details(&mut out, t);
    }
    let _ = writeln!(
        out,
        "\n{:18} {:>5} {:>6} {:>8} {:>8} {:>7} {:>8} {:>8} {:>8} {:>8}",
        "FAMILY", "RUNS", "EVENTS", "ETA ½", "ETA ⅒", "80 %", "REC ¼", "FALSE", "BRIER", "RIVAL"
    );
    for f in &report.families {
        let _ = writeln!(
            out,
            "{:18} {:>5} {:>6} {:>8} {:>8} {:>7} {:>8} {:>8} {:>8.4} {:>8.4}",
            f.name,
            f.runs,
            f.events,
            or_dash(f.error[0]),
            or_dash(f.error[1]),
            or_dash(f.coverage80),
            or_dash(f.recall_quarter),
            percent(f.false_rate),
            f.brier[0],
            f.brier[1]
        );
    }
    out
}

fn details(out: &mut String, t: &MethodScore) {
    let a = &t.alarms;
    let _ = writeln!(
        out,
        "\ntapio: reliability {:.4}, resolution {:.4}, uncertainty {:.4}\n\
         alarms: recall {} of {} foreseeable (median lead {} of the life), {} of {} unforeseeable\n\
         false episodes {} (upper 95 % bound of the mean {:.1}), of these too early by less than a horizon {}; quiet runs \
         with one: {} of {} (upper 95 % {})\n\
         precision at 1 % prevalence {}, at 0.1 % {}",
        t.brier.reliability,
        t.brier.resolution,
        t.brier.uncertainty,
        percent(a.recall),
        a.foreseeable,
        a.median_lead_share.map_or_else(|| "-".to_owned(), percent),
        percent(a.unforeseeable_recall),
        a.unforeseeable,
        a.false_episodes,
        a.false_upper95,
        a.early_episodes,
        percent(a.quiet_rate),
        a.quiet,
        percent(a.quiet_upper95),
        percent(a.precision_1_percent),
        percent(a.precision_01_percent),
    );
    for e in &t.eta {
        let levels: Vec<String> = e
            .levels
            .iter()
            .map(|l| {
                format!(
                    "{:.0} %: {} (score {:.2})",
                    100.0 * l.level,
                    percent(l.coverage),
                    l.interval_score
                )
            })
            .collect();
        let _ = writeln!(
            out,
            "with {} left: {} runs, no ETA {}, too late {}; intervals {}",
            e.left,
            e.runs,
            percent(e.missed),
            percent(e.late),
            levels.join(", ")
        );
    }
    for p in &t.brier.points {
        let _ = writeln!(
            out,
            "  stated {:>7} came true {:>7} ({} of the statements)",
            percent(p.stated),
            percent(p.observed),
            percent(p.share)
        );
    }
}
