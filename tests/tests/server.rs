//! A tapio-server of our own: on a temporary store, a port that the kernel chooses, ended with the test.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tapio_tests::{binary, wait_for};

pub struct Server {
    child: Child,
    pub address: String,
    pub dir: PathBuf,
}

impl Server {
    /// Starts a server on `dir/store` and `dir/wal` and waits until it listens.
    pub fn start(dir: &Path) -> Self {
        Self::start_with(dir, &[])
    }

    /// As [`Server::start`], with more arguments.
    pub fn start_with(dir: &Path, args: &[&str]) -> Self {
        let addr = dir.join("address");
        let _ = fs::remove_file(&addr);
        let mut child = Command::new(binary("tapio-server"))
            .args(["--listen", "127.0.0.1:0", "--addr-file", addr.to_str().unwrap()])
            .args(["--store", dir.join("store").to_str().unwrap()])
            .args(["--wal-dir", dir.join("wal").to_str().unwrap()])
            .args(args)
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.join("server.log")).unwrap())
            .spawn()
            .unwrap();
        let address = wait_for("the server to listen", Duration::from_secs(60), || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the server ended: {status}: {}", log(dir));
            }
            fs::read_to_string(&addr)
                .ok()
                .filter(|a| a.ends_with('\n'))
                .map(|a| a.trim().to_owned())
        });
        Self { child, address, dir: dir.to_owned() }
    }

    /// Runs `tapio ARGS --server THIS`.
    pub fn tapio(&self, args: &[&str]) -> Output {
        Command::new(binary("tapio")).args(args).args(["--server", &self.address]).output().unwrap()
    }

    pub fn json(&self, args: &[&str]) -> Option<Value> {
        let out = self.tapio(&[args, &["-o", "json"]].concat());
        serde_json::from_slice(&out.stdout).ok()
    }

    /// Asks it to end and waits until everything is in files.
    pub fn stop(mut self) {
        let pid = Pid::from_raw(self.child.id() as i32).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let status = wait_for("the server to stop", Duration::from_secs(60), || {
            self.child.try_wait().unwrap()
        });
        assert!(status.success(), "{status}: {}", log(&self.dir));
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log(dir: &Path) -> String {
    fs::read_to_string(dir.join("server.log")).unwrap_or_default()
}

fn rows(server: &Server) -> Option<i64> {
    let out = server.json(&[
        "sql",
        "SELECT count(*) AS n, count(DISTINCT concat(series_id, ts)) AS d FROM resources",
    ])?;
    let row = &out.as_array()?[0];
    assert_eq!(row["n"], row["d"], "a row stands twice");
    row["n"].as_i64()
}

#[test]
fn what_was_answered_before_kill_9_is_there_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut before = 0;
    for _ in 0..3 {
        let server = Server::start(dir.path());
        let now = wait_for("more rows", Duration::from_secs(60), || {
            rows(&server).filter(|n| *n > before)
        });
        before = now;
        server.kill();
    }
    let server = Server::start(dir.path());
    let after = rows(&server).unwrap();
    assert!(after >= before, "{before} rows were answered, {after} are there");
    server.stop();
    // Everything is in files now: no write-ahead log is needed to read it.
    let store = dir.path().join("store");
    let out = Command::new(binary("tapio"))
        .args(["sql", "SELECT count(*) AS n FROM resources", "-o", "json", "--as-of", "now"])
        .args(["--store", store.to_str().unwrap()])
        .output()
        .unwrap();
    let out: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert!(out[0]["n"].as_i64().unwrap() >= after, "{out}");
}
