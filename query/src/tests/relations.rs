use arrow::{array::AsArray, datatypes::Float64Type};

use super::world::*;
use crate::{insights, predictions};

const AS_OF: i64 = T0 + 299 * SECOND;

#[tokio::test]
async fn check_predicts_the_leak_and_leaves_the_rest_alone() {
    let (w, _, _) = leak();
    let engine = w.engine(2).await;
    let q = "SELECT name, status, pattern, title FROM tapio_check('')";
    let shown = text(&engine.sql(q, Some(AS_OF)).await.unwrap().1);
    let row =
        |name: &str| shown.lines().find(|l| l.contains(&format!("| {name} "))).unwrap().to_owned();
    assert!(
        row("leak").contains("unhealthy") && row("leak").contains("OOM predicted in 3.3 minutes"),
        "{shown}"
    );
    assert!(row("quiet").contains("healthy") && !row("quiet").contains("OOM"), "{shown}");
    let q =
        "SELECT eta_low99_seconds, eta_high99_seconds, probability FROM tapio_check('/jobs/leak')";
    let b = &engine.sql(q, Some(AS_OF)).await.unwrap().1[0];
    let v = |c: usize| b.column(c).as_primitive::<Float64Type>().value(0);
    // 397 MB at 2 MB/s.
    assert!(v(0) < 198.5 && v(1) > 197.0 && v(2) > 0.5, "{}", text(std::slice::from_ref(b)));
}

#[tokio::test]
async fn why_names_the_process_and_the_cgroup() {
    let (w, _, _) = leak();
    let engine = w.engine(2).await;
    let q = "SELECT verdict, section, rank, kind, title, evidence FROM tapio_why('leak')";
    let shown = text(&engine.sql(q, Some(AS_OF)).await.unwrap().1);
    assert!(
        shown.contains("cause_found") && shown.contains("Process python3 (pid 4242)"),
        "{shown}"
    );
    assert!(shown.contains("/jobs/leak") && shown.contains("forecast"), "{shown}");
    let q = "SELECT verdict, detail FROM tapio_why('quiet')";
    let shown = text(&engine.sql(q, Some(AS_OF)).await.unwrap().1);
    assert!(shown.contains("no_cause_proven"), "{shown}");
    let q = "SELECT verdict, detail FROM tapio_why('free')";
    let shown = text(&engine.sql(q, Some(AS_OF)).await.unwrap().1);
    assert!(shown.contains("no_cause_proven"), "{shown}");
}

#[tokio::test]
async fn a_kill_is_reported_and_explained_by_the_growth_before_it() {
    let (mut w, leak, _) = leak();
    let id = w.event("oom.kill", leak, T0 + 300 * SECOND, 1.0, "process 4242 killed");
    for i in 300..320 {
        w.memory(leak, T0 + i * SECOND, 6 * MB, Some(1_000 * MB));
    }
    let engine = w.engine(2).await;
    let at = Some(T0 + 319 * SECOND);
    let q = "SELECT severity, title, evidence FROM tapio_check('leak')";
    let shown = text(&engine.sql(q, at).await.unwrap().1);
    assert!(
        shown.contains("error") && shown.contains("OOM kill 19 seconds ago") && shown.contains(&id),
        "{shown}"
    );
    let q = "SELECT verdict, section, title, evidence FROM tapio_why('leak')";
    let shown = text(&engine.sql(q, at).await.unwrap().1);
    assert!(
        shown.contains("cause_found") && shown.contains("python3") && shown.contains(&id),
        "{shown}"
    );
}

#[tokio::test]
async fn a_fix_is_computed_from_the_growth_and_can_be_undone() {
    let (w, _, _) = leak();
    let engine = w.engine(1).await;
    let q = "SELECT command, undo_command, cost, buys FROM tapio_fixes('leak')";
    let shown = text(&engine.sql(q, Some(AS_OF)).await.unwrap().1);
    // 603 MB + 900 s at 2 MB/s, rounded up to MiB.
    assert!(
        shown.contains("echo 2403336192 > /sys/fs/cgroup/memory/jobs/leak/memory.limit_in_bytes"),
        "{shown}"
    );
    assert!(shown.contains("echo 1000000000 > ") && shown.contains("11.7 minutes at"), "{shown}");
}

#[tokio::test]
async fn answers_do_not_depend_on_the_number_of_threads() {
    let (mut w, leak, _) = leak();
    w.event("oom.kill", leak, T0 + 250 * SECOND, 1.0, "killed");
    let store = w.store().await;
    for q in ["tapio_check('')", "tapio_why('')", "tapio_fixes('')", "memory_leak_oom()"] {
        let mut answers = Vec::new();
        for threads in [1, 2, 8] {
            let engine = engine(store.clone(), threads);
            let (schema, b) = engine.sql(&format!("SELECT * FROM {q}"), Some(AS_OF)).await.unwrap();
            let all = arrow::compute::concat_batches(&schema, &b).unwrap();
            answers.push(all);
        }
        assert!(answers[0].num_rows() > 0, "{q}");
        assert_eq!(answers[0], answers[1], "{q}");
        assert_eq!(answers[0], answers[2], "{q}");
    }
}

