//! From what the user typed to one thing: near names where there is none, choices where there are several.

use std::collections::BTreeMap;

use arrow::{array::RecordBatch, datatypes::SchemaRef};

use super::literal;
use crate::{
    Globals,
    args::GlobalArgs,
    error::CliError,
    model::{self, Origin, Subject, SubjectReport},
    source::{Freshness, Source},
};

/// How many near names or choices are shown.
const SHOWN: usize = 10;

/// The target as the relations take it: `-n NS` goes before it.
pub fn full_target(target: &str, global: &GlobalArgs) -> String {
    match &global.namespace {
        Some(ns) if !["pid:", "disk:", "cert:", "/"].iter().any(|p| target.starts_with(p)) => {
            format!("{ns}/{target}")
        }
        _ => target.to_owned(),
    }
}

/// A relation's answer about one target, and how the target is.
pub struct Asked {
    /// Who answered.
    pub source: Source,
    /// The target as the relations take it.
    pub target: String,
    /// `tapio_check` of it.
    pub reports: Vec<SubjectReport>,
    /// Where the answer comes from and what time it speaks about.
    pub origin: Origin,
    /// Columns of the relation.
    pub schema: SchemaRef,
    /// Rows of the relation.
    pub batches: Vec<RecordBatch>,
}

/// Asks `relation` about one thing, as of the time of the check before it.
///
/// # Errors
/// Exit code 2: no source, no such target, several of them.
pub async fn ask(target: &str, relation: &str, globals: &Globals) -> Result<Asked, CliError> {
    let source = Source::open(globals, Freshness::Required).await?;
    let target = full_target(target, &globals.args);
    let sql = format!("SELECT * FROM tapio_check({})", literal(&target));
    let reports = model::check_reports(&source.query(&sql, source.as_of()).await?.1);
    one(&target, &reports, &source).await?;
    let origin = source.origin(&reports);
    let sql = format!("SELECT * FROM {relation}({})", literal(&target));
    let (schema, batches) = source.query(&sql, origin.as_of).await?;
    Ok(Asked { source, target, reports, origin, schema, batches })
}

/// Makes sure that the reports are about one thing.
///
/// # Errors
/// Exit code 2: near names if there is none, the choices if there are several.
pub async fn one(target: &str, reports: &[SubjectReport], source: &Source) -> Result<(), CliError> {
    if reports.is_empty() {
        let (_, batches) = source.query("SELECT * FROM tapio_targets('')", None).await?;
        return Err(CliError::tool(not_found(target, &model::subjects(&batches))));
    }
    let subjects: Vec<&Subject> = reports.iter().map(|r| &r.subject).collect();
    match ambiguous(target, &subjects) {
        Some(message) => Err(CliError::tool(message)),
        None => Ok(()),
    }
}

/// "No such target", with the nearest names.
fn not_found(target: &str, all: &[Subject]) -> String {
    let wanted = target.to_lowercase();
    let wanted_leaf = wanted.rsplit('/').next().unwrap_or(&wanted);
    let mut near: BTreeMap<String, f64> = BTreeMap::new();
    for s in all {
        let mut names = vec![s.name.clone()];
        names.extend([&s.workload, &s.unit, &s.cgroup, &s.path].into_iter().flatten().cloned());
        for name in names {
            let lower = name.to_lowercase();
            let leaf = lower.rsplit('/').next().unwrap_or(&lower);
            let mut score =
                strsim::jaro_winkler(&wanted, &lower).max(strsim::jaro_winkler(wanted_leaf, leaf));
            if !wanted_leaf.is_empty() && lower.contains(wanted_leaf) {
                score = score.max(0.95);
            }
            let best = near.entry(name).or_insert(0.0);
            *best = best.max(score);
        }
    }
    let mut near: Vec<_> = near.into_iter().filter(|(_, score)| *score >= 0.75).collect();
    near.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let names: Vec<_> = near.into_iter().take(SHOWN).map(|(name, _)| format!("  {name}")).collect();
    if names.is_empty() {
        format!(
            "nothing is named {target:?} among {} subjects; list them with: tapio sql \"SELECT subject_kind, name, cgroup FROM tapio_targets('')\"",
            all.len()
        )
    } else {
        format!("nothing is named {target:?}; near names:\n{}", names.join("\n"))
    }
}

