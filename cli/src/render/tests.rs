//! Snapshots from hand-built batches in the shape of the relations.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BooleanArray, Float64Array, Int64Array, ListBuilder, RecordBatch, StringArray,
        StringBuilder, StructBuilder, TimestampMicrosecondArray, TimestampMicrosecondBuilder,
    },
    datatypes::{DataType, Field, TimeUnit},
};
use serde_json::{Value, json};

use super::{Style, Trend, human, json as as_json};
use crate::{
    model::{self, Origin, check_reports},
    schemas,
};

const T0: i64 = 1_795_392_000_000_000;

fn texts(v: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(v.to_vec()))
}

fn ints(v: &[Option<i64>]) -> ArrayRef {
    Arc::new(Int64Array::from(v.to_vec()))
}

fn floats(v: &[Option<f64>]) -> ArrayRef {
    Arc::new(Float64Array::from(v.to_vec()))
}

fn times(v: &[Option<i64>]) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(v.to_vec()).with_timezone("UTC"))
}

/// One list of (event id, seconds after T0, fact) per row.
fn evidence(rows: &[&[(Option<&str>, i64, &str)]]) -> ArrayRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let fields = vec![
        Field::new("event_id", DataType::Utf8, true),
        Field::new("ts", time, true),
        Field::new("fact", DataType::Utf8, true),
    ];
    let mut list = ListBuilder::new(StructBuilder::new(
        fields,
        vec![
            Box::new(StringBuilder::new()),
            Box::new(TimestampMicrosecondBuilder::new().with_timezone("UTC")),
            Box::new(StringBuilder::new()),
        ],
    ));
    for facts in rows {
        for (id, at, fact) in *facts {
            let s = list.values();
            s.field_builder::<StringBuilder>(0).unwrap().append_option(*id);
            s.field_builder::<TimestampMicrosecondBuilder>(1)
                .unwrap()
                .append_value(T0 + at * 1_000_000);
            s.field_builder::<StringBuilder>(2).unwrap().append_value(fact);
            s.append(true);
        }
        list.append(!facts.is_empty());
    }
    Arc::new(list.finish())
}

fn subject_columns(n: usize) -> Vec<(&'static str, ArrayRef)> {
    let names = ["leaky", "calm", "gone"];
    let some = |f: &dyn Fn(usize) -> Option<String>| -> ArrayRef {
        Arc::new((0..n).map(f).collect::<StringArray>())
    };
    vec![
        ("series_id", Arc::new(Int64Array::from_iter_values((0..n).map(|i| i as i64 + 1)))),
        ("workload_id", Arc::new(Int64Array::from_iter_values((0..n).map(|i| i as i64 + 11)))),
        ("subject_kind", some(&|_| Some("cgroup".into()))),
        ("namespace", some(&|_| None)),
        ("name", some(&|i| Some(names[i].into()))),
        ("container", some(&|_| None)),
        ("node", some(&|_| Some("node1".into()))),
        ("cgroup", some(&|i| Some(format!("/jobs/{}", names[i])))),
        ("unit", some(&|_| None)),
        ("pid", Arc::new(Int64Array::from(vec![None; n]))),
        ("workload", some(&|_| None)),
        ("active", Arc::new(BooleanArray::from(vec![true; n]))),
    ]
}

