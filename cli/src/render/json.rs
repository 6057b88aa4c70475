//! The JSON of `check`, `why` and `fix` (DESIGN §7): stable; times RFC 3339, durations seconds, null = cannot say.

use serde_json::{Value, json};

use crate::{
    model::{
        Degraded, Evidence, Fix, Origin, Prediction, Subject, SubjectReport, WhyEntry, WhyReport,
        worst_status,
    },
    time::rfc3339,
};

/// `check -o json`: one object for a target that is one subject, `{"subjects":[…]}` for everything.
pub fn check(
    target: Option<&str>,
    origin: &Origin,
    reports: &[SubjectReport],
    fixes: &[Fix],
    degraded: &[Degraded],
) -> Value {
    let body = |r: &SubjectReport, target: Value| {
        json!({
            "target": target,
            "as_of": time(origin.as_of),
            "data_through": time(origin.data_through),
            "source": origin.source,
            "status": r.status,
            "subject": subject(&r.subject),
            "resources": resources(r),
            "predictions": r.predictions.iter().map(|p| prediction(p, &r.subject)).collect::<Vec<_>>(),
            "insights": insights(r, fixes),
            "degraded": degraded_list(degraded),
        })
    };
    match (target, reports) {
        (Some(target), [one]) => body(one, target.into()),
        _ => json!({
            "target": target,
            "as_of": time(origin.as_of),
            "data_through": time(origin.data_through),
            "source": origin.source,
            "status": worst_status(reports),
            "subjects": reports
                .iter()
                .map(|r| {
                    let mut v = body(r, r.subject.as_target().into());
                    // Said once, for all.
                    if let Some(map) = v.as_object_mut() {
                        for key in ["as_of", "data_through", "source", "degraded"] {
                            map.remove(key);
                        }
                    }
                    v
                })
                .collect::<Vec<_>>(),
            "degraded": degraded_list(degraded),
        }),
    }
}

/// `why -o json`.
pub fn why(target: &str, origin: &Origin, report: &WhyReport, degraded: &[Degraded]) -> Value {
    json!({
        "target": target,
        "as_of": time(origin.as_of),
        "data_through": time(origin.data_through),
        "source": origin.source,
        "verdict": report.verdict,
        "causes": report.causes.iter().map(entry).collect::<Vec<_>>(),
        "chain": report.chain.iter().map(entry).collect::<Vec<_>>(),
        "pattern": report.pattern,
        "recommendations": report.recommendations.iter().map(entry).collect::<Vec<_>>(),
        "remark": report.remark,
        "degraded": degraded_list(degraded),
    })
}

/// `fix -o json`.
pub fn fix(
    target: &str,
    origin: &Origin,
    fixes: &[Fix],
    dry_run: bool,
    degraded: &[Degraded],
) -> Value {
    json!({
        "target": target,
        "as_of": time(origin.as_of),
        "data_through": time(origin.data_through),
        "source": origin.source,
        "dry_run": dry_run,
        "applied": 0,
        "fixes": fixes
            .iter()
            .map(|f| json!({
                "rank": f.rank,
                "subject": subject(&f.subject),
                "pattern": f.pattern,
                "insight_id": f.insight_id,
                "description": f.description,
                "command": f.command,
                "undo_command": f.undo_command,
                "risk": f.risk,
                "impact": f.impact,
                "cost": f.cost,
                "buys": f.buys,
            }))
            .collect::<Vec<_>>(),
        "degraded": degraded_list(degraded),
    })
}

/// A subject, six keys, always.
pub fn subject(s: &Subject) -> Value {
    json!({
        "kind": s.kind,
        "namespace": s.namespace,
        "name": s.name,
        "container": s.container,
        "node": s.node,
        "cgroup": s.cgroup,
    })
}

/// A prediction with its subject.
pub fn prediction(p: &Prediction, s: &Subject) -> Value {
    json!({
        "type": p.kind,
        "subject": subject(s),
        "eta_seconds": p.eta_seconds,
        "eta_low_seconds": p.eta_low_seconds,
        "eta_high_seconds": p.eta_high_seconds,
        "eta_low99_seconds": p.eta_low99_seconds,
        "eta_high99_seconds": p.eta_high99_seconds,
        "probability": p.probability,
        "horizon_seconds": p.horizon_seconds,
        "confidence": {"rate": p.confidence_rate, "n": p.confidence_n.unwrap_or(0)},
        "model": p.model,
        "window_seconds": p.window_seconds,
        "samples": p.samples,
        "slope_per_second": p.slope_per_second,
        "slope_bytes_per_second": p.slope_per_second.filter(|_| p.is_of_bytes()),
        "cannot_say": p.cannot_say,
    })
}

fn insights(r: &SubjectReport, fixes: &[Fix]) -> Vec<Value> {
    r.insights
        .iter()
        .map(|i| {
            let actions =
                fixes.iter().filter(|f| f.insight_id.as_deref() == Some(&i.id)).map(|f| {
                    json!({
                        "description": f.description,
                        "command": f.command,
                        "risk": f.risk,
                        "impact": f.impact,
                    })
                });
            json!({
                "id": i.id,
                "pattern": i.pattern,
                "severity": i.severity,
                "score": i.score,
                "title": i.title,
                "description": i.detail,
                "evidence": i.evidence.iter().map(evidence).collect::<Vec<_>>(),
                "actions": actions.collect::<Vec<_>>(),
            })
        })
        .collect()
}

fn resources(r: &SubjectReport) -> Value {
    let x = &r.resources;
    json!({
        "ts": time(r.ts),
        "age_seconds": r.age_seconds,
        "memory_usage_bytes": x.memory_usage_bytes,
        "memory_working_set_bytes": x.memory_working_set_bytes,
        "memory_rss_bytes": x.memory_rss_bytes,
        "memory_level_bytes": x.memory_level_bytes,
        "memory_limit_bytes": x.memory_limit_bytes,
        "memory_headroom_bytes": x.memory_headroom_bytes,
        "cpu_percent": x.cpu_percent,
        "pids": x.pids,
        "pids_limit": x.pids_limit,
        "restarts": x.restarts,
        "oom_kills": x.oom_kills,
        "fds": x.fds,
        "fds_limit": x.fds_limit,
        "heap_limit_bytes": x.heap_limit_bytes,
        "disk_used_bytes": x.disk_used_bytes,
        "disk_available_bytes": x.disk_available_bytes,
        "inodes_used": x.inodes_used,
        "inodes_limit": x.inodes_limit,
        "not_before": time(x.not_before),
        "not_after": time(x.not_after),
    })
}

fn entry(e: &WhyEntry) -> Value {
    json!({
        "rank": e.rank,
        "subject": subject(&e.subject),
        "kind": e.kind,
        "title": e.title,
        "score": e.score,
        "detail": e.detail,
        "evidence": e.evidence.iter().map(evidence).collect::<Vec<_>>(),
    })
}

fn evidence(e: &Evidence) -> Value {
    json!({"event_id": e.event_id, "ts": e.ts, "fact": e.fact})
}

fn degraded_list(degraded: &[Degraded]) -> Value {
    let items = degraded.iter().map(|d| {
        json!({"component": d.component, "subject": d.subject, "detail": d.detail, "count": d.count})
    });
    Value::Array(items.collect())
}

fn time(us: Option<i64>) -> Value {
    us.map_or(Value::Null, |us| rfc3339(us).into())
}
