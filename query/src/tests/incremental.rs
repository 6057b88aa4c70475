//! What is kept of hot batches between evaluations changes no answer (T6).

use std::sync::Arc;

use proptest::prelude::*;
use tapio_sql::{Pattern, PatternCatalog, catalog};
use tapio_store::{HotBatch, Store, sort_rows};

use super::world::*;
use crate::{Engine, EngineOptions};

/// As the screen of `memory_leak_oom`, with a crossing and what else is exact, in the form of a pattern.
const SCREEN: &str = "-- name: screened\n-- title: T\n-- tables: resources\n-- param: lookback_seconds float64 = 60 -- rows\n\
    SELECT series_id, newest['ts'] AS window_start, last_ts AS window_end, 'warning' AS severity, trend AS score, \
      concat_ws(' ', 'n', recent_trend, crossing, newest['c1'], newest['c2'], rows, least, high) AS title, 'd' AS detail, \
      tapio_evidence(tapio_fact(NULL, last_ts, 'x')) AS evidence \
    FROM (SELECT series_id, \
        tapio_last(ts, memory_limit_bytes - memory_headroom_bytes, memory_limit_bytes) AS newest, \
        tapio_trend(ts, memory_limit_bytes - memory_headroom_bytes) AS trend, \
        tapio_trend(ts, memory_limit_bytes - memory_headroom_bytes) \
          FILTER (WHERE ts > $as_of - INTERVAL '10 seconds') AS recent_trend, \
        tapio_linear_crossing(ts, memory_limit_bytes - memory_headroom_bytes, memory_limit_bytes, NULL) AS crossing, \
        count(*) AS rows, min(memory_headroom_bytes) AS least, max(ts) AS last_ts, \
        count(*) FILTER (WHERE memory_level_bytes > 50 AND ts <= $as_of - INTERVAL '5 seconds') AS high \
      FROM resources \
      WHERE ts > tapio_ago($as_of, $lookback_seconds) AND memory_limit_bytes IS NOT NULL \
        AND memory_headroom_bytes IS NOT NULL \
      GROUP BY series_id) \
    ORDER BY series_id";

fn options(store: Store, hot: Arc<Hot>) -> EngineOptions {
    let mut options = EngineOptions::new(store, PatternCatalog::default());
    options.patterns.add(Pattern::parse("screened.sql", SCREEN).unwrap());
    options.hot = hot;
    options
}

async fn ask(engine: &Engine, sql: &str, as_of: i64) -> String {
    text(&engine.sql(sql, Some(as_of)).await.unwrap().1)
}

/// The same as statements, whose times are literals.
fn statements() -> [String; 2] {
    let body = SCREEN.split_once('\n').unwrap().1;
    let body: String = body.lines().filter(|l| !l.starts_with("--")).collect();
    let plain = body
        .replace("$as_of", "tapio_as_of()")
        .replace("$lookback_seconds", "60.0")
        .replace("NULL) AS crossing", "tapio_as_of()) AS crossing");
    ["SELECT * FROM screened() ORDER BY series_id".to_owned(), plain]
}

