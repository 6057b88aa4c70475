//! `tapio backtest --series`: any series against any threshold.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;
use tapio_sql::{catalog, date_of};
use tapio_store::{Commit, Store, read_parquet};
use tapio_tests::{binary, pack};

fn tapio(args: &[&str]) -> Output {
    Command::new(binary("tapio")).arg("backtest").args(args).output().unwrap()
}

/// A leak of 1 MB/s that meets 1 GB after 900 s, one value every 5 s, with a little noise; times as RFC 3339 and as seconds.
fn leak(dir: &Path, sign: f64) -> String {
    let mut text = String::from("time,value\n");
    for i in 0..220_u32 {
        let t = i * 5;
        let noise = f64::from((i * 7919) % 17) * 50_000.0;
        let value = sign * (100e6 + 1e6 * f64::from(t) + noise);
        let time = match i % 2 {
            0 => format!("2026-11-23T10:{:02}:{:02}Z", t / 60, t % 60),
            _ => format!("{}", 1_795_428_000 + t),
        };
        text += &format!("{time},{value}\n");
    }
    let path = dir.join("leak.csv");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_series_is_walked_through_and_scored_beside_the_rivals() {
    let dir = tempfile::tempdir().unwrap();
    for (sign, threshold, direction) in [(1.0, "1e9", "up"), (-1.0, "-1e9", "down")] {
        let csv = leak(dir.path(), sign);
        let page = dir.path().join("page.html");
        let out = tapio(&[
            "--series",
            &csv,
            "--threshold",
            threshold,
            "--direction",
            direction,
            "--horizon",
            "10m",
            "--html",
            page.to_str().unwrap(),
            "-o",
            "json",
        ]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let r: Value = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!((&r["horizon_seconds"], &r["step_seconds"]), (&600.0.into(), &10.0.into()));
        let steps = r["steps"].as_array().unwrap();
        assert_eq!(steps.len(), 110);
        let half = &steps[44];
        assert_eq!(half["at"], "2026-11-23T10:07:30Z");
        let (eta, low, high) = (
            half["eta_seconds"].as_f64().unwrap(),
            half["eta_low_seconds"].as_f64().unwrap(),
            half["eta_high_seconds"].as_f64().unwrap(),
        );
        assert!((eta - 450.0).abs() < 45.0 && low <= eta && eta <= high, "{half}");
        assert!(half["probability"].as_f64().unwrap() > 0.3, "{half}");
        assert_eq!(r["runs"].as_array().unwrap().len(), 1, "{}", r["runs"]);
        for method in ["tapio", "predict_linear", "climatology", "usage_90", "two_windows"] {
            assert!(r["scores"][method]["brier"]["score"].is_f64(), "{method}: {}", r["scores"]);
        }
        let error = r["scores"]["tapio"]["eta"][0]["median_abs_error"].as_f64().unwrap();
        assert!(error < 0.1, "{error}");
        let page = fs::read_to_string(page).unwrap();
        assert!(
            page.contains("<svg") && page.contains("predict_linear") && page.ends_with("</html>\n")
        );
    }
}

#[test]
fn what_is_not_known_is_no_zero() {
    let dir = tempfile::tempdir().unwrap();
    let csv = dir.path().join("short.csv");
    fs::write(&csv, "time,value\n0,1\n10,2\n20,1\n30,2\n").unwrap();
    // Watched for less than the horizon: nothing said about it can be judged.
    let args = ["--series", csv.to_str().unwrap(), "--threshold", "9"];
    let out = tapio(&[&args[..], &["-o", "json"]].concat());
    let r: Value = serde_json::from_slice(&out.stdout).unwrap();
    let tapio_scores = &r["scores"]["tapio"];
    assert!(tapio_scores["brier"].is_null(), "{tapio_scores}");
    assert!(tapio_scores["alarms"]["recall"].is_null(), "{tapio_scores}");
    let out = tapio(&args);
    assert!(!String::from_utf8(out.stdout).unwrap().contains("0.0000"));
}

#[test]
fn mistakes_are_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let csv = dir.path().join("bad.csv");
    fs::write(&csv, "time,value\n1,2\n2,three\n").unwrap();
    let (csv, dir) = (csv.to_str().unwrap(), dir.path().to_str().unwrap());
    for (args, says) in [
        (vec!["--series", csv, "--threshold", "1"], "bad.csv:3: \"three\" is not a number"),
        (vec!["--series", "/nowhere.csv", "--threshold", "1"], "cannot read /nowhere.csv"),
        (vec!["--series", csv], "--threshold"),
        (vec!["--series", csv, "--threshold", "NaN"], "must be a finite number"),
        (vec![dir], "is no pack and holds none"),
        (vec![], "<PACKS>"),
        (vec!["--series", csv, "--threshold", "1", "--step", "0s"], "longer than nothing"),
        (vec!["--generated", "--runs", "x"], "invalid value"),
    ] {
        let out = tapio(&args);
        let told = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.code() == Some(2) && told.contains(says), "{args:?}: {told}");
    }
}

