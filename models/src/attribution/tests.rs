//! Simulated services whose retention is known.

use proptest::prelude::*;

use super::*;
use crate::rng::Draws;

/// What disturbs the growth.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Trouble {
    /// Readings are off by some pages, independently.
    Readings,
    /// Memory is handed out in arenas of 1 MiB.
    Arenas,
    /// The process keeps and frees other memory, independently of requests.
    Wander,
    /// It grows by itself.
    OwnGrowth,
    /// Every request makes garbage, which a collector frees at once.
    Collector,
    /// One window has a hundred times the growth of others (a cache is loaded), some windows are missing.
    Outlier,
}

const TROUBLES: [Trouble; 6] = [
    Trouble::Readings,
    Trouble::Arenas,
    Trouble::Wander,
    Trouble::OwnGrowth,
    Trouble::Collector,
    Trouble::Outlier,
];

struct Service {
    growth: Vec<f64>,
    requests: Vec<f64>,
    /// True bytes per request.
    bytes: Vec<f64>,
}

impl Service {
    /// Traffic with a common load and a mix of its own for each route; the first `leaks` routes retain memory.
    fn new(windows: usize, routes: usize, leaks: usize, trouble: Trouble, seed: u64) -> Self {
        let mut d = Draws::new(seed);
        let mean: Vec<f64> = (0..routes).map(|_| d.log_between((3.0, 200.0))).collect();
        let bytes: Vec<f64> =
            (0..routes).map(|r| if r < leaks { d.log_between((5e3, 2e5)) } else { 0.0 }).collect();
        let spread = d.between((0.1, 0.5));
        let mut load = vec![0.0; routes + 1];
        let mut requests = Vec::new();
        let mut level = 1e8;
        let leak: f64 = bytes.iter().zip(&mean).map(|(b, m)| b * m).sum::<f64>().max(2e5);
        let (mut garbage, heap) = (0.0, leak * d.between((4.0, 15.0)));
        let garbage_per_request = heap / mean.iter().sum::<f64>() / d.between((4.0, 12.0));
        let own = if trouble == Trouble::OwnGrowth { leak * d.between((0.2, 2.0)) } else { 0.0 };
        let outlier = d.below(windows);
        let mut readings = vec![level];
        for w in 0..windows {
            for l in &mut load {
                *l = 0.7 * *l + spread * d.normal();
            }
            for r in 0..routes {
                let expected = mean[r] * (0.7 * load[routes] + load[r]).exp();
                let n = (expected + expected.sqrt() * d.normal()).round().max(0.0);
                requests.push(n);
                level += bytes[r] * n;
                garbage += garbage_per_request * n;
            }
            level += own;
            match trouble {
                Trouble::Wander => level += 0.3 * leak * d.normal(),
                Trouble::Outlier if w == outlier => level += 100.0 * leak,
                _ => {}
            }
            if garbage > heap {
                garbage *= d.between((0.0, 0.1));
            }
            readings.push(match trouble {
                Trouble::Readings | Trouble::Outlier => level + 0.5 * leak * d.normal(),
                Trouble::Arenas => (level / 1_048_576.0).ceil() * 1_048_576.0,
                Trouble::Collector => level + garbage,
                _ => (level / 4096.0).ceil() * 4096.0,
            });
        }
        let mut growth: Vec<f64> = readings.windows(2).map(|r| r[1] - r[0]).collect();
        if trouble == Trouble::Outlier {
            (0..windows / 12).for_each(|_| growth[d.below(windows)] = f64::NAN);
        }
        Self { growth, requests, bytes }
    }

    fn attribute(&self) -> Result<Attribution, CannotAttribute> {
        attribute(&RouteWindows {
            growth_bytes: &self.growth,
            requests: &self.requests,
            routes: self.bytes.len(),
        })
    }
}

/// What came of many services.
#[derive(Debug, Default)]
struct Tally {
    estimated: usize,
    held: usize,
    leaks: usize,
    leaks_held: usize,
    found: usize,
    innocent: usize,
    accused: usize,
    silent: usize,
    error: Vec<f64>,
}

