//! Plans of relations are kept and run again: no run may see anything of another one.

use futures::FutureExt;
use tapio_sql::{Pattern, PatternCatalog};
use tapio_store::Store;

use super::world::*;
use crate::{Engine, EngineOptions};

const RELATIONS: [&str; 5] = [
    "tapio_check('')",
    "tapio_check('leak')",
    "tapio_why('')",
    "tapio_fixes('')",
    "tapio_findings()",
];

async fn ask(engine: &Engine, relation: &str, as_of: i64) -> String {
    text(&engine.sql(&format!("SELECT * FROM {relation}"), Some(as_of)).await.unwrap().1)
}

fn seconds(s: i64) -> i64 {
    T0 + s * SECOND
}

#[tokio::test]
async fn a_kept_plan_answers_as_a_fresh_one_at_any_time() {
    let (mut w, leak, _) = leak();
    w.event("oom.kill", leak, seconds(250), 1.0, "killed");
    let store = w.store().await;
    let kept = engine(store.clone(), 2);
    for s in [299, 120, 260, 120, 299] {
        let fresh = engine(store.clone(), 2);
        for relation in RELATIONS {
            let answer = ask(&kept, relation, seconds(s)).await;
            assert_eq!(answer, ask(&fresh, relation, seconds(s)).await, "{relation} at {s} s");
            assert_eq!(answer, ask(&kept, relation, seconds(s)).await, "{relation} at {s} s");
        }
    }
    let (early, late) =
        (ask(&kept, RELATIONS[0], seconds(120)), ask(&kept, RELATIONS[0], seconds(299)));
    let (early, late) = futures::join!(early, late);
    assert_ne!(early, late);
    assert_eq!(late, ask(&kept, RELATIONS[0], seconds(299)).await);
    // One statement may ask about two times.
    let q = "SELECT (SELECT count(*) FROM tapio_check('leak') WHERE pattern IS NOT NULL) AS late, (SELECT count(*) FROM \
        tapio_check('leak', '2026-11-23T09:00:00Z')) AS early";
    let shown = text(&kept.sql(q, Some(seconds(299))).await.unwrap().1);
    assert!(shown.contains("| 2    | 0     |"), "{shown}");
}

#[tokio::test]
async fn a_kept_plan_sees_rows_and_files_that_came_since() {
    let (mut w, leak, _) = leak();
    let store = Store::memory();
    let hot = std::sync::Arc::new(Hot::default());
    let mut options = EngineOptions::new(store.clone(), PatternCatalog::builtin().unwrap());
    options.hot = hot.clone();
    let kept = Engine::new(options).unwrap();
    assert!(!ask(&kept, RELATIONS[0], seconds(299)).await.contains("leak"));
    for (sequence, (table, rows)) in (1..).zip(w.tables()) {
        hot.put(table, sequence, sequence, rows);
    }
    let from_hot = ask(&kept, RELATIONS[0], seconds(299)).await;
    for (table, rows) in w.tables() {
        write(&store, table, rows, 3).await;
    }
    // The hot rows are still there, but covered by the files' sequence.
    assert_eq!(from_hot, ask(&kept, RELATIONS[0], seconds(299)).await);
    w.event("oom.kill", leak, seconds(298), 1.0, "killed");
    hot.put("events", 4, 4, &w.events);
    let answer = ask(&kept, RELATIONS[1], seconds(299)).await;
    assert!(answer.contains("OOM kill 1 second ago"), "{answer}");
}

#[tokio::test]
async fn a_statement_given_up_or_failed_leaves_nothing_behind() {
    let store = leak().0.store().await;
    let kept = engine(store.clone(), 2);
    let expected = ask(&engine(store.clone(), 2), RELATIONS[0], seconds(299)).await;
    for polls in 0..40 {
        let sql = format!("SELECT * FROM {}", RELATIONS[0]);
        let mut statement = Box::pin(kept.sql(&sql, Some(seconds(200))));
        for _ in 0..polls {
            if (&mut statement).now_or_never().is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(statement);
    }
    assert_eq!(ask(&kept, RELATIONS[0], seconds(299)).await, expected);
    let failing = "SELECT 1 / (samples - samples) FROM tapio_check('leak')";
    kept.sql(failing, Some(seconds(299))).await.unwrap_err();
    assert_eq!(ask(&kept, RELATIONS[0], seconds(299)).await, expected);
}

#[tokio::test]
async fn a_plan_that_read_something_while_it_was_planned_runs_once() {
    let (w, leak, _) = leak();
    let store = w.store().await;
    let sql = "-- name: early\n-- title: T\n-- tables: series\n\
        SELECT series_id, first_seen AS window_start, first_seen AS window_end, 'warning' AS severity, 1.0 AS score, \
        'seen early' AS title, 'd' AS detail, tapio_evidence(tapio_fact(NULL, first_seen, 'seen')) AS evidence \
        FROM tapio_targets('', '2026-11-23T12:00:00Z') WHERE name = 'late'";
    let mut options = EngineOptions::new(store.clone(), PatternCatalog::builtin().unwrap());
    options.patterns.add(Pattern::parse("early.sql", sql).unwrap());
    let kept = Engine::new(options).unwrap();
    assert!(!ask(&kept, "early()", seconds(299)).await.contains("seen early"));
    let mut more = World::default();
    let late = more.add(&identity("cgroup", "/jobs/late", "9"), seconds(1), Some(leak));
    write(&store, "series", &more.series, 0).await;
    let answer = ask(&kept, "early()", seconds(299)).await;
    assert!(answer.contains("seen early") && answer.contains(&late.to_string()), "{answer}");
}
