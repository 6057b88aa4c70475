use super::world::*;

const AS_OF: i64 = T0 + 299 * SECOND;

#[tokio::test]
async fn show() {
    let (w, _, _) = leak();
    let engine = w.engine(2).await;
    for q in [
        "SELECT name, subject_kind, active, match_rank FROM tapio_targets('')",
        "SELECT series_id, severity, title, detail, probability, eta_seconds, eta_low_seconds, eta_high_seconds, cannot_say, evidence FROM memory_leak_oom()",
        "SELECT name, status, age_seconds, cpu_percent, memory_level_bytes, pattern, title, probability, eta_seconds, cannot_say, insight_id FROM tapio_check('')",
        "SELECT * FROM tapio_growth('')",
        "SELECT target, verdict, section, rank, subject_kind, name, kind, title, score, detail, evidence FROM tapio_why('leak')",
        "SELECT * FROM tapio_fixes('')",
    ] {
        match engine.sql(q, Some(AS_OF)).await {
            Ok((_, b)) => println!("{}", text(&b)),
            Err(e) => println!("ERROR {e}"),
        }
    }
}
