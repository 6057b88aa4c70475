//! Probabilities: Brier score per run, its parts, and skill with an interval from resampled runs.

use crate::rng::Draws;

/// Bins of the reliability diagram.
const BINS: usize = 10;
/// Resamples of the bootstrap.
const RESAMPLES: usize = 1000;

/// One stated probability, whether it came true, and the weight of the statement (a run weighs one in all).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Said {
    pub(crate) run: usize,
    pub(crate) p: f64,
    pub(crate) hit: bool,
    pub(crate) weight: f64,
}

/// A point of the reliability diagram.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReliabilityPoint {
    /// Mean stated probability in the bin.
    pub stated: f64,
    /// Observed rate.
    pub observed: f64,
    /// Share of all statements (each run weighs the same).
    pub share: f64,
}

/// Brier score with Murphy's (1973) parts over ten bins: score ≈ reliability − resolution + uncertainty (what the bins
/// hide is small).
#[derive(Debug, Clone, PartialEq)]
pub struct BrierScore {
    /// Mean squared error; each run weighs the same.
    pub score: f64,
    /// Distance of stated and observed rates; 0 is perfect.
    pub reliability: f64,
    /// How much the observed rates differ between bins; more is better.
    pub resolution: f64,
    /// Variance of the outcome.
    pub uncertainty: f64,
    /// The reliability diagram.
    pub points: Vec<ReliabilityPoint>,
}

/// `None` if nothing was said whose outcome is known.
pub(crate) fn brier(said: &[Said]) -> Option<BrierScore> {
    let total: f64 = said.iter().map(|s| s.weight).sum();
    if total <= 0.0 {
        return None;
    }
    let truth = |hit: bool| if hit { 1.0 } else { 0.0 };
    let base = said.iter().map(|s| s.weight * truth(s.hit)).sum::<f64>() / total;
    let score = said.iter().map(|s| s.weight * (s.p - truth(s.hit)).powi(2)).sum::<f64>() / total;
    let mut bins = [(0.0, 0.0, 0.0); BINS];
    for s in said {
        let i = ((s.p * BINS as f64) as usize).min(BINS - 1);
        bins[i].0 += s.weight;
        bins[i].1 += s.weight * s.p;
        bins[i].2 += s.weight * truth(s.hit);
    }
    let points: Vec<ReliabilityPoint> = bins
        .iter()
        .filter(|b| b.0 > 0.0)
        .map(|b| ReliabilityPoint { stated: b.1 / b.0, observed: b.2 / b.0, share: b.0 / total })
        .collect();
    Some(BrierScore {
        score,
        reliability: points.iter().map(|p| p.share * (p.stated - p.observed).powi(2)).sum(),
        resolution: points.iter().map(|p| p.share * (p.observed - base).powi(2)).sum(),
        uncertainty: base * (1.0 - base),
        points,
    })
}

/// Skill against a rival with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Skill {
    /// 1 − score / score of the rival.
    pub skill: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Skill of `ours` against `theirs` (the same statements), resampled by run: steps within a run are dependent.
/// `None` if nothing was said whose outcome is known.
pub(crate) fn skill(ours: &[Said], theirs: &[Said], seed: u64) -> Option<Skill> {
    let runs = ours.iter().map(|s| s.run + 1).max().unwrap_or(0);
    let mut loss = vec![(0.0, 0.0); runs];
    for (a, b) in ours.iter().zip(theirs) {
        let truth = if a.hit { 1.0 } else { 0.0 };
        loss[a.run].0 += a.weight * (a.p - truth).powi(2);
        loss[a.run].1 += b.weight * (b.p - truth).powi(2);
    }
    let scored: Vec<(f64, f64)> = {
        let mut seen = vec![false; runs];
        ours.iter().for_each(|s| seen[s.run] = true);
        loss.into_iter().zip(seen).filter(|x| x.1).map(|x| x.0).collect()
    };
    let of_sums = |(a, b): (f64, f64)| if b > 0.0 { 1.0 - a / b } else { 0.0 };
    let add = |x: (f64, f64), y: &(f64, f64)| (x.0 + y.0, x.1 + y.1);
    let all = of_sums(scored.iter().fold((0.0, 0.0), add));
    if scored.is_empty() {
        return None;
    }
    let mut draws = Draws::new(seed);
    let mut sample: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let sums = (0..scored.len())
                .fold((0.0, 0.0), |sum, _| add(sum, &scored[draws.below(scored.len())]));
            of_sums(sums)
        })
        .collect();
    sample.sort_unstable_by(f64::total_cmp);
    let at = |q: f64| sample[((q * RESAMPLES as f64) as usize).min(RESAMPLES - 1)];
    Some(Skill { skill: all, low: at(0.025), high: at(0.975) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(run: usize, p: f64, hit: bool) -> Said {
        Said { run, p, hit, weight: 1.0 }
    }

    #[test]
    fn parts_add_up() {
        // Stated 0.75 where 3 of 4 hit, 0.25 where 1 of 4 does: reliable, with some resolution.
        let all: Vec<Said> = (0..8)
            .map(|i| if i < 4 { said(i, 0.75, i != 0) } else { said(i, 0.25, i == 4) })
            .collect();
        let b = brier(&all).unwrap();
        assert!((b.score - 0.1875).abs() < 1e-12);
        assert!(b.reliability.abs() < 1e-12);
        assert!((b.resolution - 0.0625).abs() < 1e-12);
        assert!((b.uncertainty - 0.25).abs() < 1e-12);
        assert!((b.score - (b.reliability - b.resolution + b.uncertainty)).abs() < 1e-12);
        assert_eq!(b.points.len(), 2);
        assert_eq!((brier(&[]), skill(&[], &[], 1)), (None, None));
    }

    #[test]
    fn skill_of_the_better_one_is_above_zero_and_mirrors() {
        let mut draws = Draws::new(3);
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for run in 0..300 {
            let p = draws.uniform();
            let hit = draws.chance(p);
            good.push(said(run, p, hit));
            bad.push(said(run, 0.5, hit));
        }
        let skill = |a, b| skill(a, b, 1).unwrap();
        let s = skill(&good, &bad);
        assert!(s.low > 0.0 && s.low < s.skill && s.skill < s.high, "{s:?}");
        assert_eq!(s, skill(&good, &bad));
        assert!(skill(&bad, &good).high < 0.0);
        assert_eq!(skill(&good, &good).skill, 0.0);
    }
}
