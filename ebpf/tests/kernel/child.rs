//! Processes that the tests watch: this very test binary, run again with one test and a role, or a Python script.

use std::{
    fs::{self, Permissions},
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use tapio_ebpf::{LoadOptions, Programs};
use tempfile::TempDir;

const ROLE: &str = "TAPIO_TEST_ROLE";
pub const STEP: usize = 4 << 20;

/// A child that does one step per line it is sent and answers each with a line.
#[derive(Debug)]
pub struct Role {
    pub child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// Holds the copy that runs.
    _dir: Option<TempDir>,
}

impl Role {
    /// Starts it in a cgroup from its first instruction on.
    pub fn start(role: &str, cgroup_procs: Option<&Path>) -> Self {
        let exe = std::env::current_exe().unwrap();
        Self::run(Command::new("sh"), role, cgroup_procs, &exe, None)
    }

    /// As [`Role::start`], from a copy that every user may run; `shell` may put rights or namespaces before the shell.
    pub fn start_with(shell: Command, role: &str, cgroup_procs: Option<&Path>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let exe = dir.path().join("role");
        fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&exe, Permissions::from_mode(0o755)).unwrap();
        Self::run(shell, role, cgroup_procs, &exe, Some(dir))
    }

    /// A script that begins its answers with `> `; the first one says that it is ready.
    pub fn python(script: &str) -> Self {
        let mut python = Command::new("python3");
        python.args(["-c", script]);
        Self::spawn(python, None)
    }

    fn run(
        mut shell: Command,
        role: &str,
        cgroup_procs: Option<&Path>,
        exe: &Path,
        dir: Option<TempDir>,
    ) -> Self {
        let join = cgroup_procs.map_or(String::new(), |p| format!("echo $$ > {} && ", p.display()));
        let run = format!("{join}exec {} --exact child::role --nocapture -q", exe.display());
        shell.args(["-c", &run]).env(ROLE, role);
        Self::spawn(shell, dir)
    }

    fn spawn(mut command: Command, dir: Option<TempDir>) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut role = Self { child, input, output: BufReader::new(output), _dir: dir };
        role.answer().expect("the child is ready");
        role
    }

    pub fn tgid(&self) -> u32 {
        self.child.id()
    }

    /// Asks for a step; `None` if the child is gone.
    pub fn step(&mut self) -> Option<String> {
        writeln!(self.input).ok()?;
        self.answer()
    }

    /// The next line that is an answer and not libtest's.
    fn answer(&mut self) -> Option<String> {
        let mut line = String::new();
        while self.output.read_line(&mut line).ok()? > 0 {
            if let Some(answer) = line.trim_end_matches('\n').strip_prefix("> ") {
                return Some(answer.to_owned());
            }
            line.clear();
        }
        None
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test but the children's `main`.
#[test]
fn role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    println!();
    match role.as_str() {
        "leak" => leak(1),
        "leak-threads" => leak(4),
        "load" => load(),
        other => panic!("no role {other}"),
    }
    std::process::exit(0);
}

/// For each line from standard input: does it, answers.
fn serve(mut step: impl FnMut() -> String) {
    println!("> ready");
    for _ in std::io::stdin().lines() {
        println!("> {}", step());
    }
}

/// Touches another [`STEP`] bytes per step, spread over threads that all live on.
fn leak(threads: usize) {
    let mut kept = Vec::new();
    let workers: Vec<_> = (0..threads)
        .map(|_| {
            let (ask, asked) = std::sync::mpsc::channel::<()>();
            let (tell, told) = std::sync::mpsc::channel::<()>();
            let worker = std::thread::spawn(move || {
                let mut kept = Vec::new();
                for () in asked {
                    kept.push(vec![1_u8; STEP / threads]);
                    let _ = tell.send(());
                }
            });
            (ask, told, worker)
        })
        .collect();
    serve(|| {
        if threads == 1 {
            kept.push(vec![1_u8; STEP]);
        } else {
            workers.iter().for_each(|(ask, ..)| ask.send(()).unwrap());
            workers.iter().for_each(|(_, told, _)| told.recv().unwrap());
        }
        "more".into()
    });
}

/// Loads everything, says what is missing, and per step how many processes it sees.
fn load() {
    let (mut programs, missing) = Programs::load(&LoadOptions::default());
    let missing: Vec<_> =
        missing.iter().map(|m| format!("{}: {}", m.program, m.error.replace('\n', " "))).collect();
    let mut first = Some(missing.join("; "));
    serve(|| {
        if let Some(missing) = first.take() {
            return missing;
        }
        let mut processes = Vec::new();
        programs.memory.as_mut().unwrap().read(&mut processes).unwrap();
        processes.len().to_string()
    });
}
