//! Certificates from the file to the answer: known dates, printed as dates.

use std::{fs, path::Path, process::Command, sync::Arc, time::Duration};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, date_time_ymd};
use serde_json::Value;
use tapio_cli::time::{minute, now_us, parse_time};
use tapio_ingest::{
    CertificateOptions, Clock, Collector, CollectorOptions, Filesystems, Ingest, IngestOptions,
};
use tapio_store::Store;
use tapio_tests::{binary, wait_for};

use crate::server::Server;

const DAY: i64 = 86_400;
/// 2026-11-23T12:00:00Z.
const NOON: i64 = 1_795_435_200;

/// A self-signed certificate, valid from one time to another (seconds since the epoch).
fn pem(name: &str, from: i64, until: i64) -> String {
    let date = |s: i64| date_time_ymd(1970, 1, 1) + Duration::from_secs(s as u64);
    let mut p = CertificateParams::default();
    p.distinguished_name = DistinguishedName::new();
    p.distinguished_name.push(DnType::CommonName, name);
    (p.not_before, p.not_after) = (date(from), date(until));
    p.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
}

#[derive(Debug)]
struct Noon;

impl Clock for Noon {
    fn now_us(&self) -> i64 {
        NOON * 1_000_000
    }

    fn boot_us(&self) -> i64 {
        1_000_000
    }
}

/// One look of the real collector at certificates in a folder, at noon.
pub struct Looked {
    pub ingest: Ingest,
    _dir: tempfile::TempDir,
}

pub async fn look() -> Looked {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    for (path, name, from, until) in [
        ("etc/kubernetes/pki/apiserver.crt", "kube-apiserver", -353 * DAY, 12 * DAY - 2400),
        ("etc/kubernetes/pki/ca.crt", "kubernetes", -353 * DAY, 3297 * DAY),
        ("etc/letsencrypt/live/www.example.org/cert.pem", "www.example.org", -93 * DAY, -3 * DAY),
        ("etc/etcd/day.crt", "of a day", -12 * 3600, 12 * 3600),
        // 9999-12-31T23:59:59Z.
        ("etc/etcd/endless.crt", "endless", 0, 253_402_300_799 - NOON),
    ] {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, pem(name, NOON + from, NOON + until)).unwrap();
    }
    fs::write(root.join("etc/etcd/broken.crt"), "-----BEGIN CERTIFICATE-----\nAAAA").unwrap();
    let ingest = Ingest::open(IngestOptions::new(Store::memory(), dir.path().join("wal")));
    let ingest = ingest.await.unwrap();
    let mut collector = Collector::new(CollectorOptions {
        node: "n1".into(),
        filter: Some("/tapio-no-such-cgroup".into()),
        filesystems: Filesystems::None,
        certificates: Some(CertificateOptions { root, ..Default::default() }),
        clock: Arc::new(Noon),
        health: ingest.health().clone(),
        ..CollectorOptions::default()
    })
    .unwrap();
    let tick = collector.tick(Noon.now_us());
    ingest.append_tick(tick.batches, tick.through_us).await.unwrap();
    Looked { ingest, _dir: dir }
}

fn json(args: &[&str]) -> Value {
    let out = Command::new(binary("tapio")).args(args).args(["-o", "json"]).output().unwrap();
    serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|e| panic!("{args:?}: {e}: {}", String::from_utf8_lossy(&out.stderr)))
}

/// The subject of a file in a check of everything.
fn subject(check: &Value, file: &Path) -> Option<Value> {
    let target = format!("cert:{}", file.display());
    check["subjects"].as_array()?.iter().find(|s| s["target"] == target).cloned()
}

/// Seconds from the check to `until`, by the prediction.
fn eta(prediction: &Value) -> f64 {
    assert_eq!(prediction["type"], "cert_expiry", "{prediction}");
    assert_eq!(prediction["subject"]["kind"], "certificate");
    assert_eq!(prediction["model"], "date");
    for null in ["probability", "eta_low_seconds", "eta_high_seconds", "cannot_say"] {
        assert_eq!(prediction[null], Value::Null, "{prediction}");
    }
    prediction["eta_seconds"].as_f64().unwrap()
}

