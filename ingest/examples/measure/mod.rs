//! What the examples that measure share.

use std::time::Duration;

/// User and system CPU time of this process (`RUSAGE_SELF`) or of its ended children (`RUSAGE_CHILDREN`), µs.
pub fn cpu(who: libc::c_int) -> (i64, i64) {
    // SAFETY: `u` is a valid place for one rusage.
    let u = unsafe {
        let mut u: libc::rusage = std::mem::zeroed();
        libc::getrusage(who, &mut u);
        u
    };
    let us = |t: libc::timeval| t.tv_sec * 1_000_000 + t.tv_usec;
    (us(u.ru_utime), us(u.ru_stime))
}

/// Median, p99 and longest of some times, which it sorts.
pub fn print_times(what: &str, times: &mut [Duration]) {
    times.sort();
    println!(
        "{what}: median {:?}, p99 {:?}, longest {:?}",
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        times[times.len() - 1]
    );
}
