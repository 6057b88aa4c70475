use tapio_sql::{Pattern, PatternCatalog, catalog};
use tapio_store::{Commit, Store};

use super::world::*;
use crate::{Engine, EngineOptions, Position, QueryError};

fn rows(n: i64) -> Vec<Row> {
    (0..n).map(|i| row! { series_id: i % 3, ts: T0 + i * SECOND, observed_at: T0 + i * SECOND, pids: i }).collect()
}

async fn one(engine: &Engine, sql: &str, as_of: Option<i64>) -> String {
    text(&engine.sql(sql, as_of).await.unwrap().1)
}

#[tokio::test]
async fn hot_and_stored_rows_are_seen_once() {
    let store = Store::memory();
    let hot = std::sync::Arc::new(Hot::default());
    hot.put("resources", 1, 5, &rows(5));
    hot.put("resources", 6, 9, &rows(9)[5..]);
    *hot.through.lock().unwrap() = Some(T0 + 8 * SECOND);
    let mut options = EngineOptions::new(store.clone(), PatternCatalog::builtin().unwrap());
    options.hot = hot.clone();
    let engine = Engine::new(options).unwrap();
    let q = "SELECT count(*) AS n, count(DISTINCT ts) AS d FROM resources";
    assert!(one(&engine, q, None).await.contains("| 9 | 9 |"));
    // The first batch is flushed while the hot buffer still has it.
    write(&store, "resources", &rows(5), 5).await;
    assert!(one(&engine, q, None).await.contains("| 9 | 9 |"));
    assert_eq!(engine.default_as_of().await.unwrap(), T0 + 8 * SECOND);
    assert!(one(&engine, q, Some(T0 + 6 * SECOND)).await.contains("| 7 | 7 |"));
}

#[tokio::test]
async fn as_of_leaves_out_what_arrived_later() {
    let mut late = rows(4);
    late[1].0.insert("observed_at", Value::Int(T0 + 60 * SECOND));
    let store = Store::memory();
    write(&store, "resources", &late, 1).await;
    let engine = engine(store, 2);
    let q = "SELECT pids FROM resources ORDER BY ts";
    let shown = one(&engine, q, Some(T0 + 2 * SECOND)).await;
    assert!(
        shown.contains("| 0 ")
            && !shown.contains("| 1 ")
            && shown.contains("| 2 ")
            && !shown.contains("| 3 "),
        "{shown}"
    );
    assert!(one(&engine, q, Some(T0 + 60 * SECOND)).await.contains("| 1 "));
    assert_eq!(engine.default_as_of().await.unwrap() / SECOND, (T0 + 60 * SECOND) / SECOND);
}

#[tokio::test]
async fn damaged_and_foreign_files_are_skipped_named_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().to_str().unwrap(), true).unwrap();
    let log = store.table(catalog().get("resources").unwrap());
    let date = tapio_sql::date_of(T0);
    let mut files = Vec::new();
    for _ in 0..5 {
        files.push(log.write_file(&date, &[batch("resources", &rows(3))]).await.unwrap());
    }
    let path = |i: usize| dir.path().join("resources").join(&files[i].path);
    // No footer, gone, pages damaged, another table's columns.
    std::fs::write(path(1), vec![7; files[1].size as usize]).unwrap();
    std::fs::remove_file(path(2)).unwrap();
    let mut bytes = std::fs::read(path(3)).unwrap();
    for b in &mut bytes[4..200] {
        *b ^= 0x5a;
    }
    std::fs::write(path(3), bytes).unwrap();
    let (foreign, _) = tapio_store::encode_parquet(
        catalog().get("series").unwrap(),
        &[batch("series", &leak().0.series)],
    )
    .unwrap();
    std::fs::write(path(4), &foreign).unwrap();
    files[4].size = foreign.len() as u64;
    log.commit(Commit { add: files.clone(), data_change: true, ..Commit::default() })
        .await
        .unwrap();
    let engine = engine(store, 2);
    let shown = one(&engine, "SELECT series_id, pids FROM resources ORDER BY 1, 2", None).await;
    assert_eq!(shown.lines().count(), 4 + 3, "{shown}");
    let degraded = engine.degraded();
    for (i, reason) in
        [(1, "damaged or foreign"), (2, "gone"), (3, "damaged or foreign"), (4, "belongs to table")]
    {
        let row = degraded.iter().find(|d| d.subject.ends_with(&files[i].path));
        assert!(
            row.is_some_and(|r| r.detail.contains(reason) && r.count == 1),
            "{i}: {degraded:?}"
        );
    }
    let shown = one(&engine, "SELECT component, count FROM tapio_degraded()", None).await;
    assert_eq!(shown.matches("store").count(), 4, "{shown}");
    // A predicate of the user that fails is the user's error, not damage.
    let e =
        engine.sql("SELECT ts FROM resources WHERE 1 / (pids - pids) = 1", None).await.unwrap_err();
    assert!(matches!(e, QueryError::Sql { .. }), "{e:?}");
}

