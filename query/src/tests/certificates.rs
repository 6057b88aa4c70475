//! Known dates: what is said of certificates, and as of when.

use std::sync::Arc;

use arrow::array::AsArray;
use tapio_sql::SeriesIdentity;

use super::world::*;
use crate::{Engine, insights, predictions};

const HOUR: i64 = 3_600 * SECOND;
const DAY: i64 = 24 * HOUR;
const ENDLESS: i64 = i64::MAX;

/// Certificates as the collector would have stored them.
#[derive(Default)]
struct Files {
    series: Vec<Row>,
    rows: Vec<Row>,
}

impl Files {
    /// A certificate at a path: when it was looked at, from when and until when it is valid.
    fn add(&mut self, path: &str, name: &str, looks: &[i64], from: i64, until: i64) -> i64 {
        let identity = SeriesIdentity {
            path: path.into(),
            incarnation: until.to_string(),
            ..identity("certificate", "", "")
        };
        let id = identity.series_id();
        self.series.push(row! {
            series_id: id, workload_id: identity.workload_id(), ts: looks[0], observed_at: looks[0], kind: "certificate",
            name: name, node: "n1", boot_id: "b1", incarnation: identity.incarnation.as_str(), path: path,
        });
        for ts in looks {
            let mut row = row! {
                series_id: id, ts: *ts, observed_at: *ts, path: path, position: 0_i64, file_format: "pem", subject: name,
                issuer: "kubernetes", serial: "0102ab", not_before: from, is_ca: "false",
            };
            if until != ENDLESS {
                row.0.insert("not_after", until.into());
            }
            self.rows.push(row);
        }
        id
    }

    async fn engine(&self) -> Arc<Engine> {
        let store = World::default().store().await;
        write(&store, "series", &self.series, 0).await;
        write(&store, "certificates", &self.rows, 0).await;
        engine(store, 2)
    }
}

/// Some columns of the answer, row by row.
async fn said(engine: &Engine, sql: &str, as_of: i64) -> Vec<String> {
    let (_, batches) = engine.sql(sql, Some(as_of)).await.unwrap();
    let table = text(&batches);
    let rows = table.lines().filter(|l| l.starts_with('|')).skip(1);
    rows.map(|l| {
        l.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join(" | ").to_owned()
    })
    .collect()
}

#[tokio::test]
async fn the_share_of_the_validity_decides_with_the_days() {
    let judged = [
        // validity, left, said
        (365 * DAY, 31 * DAY, ""),
        (365 * DAY, 30 * DAY, "warning"),
        (365 * DAY, 7 * DAY + HOUR, "warning"),
        (365 * DAY, 7 * DAY, "critical"),
        (365 * DAY, -DAY, "critical"),
        // certbot renews at 30 of 90 days.
        (90 * DAY, 29 * DAY, ""),
        (90 * DAY, 9 * DAY, "warning"),
        (90 * DAY, 7 * DAY, "critical"),
        // The kubelet renews at 2.4 to 7.2 of 24 hours.
        (DAY, 20 * HOUR, ""),
        (DAY, 5 * HOUR / 2, ""),
        (DAY, 7 * HOUR / 3, "warning"),
        (DAY, HOUR, "critical"),
        (DAY, -1, "critical"),
    ];
    let mut files = Files::default();
    for (i, (validity, left, _)) in judged.iter().enumerate() {
        files.add(&format!("/{i:02}.crt"), "x", &[T0], T0 + left - validity, T0 + left);
    }
    let engine = files.engine().await;
    let q = "SELECT severity FROM certificate_expiry() f JOIN certificates c ON c.series_id = f.series_id ORDER BY path";
    let expected: Vec<&str> = judged.iter().map(|j| j.2).collect();
    assert_eq!(said(&engine, q, T0).await, expected);
}

