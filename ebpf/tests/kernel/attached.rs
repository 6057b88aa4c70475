//! What is attached, and whose it is.

use std::{collections::HashSet, fs};

/// Ids of the programs and links that a process holds, from its file descriptors.
pub fn held(pid: u32) -> (HashSet<u32>, HashSet<u32>) {
    let (mut programs, mut links) = (HashSet::new(), HashSet::new());
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap() {
        let info = fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
        let id = |key: &str| -> Option<u32> {
            info.lines().find_map(|l| l.strip_prefix(key))?.trim().parse().ok()
        };
        programs.extend(id("prog_id:"));
        links.extend(id("link_id:"));
    }
    (programs, links)
}

/// Ids of all programs and links there are.
pub fn in_kernel() -> (HashSet<u32>, HashSet<u32>) {
    let programs = aya::programs::loaded_programs().filter_map(|p| Some(p.ok()?.id()));
    let links = aya::programs::loaded_links().filter_map(|l| Some(l.ok()?.id()));
    (programs.collect(), links.collect())
}
