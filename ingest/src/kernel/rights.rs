//! Giving up what only loading needs.

use std::io;

use rustix::thread::{
    CapabilitySet, capabilities, remove_capability_from_bounding_set, set_capabilities,
};

/// What loading kernel programs needs and nothing else does: tables and ring buffers are read through file descriptors.
/// CAP_SYS_ADMIN stands for the first three on kernels before 5.8.
const LOADING: CapabilitySet = CapabilitySet::BPF
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::NET_ADMIN)
    .union(CapabilitySet::SYS_ADMIN);

/// Gives up CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_SYS_ADMIN for the calling thread and all that it starts from then on,
/// threads and programs. To be called when the [`Collector`](crate::Collector) is made and before any other thread is
/// started, because Linux keeps capabilities per thread. What root has beyond these stays: cgroup files and
/// `/proc/PID/{fd,ns}` of other users' processes are read with it.
///
/// Needs Linux 5.19 where kernel.unprivileged_bpf_disabled is set: before, reading a table asked for CAP_BPF again. There
/// nothing is given up.
///
/// # Errors
/// What the kernel answers; all capabilities are as they were then.
pub fn drop_loading_capabilities() -> io::Result<()> {
    if !reading_is_free() {
        return Ok(());
    }
    let mut sets = capabilities(None)?;
    if sets.permitted.contains(CapabilitySet::SETPCAP) {
        for one in LOADING.iter() {
            remove_capability_from_bounding_set(one)?;
        }
    }
    sets.effective -= LOADING;
    sets.permitted -= LOADING;
    sets.inheritable -= LOADING;
    Ok(set_capabilities(None, sets)?)
}

/// Whether a process without CAP_BPF may read the tables that it holds.
fn reading_is_free() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let switch = std::fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled");
    since_5_19(&release) || switch.is_ok_and(|s| s.trim() == "0")
}

/// What cannot be read is an old one.
fn since_5_19(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (5, 19),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        for (release, new) in [
            ("6.18.5", true),
            ("5.19.0-rc1", true),
            ("5.4.0-1", false),
            ("5.2", false),
            ("", false),
            ("x", false),
            ("10.0", true),
        ] {
            assert_eq!(since_5_19(release), new, "{release}");
        }
    }
}