fn tally(trouble: Trouble, windows: usize, routes: usize, leaks: usize, runs: u64) -> Tally {
    let mut out = Tally::default();
    for seed in 0..runs {
        let service = Service::new(windows, routes, leaks, trouble, seed * 7 + windows as u64);
        let Ok(a) = service.attribute() else {
            out.silent += 1;
            continue;
        };
        for (route, truth) in a.routes.iter().zip(&service.bytes) {
            let claimed = route.no_claim.is_none();
            if let Some(r) = route.retained {
                let held = r.low <= *truth && *truth <= r.high;
                out.estimated += 1;
                out.held += usize::from(held);
                if *truth > 0.0 {
                    out.leaks += 1;
                    out.leaks_held += usize::from(held);
                    out.found += usize::from(claimed);
                    out.error.push((r.bytes_per_request / truth - 1.0).abs());
                }
            }
            if *truth == 0.0 {
                out.innocent += 1;
                out.accused += usize::from(claimed);
            }
        }
    }
    out
}

/// Of 300 services each, with one leaking route: how often the 95 % interval holds the truth (of innocent routes: zero),
/// how many innocent routes are accused, how many leaks are found. Measured over all eighteen settings: 96.4 to 99.4 %
/// held (94.7 to 99.3 % of the leaks), 0 to 1.3 % accused; the bounds below leave room for the draw.
#[test]
fn intervals_hold_and_innocent_routes_are_not_accused() {
    let share = |a: usize, b: usize| a as f64 / b.max(1) as f64;
    for (windows, routes, least_found) in [(24, 3, 0.5), (60, 8, 0.75), (240, 8, 0.9)] {
        for trouble in TROUBLES {
            let t = tally(trouble, windows, routes, 1, 300);
            let what = format!(
                "{windows} windows, {routes} routes, {trouble:?}: held {:.3}, leaks held {:.3}, found {:.3}, accused {:.4}",
                share(t.held, t.estimated),
                share(t.leaks_held, t.leaks),
                share(t.found, t.leaks),
                share(t.accused, t.innocent)
            );
            assert_eq!(t.silent, 0, "{what}");
            assert!(share(t.held, t.estimated) > 0.95, "{what}");
            assert!(share(t.leaks_held, t.leaks) > 0.92, "{what}");
            assert!(share(t.accused, t.innocent) < 0.02, "{what}");
            if trouble != Trouble::Collector {
                assert!(share(t.found, t.leaks) > least_found, "{what}");
            }
        }
    }
}

#[test]
fn without_a_leak_hardly_any_route_is_accused() {
    for trouble in TROUBLES {
        let t = tally(trouble, 60, 8, 0, 300);
        let accused = t.accused as f64 / t.innocent as f64;
        assert!(accused < 0.005, "{trouble:?}: {accused}");
    }
}

#[test]
fn two_leaks_are_told_apart() {
    let s = Service::new(120, 5, 2, Trouble::OwnGrowth, 3);
    let a = s.attribute().unwrap();
    for (r, truth) in a.routes.iter().zip(&s.bytes).take(2) {
        let got = r.retained.unwrap();
        assert!(
            r.no_claim.is_none() && (got.bytes_per_request / truth - 1.0).abs() < 0.01,
            "{r:?}"
        );
        assert!(r.windows_called > 100 && r.windows_agree + 2 > r.windows_called, "{r:?}");
    }
    assert!(a.routes[2..].iter().all(|r| r.no_claim.is_some()));
    assert!(a.own_growth_per_window > 0.0);
    assert!(a.explained.unwrap() > 0.2 && a.explained.unwrap() < 0.95, "{:?}", a.explained);
}

#[test]
fn what_goes_together_is_named() {
    let mut d = Draws::new(1);
    let rows = 40;
    let mut requests = Vec::new();
    let mut growth = Vec::new();
    for _ in 0..rows {
        let (page, other) = (d.below(90) as f64, d.below(90) as f64);
        // A page always brings its style sheet and two images; health checks come every second; one is never called.
        requests.extend([page, other, page, 2.0 * page, 10.0, 0.0]);
        growth.push(1_000.0 * page + 500.0 * other + d.normal());
    }
    let ask = |requests: &[f64], routes| {
        attribute(&RouteWindows { growth_bytes: &growth, requests, routes }).unwrap()
    };
    let a = ask(&requests, 6);
    let why = |r: usize| a.routes[r].no_claim.clone();
    assert_eq!(why(0), Some(NoClaim::Collinear { with: vec![2, 3] }));
    assert_eq!(why(2), Some(NoClaim::Collinear { with: vec![0, 3] }));
    assert_eq!(why(3), Some(NoClaim::Collinear { with: vec![0, 2] }));
    assert_eq!(why(4), Some(NoClaim::Steady));
    assert_eq!(why(5), Some(NoClaim::NotCalled));
    let other = a.routes[1].retained.unwrap();
    assert!(why(1).is_none() && (other.bytes_per_request - 500.0).abs() < 1.0);
    // Nearly together: not told apart, but for another reason.
    let near: Vec<f64> = requests
        .chunks(6)
        .flat_map(|r| [r[0], r[1], r[0] + if d.chance(0.02) { 1.0 } else { 0.0 }])
        .collect();
    let mut noisy = growth.clone();
    noisy.iter_mut().for_each(|g| *g += 5e3 * d.normal());
    let a = attribute(&RouteWindows { growth_bytes: &noisy, requests: &near, routes: 3 }).unwrap();
    assert_eq!(a.routes[0].no_claim, Some(NoClaim::Collinear { with: vec![2] }));
    assert_eq!(a.routes[2].no_claim, Some(NoClaim::Collinear { with: vec![0] }));
}