#[tokio::test]
async fn a_date_is_told_without_probability_and_becomes_an_insight() {
    let mut files = Files::default();
    let (from, until) = (T0 - 353 * DAY, T0 + 12 * DAY + 80 * 60 * SECOND);
    files.add("/etc/kubernetes/pki/apiserver.crt", "kube-apiserver", &[T0], from, until);
    let engine = files.engine().await;
    let target = "tapio_check('cert:/etc/kubernetes/pki/apiserver.crt')";
    let q = format!(
        "SELECT subject_kind, status, \"type\", eta_seconds, eta_low_seconds, probability, model, severity, title, detail FROM {target}"
    );
    assert_eq!(
        said(&engine, &q, T0 + SECOND).await,
        [
            "certificate | degraded | cert_expiry | 1041599.0 |  |  | date | warning | Certificate kube-apiserver expires on \
          2026-12-05 11:20 UTC, in 12.1 days | /etc/kubernetes/pki/apiserver.crt, issued by kubernetes, valid since 2025-12-05 10:00 UTC"
        ]
    );
    let q = format!("SELECT evidence FROM {target}");
    let evidence = said(&engine, &q, T0 + SECOND).await.concat();
    assert!(
        evidence.contains("serial number 0102ab") && evidence.contains("11:20 UTC"),
        "{evidence}"
    );
    let rows = engine.evaluate("certificate_expiry", T0 + SECOND).await.unwrap();
    let stored = insights("certificate_expiry", &rows, T0, T0).unwrap().unwrap();
    assert_eq!(stored.num_rows(), 1);
    assert!(predictions("certificate_expiry", &rows, T0, T0).unwrap().is_none());
    // The same insight at every evaluation.
    let id = stored.batch().column(0).as_string::<i32>().value(0).to_owned();
    let q = format!("SELECT insight_id FROM {target}");
    assert_eq!(said(&engine, &q, T0 + HOUR).await, [id]);
    let q = "SELECT verdict, section, title, detail FROM tapio_why('kube-apiserver') ORDER BY section NULLS FIRST, rank";
    let why = said(&engine, q, T0 + SECOND).await;
    let known = "no_cause_proven |  | No cause proven | the date is known since it was issued: valid until 2026-12-05 11:20 UTC";
    assert_eq!(why[0], known);
    assert!(why[1].contains("recommendation | Immediate: renew it"), "{why:?}");
}

#[tokio::test]
async fn a_renewed_certificate_takes_the_place_of_the_old_one_and_a_deleted_one_goes() {
    let mut files = Files::default();
    let before = T0 - 360 * DAY;
    files.add("/a.crt", "a", &[T0], before, T0 + DAY);
    files.add("/a.crt", "a", &[T0 + HOUR, T0 + 2 * HOUR], T0, T0 + 365 * DAY);
    files.add("/gone.crt", "gone", &[T0, T0 + HOUR], before, T0 + DAY);
    let engine = files.engine().await;
    let q = "SELECT name, status, severity, \"type\" FROM tapio_check('') ORDER BY name";
    let both =
        ["a | unhealthy | critical | cert_expiry", "gone | unhealthy | critical | cert_expiry"];
    assert_eq!(said(&engine, q, T0 + 59 * 60 * SECOND).await, both);
    // As of an earlier time only what had been seen then is known (T7).
    assert!(said(&engine, q, T0 - SECOND).await.is_empty());
    let renewed = ["a | healthy |  | ", "gone | unhealthy | critical | cert_expiry"];
    assert_eq!(said(&engine, q, T0 + HOUR + SECOND).await, renewed);
    let deleted = ["a | healthy |  | ", "gone | unknown |  | "];
    assert_eq!(said(&engine, q, T0 + 2 * HOUR + SECOND).await, deleted);
    // What was not looked at for two hours is not known any more.
    let later = T0 + 2 * HOUR + 7501 * SECOND;
    assert!(said(&engine, q, later).await.is_empty());
    let q = "SELECT status, \"type\" FROM tapio_check('cert:/a.crt')";
    assert_eq!(said(&engine, q, later).await, ["unknown | "]);
    let q = "SELECT count(*) FROM certificate_expiry()";
    assert_eq!(said(&engine, q, later).await, ["0"]);
}