/// A leaking, a calm and a vanished cgroup.
fn check_batch() -> RecordBatch {
    let mut c = subject_columns(3);
    c.extend([
        ("ts", times(&[Some(T0), Some(T0), Some(T0 - 300_000_000)])),
        ("age_seconds", floats(&[Some(0.5), Some(0.5), Some(300.5)])),
        ("memory_usage_bytes", ints(&[Some(850 << 20), Some(64 << 20), Some(1 << 20)])),
        ("memory_level_bytes", ints(&[Some(800 << 20), Some(50 << 20), Some(1 << 20)])),
        ("memory_limit_bytes", ints(&[Some(1024 << 20), None, None])),
        ("memory_headroom_bytes", ints(&[Some(224 << 20), None, Some(10 << 20)])),
        ("cpu_percent", floats(&[Some(45.2), Some(0.4), None])),
        ("restarts", ints(&[Some(3), None, None])),
        ("oom_kills", ints(&[Some(2), Some(0), None])),
        ("status", texts(&[Some("unhealthy"), Some("healthy"), Some("unknown")])),
        ("type", texts(&[Some("oom"), Some("oom"), None])),
        ("eta_seconds", floats(&[Some(93.3), None, None])),
        ("eta_low_seconds", floats(&[Some(85.0), None, None])),
        ("eta_high_seconds", floats(&[Some(130.0), None, None])),
        ("probability", floats(&[Some(0.998), None, None])),
        ("horizon_seconds", floats(&[Some(900.0), Some(900.0), None])),
        ("confidence_rate", floats(&[None, None, None])),
        ("confidence_n", ints(&[Some(0), Some(0), None])),
        ("model", texts(&[Some("robust_line"), None, None])),
        ("window_seconds", floats(&[Some(240.0), None, None])),
        ("samples", ints(&[Some(240), None, None])),
        ("slope_per_second", floats(&[Some(2_516_582.4), None, None])),
        ("cannot_say", texts(&[None, Some("no limit applies"), None])),
        ("insight_id", texts(&[Some("i-1"), None, None])),
        ("pattern", texts(&[Some("memory_leak_oom"), None, None])),
        ("severity", texts(&[Some("critical"), None, None])),
        ("score", floats(&[Some(0.998), None, None])),
        ("title", texts(&[Some("OOM kill predicted in 1.6 minutes"), None, None])),
        ("detail", texts(&[Some("Memory grows by 2.4 MiB/s"), None, None])),
        (
            "evidence",
            evidence(&[
                &[(Some("e-1"), -60, "limit lowered"), (None, 0, "level 800 MiB")],
                &[],
                &[],
            ]),
        ),
    ]);
    RecordBatch::try_from_iter_with_nullable(c.into_iter().map(|(n, a)| (n, a, true))).unwrap()
}

fn fixes_batch() -> RecordBatch {
    let mut c = subject_columns(1);
    c.extend([
        ("rank", ints(&[Some(1)])),
        ("pattern", texts(&[Some("memory_leak_oom")])),
        ("insight_id", texts(&[Some("i-1")])),
        ("description", texts(&[Some("Raise the memory limit to 2 GiB")])),
        (
            "command",
            texts(&[Some(
                "echo 2147483648 > /sys/fs/cgroup/memory/jobs/leaky/memory.limit_in_bytes",
            )]),
        ),
        (
            "undo_command",
            texts(&[Some(
                "echo 1073741824 > /sys/fs/cgroup/memory/jobs/leaky/memory.limit_in_bytes",
            )]),
        ),
        ("risk", texts(&[Some("low")])),
        ("impact", texts(&[Some("No restart; takes effect at once")])),
        ("cost", texts(&[Some("1 GiB more may be used")])),
        ("buys", texts(&[Some("7 minutes at the present growth")])),
    ]);
    RecordBatch::try_from_iter_with_nullable(c.into_iter().map(|(n, a)| (n, a, true))).unwrap()
}

fn why_batch() -> RecordBatch {
    let name = |n: &str| -> ArrayRef { Arc::new(StringArray::from(vec![n; 4])) };
    let none: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>; 4]));
    let c = vec![
        ("target", name("leaky")),
        ("verdict", name("cause_found")),
        ("section", texts(&[Some("chain"), Some("chain"), Some("cause"), Some("recommendation")])),
        ("rank", ints(&[Some(2), Some(1), Some(1), Some(1)])),
        ("subject_kind", name("cgroup")),
        ("namespace", none),
        ("name", name("leaky")),
        ("cgroup", name("/jobs/leaky")),
        ("kind", texts(&[None, None, Some("memory.growth"), Some("immediate")])),
        (
            "title",
            texts(&[
                Some("OOM kill predicted"),
                Some("Memory grows"),
                Some("Process 42 (leak) grows"),
                Some("Immediate: Raise the limit"),
            ]),
        ),
        ("score", floats(&[None, None, Some(0.91), None])),
        ("pattern", name("memory_leak_oom")),
        ("detail", texts(&[None, None, None, Some("Buys 7 minutes")])),
        (
            "evidence",
            evidence(&[&[], &[(None, -60, "x")], &[(None, 0, "grows by 2.4 MiB/s")], &[]]),
        ),
    ];
    RecordBatch::try_from_iter_with_nullable(c.into_iter().map(|(n, a)| (n, a, true))).unwrap()
}

