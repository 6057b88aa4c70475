//! Real programs in cgroups.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
};

use crate::lab::Cgroup;

/// A shell command that runs in these cgroups from its beginning on.
pub fn in_cgroups(cgroups: &[&Cgroup], run: &str) -> Command {
    let join: String =
        cgroups.iter().map(|c| format!("echo $$ > {} && ", c.procs().display())).collect();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{join} {{ {run}; }}")]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// Python that does `script`, says so, and stays until it is told to end.
pub struct Python(pub Child);

impl Python {
    /// Starts it and waits until the script is done.
    pub fn run(cgroups: &[&Cgroup], script: &str) -> Self {
        let mut python = Self::start(cgroups, script);
        python.done();
        python
    }

    pub fn start(cgroups: &[&Cgroup], script: &str) -> Self {
        let run = format!("exec python3 -c \"{script}\nprint('done', flush=True)\ninput()\"");
        Self(in_cgroups(cgroups, &run).spawn().unwrap())
    }

    pub fn done(&mut self) {
        assert_eq!(first_line(&mut self.0), "done");
    }

    pub fn pid(&self) -> i64 {
        i64::from(self.0.id())
    }

    pub fn end(mut self) {
        self.0.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What it prints first; empty if it ends without.
pub fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}