#[derive(Debug, Clone)]
enum Step {
    /// Rows (series, ts, delay until it is observed, level), in one batch.
    Come(Vec<(i64, i64, i64, i64)>),
    /// So many neighbours from here on become one batch.
    Merge(usize, usize),
    /// The oldest so many go to a file; whether they stay in the buffer for now.
    Flush(usize, bool),
    /// Those in files leave the buffer.
    Drop,
    /// Ask as of a time.
    Ask(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let row = (0..4_i64, 0..6_i64, 0..3_i64, -1..100_i64);
    let come = (0..100_i64, proptest::collection::vec(row, 1..12)).prop_map(|(at, rows)| {
        Step::Come(rows.into_iter().map(|(s, t, d, v)| (s, at + t, d, v)).collect())
    });
    prop_oneof![
        6 => come,
        2 => (0..4_usize, 2..4_usize).prop_map(|(at, n)| Step::Merge(at, n)),
        1 => (1..3_usize, any::<bool>()).prop_map(|(n, stays)| Step::Flush(n, stays)),
        1 => Just(Step::Drop),
        4 => (50..120_i64).prop_map(Step::Ask),
    ]
}

/// A level below zero: without a limit.
fn row(series: i64, ts: i64, delay: i64, level: i64) -> Row {
    let (ts, seen) = (T0 + ts * SECOND, T0 + (ts + delay) * SECOND);
    let mut row = row! { series_id: series, ts: ts, observed_at: seen, memory_level_bytes: level };
    if level >= 0 {
        row.0.insert("memory_limit_bytes", 100_i64.into());
        row.0.insert("memory_headroom_bytes", (100 - level).into());
    }
    row
}

/// The hot buffer of a writer, and its table.
struct Writer {
    store: Store,
    hot: Arc<Hot>,
    sequence: i64,
    stored: i64,
}

impl Writer {
    fn batches<T>(&self, f: impl FnOnce(&mut Vec<HotBatch>) -> T) -> T {
        f(&mut self.hot.tables.lock().unwrap().entry("resources".into()).or_default().batches)
    }

    fn come(&mut self, rows: &[Row]) {
        self.sequence += 1;
        self.hot.put("resources", self.sequence, self.sequence, rows);
    }

    fn merge(&self, at: usize, n: usize) {
        let stored = self.stored;
        self.batches(|all| {
            let Some(run) = all.get(at..at + n) else { return };
            if run[0].first_seq <= stored {
                return;
            }
            let rows: Vec<_> = run.iter().map(|h| h.batch.clone()).collect();
            let merged = sort_rows(catalog().get("resources").unwrap(), &rows).unwrap();
            let merged = HotBatch::new(run[0].first_seq, run[n - 1].last_seq, merged);
            all.splice(at..at + n, [merged]);
        });
    }

    async fn flush(&mut self, n: usize, stays: bool) {
        let stored = self.stored;
        let oldest: Vec<_> = self
            .batches(|all| all.iter().filter(|h| h.last_seq > stored).take(n).cloned().collect());
        let Some(last) = oldest.last() else { return };
        let log = self.store.table(catalog().get("resources").unwrap());
        let rows: Vec<_> = oldest.iter().map(|h| h.batch.clone()).collect();
        let add = vec![log.write_file("2026-11-23", &rows).await.unwrap()];
        let txn = Some(("w".to_owned(), last.last_seq));
        let commit = tapio_store::Commit { add, txn, data_change: true, ..Default::default() };
        log.commit(commit).await.unwrap();
        self.stored = last.last_seq;
        if !stays {
            self.leave();
        }
    }