fn origin() -> Origin {
    Origin {
        source: "server",
        detail: "localhost:9090".into(),
        as_of: Some(T0 + 500_000),
        data_through: Some(T0 + 500_000),
    }
}

fn view<'a>(
    target: Option<&'a str>,
    origin: &'a Origin,
    reports: &'a [model::SubjectReport],
    fixes: &'a [model::Fix],
    trends: &'a [(i64, Trend)],
) -> human::CheckView<'a> {
    human::CheckView { target, origin, reports, fixes, degraded: &[], trends }
}

#[test]
fn check_of_one_subject() {
    let reports = check_reports(&[check_batch().slice(0, 1)]);
    let fixes = model::fixes(&[fixes_batch()]);
    let origin = origin();
    let text = human::check(&view(Some("leaky"), &origin, &reports, &fixes, &[]), Style::PLAIN);
    assert_eq!(
        text,
        "\
HEALTH STATUS: leaky
  Status: UNHEALTHY
  Subject: cgroup leaky (/jobs/leaky) on node1
  Memory: 800 MiB/1 GiB (78.1%)   CPU: 45%   Restarts: 3   OOM kills: 2
🔮 PREDICTIONS:
   → Cgroup will OOM in 1.6 minutes (80 % interval 85 seconds – 2.2 minutes, probability > 99 % within 15 minutes)
     slope 2.4 MiB/s, model robust_line, over 4 minutes (240 samples), confidence not yet known: n = 0 of 30
💡 INSIGHTS:
   [critical] OOM kill predicted in 1.6 minutes
     Memory grows by 2.4 MiB/s
     Evidence:
     - limit lowered [e-1]
     - level 800 MiB
     Suggested fixes:
       [1] Raise the memory limit to 2 GiB
           $ echo 2147483648 > /sys/fs/cgroup/memory/jobs/leaky/memory.limit_in_bytes
     id i-1
✅ Using advanced correlation analysis (server localhost:9090, data through 00:00:00 UTC)
"
    );
}

/// A certificate that expires in so many seconds, its status and finding.
fn certificate_batch(left: i64, status: &str, severity: Option<&str>) -> RecordBatch {
    let mut c = subject_columns(1);
    for (name, value) in [("subject_kind", "certificate"), ("name", "kube-apiserver")] {
        c.iter_mut().find(|(n, _)| *n == name).unwrap().1 = texts(&[Some(value)]);
    }
    c.iter_mut().find(|(n, _)| *n == "cgroup").unwrap().1 = texts(&[None]);
    let from = T0 - 300 * 86_400_000_000;
    c.extend([
        ("ts", times(&[Some(T0)])),
        ("age_seconds", floats(&[Some(0.5)])),
        ("status", texts(&[Some(status)])),
        ("type", texts(&[Some("cert_expiry")])),
        ("eta_seconds", floats(&[Some(left as f64)])),
        ("model", texts(&[Some("date")])),
        ("not_before", times(&[Some(from)])),
        ("not_after", times(&[Some(T0 + 500_000 + left * 1_000_000)])),
        ("path", texts(&[Some("/etc/kubernetes/pki/apiserver.crt")])),
        ("insight_id", texts(&[severity.map(|_| "i-1")])),
        ("pattern", texts(&[severity.map(|_| "certificate_expiry")])),
        ("severity", texts(&[severity])),
        ("title", texts(&[severity.map(|_| "Certificate kube-apiserver expires")])),
    ]);
    RecordBatch::try_from_iter_with_nullable(c.into_iter().map(|(n, a)| (n, a, true))).unwrap()
}

