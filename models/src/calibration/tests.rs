//! The maps keep order, and the committed constants are those of the command.

use super::*;
use crate::generator::{Family, run_of};
use crate::{Options, time_to_threshold};

fn evidence(p: f64, horizon_spans: f64) -> Evidence {
    Evidence { if_it_goes_on: p, as_modelled: p, flat: 0.01, horizon_spans }
}

#[test]
fn more_hits_mean_more_probability() {
    for spans in [0.001, 0.1, 0.5, 1.0, 3.0, 30.0, 1e9] {
        let mut before = 0.0;
        for i in 0..=100 {
            let p = probability(&constants::BETA, &evidence(f64::from(i) / 100.0, spans), None);
            assert!(p >= before && p < 1.0, "{spans} {i}: {p} after {before}");
            before = p;
        }
        assert!(before > 0.5, "{spans}: every path hits, and {before}");
    }
}

#[test]
fn rarer_incidents_mean_less_probability() {
    let e = evidence(0.9, 0.5);
    let at = |prevalence| probability(&constants::BETA, &e, prevalence);
    assert!(at(Some(0.01)) < at(Some(0.1)) && at(Some(0.1)) < at(None));
    assert!((at(Some(PREVALENCE)) - at(None)).abs() < 1e-12);
    for odd in [0.0, 1.0, -3.0, f64::NAN] {
        assert_eq!(at(Some(odd)), at(None));
    }
}

/// The whole fit takes a minute: a part of it has to come close to what is committed.
#[test]
fn the_committed_constants_are_fitted_ones() {
    let small = fit(Some(210), 2);
    for (p, spans) in [(0.0, 0.2), (0.0, 1.0), (0.5, 0.3), (0.5, 1.0), (0.95, 0.3), (1.0, 1.0)] {
        let e = evidence(p, spans);
        let (a, b) = (probability(&constants::BETA, &e, None), probability(&small.beta, &e, None));
        assert!((a - b).abs() < 0.15, "{p} {spans}: {a} committed, {b} from 210 runs");
    }
    for (a, b) in constants::STRETCH.iter().zip(small.stretch).take(2) {
        assert!((a / b).ln().abs() < 0.5, "{a} committed, {b} from 210 runs");
    }
    assert!(small.brier_left_out < small.brier_before, "{small:?}");
}

#[test]
fn a_prevalence_is_asked_for_by_option() {
    let run = run_of(Family::SteadyLeak, 1, 3);
    let as_of_us = run.ts_us[run.ts_us.len() * 3 / 4];
    let asked = |prevalence| {
        let o = Options { as_of_us, prevalence, horizon_s: run.horizon_s, ..Options::default() };
        time_to_threshold(&run.series(), &o).unwrap().probability
    };
    assert!(asked(Some(0.01)) < asked(None));
}