#[test]
fn one_window_and_rare_routes_are_no_evidence() {
    let mut d = Draws::new(2);
    let (mut requests, mut growth) = (Vec::new(), Vec::new());
    for w in 0..40 {
        let rare = if w == 7 || w == 9 || w == 30 { 5.0 } else { 0.0 };
        // Called in four windows, but in only one of them often.
        let once = if w == 20 {
            400.0
        } else if w % 11 == 0 {
            1.0
        } else {
            0.0
        };
        requests.extend([rare, once, d.below(50) as f64]);
        // Something else grew in that one window.
        let elsewhere = if w == 20 { 4e6 } else { 0.0 };
        growth.push(1e4 * rare + elsewhere + 100.0 * d.normal());
    }
    let a =
        attribute(&RouteWindows { growth_bytes: &growth, requests: &requests, routes: 3 }).unwrap();
    assert_eq!(a.routes[0].no_claim, Some(NoClaim::TooRare { have: 3 }));
    assert_eq!(a.routes[0].retained, None);
    assert!(
        matches!(a.routes[1].no_claim, Some(NoClaim::OneWindow | NoClaim::IncludesZero)),
        "{:?}",
        a.routes
    );
}

#[test]
fn what_cannot_be_said_says_why() {
    let ask = |growth: &[f64], requests: &[f64], routes| {
        attribute(&RouteWindows { growth_bytes: growth, requests, routes })
    };
    let shape = CannotAttribute::Shape { windows: 2, requests: 3, routes: 2 };
    assert_eq!(ask(&[1.0, 2.0], &[1.0; 3], 2), Err(shape.clone()));
    assert!(shape.to_string().contains("2 windows by 2 routes"));
    let huge = ask(&[1.0, 2.0], &[1.0; 3], usize::MAX);
    assert!(matches!(huge, Err(CannotAttribute::Shape { .. })));
    for n in [0, 1, 7] {
        let few = ask(&vec![1.0; n], &vec![1.0; 2 * n], 2);
        assert_eq!(few, Err(CannotAttribute::TooFewWindows { have: n, need: 8 }));
    }
    let mut growth = vec![1.0; 12];
    growth[3..9].fill(f64::NAN);
    let few = ask(&growth, &[1.0; 12], 1);
    assert_eq!(few, Err(CannotAttribute::TooFewWindows { have: 6, need: 8 }));
    let mut requests = vec![1.0; 12];
    (requests[0], requests[1], requests[2]) = (f64::INFINITY, -1.0, f64::NAN);
    let a = ask(&[1.0; 12], &requests, 1).unwrap();
    assert_eq!((a.windows, a.left_out), (9, 3));
    assert_eq!(a.routes[0].no_claim, Some(NoClaim::Steady));
    let none = ask(&[1.0; 12], &[], 0).unwrap();
    assert!(none.routes.is_empty() && (none.own_growth_per_window - 1.0).abs() < 1e-9);
    let still = ask(&[0.0; 12], &(0..12).map(f64::from).collect::<Vec<_>>(), 1).unwrap();
    assert_eq!((still.explained, still.own_growth_per_window), (None, 0.0));
    assert_eq!(still.routes[0].no_claim, Some(NoClaim::IncludesZero));
    let beyond = ask(&[f64::MAX; 12], &(0..12).map(f64::from).collect::<Vec<_>>(), 1);
    assert_eq!(beyond, Err(CannotAttribute::NotFinite));
}

