//! The loop against a program that plays journalctl.

use std::{os::unix::fs::PermissionsExt, path::Path};

use super::{testing::*, *};
use crate::Ingest;

/// Entry `i` as journalctl prints it.
fn line(i: u64) -> String {
    let at = 1_795_000_000_000_000 + i;
    format!(
        r#"{{"__CURSOR":"s=c;i={i:x};b=b1;m={i:x};t={at:x};x={i:x}","__REALTIME_TIMESTAMP":"{at}","_BOOT_ID":"b1","MESSAGE":"line {i}"}}"#
    )
}

/// A program that prints `output` for its first arguments, and a directory that looks like a journal.
fn play(dir: &Path, script: &str) -> JournalOptions {
    let program = dir.join("journalctl");
    std::fs::write(&program, format!("#!/bin/sh\ndir='{}'\n{script}\n", dir.display())).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir_all(dir.join("log")).unwrap();
    std::fs::write(dir.join("log/system.journal"), "").unwrap();
    JournalOptions { journalctl: program, ..journal_options(&dir.join("log")) }
}

fn lines(range: std::ops::Range<u64>) -> String {
    range.map(|i| line(i) + "\n").collect()
}

fn stored(ingest: &Ingest) -> Vec<String> {
    rows(ingest).iter().map(|r| r["message"].as_str().unwrap().to_owned()).collect()
}

fn named(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|i| format!("line {i}")).collect()
}

async fn open(dir: &Path) -> Ingest {
    Ingest::open(ingest_options(dir)).await.unwrap()
}

fn detail(ingest: &Ingest, metric: &str) -> String {
    let entries = ingest.health().entries();
    entries.into_iter().find(|e| e.metric == metric).map(|e| e.detail).unwrap_or_default()
}

#[tokio::test]
async fn nothing_to_follow_is_said_and_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let ingest = open(dir.path()).await;
    let options = play(dir.path(), r#"cat "$dir/lines"; exec sleep 600"#);
    std::fs::write(dir.path().join("lines"), lines(1..3)).unwrap();
    let (journal, program) = (dir.path().join("log/system.journal"), options.journalctl.clone());
    let away = dir.path().join("away");
    std::fs::remove_file(&journal).unwrap();
    std::fs::rename(&program, &away).unwrap();
    let running = Running::start(&ingest, options);
    let value = |metric: &str| ingest.health().value(COMPONENT, metric);
    until("the journal is missed", || (value("no_journal") == 1).then_some(())).await;
    assert!(detail(&ingest, "no_journal").contains("failures and restarts of units"));
    std::fs::write(&journal, "").unwrap();
    until("the program is missed", || (value("no_journalctl") == 1).then_some(())).await;
    assert!(detail(&ingest, "no_journalctl").contains("install"));
    std::fs::rename(&away, &program).unwrap();
    until("the lines are stored", || (stored(&ingest) == named(1..3)).then_some(())).await;
    assert_eq!((value("no_journal"), value("no_journalctl"), value("restarts")), (0, 0, 0));
    running.end().await;
}

/// Ends after every few lines; goes on at the cursor it is given, which it repeats.
#[tokio::test]
async fn a_child_that_ends_is_started_again_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"
        echo "$@" >> "$dir/calls"
        echo "Failed: it is broken" >&2
        case "$*" in
            *--cursor=*i=3\;*) sed -n 3,6p "$dir/lines"; exit 7 ;;
            *--cursor=*i=6\;*) sed -n 6,9p "$dir/lines"; exec sleep 600 ;;
            *--since=@*) sed -n 1,3p "$dir/lines" ;;
        esac"#;
    let options = play(dir.path(), script);
    std::fs::write(dir.path().join("lines"), lines(1..10)).unwrap();
    let ingest = open(dir.path()).await;
    let running = Running::start(&ingest, options.clone());
    until("all lines are stored", || (stored(&ingest).len() >= 9).then_some(())).await;
    running.end().await;
    assert_eq!(stored(&ingest), named(1..10));
    let health = ingest.health();
    assert_eq!(health.value(COMPONENT, "restarts"), 2);
    let detail = detail(&ingest, "restarts");
    assert!(detail.contains("exit status: 7: Failed: it is broken"), "{detail}");
    for metric in ["entries_missing", "position_lost", "lines_malformed"] {
        assert_eq!(health.value(COMPONENT, metric), 0, "{metric}");
    }
    let calls = std::fs::read_to_string(dir.path().join("calls")).unwrap();
    let since: i64 =
        calls.split("--since=@").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    let ago = options.clock.now_us() / 1_000_000 - since;
    assert!((895..960).contains(&ago), "begins {ago} s ago");
    assert_eq!(calls.lines().count(), 3);
    // The cursor stands in the log: a new process begins there.
    drop(ingest);
    let ingest = open(dir.path()).await;
    assert!(ingest.cursor(SOURCE).unwrap().contains("i=9;"), "{:?}", ingest.cursor(SOURCE));
}