#[tokio::test]
async fn far_dates_are_told_when_they_are_asked_for() {
    let mut files = Files::default();
    files.add("/far.crt", "far", &[T0], T0, T0 + 91 * DAY);
    files.add("/near.crt", "near", &[T0], T0, T0 + 89 * DAY);
    files.add("/endless.crt", "endless", &[T0], T0, ENDLESS);
    files.add("/last.crt", "last", &[T0], T0, i64::MAX / 1000);
    files.add("/old.crt", "old", &[T0], -2 * DAY, -DAY);
    let engine = files.engine().await;
    let q = "SELECT name, status, \"type\", eta_seconds IS NULL, not_after FROM tapio_check('') ORDER BY name";
    assert_eq!(
        said(&engine, q, T0).await,
        [
            "endless | healthy |  | true | ",
            "far | healthy |  | true | 2027-02-22T10:00:00Z",
            "last | healthy |  | true | 2262-04-11T23:47:16.854775Z",
            "near | healthy | cert_expiry | false | 2027-02-20T10:00:00Z",
            "old | unhealthy | cert_expiry | false | 1969-12-31T00:00:00Z",
        ]
    );
    let q = "SELECT \"type\", eta_seconds, cannot_say FROM tapio_check('cert:/far.crt')";
    assert_eq!(said(&engine, q, T0).await, ["cert_expiry | 7862400.0 | "]);
    let q = "SELECT \"type\", eta_seconds, cannot_say FROM tapio_check('endless')";
    let none = "cert_expiry |  | it has no expiration date (9999-12-31, RFC 5280), or one after 2262-04-11";
    assert_eq!(said(&engine, q, T0).await, [none]);
    let q = "SELECT title FROM tapio_check('cert:/old.crt')";
    assert_eq!(
        said(&engine, q, T0).await,
        ["Certificate old expired on 1969-12-31 00:00 UTC, 20781 days ago"]
    );
    // Engines compare in nanoseconds.
    let q = "SELECT subject FROM certificates WHERE not_after > TIMESTAMP '2100-01-01T00:00:00Z'";
    assert_eq!(said(&engine, q, T0).await, ["last"]);
}

#[tokio::test]
async fn a_date_that_passed_between_two_looks_is_no_proof() {
    let mut files = Files::default();
    // Of a validity of an hour half was left.
    files.add("/short.crt", "short", &[T0], T0 - HOUR / 2, T0 + HOUR / 2);
    let engine = files.engine().await;
    let q = "SELECT status, severity, eta_seconds, cannot_say FROM tapio_check('cert:/short.crt')";
    assert_eq!(said(&engine, q, T0 + SECOND).await, ["healthy |  | 1799.0 | "]);
    let after = said(&engine, q, T0 + 40 * 60 * SECOND).await.concat();
    assert!(
        after.starts_with("unknown |  |  | it was valid until 2026-11-23 10:30 UTC when"),
        "{after}"
    );
}

#[tokio::test]
async fn a_command_is_printed_where_the_path_says_who_issued_it() {
    let mut files = Files::default();
    for path in [
        "/etc/kubernetes/pki/apiserver.crt",
        "/etc/kubernetes/pki/etcd/healthcheck-client.crt",
        "/etc/kubernetes/pki/ca.crt",
        "/etc/kubernetes/admin.conf",
        "/etc/letsencrypt/live/www.example.org/cert.pem",
        "/etc/letsencrypt/live/a;reboot/cert.pem",
        "/etc/nginx/tls/site.pem",
    ] {
        files.add(path, path, &[T0], T0 - 365 * DAY, T0 + DAY);
    }
    files.add("/etc/kubernetes/scheduler.conf", "fine", &[T0], T0, T0 + 365 * DAY);
    let engine = files.engine().await;
    let q = "SELECT command, undo_command, risk FROM tapio_fixes('') ORDER BY command";
    assert_eq!(
        said(&engine, q, T0).await,
        [
            "certbot renew --cert-name www.example.org |  | low",
            "kubeadm certs renew admin.conf |  | medium",
            "kubeadm certs renew apiserver |  | medium",
            "kubeadm certs renew etcd-healthcheck-client |  | medium",
        ]
    );
}
