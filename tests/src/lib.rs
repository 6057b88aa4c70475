//! What the cross-crate tests share: where the binaries and the packs are, and waiting with a deadline.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    path::PathBuf,
    thread::sleep,
    time::{Duration, Instant},
};

/// The workspace's folder.
pub fn workspace() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap().to_owned()
}

/// A binary of the workspace, beside the running test.
///
/// # Panics
/// If it was not built: `cargo test --workspace` builds it.
pub fn binary(name: &str) -> PathBuf {
    let mut dir = std::env::current_exe().unwrap();
    dir.pop();
    if dir.ends_with("deps") {
        dir.pop();
    }
    let path = dir.join(name);
    assert!(path.exists(), "{} is not built: run `cargo test --workspace`", path.display());
    path
}

/// A pack of `datasets/`.
pub fn pack(name: &str) -> PathBuf {
    workspace().join("datasets").join(name)
}

/// Polls until `ready` answers; panics with `what` at the deadline.
///
/// # Panics
/// When `deadline` has passed.
pub fn wait_for<T>(what: &str, deadline: Duration, mut ready: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < end, "waited {deadline:?} for {what}");
        sleep(Duration::from_millis(50));
    }
}

/// Whether a test that needs root and a writable memory cgroup can run. Says so loudly if not, and fails if `CI=true`.
///
/// # Panics
/// In CI, where such tests must run.
pub fn can_cage(test: &str) -> bool {
    let name = format!("tapio-probe-{}-{test}", std::process::id());
    match tapio_cli::cage::Cage::new(&name, 64 << 20) {
        Ok(_) => true,
        Err(e) => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{test} must run in CI: {e}");
            eprintln!("SKIPPED: {test}: {e}");
            false
        }
    }
}