#[test]
fn the_dates_in_files_are_the_dates_in_answers() {
    let dir = tempfile::tempdir().unwrap();
    let tls = dir.path().join("tls");
    fs::create_dir(&tls).unwrap();
    let now = now_us() / 1_000_000;
    let (expired, soon, later) = (now - 3 * DAY, now + 5 * DAY, now + 300 * DAY);
    let file = |name: &str| tls.join(name);
    fs::write(file("expired.pem"), pem("old.example", now - 400 * DAY, expired)).unwrap();
    fs::write(file("soon.pem"), pem("soon.example", now - 360 * DAY, soon)).unwrap();
    fs::write(file("later.pem"), pem("later.example", now - DAY, later)).unwrap();
    fs::write(file("garbage.pem"), "\u{0}\u{1b}[31mno certificate").unwrap();
    let config = dir.path().join("config.yaml");
    let text = format!(
        "correlation: {{server: '127.0.0.1:1'}}\nstorage: {{url: {}}}\ncollectors:\n  ebpf: {{enabled: false}}\n  \
         systemd: {{enabled: false}}\n  certificates:\n    paths: [{}]\n",
        dir.path().join("no-store").display(),
        tls.display()
    );
    fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    let server = Server::start_with(dir.path(), &["--config", config]);

    let check = wait_for("three certificates", Duration::from_secs(60), || {
        let check = server.json(&["check"])?;
        let all = ["expired.pem", "soon.pem", "later.pem"];
        all.iter().all(|f| subject(&check, &file(f)).is_some()).then_some(check)
    });
    let as_of = parse_time(check["as_of"].as_str().unwrap(), 0).unwrap() as f64 / 1e6;
    for (name, until, status, severity) in [
        ("expired.pem", expired, "unhealthy", "critical"),
        ("soon.pem", soon, "unhealthy", "critical"),
    ] {
        let said = subject(&check, &file(name)).unwrap();
        assert_eq!(said["status"], status, "{said}");
        assert_eq!(said["insights"][0]["severity"], severity, "{said}");
        let eta = eta(&said["predictions"][0]);
        assert!((eta - (until as f64 - as_of)).abs() < 0.001, "{name}: {eta}");
        assert_eq!(said["resources"]["not_after"], tapio_cli::time::rfc3339(until * 1_000_000));
    }
    // What is far away has its date, but is no prediction before it is asked for.
    let far = subject(&check, &file("later.pem")).unwrap();
    assert_eq!((&far["status"], &far["predictions"]), (&"healthy".into(), &Value::Array(vec![])));
    assert_eq!(far["resources"]["not_after"], tapio_cli::time::rfc3339(later * 1_000_000));
    let target = format!("cert:{}", file("later.pem").display());
    let asked = server.json(&["check", &target]).unwrap();
    assert!((eta(&asked["predictions"][0]) / DAY as f64 - 300.0).abs() < 0.01, "{asked}");
    assert_eq!(asked["insights"], Value::Array(vec![]));

    let target = format!("cert:{}", file("expired.pem").display());
    let human = server.tapio(&["check", &target]);
    assert_eq!(human.status.code(), Some(1));
    let human = String::from_utf8(human.stdout).unwrap();
    let path = file("expired.pem");
    let sentence = format!(
        "Certificate old.example ({}) expired on {}, 3 days ago",
        path.display(),
        minute(expired * 1_000_000)
    );
    assert!(human.contains(&sentence), "{human}");
    let why = server.json(&["why", &target]).unwrap();
    let remark = why["remark"].as_str().unwrap();
    assert!(remark.contains("known since it was issued"), "{why}");
    let fix = server.json(&["fix", &target, "--dry-run"]).unwrap();
    assert_eq!(fix["fixes"], Value::Array(vec![]), "who issued it is not known");

    // What cannot be read is counted, with path and reason, in a row that nothing broke.
    let sql = "SELECT value, detail FROM health WHERE component = 'collector.certificate' AND metric = 'files_skipped'";
    let health = wait_for("the garbage in health", Duration::from_secs(60), || {
        server.json(&["sql", sql])?.as_array()?.first().cloned()
    });
    let detail = health["detail"].as_str().unwrap();
    assert!(detail.contains("garbage.pem: no certificate is in it"), "{health}");
    let sql = "SELECT count(DISTINCT series_id) AS n FROM insights WHERE pattern = 'certificate_expiry' AND title LIKE '%.example %'";
    wait_for("two stored insights", Duration::from_secs(60), || {
        (server.json(&["sql", sql])?[0]["n"] == 2).then_some(())
    });
    server.stop();

    // The same as of the same time, from files; and as of an hour before nothing of it was known.
    let store = dir.path().join("store");
    let store = store.to_str().unwrap();
    let at = check["as_of"].as_str().unwrap();
    let again = json(&["check", "--store", store, "--as-of", at]);
    for name in ["expired.pem", "soon.pem", "later.pem"] {
        let (then, now) = (subject(&check, &file(name)), subject(&again, &file(name)));
        assert_eq!(then.unwrap().to_string(), now.unwrap().to_string());
    }
    let before = Command::new(binary("tapio"))
        .args(["check", &target, "--store", store, "--as-of", "-1h"])
        .output()
        .unwrap();
    assert_eq!(before.status.code(), Some(2), "{before:?}");

    // Without a server and a store: by a look of one's own.
    let live = json(&["check", &target, "--config", config]);
    assert_eq!((&live["source"], &live["status"]), (&"live".into(), &"unhealthy".into()), "{live}");
}
