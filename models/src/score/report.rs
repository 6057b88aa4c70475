//! All figures in plain structs.

use super::alarms::{self, AlarmScore};
use super::brier::{BrierScore, Said, Skill, brier, skill};
use super::eta::{self, EtaScore};
use super::walk::{Asked, Step, Walk};
use super::{Answers, CHECKPOINTS, ScoreOptions, asked_horizons, horizon_index, horizons};
use crate::Interval;
use crate::baseline::{Baseline, Baselines};
use crate::generator::{Part, Run};

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
    /// Share of steps at which it could not say; `None` without a step.
    pub cannot_say: Option<f64>,
    /// At .5, .25 and .1 of the life left, foreseeable runs.
    pub eta: Vec<EtaScore>,
    /// Per horizon at which the outcome of a step is known.
    pub horizons: Vec<HorizonScore>,
    /// All horizons together at which some questions came true and some did not (all, if there is none), each run weighing
    /// the same at each; `None` if the outcome of no step is known.
    pub brier: Option<BrierScore>,
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
    /// Brier score of Tapio and of the best rival; `None` if the outcome of no step is known.
    pub brier: [Option<f64>; 2],
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
    /// Steps with a known outcome at one horizon at least.
    pub steps: usize,
    /// Tapio first, then the rivals.
    pub methods: Vec<MethodScore>,
    /// The rival with the best Brier score over all horizons, and the skill of Tapio against it; `None` if the outcome of no
    /// step is known.
    pub skill: Option<(&'static str, Skill)>,
    /// Horizon, name of the best rival there, skill; without horizons at which all known outcomes are the same, if there are
    /// others.
    pub skill_by_horizon: Vec<(f64, &'static str, Skill)>,
    /// Tapio by family.
    pub families: Vec<FamilyScore>,
    /// Some runs with their forecasts.
    pub cones: Vec<Cone>,
}

type Stating<'a> = dyn Fn(&Asked) -> Option<f64> + 'a;
type Answering<'a> = dyn Fn(&Run, &Step) -> Answers + 'a;

struct Method<'a> {
    name: &'static str,
    /// At the run's own horizon.
    answer: Box<Answering<'a>>,
    probability: Box<Stating<'a>>,
}

struct Scored {
    said: Vec<Said>,
    /// Horizons that tell of skill: some of the questions came true and some did not. All, where none does.
    mixed: Vec<usize>,
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
    let ours = Method {
        name: "tapio",
        answer: Box::new(|_, s: &Step| s.tapio),
        probability: Box::new(|a| a.probability),
    };
    let tapio = score_method(&ours, runs, walks, baselines);
    let rival = |b: &Baseline| {
        let b = *b;
        let answer = move |r: &Run, s: &Step| {
            let horizon_s = horizons()[horizon_index(r.horizon_s)];
            baselines.say(b, horizon_s, &s.features)
        };
        let probability =
            move |a: &Asked| baselines.say(b, horizons()[a.horizon], &a.features).probability;
        let method = Method {
            name: b.as_str(),
            answer: Box::new(answer),
            probability: Box::new(probability),
        };
        score_method(&method, runs, walks, baselines)
    };
    let rivals: Vec<Scored> = Baseline::ALL.iter().map(rival).collect();
    let best = |h: Option<usize>| {
        let scored = |s| Some((s, brier(&of_horizon(s, h))?.score));
        rivals.iter().filter_map(scored).min_by(|a, b| a.1.total_cmp(&b.1)).map(|best| best.0)
    };
    let against = |h: Option<usize>| {
        if h.is_some_and(|h| !tapio.mixed.contains(&h)) {
            return None;
        }
        let rival = best(h)?;
        let skill = skill(&of_horizon(&tapio, h), &of_horizon(rival, h), options.seed)?;
        Some((rival.score.name, skill))
    };
    let skill = against(None);
    let skill_by_horizon = horizons()
        .iter()
        .enumerate()
        .filter_map(|(h, &horizon_s)| {
            let (name, skill) = against(Some(h))?;
            Some((horizon_s, name, skill))
        })
        .collect();
    let families = families(runs, walks, &tapio, best(None));
    let cones = cones(runs, walks, options.cones);
    Report {
        part: options.part,
        seed: options.seed,
        runs: runs.len(),
        events: runs.iter().filter(|r| r.event_us.is_some()).count(),
        steps: walks.iter().flat_map(|w| &w.steps).filter(|s| is_known(s)).count(),
        skill,
        skill_by_horizon,
        families,
        cones,
        methods: std::iter::once(tapio).chain(rivals).map(|s| s.score).collect(),
    }
}