#[test]
fn thousands_of_windows_and_hundreds_of_routes() {
    let s = Service::new(4_000, 150, 1, Trouble::Readings, 5);
    let a = s.attribute().unwrap();
    assert!(a.routes[0].no_claim.is_none() || a.routes[0].retained.is_none(), "{:?}", a.routes[0]);
    assert!(a.routes.iter().filter(|r| r.retained.is_some()).count() <= 64);
}

fn permuted(s: &Service, order: &[usize]) -> Service {
    let n = order.len();
    let row = |r: &[f64]| order.iter().map(|o| r[*o]).collect::<Vec<f64>>();
    Service {
        growth: s.growth.clone(),
        requests: s.requests.chunks(n).flat_map(row).collect(),
        bytes: row(&s.bytes),
    }
}

fn near(a: f64, b: f64, scale: f64) -> bool {
    (a - b).abs() <= 1e-6 * (a.abs() + b.abs() + scale)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_routes_does_not_matter(seed in 0_u64..500, trouble in 0_usize..6, first in 0_usize..4) {
        let s = Service::new(40, 4, 1, TROUBLES[trouble], seed);
        let order: Vec<usize> = (0..4).map(|i| (first + 3 * i) % 4).collect();
        let (a, b) = (s.attribute().unwrap(), permuted(&s, &order).attribute().unwrap());
        for (to, from) in order.iter().enumerate() {
            let (x, y) = (&a.routes[*from], &b.routes[to]);
            let (p, q) = (x.retained.unwrap(), y.retained.unwrap());
            prop_assert!(near(p.bytes_per_request, q.bytes_per_request, p.high), "{x:?} {y:?}");
            prop_assert!(near(p.low, q.low, p.high) && near(p.high, q.high, p.high), "{x:?} {y:?}");
            prop_assert_eq!(x.no_claim.is_none(), y.no_claim.is_none());
        }
    }

    #[test]
    fn units_do_not_matter(seed in 0_u64..500, trouble in 0_usize..6, bytes in -9_i32..9, counts in -3_i32..9) {
        let s = Service::new(40, 3, 1, TROUBLES[trouble], seed);
        let (up, often) = (2_f64.powi(bytes), 2_f64.powi(counts));
        let t = Service {
            growth: s.growth.iter().map(|g| g * up).collect(),
            requests: s.requests.iter().map(|r| r * often).collect(),
            bytes: s.bytes.clone(),
        };
        let (a, b) = (s.attribute().unwrap(), t.attribute().unwrap());
        for (x, y) in a.routes.iter().zip(&b.routes) {
            let (p, q) = (x.retained.unwrap(), y.retained.unwrap());
            let k = up / often;
            prop_assert!(near(p.bytes_per_request * k, q.bytes_per_request, p.high * k), "{x:?} {y:?}");
            prop_assert!(near(p.low * k, q.low, p.high * k) && near(p.high * k, q.high, p.high * k));
            prop_assert_eq!(&x.no_claim, &y.no_claim);
        }
    }

    #[test]
    fn any_table_gets_an_answer(
        growth in prop::collection::vec(prop_oneof![
            4 => -1e9..1e9_f64, 1 => Just(0.0), 1 => prop::num::f64::ANY,
        ], 0..40),
        routes in 0_usize..5,
        cell in prop::collection::vec(prop_oneof![
            4 => (0_u32..9).prop_map(f64::from), 1 => Just(0.0), 1 => prop::num::f64::POSITIVE,
        ], 0..200),
    ) {
        let requests: Vec<f64> =
            cell.iter().copied().cycle().take(if cell.is_empty() { 0 } else { growth.len() * routes }).collect();
        let windows = RouteWindows { growth_bytes: &growth, requests: &requests, routes };
        if let Ok(a) = attribute(&windows) {
            prop_assert_eq!(a.windows + a.left_out, growth.len());
            prop_assert_eq!(a.routes.len(), routes);
            prop_assert!(a.own_growth_per_window >= 0.0);
            for r in &a.routes {
                prop_assert!(r.windows_agree <= r.windows_called && r.windows_called <= a.windows);
                if let Some(k) = r.retained {
                    prop_assert!(0.0 <= k.low && k.low <= k.bytes_per_request && k.bytes_per_request <= k.high);
                    prop_assert!(r.no_claim.is_some() || k.low > 0.0);
                }
                prop_assert!(r.no_claim.is_some() || r.retained.is_some());
            }
        }
    }
}