#[test]
fn a_certificate_has_a_date_and_no_probability() {
    let (origin, left) = (origin(), 12 * 86_400 + 40_800);
    let reports = check_reports(&[certificate_batch(left, "degraded", Some("warning"))]);
    let target = "cert:/etc/kubernetes/pki/apiserver.crt";
    assert_eq!(reports[0].subject.as_target(), target);
    let text = human::check(&view(Some(target), &origin, &reports, &[], &[]), Style::PLAIN);
    assert_eq!(
        text,
        "\
HEALTH STATUS: cert:/etc/kubernetes/pki/apiserver.crt
  Status: DEGRADED
  Subject: certificate kube-apiserver (/etc/kubernetes/pki/apiserver.crt) on node1
  Valid since: 2026-01-27 00:00 UTC   Valid until: 2026-12-05 11:20 UTC
🔮 PREDICTIONS:
   → Certificate kube-apiserver (/etc/kubernetes/pki/apiserver.crt) expires on 2026-12-05 11:20 UTC, in 12.5 days
💡 INSIGHTS:
   [warning] Certificate kube-apiserver expires
     id i-1
✅ Using advanced correlation analysis (server localhost:9090, data through 00:00:00 UTC)
"
    );
    let v = as_json::check(Some(target), &origin, &reports, &[], &[]);
    let p = &v["predictions"][0];
    assert_eq!(
        (&p["type"], &p["eta_seconds"]),
        (&json!("cert_expiry"), &json!(f64::from(left as i32)))
    );
    for null in ["eta_low_seconds", "eta_high_seconds", "probability", "horizon_seconds"] {
        assert_eq!(p[null], Value::Null, "{null}");
    }
    assert_eq!(p["confidence"], json!({"rate": null, "n": 0}));
    assert_eq!((&p["model"], &p["subject"]["kind"]), (&json!("date"), &json!("certificate")));
    assert_eq!(v["resources"]["not_after"], "2026-12-05T11:20:00.500Z");
    schemas::assert_valid("check", &v);
    schemas::assert_valid("check", &as_json::check(None, &origin, &reports, &[], &[]));

    let expired = check_reports(&[certificate_batch(-3 * 86_400, "unhealthy", Some("critical"))]);
    let text = human::check(&view(Some(target), &origin, &expired, &[], &[]), Style::PLAIN);
    assert!(text.contains(") expired on 2026-11-20 00:00 UTC, 3 days ago\n"), "{text}");
    let fine = check_reports(&[certificate_batch(80 * 86_400, "healthy", None)]);
    let text = human::check(&view(None, &origin, &fine, &[], &[]), Style::PLAIN);
    assert!(
        text.contains(
            "HEALTHY CERTIFICATES:\n  certificate cert:/etc/kubernetes/pki/apiserver.crt          \
             expires on 2027-02-11 00:00 UTC, in 80 days\n"
        ),
        "{text}"
    );
}

#[test]
fn a_terminal_gets_colours_and_a_sparkline() {
    let reports = check_reports(&[check_batch().slice(0, 1)]);
    let points = (0..100).map(|i| (f64::from(i) - 100.0, f64::from(i) * 8_388_608.0)).collect();
    let trend = Trend {
        kind: "oom".into(),
        points,
        threshold: Some(1_073_741_824.0),
        eta_seconds: Some(93.3),
    };
    let origin = origin();
    let trends = [(1, trend)];
    let style = Style { color: true, width: Some(80) };
    let text = human::check(&view(Some("leaky"), &origin, &reports, &[], &trends), style);
    assert!(text.contains("\u{1b}[1;31mUNHEALTHY\u{1b}[0m"), "{text}");
    assert!(text.contains("│") && text.contains("▁") && text.contains(" 1 GiB"), "{text}");
    let plain = human::check(&view(Some("leaky"), &origin, &reports, &[], &trends), Style::PLAIN);
    assert!(!plain.contains('\u{1b}') && !plain.contains('▁'), "{plain}");
}

