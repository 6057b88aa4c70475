//! The generator keeps what it promises.

use super::*;

#[test]
fn the_same_call_gives_the_same_bits() {
    for family in Family::ALL {
        assert_eq!(run_of(*family, 3, 1), run_of(*family, 3, 1), "{family:?}");
        assert_ne!(run_of(*family, 3, 1).value, run_of(*family, 4, 1).value, "{family:?}");
        assert_ne!(run_of(*family, 3, 1).value, run_of(*family, 3, 2).value, "{family:?}");
    }
}

#[test]
fn parts_are_disjoint_and_both_hold_every_kind() {
    for part in [Part::Train, Part::Test] {
        for kind in [Kind::Foreseeable, Kind::Unforeseeable, Kind::Quiet] {
            assert!(families(part).any(|f| f.kind() == kind), "{part:?} {kind:?}");
        }
    }
    let all = families(Part::Train).count() + families(Part::Test).count();
    assert_eq!(all, Family::ALL.len());
    let mut names: Vec<&str> = Family::ALL.iter().map(|f| f.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Family::ALL.len());
}

#[test]
fn runs_are_sound() {
    for family in Family::ALL {
        for number in 0..12 {
            let r = run_of(*family, number, 5);
            let name = format!("{family:?} {number}");
            assert!(r.ts_us.len() >= 8, "{name}: {} samples", r.ts_us.len());
            assert!(r.ts_us.is_sorted_by(|a, b| a < b), "{name}");
            assert_eq!(r.ts_us.len(), r.value.len());
            assert_eq!(r.ts_us.len(), r.threshold.len());
            assert!(r.value.iter().all(|v| v.is_finite()), "{name}");
            assert!(*r.ts_us.last().unwrap() <= r.end_us, "{name}");
            assert!(r.onset_us <= r.end_us, "{name}");
            if let Some(event) = r.event_us {
                assert_eq!(event, r.end_us, "{name}");
                assert!(r.ts_us.iter().all(|t| *t < event), "{name}: a sample after the event");
            }
        }
    }
}

#[test]
fn most_foreseeable_runs_hit_and_few_quiet_ones_do() {
    for family in Family::ALL {
        let hits = (0..40).filter(|n| run_of(*family, *n, 9).event_us.is_some()).count();
        match family.kind() {
            Kind::Foreseeable => assert!(hits >= 28, "{family:?}: {hits} of 40"),
            Kind::Unforeseeable => assert_eq!(hits, 40, "{family:?}"),
            Kind::Quiet => assert!(hits <= 6, "{family:?}: {hits} of 40"),
        }
    }
}

#[test]
fn censored_labels_are_not_labels() {
    let mut r = run_of(Family::Flat, 0, 1);
    r.end_us = 100_000_000;
    r.event_us = None;
    assert_eq!(r.hits_within(50_000_000, 50.0), Some(false));
    assert_eq!(r.hits_within(50_000_000, 51.0), None);
    r.event_us = Some(100_000_000);
    assert_eq!(r.hits_within(50_000_000, 51.0), Some(true));
    assert_eq!(r.hits_within(50_000_000, 49.0), Some(false));
}

#[test]
fn futures_keep_what_was_and_change_what_comes() {
    for family in families(Part::Test).filter(|f| f.kind() == Kind::Foreseeable) {
        let r = (0..9).map(|n| run_of(family, n, 5)).find(|r| r.event_us.is_some()).unwrap();
        let event = r.event_us.unwrap();
        let at = |from_us| futures(family, r.number, 5, from_us, 15);
        // Once it has happened, it is the event of the run, whatever is drawn after it.
        assert_eq!(at(event), vec![Some(event); 15], "{family:?}");
        let middle = event - (event - r.onset_us) / 2;
        let law = at(middle);
        assert_eq!(law, at(middle), "{family:?}");
        assert!(law.iter().all(|e| e.is_none_or(|e| e > middle)), "{family:?}");
    }
    let many = |number| futures(Family::RandomSteps, number, 5, 0, 15);
    assert!((0..9).any(|n| many(n).iter().any(|e| *e != many(n)[0])));
}

/// The event of a run is one more draw from the law that its futures are drawn from (Dawid 1984): its rank among them is
/// uniform, at a time that does not depend on the event.
#[test]
fn the_event_is_one_of_its_futures() {
    for family in [Family::RoughLeak, Family::RandomSteps, Family::GenerationLeak] {
        let rank = |number: u64| -> Option<f64> {
            let r = run_of(family, number, 11);
            let from_us = r.onset_us + (40.0 * r.cadence_s * 1e6) as i64;
            // Not seen to happen is later than anything else.
            let late = |e: Option<i64>| e.unwrap_or(i64::MAX);
            let event = Some(late(r.event_us)).filter(|e| *e > from_us && r.end_us > from_us)?;
            let law = futures(family, number, 11, from_us, 20);
            let share = |is: &dyn Fn(i64) -> bool| {
                law.iter().filter(|e| is(late(**e))).count() as f64 / law.len() as f64
            };
            Some(share(&|e| e < event) + 0.5 * share(&|e| e == event))
        };
        let ranks: Vec<f64> = (0..300).filter_map(rank).collect();
        let n = ranks.len() as f64;
        assert!(n > 200.0, "{family:?}: {n}");
        let mean = ranks.iter().sum::<f64>() / n;
        let sd = (ranks.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / n).sqrt();
        // Four standard errors; of 20 draws the ranks spread a little wider than the uniform's 0.289.
        assert!((mean - 0.5).abs() < 4.0 * 0.29 / n.sqrt(), "{family:?}: mean {mean}");
        assert!((sd - 0.295).abs() < 0.04, "{family:?}: deviation {sd}");
    }
}