    fn leave(&self) {
        self.batches(|all| all.retain(|h| h.last_seq > self.stored));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn kept_states_answer_as_all_rows_in_files_do(steps in proptest::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        runtime.block_on(async {
            let mut writer =
                Writer { store: Store::memory(), hot: Arc::default(), sequence: 0, stored: 0 };
            let files = Store::memory();
            let kept = Engine::new(options(writer.store.clone(), writer.hot.clone())).unwrap();
            let scratch = Engine::new(options(files.clone(), Arc::default())).unwrap();
            for step in steps {
                match step {
                    Step::Come(rows) => {
                        let rows: Vec<_> =
                            rows.into_iter().map(|(s, t, d, v)| row(s, t, d, v)).collect();
                        writer.come(&rows);
                        write(&files, "resources", &rows, 0).await;
                    }
                    Step::Merge(at, n) => writer.merge(at, n),
                    Step::Flush(n, stays) => writer.flush(n, stays).await,
                    Step::Drop => writer.leave(),
                    Step::Ask(at) => {
                        for sql in statements() {
                            let at = T0 + at * SECOND;
                            let expected = ask(&scratch, &sql, at).await;
                            assert_eq!(ask(&kept, &sql, at).await, expected, "{sql} as of {at}");
                        }
                    }
                }
            }
        });
    }
}

#[tokio::test]
async fn states_are_kept_from_the_second_time_on_and_go_with_their_batch() {
    for sql in statements() {
        let mut writer =
            Writer { store: Store::memory(), hot: Arc::default(), sequence: 0, stored: 0 };
        let engine = Engine::new(options(writer.store.clone(), writer.hot.clone())).unwrap();
        let size = || engine.kept_states();
        for t in 0..20 {
            writer.come(&[row(1, t, 0, t), row(2, t, 0, 5)]);
        }
        ask(&engine, &sql, T0 + 19 * SECOND).await;
        assert_eq!(size(), (0, 0), "{sql}");
        ask(&engine, &sql, T0 + 19 * SECOND).await;
        let (states, bytes) = size();
        assert_eq!(states, 20, "{sql}");
        assert!(bytes > 20 * 100, "{sql}: {bytes} bytes");
        // A later question reads one batch more, an earlier one none of those that came after it.
        writer.come(&[row(1, 20, 0, 20)]);
        ask(&engine, &sql, T0 + 20 * SECOND).await;
        assert_eq!(size().0, 21, "{sql}");
        ask(&engine, &sql, T0 + 10 * SECOND).await;
        assert_eq!(size().0, 21, "{sql}");
        writer.flush(5, false).await;
        ask(&engine, &sql, T0 + 20 * SECOND).await;
        assert_eq!(size().0, 16, "{sql}");
        writer.flush(100, false).await;
        writer.come(&[row(1, 21, 0, 21)]);
        ask(&engine, &sql, T0 + 21 * SECOND).await;
        assert_eq!(size().0, 1, "{sql}");
    }
}

#[tokio::test]
async fn without_memory_for_states_the_answer_is_the_same() {
    let mut writer = Writer { store: Store::memory(), hot: Arc::default(), sequence: 0, stored: 0 };
    let mut little = options(writer.store.clone(), writer.hot.clone());
    // A sort alone asks for 10 MiB.
    little.memory_limit = Some(24 << 20);
    let engine = Engine::new(options(writer.store.clone(), writer.hot.clone())).unwrap();
    let little = Engine::new(little).unwrap();
    for t in 0..60 {
        let rows: Vec<_> = (0..2_000).map(|s| row(s, t, 0, (t + s) % 90)).collect();
        writer.come(&rows);
    }
    for sql in statements() {
        for at in [58, 59, 60] {
            let at = T0 + at * SECOND;
            assert_eq!(ask(&little, &sql, at).await, ask(&engine, &sql, at).await);
        }
    }
    let ((few, bytes), (all, _)) = (little.kept_states(), engine.kept_states());
    assert!(few > 0 && few < all && bytes <= 6 << 20, "{few} of {all}, {bytes} bytes");
}

/// Rows of its own beside those of the table.
const UNITED: &str = "-- name: united\n-- title: T\n-- tables: resources\n\
    SELECT series_id, last_ts AS window_start, last_ts AS window_end, 'warning' AS severity, 1.0 AS score, 'n' AS title, \
      'd' AS detail, tapio_evidence(tapio_fact(NULL, last_ts, 'x')) AS evidence \
    FROM (SELECT series_id, max(ts) AS last_ts \
      FROM (SELECT series_id, ts FROM resources UNION ALL SELECT CAST(77 AS BIGINT) AS series_id, $as_of AS ts) \
      GROUP BY series_id)";

#[tokio::test]
async fn what_is_united_with_hot_rows_is_not_lost() {
    let mut writer = Writer { store: Store::memory(), hot: Arc::default(), sequence: 0, stored: 0 };
    let mut options = options(writer.store.clone(), writer.hot.clone());
    options.patterns.add(Pattern::parse("united.sql", UNITED).unwrap());
    let engine = Engine::new(options).unwrap();
    writer.come(&[row(1, 0, 0, 50), row(2, 1, 0, 50)]);
    for at in 1..4 {
        let sql = "SELECT series_id FROM united() ORDER BY series_id";
        let answer = ask(&engine, sql, T0 + at * SECOND).await;
        let rows: Vec<&str> =
            answer.lines().skip(3).take(3).map(|l| l.trim_matches(['|', ' '])).collect();
        assert_eq!(rows, ["1", "2", "77"], "{answer}");
    }
}
