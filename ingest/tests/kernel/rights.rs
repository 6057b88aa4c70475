//! Rights, and that nothing stays.

use std::{
    fs::{self, Permissions},
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use tapio_ingest::{
    Clock, Collector, CollectorOptions, Health, KernelOptions, SystemClock,
    drop_loading_capabilities,
};

use crate::{
    attached::{held, in_kernel},
    lab::{root, wait},
};

const ROLE: &str = "TAPIO_TEST_COLLECT";

/// Not a test but a process that collects, says what is missing, and stays.
#[test]
fn collecting() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    let health = Arc::new(Health::default());
    let options = CollectorOptions {
        kernel: Some(KernelOptions::default()),
        health: health.clone(),
        ..CollectorOptions::default()
    };
    let mut collector = Collector::new(options).unwrap();
    drop_loading_capabilities().unwrap();
    println!();
    // More than ten, so that all processes are gone through again and losses are read again.
    for _ in 0..12 {
        for batch in collector.tick(SystemClock.now_us()).batches {
            println!("> {} rows of {}", batch.num_rows(), batch.def().name);
        }
    }
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    status.lines().filter(|l| l.starts_with("Cap")).for_each(|l| println!("> {l}"));
    for e in health.entries() {
        let detail = e.detail.replace('\n', " ");
        println!("> {}/{} {} {}", e.component, e.metric, e.value, detail);
    }
    println!("> ready");
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// Runs it and answers what it says.
fn collect(mut shell: Command, exe: &Path) -> (Child, Vec<String>) {
    let run = format!("exec {} --exact rights::collecting --nocapture -q", exe.display());
    shell.args(["-c", &run]).env(ROLE, "1").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = shell.spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let lines =
        output.lines().map(Result::unwrap).filter_map(|l| l.strip_prefix("> ").map(str::to_owned));
    let said: Vec<String> = lines.take_while(|l| l != "ready").collect();
    (child, said)
}

#[test]
fn what_is_loaded_is_read_without_rights_and_ends_with_the_process() {
    if !root("what_is_loaded_is_read_without_rights_and_ends_with_the_process") {
        return;
    }
    let (mut child, said) = collect(Command::new("sh"), &std::env::current_exe().unwrap());
    // BPF is 39, PERFMON 38, NET_ADMIN 12, SYS_ADMIN 21 (linux/capability.h); of the rest root keeps what it had.
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        let line = said.iter().find_map(|l| l.strip_prefix(set)?.strip_prefix(":\t")).unwrap();
        let bits = u64::from_str_radix(line, 16).unwrap();
        assert_eq!(bits & (1 << 39 | 1 << 38 | 1 << 12 | 1 << 21), 0, "{set} {line}");
        assert_ne!(bits & (1 << 19), 0, "{set} {line}: SYS_PTRACE stays");
    }
    assert!(said.iter().any(|l| l.ends_with(" rows of resources")), "{said:#?}");
    assert!(!said.iter().any(|l| l.contains("read_failures")), "{said:#?}");
    let loaded = said.iter().filter(|l| l.contains("all programs are in the kernel")).count();
    assert_eq!(loaded, 7, "{said:#?}");
    let (programs, links) = held(child.id());
    // The iterator over tasks has no link: it is run.
    assert_eq!((programs.len(), links.len()), (14, 13), "{programs:?} {links:?}");
    let (all_programs, all_links) = in_kernel();
    assert!(programs.is_subset(&all_programs) && links.is_subset(&all_links));
    child.kill().unwrap();
    child.wait().unwrap();
    wait("the kernel to take everything away", || {
        let (all_programs, all_links) = in_kernel();
        (programs.is_disjoint(&all_programs) && links.is_disjoint(&all_links)).then_some(())
    });
}

/// Nobody without rights still collects, and is told what is missing and what that costs.
#[test]
fn without_rights_files_are_read_and_what_is_missing_is_said() {
    if !root("without_rights_files_are_read_and_what_is_missing_is_said") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let exe = dir.path().join("collect");
    fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
    for path in [dir.path(), &exe] {
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]);
    nobody.args(["--inh-caps=-all", "--ambient-caps=-all", "sh"]);
    let (mut child, said) = collect(nobody, &exe);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(said.iter().any(|l| l.ends_with("rows of resources")), "{said:#?}");
    for object in ["memory", "oom", "http", "net", "dns", "cpu", "block"] {
        let entry = said.iter().find(|l| l.starts_with(&format!("collector.ebpf/{object} ")));
        let entry = entry.unwrap_or_else(|| panic!("{object}: {said:#?}"));
        assert!(!entry.starts_with(&format!("collector.ebpf/{object} 0")), "{entry}");
        assert!(entry.contains("which costs: "), "{entry}");
    }
    assert!(said.iter().any(|l| l.contains("CAP_BPF")), "{said:#?}");
}