#[tokio::test]
async fn evaluations_become_rows_of_tables() {
    let (w, _, _) = leak();
    let engine = w.engine(2).await;
    let rows = engine.evaluate("memory_leak_oom", AS_OF).await.unwrap();
    let p = predictions("memory_leak_oom", &rows, AS_OF, AS_OF + 5).unwrap().unwrap();
    let i = insights("memory_leak_oom", &rows, AS_OF, AS_OF + 5).unwrap().unwrap();
    assert_eq!((p.num_rows(), i.num_rows()), (1, 1));
    let q = "SELECT insight_id FROM tapio_check('leak')";
    let shown = text(&engine.sql(q, Some(AS_OF)).await.unwrap().1);
    assert!(shown.contains(i.batch().column(0).as_string::<i32>().value(0)), "{shown}");
    let again = engine.evaluate("memory_leak_oom", AS_OF).await.unwrap();
    assert_eq!(rows, again);
}

#[tokio::test]
async fn targets_are_found_by_the_grammar() {
    let mut w = World::default();
    let pod = |life: &str, kind: &str, c: &str, ts, w: &mut World| {
        let id = tapio_sql::SeriesIdentity {
            namespace: "shop".into(),
            workload: "deployment/web".into(),
            pod: format!("web-{life}"),
            container: c.into(),
            ..identity(kind, &format!("/kubepods/pod{life}/{c}"), life)
        };
        w.add(&id, ts, None)
    };
    pod("1", "pod", "", T0, &mut w);
    let second = pod("2", "pod", "", T0 + SECOND, &mut w);
    w.memory(second, T0 + SECOND, 1, None);
    let unit = tapio_sql::SeriesIdentity {
        unit: "db.service".into(),
        ..identity("unit", "/system.slice/db.service", "7")
    };
    w.add(&unit, T0, None);
    w.add(&identity("cgroup", "/jobs/etl", "8"), T0, None);
    w.add(&identity("node", "", "b1"), T0, None);
    let p =
        tapio_sql::SeriesIdentity { comm: "etl".into(), ..identity("process", "/jobs/etl", "9") };
    w.add_pid(&p, T0, None, Some(77));
    let engine = w.engine(1).await;
    for (target, names) in [
        ("pid:77", "etl"),
        ("/jobs/etl", "etl"),
        ("jobs/etl", "etl"),
        ("shop/deployment/web", "web-2"),
        ("deployment/web", "web-2"),
        ("shop/web-1", "web-1"),
        ("shop/web-2", "web-2"),
        ("shop/web", "web-2"),
        ("web", "web-2"),
        ("web-2", "web-2"),
        ("db", "db.service"),
        ("db.service", "db.service"),
        ("etl", "etl"),
        ("n1", "n1"),
        ("nothing", ""),
        ("pid:1", ""),
        ("it's", ""),
    ] {
        let q = format!("SELECT name FROM tapio_targets('{}')", target.replace('\'', "''"));
        let (_, b) = engine.sql(&q, Some(T0 + 10 * SECOND)).await.unwrap();
        let got: Vec<String> = b
            .iter()
            .flat_map(|b| {
                b.column(0)
                    .as_string::<i32>()
                    .iter()
                    .map(|s| s.unwrap().to_owned())
                    .collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(got.join(","), names, "{target}");
    }
}

#[tokio::test]
async fn why_names_the_child_cgroup_that_carries_the_growth() {
    let mut w = World::default();
    let top = w.add(&identity("cgroup", "/batch", "1"), T0, None);
    let grows = w.add(&identity("cgroup", "/batch/import", "2"), T0, Some(top));
    let rests = w.add(&identity("cgroup", "/batch/idle", "3"), T0, Some(top));
    for i in 0..300 {
        let ts = T0 + i * SECOND;
        w.memory(grows, ts, 50 * MB + 2 * MB * i, None);
        w.memory(rests, ts, 80 * MB, None);
        w.memory(top, ts, 130 * MB + 2 * MB * i, Some(1_000 * MB));
    }
    let engine = w.engine(2).await;
    let q = "SELECT verdict, section, kind, title, detail, cgroup FROM tapio_why('/batch') WHERE section = 'cause'";
    let shown = text(&engine.sql(q, Some(AS_OF)).await.unwrap().1);
    assert!(
        shown.contains("Memory grows in /batch/import")
            && shown.contains("It carries 100 % of the growth"),
        "{shown}"
    );
    assert!(!shown.contains("idle"), "{shown}");
}

#[tokio::test]
async fn why_names_a_limit_that_was_lowered() {
    let mut w = World::default();
    let id = w.add(&identity("cgroup", "/batch", "1"), T0, None);
    for i in 0..300 {
        let limit = if i < 200 { 2_000 * MB } else { 700 * MB };
        let wobble = (i * 7919 % 13) * 100_000;
        w.memory(id, T0 + i * SECOND, 50 * MB + 2 * MB * i + wobble, Some(limit));
    }
    let (before, after) = (&(2_000 * MB).to_string(), &(700 * MB).to_string());
    let attributes = [("before", before.as_str()), ("after", after.as_str())];
    let changed = T0 + 200 * SECOND;
    let event = w.event_with("change.config", id, changed, 0.0, "limit changed", &attributes);
    let engine = w.engine(2).await;
    let q =
        "SELECT verdict, kind, title, evidence FROM tapio_why('/batch') WHERE section = 'cause'";
    let shown = text(&engine.sql(q, Some(AS_OF)).await.unwrap().1);
    assert!(
        shown.contains("The memory limit of /batch was lowered from 1.9 GiB to 668 MiB")
            && shown.contains(&event),
        "{shown}"
    );
    // A limit that was raised is no cause.
    let mut raised = World { series: w.series, resources: w.resources, events: Vec::new() };
    let attributes = [("before", after.as_str()), ("after", before.as_str())];
    raised.event_with("change.config", id, changed, 0.0, "limit changed", &attributes);
    let shown = text(&raised.engine(2).await.sql(q, Some(AS_OF)).await.unwrap().1);
    assert!(!shown.contains("was lowered"), "{shown}");
}

/// The process of the leak limits its own heap: who is told what, at two points of its growth.
#[tokio::test]
async fn a_runtime_with_a_limit_of_its_own_is_not_killed_but_full() {
    let shown = async |runtime: &str, limit: i64| {
        let (mut w, _, _) = leak();
        let python =
            w.series.iter_mut().find(|r| r.0.get("pid") == Some(&4242_i64.into())).unwrap();
        python.0.insert("runtime", runtime.into());
        python.0.insert("heap_limit_option", "-Xmx".into());
        let id = python.0["series_id"].clone();
        for row in w.resources.iter_mut().filter(|r| r.0["series_id"] == id) {
            row.0.insert("heap_limit_bytes", limit.into());
        }
        let engine = w.engine(2).await;
        let q = "SELECT name, \"type\", severity, title, detail, cannot_say, evidence FROM tapio_check('')";
        let check = text(&engine.sql(q, Some(AS_OF)).await.unwrap().1);
        let q = "SELECT title, evidence FROM tapio_why('leak')";
        (check, text(&engine.sql(q, Some(AS_OF)).await.unwrap().1))
    };
    // 600 MB of 800 MB at 2 MB/s, the cgroup has 1,000 MB.
    let (check, why) = shown("jvm", 800 * MB).await;
    assert!(check.contains("| warning  | Full heap predicted in 1.7 minutes"), "{check}");
    assert!(check.contains("OutOfMemoryError") && !check.contains("OOM predicted"), "{check}");
    let ends = "growth of python3 (pid 4242) ends at its own limit -Xmx";
    assert!(check.contains(ends), "{check}");
    assert!(why.contains("its heap ends at its own limit of 763 MiB (-Xmx)"), "{why}");
    assert!(!why.contains("OOM predicted") && !why.contains("raise the memory limit"), "{why}");
    // That of Go is soft: both are said.
    let (check, why) = shown("go", 800 * MB).await;
    assert!(check.contains("Full heap predicted") && check.contains("OOM predicted"), "{check}");
    assert!(!check.contains(ends) && why.contains("OOM predicted"), "{check}{why}");
    // Too close to the limit of the cgroup to come first, and far beyond it.
    for limit in [950 * MB, 5_000 * MB] {
        let (check, why) = shown("nodejs", limit).await;
        assert!(check.contains("OOM predicted") && !check.contains(ends), "{limit}: {check}");
        assert!(why.contains("OOM predicted"), "{why}");
    }
    // A little above the limit is what lies beside the heap.
    let (check, _) = shown("jvm", 560 * MB).await;
    assert!(check.contains(ends) && !check.contains("OOM predicted"), "{check}");
    // What is further beyond the limit is not its heap, and lawful.
    let (check, _) = shown("jvm", 500 * MB).await;
    assert!(check.contains("OOM predicted") && !check.contains("Full heap"), "{check}");
}