/// What the target names, per subject: all subjects of one workload, pod, unit or cgroup are one thing.
fn thing(target: &str, s: &Subject) -> String {
    let leaf = target.rsplit('/').next().unwrap_or(target);
    let ns = s.namespace.as_deref().unwrap_or("");
    if let Some(workload) = &s.workload
        && (workload == target || workload.rsplit('/').next() == Some(leaf))
    {
        return format!("{ns}/{workload}");
    }
    s.as_target()
}

fn ambiguous(target: &str, subjects: &[&Subject]) -> Option<String> {
    let mut things: BTreeMap<String, &Subject> = BTreeMap::new();
    for s in subjects {
        // On several nodes one path or name is several things.
        let node = s.node.clone().unwrap_or_default();
        let named = thing(target, s);
        let key = if s.workload.is_some() || node.is_empty() {
            named
        } else {
            format!("{named}  (on {node})")
        };
        things.entry(key).or_insert(s);
    }
    if things.len() < 2 {
        return None;
    }
    let lines: Vec<_> =
        things.iter().take(SHOWN).map(|(key, s)| format!("  {:<9} {key}", s.kind)).collect();
    let more = things.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
    Some(format!(
        "{target:?} names {} things; choose one:\n{}{more}",
        things.len(),
        lines.join("\n")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(kind: &str, name: &str, node: &str, cgroup: Option<&str>) -> Subject {
        Subject {
            kind: kind.into(),
            name: name.into(),
            node: Some(node.into()),
            cgroup: cgroup.map(str::to_owned),
            ..Subject::default()
        }
    }

    #[test]
    fn the_namespace_goes_before_names_but_not_before_paths() {
        let g = GlobalArgs { namespace: Some("shop".into()), ..GlobalArgs::default() };
        assert_eq!(full_target("api", &g), "shop/api");
        assert_eq!(full_target("deployment/api", &g), "shop/deployment/api");
        assert_eq!(full_target("/sys/x", &g), "/sys/x");
        assert_eq!(full_target("pid:3", &g), "pid:3");
        assert_eq!(full_target("cert:/a.crt", &g), "cert:/a.crt");
        assert_eq!(full_target("api", &GlobalArgs::default()), "api");
    }

    #[test]
    fn an_unknown_name_gets_its_neighbours() {
        let all = [
            subject("cgroup", "etl-nightly", "n1", Some("/jobs/etl-nightly")),
            subject("unit", "nginx.service", "n1", Some("/system.slice/nginx.service")),
        ];
        let m = not_found("etl-nighly", &all);
        assert_eq!(
            m,
            "nothing is named \"etl-nighly\"; near names:\n  /jobs/etl-nightly\n  etl-nightly"
        );
        let m = not_found("ngin", &all);
        assert!(m.contains("nginx.service") && !m.contains("etl"), "{m}");
        assert!(not_found("zzz", &all).contains("among 2 subjects"));
    }

    #[test]
    fn several_things_are_choices_but_one_workload_is_one_thing() {
        let a = subject("cgroup", "work", "n1", Some("/a/work"));
        let b = subject("cgroup", "work", "n1", Some("/b/work"));
        let m = ambiguous("work", &[&a, &b]).unwrap();
        assert_eq!(
            m,
            "\"work\" names 2 things; choose one:\n  cgroup    /a/work  (on n1)\n  cgroup    /b/work  (on n1)"
        );
        assert_eq!(ambiguous("work", &[&a, &a]), None);
        let other_node = Subject { node: Some("n2".into()), ..a.clone() };
        assert!(ambiguous("/a/work", &[&a, &other_node]).unwrap().contains("(on n2)"));
        let pod = |n: &str| Subject {
            workload: Some("deployment/api".into()),
            namespace: Some("shop".into()),
            ..subject("pod", n, n, Some(n))
        };
        assert_eq!(ambiguous("api", &[&pod("p1"), &pod("p2")]), None);
    }
}
