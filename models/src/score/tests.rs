//! The instrument can prove a forecaster wrong.

use super::*;
use crate::{Intervals, ModelKind, Outlook, Persistence, SegmentReason};

fn options(part: Part) -> ScoreOptions {
    ScoreOptions {
        part,
        runs: 84,
        baseline_runs: 84,
        threads: 1,
        cones: 2,
        ..ScoreOptions::default()
    }
}

/// A forecast that says `eta_s` with interval ends `low` and `high` times it.
fn statement(
    eta_s: Option<f64>,
    probability: f64,
    (low, high): (f64, f64),
    horizon_s: f64,
) -> Forecast {
    let eta = eta_s.unwrap_or(1e9);
    let i = Interval { low_s: low * eta, high_s: Some(high * eta) };
    Forecast {
        eta_s,
        intervals: Intervals { p50: i, p80: i, p95: i, p99: i },
        probability,
        horizon_s,
        also: Vec::new(),
        model: ModelKind::Line,
        weights: vec![(ModelKind::Line, 1.0)],
        slope_per_s: 0.0,
        level: 0.0,
        threshold: 1.0,
        window_s: 1.0,
        samples: 1,
        dropped: 0,
        segment_start_us: 0,
        segment_reason: SegmentReason::Start,
        residual_scale: 0.0,
        evidence: crate::Evidence::default(),
        persistence: Persistence { onset_us: 0, age_s: 0.0, released: 0, survives: None },
    }
}

fn oracle(run: &Run, o: &crate::Options, wrong_by: f64) -> Option<Forecast> {
    let left = run.event_us.map(|e| (e - o.as_of_us) as f64 * 1e-6);
    let p = |horizon_s: f64| left.map_or(0.0, |l| if l <= horizon_s { 1.0 } else { 0.0 });
    let mut f = statement(left.map(|l| l * wrong_by), p(run.horizon_s), (0.9, 1.1), run.horizon_s);
    let outlook = |&horizon_s: &f64| Outlook {
        horizon_s,
        probability: p(horizon_s),
        evidence: crate::Evidence::default(),
    };
    f.also = o.also_s.iter().map(outlook).collect();
    Some(f)
}

#[test]
fn an_oracle_is_perfect() {
    let r = scoreboard_of(&options(Part::Test), &|run, _, o| oracle(run, o, 1.0));
    let m = &r.methods[0];
    assert_eq!(m.brier.as_ref().unwrap().score, 0.0);
    assert_eq!(r.skill.unwrap().1.skill, 1.0);
    assert!(m.alarms.recall.unwrap() > 0.95 && m.alarms.false_episodes == 0, "{:?}", m.alarms);
    for e in &m.eta {
        assert!(e.runs > 15 && e.median_error.unwrap() < 1e-6 && e.missed == Some(0.0), "{e:?}");
        assert!(e.levels.iter().all(|l| l.coverage == 1.0));
    }
    assert_eq!(r.cones.len(), 2);
    // Long runs are asked at the shorter horizons, too.
    let runs: Vec<usize> = m.horizons.iter().map(|h| h.runs).collect();
    assert!(runs.len() == 3 && runs[0] > 80 && runs[0] > runs[1] && runs[1] > runs[2], "{runs:?}");
    assert!(m.horizons.iter().all(|h| h.brier.score == 0.0 && h.brier.uncertainty > 0.05));
    assert_eq!(r.skill_by_horizon.len(), 3);
    assert!(r.families.iter().any(|f| f.name == "night_pause"));
}

#[test]
fn what_is_wrong_is_called_wrong() {
    let r = scoreboard_of(&options(Part::Test), &|run, _, o| oracle(run, o, 1.5));
    let m = &r.methods[0];
    for e in &m.eta {
        assert!((e.median_error.unwrap() - 0.5).abs() < 1e-6 && e.late == Some(1.0));
        assert!(e.levels.iter().all(|l| l.coverage == 0.0 && l.interval_score > 1.0));
    }
    let r = scoreboard_of(&options(Part::Test), &|run, _, _| {
        Some(statement(Some(1.0), 1.0, (0.5, 2.0), run.horizon_s))
    });
    assert!(r.skill.unwrap().1.high < 0.0, "{:?}", r.skill);
    let a = &r.methods[0].alarms;
    assert!(a.quiet_rate.unwrap() > 0.9 && a.precision_01_percent.unwrap() < 0.01);
}

#[test]
fn silence_is_the_base_rate_and_a_miss() {
    let r = scoreboard_of(&options(Part::Test), &|_, _, _| None);
    let m = &r.methods[0];
    assert_eq!(m.cannot_say, Some(1.0));
    let climatology = r.methods.iter().find(|m| m.name == "climatology").unwrap();
    let score = |m: &MethodScore| m.brier.as_ref().unwrap().score;
    assert!((score(m) - score(climatology)).abs() < 1e-12);
    assert!(m.eta.iter().all(|e| e.missed == Some(1.0) && e.median_error.is_none()));
    assert_eq!(m.alarms.recall, Some(0.0));
}

#[test]
fn threads_do_not_matter() {
    let o = ScoreOptions { runs: 21, baseline_runs: 21, ..options(Part::Test) };
    let one = scoreboard(&o);
    assert_eq!(one, scoreboard(&ScoreOptions { threads: 3, ..o }));
}

#[test]
fn runs_of_the_caller_are_scored_like_generated_ones() {
    let o = ScoreOptions { runs: 21, baseline_runs: 21, ..options(Part::Test) };
    let runs: Vec<Run> = generator::plan(o.part, o.runs)
        .into_iter()
        .map(|(family, number)| generator::run_of(family, number, o.seed))
        .collect();
    assert_eq!(score_runs(&runs, &o), scoreboard(&o));
    let mut recorded = runs[0].clone();
    recorded.family = None;
    let r = score_runs(&[recorded], &o);
    assert_eq!((r.runs, r.families[0].name), (1, "recorded"));
    // A recording is asked at the short horizons, too.
    let m = &r.methods[0];
    assert!(m.horizons.len() >= 3 && m.horizons[0].horizon_s == 60.0, "{:?}", m.horizons);
    let is_mixed = |h: &&HorizonScore| h.brier.uncertainty > 0.0;
    let mixed: Vec<f64> = m.horizons.iter().filter(is_mixed).map(|h| h.horizon_s).collect();
    assert_eq!(r.skill_by_horizon.iter().map(|s| s.0).collect::<Vec<_>>(), mixed);
    let mean =
        mixed.iter().map(|s| m.horizons.iter().find(|h| h.horizon_s == *s).unwrap().brier.score);
    let mean = mean.sum::<f64>() / mixed.len() as f64;
    assert!((m.brier.as_ref().unwrap().score - mean).abs() < 1e-9, "each weighs the same");
    let nothing = score_runs(&[], &o);
    assert_eq!((nothing.runs, nothing.steps), (0, 0));
    let m = &nothing.methods[0];
    assert_eq!((nothing.skill, m.brier.as_ref(), m.cannot_say), (None, None, None));
    assert!(m.horizons.is_empty() && m.alarms.recall.is_none() && m.alarms.quiet_rate.is_none());
}