#[tokio::test]
async fn errors_say_where_and_what_to_do() {
    let engine = leak().0.engine(1).await;
    let at = |line, column| Some(Position { line, column });
    for (sql, position, message, help) in [
        ("SELEC 1", at(1, 1), "Expected", "check the spelling"),
        (
            "SELECT *\nFROM resorces",
            at(2, 6),
            "'resorces' not found",
            "did you mean \"resources\"?",
        ),
        (
            "SELECT memory_level FROM resources",
            at(1, 8),
            "memory_level",
            "did you mean \"memory_level_bytes\"?",
        ),
        (
            "SELECT tapio_trnd(ts, pids) FROM resources",
            at(1, 8),
            "tapio_trnd",
            "did you mean \"tapio_trend\"?",
        ),
        ("SELECT * FROM tapio_chek('x')", at(1, 15), "tapio_chek", "did you mean \"tapio_check\"?"),
        ("SELECT * FROM tapio_check", at(1, 15), "tapio_check", "write tapio_check()"),
        ("SELECT * FROM tapio_check('a', 'yesterday')", None, "as_of is no time", ""),
        ("SELECT * FROM tapio_check(1)", None, "argument target must be text", ""),
        ("SELECT * FROM tapio_check('a', NULL, 3)", None, "at most 2 argument(s)", ""),
        ("DROP TABLE resources", None, "DDL", ""),
        ("INSERT INTO resources SELECT * FROM resources", None, "", ""),
        ("SET datafusion.execution.batch_size = 1", None, "", ""),
    ] {
        let e = engine.sql(sql, None).await.unwrap_err();
        let QueryError::Sql { message: m, position: p, hint } = &e else { panic!("{sql}: {e:?}") };
        assert!(m.contains(message), "{sql}: {e}");
        assert_eq!(*p, position, "{sql}: {e}");
        assert!(hint.as_deref().unwrap_or_default().contains(help), "{sql}: {e}");
    }
}

#[tokio::test]
async fn memory_and_time_are_limited() {
    let (w, ..) = leak();
    let mut options = EngineOptions::new(w.store().await, PatternCatalog::builtin().unwrap());
    options.memory_limit = Some(10_000);
    let engine = Engine::new(options.clone()).unwrap();
    let e = engine
        .sql("SELECT ts, array_agg(pids) FROM resources GROUP BY ts ORDER BY ts", None)
        .await
        .unwrap_err();
    assert!(
        matches!(e, QueryError::Resources { .. }) && e.to_string().contains("limits.memory"),
        "{e}"
    );
    options.memory_limit = None;
    options.time_limit = Some(std::time::Duration::ZERO);
    let engine = Engine::new(options).unwrap();
    let e = engine
        .sql("SELECT count(*) FROM resources a, resources b, resources c", None)
        .await
        .unwrap_err();
    assert!(e.to_string().contains("took longer than 0 s"), "{e}");
}

#[tokio::test]
async fn patterns_of_users_join_the_check_or_are_named_with_the_column() {
    let (w, ..) = leak();
    let store = w.store().await;
    let sql = "-- name: always\n-- title: T\n-- tables: series\n\
        SELECT series_id, ts AS window_start, ts AS window_end, 'warning' AS severity, 1.0 AS score, 'always' AS title, \
        'd' AS detail, tapio_evidence(tapio_fact(NULL, ts, 'seen')) AS evidence FROM series WHERE name = 'quiet'";
    let mut options = EngineOptions::new(store, PatternCatalog::builtin().unwrap());
    options.patterns.add(Pattern::parse("always.sql", sql).unwrap());
    let engine = Engine::new(options.clone()).unwrap();
    let shown = one(
        &engine,
        "SELECT status, pattern FROM tapio_check('quiet') WHERE pattern IS NOT NULL",
        Some(T0 + 299 * SECOND),
    )
    .await;
    assert!(shown.contains("degraded") && shown.contains("always"), "{shown}");
    for (from, to, message) in [
        ("1.0 AS score", "'x' AS score", "always.sql: column \"score\" must be Float64, is Utf8"),
        ("'d' AS detail,", "", "column \"detail\" (Utf8) is missing"),
        ("FROM series", "FROM serie", "did you mean \"series\"?"),
    ] {
        options.patterns.add(Pattern::parse("always.sql", &sql.replace(from, to)).unwrap());
        let e = Engine::new(options.clone()).unwrap_err().to_string();
        assert!(e.contains(message), "{e}");
    }
}

/// The same question twice: by a column, whose groups are looked up once per run of rows, and by an expression, row by row.
#[tokio::test]
async fn groups_by_runs_are_the_groups_by_rows() {
    let mut of_any_order = rows(60);
    for (i, row) in of_any_order.iter_mut().enumerate() {
        if i % 7 == 0 {
            row.0.remove("pids");
        }
        if i > 30 {
            row.0.insert("series_id", Value::Int(7));
        }
    }
    let store = Store::memory();
    write(&store, "resources", &of_any_order, 1).await;
    let engine = engine(store, 2);
    for key in ["series_id", "pids"] {
        let ask = |key: &str| {
            format!(
                "SELECT {key} AS k, count(*) AS n, count(pids) AS p, sum(pids) AS s, min(ts) AS first,
                 avg(pids) FILTER (WHERE pids % 2 = 0) AS even FROM resources GROUP BY 1 ORDER BY 1"
            )
        };
        let (by_runs, by_rows) = (ask(key), ask(&format!("{key} + 0")));
        assert_eq!(one(&engine, &by_runs, None).await, one(&engine, &by_rows, None).await);
        let plan = async |sql: &str| one(&engine, &format!("EXPLAIN {sql}"), None).await;
        assert!(plan(&by_runs).await.contains("SeriesRunsExec"));
        assert!(!plan(&by_rows).await.contains("SeriesRunsExec"));
    }
}