/// Holes, entries that are gone, lines that are none: counted, each once.
#[tokio::test]
async fn what_is_lost_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"
        case "$*" in
            *--since=@*) cat "$dir/lines" ;;
            *) cat "$dir/more"; exec sleep 600 ;;
        esac"#;
    let long = line(5).replace("line 5", &"x".repeat(4_000));
    let first = format!("{}{}\n{{broken\n{}", lines(1..3), long, lines(6..8));
    // 3, 4 and 5 are missing: two of them are the lines that could not be read.
    let options = JournalOptions { line_bytes: 2_000, ..play(dir.path(), script) };
    std::fs::write(dir.path().join("lines"), first).unwrap();
    std::fs::write(dir.path().join("more"), lines(20..22)).unwrap();
    let ingest = open(dir.path()).await;
    let running = Running::start(&ingest, options);
    until("all lines are stored", || (stored(&ingest).len() >= 6).then_some(())).await;
    running.end().await;
    assert_eq!(stored(&ingest), [named(1..3), named(6..8), named(20..22)].concat());
    let value = |metric: &str| ingest.health().value(COMPONENT, metric);
    assert_eq!((value("lines_too_long"), value("lines_malformed")), (1, 1));
    assert_eq!((value("position_lost"), value("entries_missing")), (1, 1 + 12));
}

/// journalctl refuses a cursor that it cannot read: reading begins by time, and the loss of the place is counted.
#[tokio::test]
async fn a_refused_cursor_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"
        case "$*" in
            *--cursor=*) echo "Failed to seek to cursor: Invalid argument" >&2; exit 1 ;;
            *) cat "$dir/lines"; exec sleep 600 ;;
        esac"#;
    let options = play(dir.path(), script);
    std::fs::write(dir.path().join("lines"), lines(1..3)).unwrap();
    let ingest = open(dir.path()).await;
    ingest.append_with_cursor(SOURCE, "of another time", vec![]).await.unwrap();
    let running = Running::start(&ingest, options);
    until("the lines are stored", || (stored(&ingest) == named(1..3)).then_some(())).await;
    running.end().await;
    assert_eq!(ingest.health().value(COMPONENT, "position_lost"), 1);
    assert!(detail(&ingest, "position_lost").contains("Failed to seek"));
}

/// While the buffer is full the journal keeps what comes; afterwards it is all there, once.
#[tokio::test]
async fn a_full_buffer_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let options = play(dir.path(), r#"cat "$dir/lines"; exec sleep 600"#);
    let options = JournalOptions { batch_rows: 10, ..options };
    std::fs::write(dir.path().join("lines"), lines(0..3_000)).unwrap();
    let small = crate::IngestOptions {
        flush_bytes: 20_000,
        max_hot_bytes: 40_000,
        ..ingest_options(dir.path())
    };
    let ingest = Ingest::open(small).await.unwrap();
    // Root may write anywhere, so the table's folder is made a file.
    let blocked = dir.path().join("store/events");
    std::fs::write(&blocked, "in the way").unwrap();
    let running = Running::start(&ingest, options);
    let waited = || ingest.health().value(COMPONENT, "appends_waited");
    until("it waits", || (waited() > 1).then_some(())).await;
    let held = rows(&ingest).len();
    assert!(held < 3_000);
    std::fs::remove_file(&blocked).unwrap();
    until("all is stored", || ingest.cursor(SOURCE)?.contains("i=bb7;").then_some(())).await;
    running.end().await;
    ingest.flush().await.unwrap();
    let log = ingest_options(dir.path()).store.table(&crate::hot::table_def("events").unwrap());
    let mut messages = Vec::new();
    for path in log.snapshot().await.unwrap().files.keys() {
        let bytes = log.read_file(path).await.unwrap();
        for b in tapio_store::read_parquet(log.def(), path, bytes).unwrap() {
            let column = b.column_by_name("message").unwrap().clone();
            let texts = arrow::array::AsArray::as_string::<i32>(&column);
            messages.extend(texts.iter().map(|m| m.unwrap().to_owned()));
        }
    }
    let number = |m: &String| m[5..].parse::<u64>().unwrap();
    messages.sort_by_key(number);
    assert_eq!(messages, named(0..3_000));
}

/// A line of 10 MB and one that never ends take no memory and stop nothing.
#[tokio::test]
async fn endless_lines() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"
        sed -n 1p "$dir/lines"
        head -c 10000000 /dev/zero | tr '\0' x; echo
        sed -n 2p "$dir/lines"
        exec tr '\0' y < /dev/zero"#;
    let options = play(dir.path(), script);
    std::fs::write(dir.path().join("lines"), lines(1..3)).unwrap();
    let ingest = open(dir.path()).await;
    let running = Running::start(&ingest, options);
    let skipped = || ingest.health().value(COMPONENT, "lines_too_long");
    until("both are counted", || (skipped() == 2).then_some(())).await;
    until("the lines are stored", || (stored(&ingest) == named(1..3)).then_some(())).await;
    running.end().await;
}

/// A user who does not see everything: said, and holes in the numbering are no losses.
#[tokio::test]
async fn a_restricted_user_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"
        echo "Hint: You are currently not seeing messages from other users and the system." >&2
        while [ ! -e "$dir/go" ]; do :; done
        cat "$dir/lines"; exec sleep 600"#;
    let options = play(dir.path(), script);
    std::fs::write(dir.path().join("lines"), format!("{}{}", lines(1..2), lines(50..51))).unwrap();
    let ingest = open(dir.path()).await;
    let running = Running::start(&ingest, options);
    let value = |metric: &str| ingest.health().value(COMPONENT, metric);
    until("it is said", || (value("restricted") == 1).then_some(())).await;
    std::fs::write(dir.path().join("go"), "").unwrap();
    until("both are stored", || (stored(&ingest).len() == 2).then_some(())).await;
    running.end().await;
    assert_eq!(value("entries_missing"), 0);
}
