//! Loading, rights, and that nothing stays.

use std::{fs, process::Command};

use crate::{
    attached::{held, in_kernel},
    child::Role,
    lab::{root, wait},
};

#[test]
fn nothing_stays_after_kill_9() {
    if !root("nothing_stays_after_kill_9") {
        return;
    }
    let mut loader = Role::start("load", None);
    assert_eq!(loader.step().unwrap(), "", "everything is loaded");
    let (programs, links) = held(loader.tgid());
    assert!(programs.len() >= 6 && links.len() >= 6, "{programs:?} {links:?}");
    let (all_programs, all_links) = in_kernel();
    assert!(programs.is_subset(&all_programs) && links.is_subset(&all_links));
    loader.child.kill().unwrap();
    loader.child.wait().unwrap();
    wait("the kernel to take everything away", || {
        let (all_programs, all_links) = in_kernel();
        (programs.is_disjoint(&all_programs) && links.is_disjoint(&all_links)).then_some(())
    });
}

/// `setpriv` with exactly these capabilities and nobody's user id.
fn with_capabilities(capabilities: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]);
    command.arg(format!("--inh-caps=-all{capabilities}"));
    command.arg(format!("--ambient-caps=-all{capabilities}"));
    command.arg("sh");
    command
}

#[test]
fn three_capabilities_suffice() {
    if !root("three_capabilities_suffice") {
        return;
    }
    let all = with_capabilities(",+bpf,+perfmon,+net_admin");
    let mut loader = Role::start_with(all, "load", None);
    assert_eq!(loader.step().unwrap(), "", "everything is loaded");
    let status = fs::read_to_string(format!("/proc/{}/status", loader.tgid())).unwrap();
    assert!(status.contains("Uid:\t65534"), "{status}");
    let processes: usize = loader.step().unwrap().parse().unwrap();
    assert!(processes > 1, "{processes}");
}

#[test]
fn without_rights_every_program_says_why() {
    if !root("without_rights_every_program_says_why") {
        return;
    }
    let mut loader = Role::start_with(with_capabilities(""), "load", None);
    let missing = loader.step().unwrap();
    for program in ["memory/process_exec", "memory/process_iter", "oom/mark_victim"] {
        assert!(missing.contains(program), "{missing}");
    }
    assert!(missing.contains("CAP_BPF"), "{missing}");
}