#[test]
fn check_of_everything_counts_and_lists() {
    let reports = check_reports(&[check_batch()]);
    let origin = Origin { source: "live", detail: "5 seconds".into(), ..origin() };
    let text = human::check(&view(None, &origin, &reports, &[], &[]), Style::PLAIN);
    assert!(
        text.starts_with(
            "HEALTH STATUS: everything\n  Status: UNHEALTHY   1 unhealthy, 0 degraded, 1 healthy, 1 unknown\n\n\
             HEALTH STATUS: /jobs/leaky\n"
        ),
        "{text}"
    );
    assert!(text.contains("HEALTHY:\n  cgroup     /jobs/calm"), "{text}");
    assert!(text.contains("50 MiB (no limit)"), "{text}");
    assert!(text.ends_with("a running tapio-server sees further\n"), "{text}");
}

#[test]
fn what_cannot_be_said_has_a_reason() {
    let reports = check_reports(&[check_batch()]);
    let origin = Origin { source: "store", detail: "/s".into(), ..origin() };
    let calm = human::check(&view(Some("calm"), &origin, &reports[1..2], &[], &[]), Style::PLAIN);
    assert!(calm.contains("   → Cannot say when OOM: no limit applies\n"), "{calm}");
    assert!(calm.ends_with("📦 From the local store /s, data through 00:00:00 UTC\n"), "{calm}");
    let gone = human::check(&view(Some("gone"), &origin, &reports[2..], &[], &[]), Style::PLAIN);
    assert!(
        gone.contains("Status: UNKNOWN") && gone.contains("Last seen 5 minutes before"),
        "{gone}"
    );
    assert!(gone.contains("1 MiB, 10 MiB left below a parent's limit   CPU: not known"), "{gone}");
    assert_eq!(human::confidence(Some(0.9), Some(41)), "90 % (n = 41)");
}

#[test]
fn check_as_json_has_the_published_shape() {
    let reports = check_reports(&[check_batch()]);
    let fixes = model::fixes(&[fixes_batch()]);
    let v = as_json::check(Some("leaky"), &origin(), &reports[..1], &fixes, &[]);
    assert_eq!(v["as_of"], "2026-11-23T00:00:00.500Z");
    assert_eq!(
        (&v["source"], &v["status"], &v["target"]),
        (&json!("server"), &json!("unhealthy"), &json!("leaky"))
    );
    let subject = json!({"kind": "cgroup", "namespace": null, "name": "leaky", "container": null, "node": "node1", "cgroup": "/jobs/leaky"});
    assert_eq!(
        v["predictions"],
        json!([{
            "type": "oom", "subject": subject, "eta_seconds": 93.3, "eta_low_seconds": 85.0,
            "eta_high_seconds": 130.0, "eta_low99_seconds": null, "eta_high99_seconds": null,
            "probability": 0.998, "horizon_seconds": 900.0, "confidence": {"rate": null, "n": 0},
            "model": "robust_line", "window_seconds": 240.0, "samples": 240,
            "slope_per_second": 2_516_582.4, "slope_bytes_per_second": 2_516_582.4, "cannot_say": null
        }])
    );
    assert_eq!(
        v["insights"][0]["actions"],
        json!([{
            "description": "Raise the memory limit to 2 GiB",
            "command": "echo 2147483648 > /sys/fs/cgroup/memory/jobs/leaky/memory.limit_in_bytes",
            "risk": "low", "impact": "No restart; takes effect at once"
        }])
    );
    assert_eq!(
        v["insights"][0]["evidence"][0],
        json!({"event_id": "e-1", "ts": "2026-11-22T23:59:00Z", "fact": "limit lowered"})
    );
    let all = as_json::check(None, &origin(), &reports, &fixes, &[]);
    assert_eq!(all["subjects"].as_array().unwrap().len(), 3);
    assert_eq!((&all["target"], &all["status"]), (&Value::Null, &json!("unhealthy")));
    assert_eq!(all["subjects"][1]["predictions"][0]["cannot_say"], "no limit applies");
    schemas::assert_valid("check", &v);
    schemas::assert_valid("check", &all);
}

