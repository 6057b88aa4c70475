//! Holds the arrows between the crates (ARCHITECTURE.md): who may use whom, and what stays free of what.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use tapio_tests::workspace;

/// Folder → folders that it may use.
const ARROWS: &[(&str, &[&str])] = &[
    ("sql", &[]),
    ("store", &["sql"]),
    ("ebpf", &[]),
    ("models", &[]),
    ("ingest", &["sql", "store", "ebpf"]),
    ("query", &["sql", "store", "models"]),
    ("cli", &["sql", "store", "ebpf", "models", "ingest", "query"]),
];

/// Folder → dependencies that it must not have, because it is meant to be pure.
const PURE: &[(&str, &[&str])] = &[
    ("sql", &["tokio", "object_store", "parquet", "datafusion"]),
    ("store", &["datafusion", "arrow-flight", "kube", "aya"]),
    ("ebpf", &["arrow", "arrow-array", "datafusion", "tokio"]),
    ("models", &["arrow", "arrow-array", "datafusion", "tokio", "object_store"]),
    ("ingest", &["datafusion", "arrow-flight", "augurs"]),
    ("query", &["aya", "kube"]),
];

fn dependencies(folder: &str) -> Vec<String> {
    let text = fs::read_to_string(workspace().join(folder).join("Cargo.toml")).unwrap();
    let manifest: toml::Table = text.parse().unwrap();
    let mut names = Vec::new();
    for section in ["dependencies", "build-dependencies"] {
        if let Some(t) = manifest.get(section).and_then(|s| s.as_table()) {
            names.extend(t.keys().cloned());
        }
    }
    names
}

#[test]
fn crates_use_only_what_they_may() {
    for (folder, allowed) in ARROWS {
        for name in dependencies(folder) {
            if let Some(used) = name.strip_prefix("tapio-") {
                assert!(allowed.contains(&used), "{folder} must not use {used}");
            }
        }
    }
    for (folder, banned) in PURE {
        for name in dependencies(folder) {
            assert!(!banned.contains(&name.as_str()), "{folder} must stay free of {name}");
        }
    }
}

#[test]
fn versions_stand_in_one_place() {
    let members: BTreeMap<_, _> =
        ARROWS.iter().map(|(f, _)| (*f, ())).chain([("tests", ())]).collect();
    for folder in members.keys() {
        let text = fs::read_to_string(workspace().join(folder).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = text.parse().unwrap();
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(t) = manifest.get(section).and_then(|s| s.as_table()) else { continue };
            for (name, value) in t {
                let inherited = value.get("workspace").and_then(toml::Value::as_bool);
                assert_eq!(inherited, Some(true), "{folder}: {name} has a version of its own");
            }
        }
    }
}

#[test]
fn the_architecture_page_names_every_crate_and_invariant() {
    let page = fs::read_to_string(workspace().join("ARCHITECTURE.md")).unwrap();
    for (folder, _) in ARROWS {
        assert!(page.contains(&format!("`{folder}/`")), "{folder}");
    }
    for t in 1..=8 {
        assert!(page.contains(&format!("**T{t}**")), "T{t}");
    }
}

/// Every package of the workspace's build with its features, as `cargo tree` prints it.
fn resolved(arguments: &[&str]) -> BTreeSet<String> {
    let out = std::process::Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--prefix", "none"])
        .args(["-f", "{p} {f}"])
        .args(arguments)
        .current_dir(workspace())
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout)
        .unwrap()
        .lines()
        .map(|l| l.trim_end_matches(" (*)").to_owned())
        .collect()
}

#[test]
fn cargo_run_and_cargo_test_share_one_build() {
    let run = resolved(&["-e", "normal,build"]);
    let test = resolved(&["--workspace", "-e", "normal,build,dev"]);
    let twice: Vec<&String> = run.difference(&test).collect();
    assert!(run.len() > 300 && twice.is_empty(), "built twice with other features: {twice:#?}");
}