fn is_known(step: &Step) -> bool {
    step.asked.iter().any(|a| a.label.is_some())
}

/// What was said at a horizon; `None`: at all that tell of skill.
fn of_horizon(s: &Scored, h: Option<usize>) -> Vec<Said> {
    let is_in = |at: &usize| h.map_or_else(|| s.mixed.contains(at), |h| h == *at);
    s.said.iter().zip(&s.horizon).filter(|x| is_in(x.1)).map(|x| *x.0).collect()
}

fn score_method(m: &Method<'_>, runs: &[Run], walks: &[Walk], baselines: &Baselines) -> Scored {
    let (mut said, mut horizon, mut watched) = (Vec::new(), Vec::new(), Vec::new());
    let (mut silent, mut steps) = (0_u32, 0_u32);
    let base_rates: Vec<f64> = horizons().into_iter().map(|h| baselines.base_rate(h)).collect();
    for (i, (run, walk)) in runs.iter().zip(walks).enumerate() {
        let asked = asked_horizons(run).len();
        let weights: Vec<f64> = (0..asked).map(|at| walk.weight(at)).collect();
        let mut alarm = Vec::with_capacity(walk.steps.len());
        for step in &walk.steps {
            let answer = (m.answer)(run, step);
            steps += 1;
            silent += u32::from(answer.probability.is_none());
            alarm.push((step.at_us, answer.alarm));
            for (asked, weight) in step.asked.iter().zip(&weights) {
                let Some(hit) = asked.label else { continue };
                let base = base_rates[asked.horizon];
                let p = (m.probability)(asked).unwrap_or(base);
                said.push(Said { run: i, p, hit, weight: *weight });
                horizon.push(asked.horizon);
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
    let by_horizon = horizons().into_iter().enumerate().filter_map(|(h, horizon_s)| {
        let here: Vec<Said> =
            said.iter().zip(&horizon).filter(|x| *x.1 == h).map(|x| *x.0).collect();
        let mut of: Vec<usize> = here.iter().map(|s| s.run).collect();
        of.dedup();
        Some(HorizonScore { horizon_s, runs: of.len(), brier: brier(&here)? })
    });
    let by_horizon: Vec<HorizonScore> = by_horizon.collect();
    let index = |h: &HorizonScore| horizons().iter().position(|s| *s == h.horizon_s);
    let mut mixed: Vec<usize> =
        by_horizon.iter().filter(|h| h.brier.uncertainty > 0.0).filter_map(index).collect();
    if mixed.is_empty() {
        mixed = by_horizon.iter().filter_map(index).collect();
    }
    let score = MethodScore {
        name: m.name,
        cannot_say: (steps > 0).then(|| f64::from(silent) / f64::from(steps)),
        eta,
        horizons: by_horizon,
        brier: None,
        alarms: alarms::score(runs, &watched),
    };
    let mut scored = Scored { said, mixed, horizon, watched, score };
    scored.score.brier = brier(&of_horizon(&scored, None));
    scored
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
            let mut of = of_horizon(s, None);
            of.retain(|s| runs[s.run].family_name() == name);
            brier(&of).map(|b| b.score)
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
            brier: [said_of(tapio), rival.and_then(said_of)],
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
