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