#[test]
fn why_in_both_forms() {
    let report = model::why_report(&[why_batch()]);
    let text = human::why("leaky", &origin(), &report, Some((None, Some(4))), &[], Style::PLAIN);
    assert_eq!(
        text,
        "\
ANALYSIS: Memory grows towards its limit in leaky
ROOT CAUSE:
  → Process 42 (leak) grows (score 0.91)
    Evidence:
    - grows by 2.4 MiB/s
CORRELATION CHAIN:
  1. Memory grows (at 2026-11-22T23:59:00Z)
  2. OOM kill predicted
PATTERN MATCH: memory_leak_oom (confidence: not yet known: n = 4 of 30)
RECOMMENDED ACTION:
  Immediate: Raise the limit
    Buys 7 minutes
✅ Using advanced correlation analysis (server localhost:9090, data through 00:00:00 UTC)
"
    );
    let v = as_json::why("leaky", &origin(), &report, &[]);
    assert_eq!((&v["verdict"], &v["pattern"]), (&json!("cause_found"), &json!("memory_leak_oom")));
    assert_eq!(v["causes"][0]["score"], 0.91);
    assert_eq!(v["chain"][0]["title"], "Memory grows");
    schemas::assert_valid("why", &v);
}

#[test]
fn no_cause_proven_is_an_answer() {
    let batch = RecordBatch::try_from_iter_with_nullable(vec![
        ("verdict", texts(&[Some("no_cause_proven")]), true),
        ("section", texts(&[None]), true),
        ("detail", texts(&[Some("nothing grew")]), true),
    ])
    .unwrap();
    let report = model::why_report(&[batch]);
    let text = human::why("calm", &origin(), &report, None, &[], Style::PLAIN);
    assert!(
        text.starts_with(
            "ANALYSIS: No cause proven for calm\nROOT CAUSE:\n  → No cause proven: nothing grew\n"
        ),
        "{text}"
    );
    let v = as_json::why("calm", &origin(), &report, &[]);
    assert_eq!((&v["verdict"], &v["causes"]), (&json!("no_cause_proven"), &json!([])));
    schemas::assert_valid("why", &v);
}

#[test]
fn fix_says_what_it_costs_and_that_nothing_ran() {
    let fixes = model::fixes(&[fixes_batch()]);
    let text = human::fix("leaky", &origin(), &fixes, true, &[], Style::PLAIN);
    assert_eq!(
        text,
        "\
🔍 Analyzing issues for leaky...
Found 1 fixable issue(s):
[1] Raise the memory limit to 2 GiB
    Impact: No restart; takes effect at once
    Costs: 1 GiB more may be used
    Buys: 7 minutes at the present growth
    Risk: low
    Command: echo 2147483648 > /sys/fs/cgroup/memory/jobs/leaky/memory.limit_in_bytes
    Undo: echo 1073741824 > /sys/fs/cgroup/memory/jobs/leaky/memory.limit_in_bytes
Dry run: nothing was changed.
✅ Using advanced correlation analysis (server localhost:9090, data through 00:00:00 UTC)
"
    );
    let text = human::fix("leaky", &origin(), &fixes, false, &[], Style::PLAIN);
    assert!(text.contains("this version does not apply fixes itself"), "{text}");
    let v = as_json::fix("leaky", &origin(), &fixes, true, &[]);
    assert_eq!((&v["applied"], &v["dry_run"]), (&json!(0), &json!(true)));
    schemas::assert_valid("fix", &v);
}