#[test]
fn generated_runs_are_the_same_every_time() {
    let ask = || {
        let out = tapio(&["--generated", "--runs", "48", "-o", "json"]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    };
    let first = ask();
    assert_eq!(first, ask());
    let r: Value = serde_json::from_slice(&first).unwrap();
    assert_eq!((&r["input"], &r["runs"]), (&"generated:test".into(), &48.into()));
    assert!(r["families"].as_array().unwrap().len() > 10);
}

/// The rows of recorded incidents as a server would have stored them: each life is found with the kernel's kill at its end.
#[test]
fn a_store_is_back_tested_by_the_kills_it_remembers() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().to_str().unwrap(), true).unwrap();
    let packs = ["oom-linear", "oom-gc-sawtooth", "quiet"];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for table in ["resources", "series", "events"] {
        let def = catalog().get(table).unwrap();
        for name in packs {
            // A quiet one has no events.
            let Ok(bytes) = fs::read(pack(name).join(format!("{table}.parquet"))) else { continue };
            let rows = read_parquet(def, table, bytes.into()).unwrap();
            let log = store.table(def);
            runtime.block_on(async {
                let file = log.write_file(&date_of(1_795_392_000_000_000), &rows).await.unwrap();
                let commit = Commit { add: vec![file], data_change: true, ..Commit::default() };
                log.commit(commit).await.unwrap();
            });
        }
    }
    let out = tapio(&[dir.path().to_str().unwrap(), "-o", "json"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let r: Value = serde_json::from_slice(&out.stdout).unwrap();
    let lives = r["lives"].as_array().unwrap();
    let ended: Vec<_> = lives.iter().filter(|l| !l["event"].is_null()).collect();
    // A killed subject lives on for the seconds that are left of its recording.
    assert_eq!((lives.len(), ended.len()), (5, 2), "{lives:?}");
    for name in &packs[..2] {
        let manifest = fs::read_to_string(pack(name).join("manifest.json")).unwrap();
        let manifest: Value = serde_json::from_str(&manifest).unwrap();
        let at = manifest["truth"][0]["at"].as_str().unwrap();
        let subject = manifest["truth"][0]["subject"].as_str().unwrap();
        let life = ended.iter().find(|l| l["subject"] == subject);
        let event = life.unwrap_or_else(|| panic!("{subject} in {ended:?}"))["event"].as_str();
        let seconds = |time: &str| -> f64 {
            let clock = time[11..].trim_end_matches('Z').split(':');
            clock.fold(0.0, |sum, part| 60.0 * sum + part.parse::<f64>().unwrap())
        };
        // The truth is polled every 20 ms, the store's event is of the tick that found the counter raised.
        let later = seconds(event.unwrap()) - seconds(at);
        assert!((0.0..1.5).contains(&later), "{name}: {later}");
    }
    let steps = ended[0]["steps"].as_array().unwrap();
    assert!(steps.len() >= 30 && steps.iter().any(|s| s["eta_seconds"].is_f64()), "{steps:?}");
    assert_eq!(steps.last().unwrap()["at"], ended[0]["event"]);
    let schema = Command::new(binary("tapio")).args(["schema", "backtest"]).output().unwrap();
    let schema: Value = serde_json::from_slice(&schema.stdout).unwrap();
    for (of, line) in [("store", &r), ("life", ended[0])] {
        let keys: BTreeSet<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
        let required = schema["$defs"][of]["required"].as_array().unwrap();
        assert_eq!(keys, required.iter().map(|k| k.as_str().unwrap()).collect(), "{of}");
    }
    let alarms = &r["scores"]["tapio"]["alarms"];
    assert_eq!(alarms["recall"], 1.0, "{alarms}");
    assert_eq!(alarms["false_episodes"], 0, "{alarms}");
}
