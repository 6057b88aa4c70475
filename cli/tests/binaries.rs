//! The two binaries as real processes: exit codes, bad input, live observation, server and client.
//!
//! No fixed ports (the server prints the one it got) and no sleeps (states are polled with a deadline).
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

/// How long a state may take on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// `tapio` in a folder of its own, untouched by the configuration of this machine.
fn tapio(home: &Path) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_tapio"));
    isolate(&mut c, home);
    c
}

fn isolate(c: &mut Command, home: &Path) {
    c.current_dir(home).env("HOME", home).env_remove("RUST_LOG").env_remove("NO_COLOR");
    // A configuration of its own, so that neither a server nor a store of this machine answers.
    let config = home.join("isolated.yaml");
    if !config.exists() {
        let text = format!(
            "correlation:\n  enabled: false\nstorage:\n  url: {}\n",
            home.join("no-store").display()
        );
        fs::write(&config, text).unwrap();
    }
    c.env("TAPIO_CONFIG", config);
}

fn run(c: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = c.stdin(Stdio::null()).output().unwrap();
    let text = |b: Vec<u8>| String::from_utf8_lossy(&b).into_owned();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

fn tapio_in(home: &Path, args: &[&str]) -> (i32, String, String) {
    run(tapio(home).args(args))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// A running `tapio-server` on a free port; killed with the test.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(home: &Path, store: &Path, wal: &Path) -> Self {
        let mut c = Command::new(env!("CARGO_BIN_EXE_tapio-server"));
        isolate(&mut c, home);
        let mut child = c
            .args(["--listen", "127.0.0.1:0", "--store"])
            .arg(store)
            .arg("--wal-dir")
            .arg(wal)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap_or_default().to_owned();
        assert!(!address.is_empty(), "the server said {line:?}");
        Self { child, address }
    }

    fn terminate(mut self) -> ExitStatus {
        // SAFETY: a signal to our own child, which has not been waited for.
        unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGTERM) };
        wait(&mut self.child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait(child: &mut Child) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(start.elapsed() < DEADLINE, "the process did not end");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Runs `tapio` until it answers with that code; the last answer otherwise fails the test.
fn until(home: &Path, args: &[&str], good: impl Fn(i32, &str) -> bool) -> String {
    let start = Instant::now();
    loop {
        let (code, out, err) = tapio_in(home, args);
        if good(code, &out) {
            return out;
        }
        assert!(start.elapsed() < DEADLINE, "{args:?}: {code} {out} {err}");
    }
}

fn server_command(home: &Path, args: &[&str]) -> (i32, String, String) {
    let mut c = Command::new(env!("CARGO_BIN_EXE_tapio-server"));
    isolate(&mut c, home);
    run(c.args(args))
}

#[test]
fn help_and_version() {
    let home = tempfile::tempdir().unwrap();
    let (code, out, _) = tapio_in(home.path(), &["--help"]);
    assert_eq!(code, 0);
    for expected in
        ["check", "why", "fix", "sql", "record", "replay", "doctor", "Examples:", "Exit codes"]
    {
        assert!(out.contains(expected), "{expected} is missing in {out}");
    }
    for command in ["check", "why", "fix", "sql", "record", "replay", "doctor", "completions"] {
        let (code, out, _) = tapio_in(home.path(), &[command, "--help"]);
        assert!(code == 0 && out.contains("Examples:"), "{command}: {out}");
    }
    let (code, out, _) = tapio_in(home.path(), &["--version"]);
    assert_eq!((code, out), (0, format!("tapio {}\n", env!("CARGO_PKG_VERSION"))));
    let (code, out, _) = server_command(home.path(), &["--version"]);
    assert_eq!((code, out), (0, format!("tapio-server {}\n", env!("CARGO_PKG_VERSION"))));
    let (code, out, _) = server_command(home.path(), &["--help"]);
    assert!(code == 0 && out.contains("--addr-file") && out.contains("Examples:"), "{out}");
    let (code, _, err) = tapio_in(home.path(), &["chekc"]);
    assert!(code == 2 && err.contains("check"), "{err}");
}

#[test]
fn completions_and_schemas() {
    let home = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = tapio_in(home.path(), &["completions", shell]);
        assert!(code == 0 && out.contains("doctor"), "{shell}");
    }
    let (code, out, _) = tapio_in(home.path(), &["schema", "check"]);
    assert_eq!((code, &json(&out)["title"]), (0, &Value::from("tapio check -o json")));
    let (code, _, err) = tapio_in(home.path(), &["schema", "nope"]);
    assert!(code == 2 && err.contains("there are check, why, fix"), "{err}");
}

#[test]
fn a_bad_configuration_names_file_line_and_key() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("bad.yaml");
    fs::write(&path, "correlation:\n  sever: x\n").unwrap();
    let path = path.to_str().unwrap();
    for args in [
        &["check", "--config", path][..],
        &["config", "validate", path],
        &["config", "show", "--config", path],
    ] {
        let (code, out, err) = tapio_in(home.path(), args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}");
        assert!(err.contains("bad.yaml:2: unknown key \"correlation.sever\""), "{err}");
        assert!(err.contains("did you mean \"correlation.server\"?"), "{err}");
    }
    let (code, _, err) = server_command(home.path(), &["--config", path]);
    assert!(code == 2 && err.contains("bad.yaml:2: unknown key"), "{err}");
    // Root reads everything, so an unreadable file is a folder, and one that is not there.
    let (code, _, err) =
        tapio_in(home.path(), &["check", "--config", home.path().to_str().unwrap()]);
    assert!(code == 2 && err.contains("cannot read the configuration"), "{err}");
    let (code, _, err) = tapio_in(home.path(), &["check", "--config", "/nonexistent/x.yaml"]);
    assert!(code == 2 && err.contains("/nonexistent/x.yaml"), "{err}");
}

#[test]
fn a_configuration_is_written_shown_and_checked() {
    let home = tempfile::tempdir().unwrap();
    let (code, _, err) = tapio_in(home.path(), &["config", "init", "c.yaml"]);
    assert!(code == 0 && err.contains("wrote c.yaml"), "{err}");
    let (code, out, _) = tapio_in(home.path(), &["config", "validate", "c.yaml"]);
    assert_eq!((code, out.as_str()), (0, "c.yaml: ok\n"));
    let (code, _, err) = tapio_in(home.path(), &["config", "init", "c.yaml"]);
    assert!(code == 2 && err.contains("exists already; --force"), "{err}");
    let (code, out, _) = tapio_in(home.path(), &["config", "show", "--config", "c.yaml"]);
    assert!(
        code == 0 && out.starts_with("# from c.yaml\n") && out.contains("localhost:9090"),
        "{out}"
    );
    let (code, out, _) =
        tapio_in(home.path(), &["config", "show", "-o", "json", "--config", "c.yaml"]);
    assert_eq!((code, &json(&out)["correlation.enabled"]), (0, &Value::Bool(true)));
}

#[test]
fn what_is_not_there_is_exit_code_2() {
    let home = tempfile::tempdir().unwrap();
    // A port that was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (code, out, err) = tapio_in(home.path(), &["check", "--server", &free]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains(&free) && err.contains("tapio-server"), "{err}");
    let (code, _, err) = tapio_in(home.path(), &["check", "--store", "/nonexistent/store"]);
    assert!(
        code == 2 && err.contains("/nonexistent/store") && err.contains("tapio-server"),
        "{err}"
    );
    let empty = home.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let (code, _, err) = tapio_in(home.path(), &["check", "--store", empty.to_str().unwrap()]);
    assert!(code == 2 && err.contains("holds no rows yet"), "{err}");
    let (code, _, err) = tapio_in(home.path(), &["check", "--as-of", "soon"]);
    assert!(code == 2 && err.contains("--as-of: \"soon\" is no time"), "{err}");
    let (code, _, err) = tapio_in(home.path(), &["check", "--as-of", "-5m"]);
    assert!(code == 2 && err.contains("--as-of needs a server or a store"), "{err}");
    let (code, _, err) = tapio_in(home.path(), &["check", "--server", &free, "--store", "/x"]);
    assert!(code == 2 && err.contains("give one of them"), "{err}");
    let (code, _, err) = tapio_in(home.path(), &["check", "-o", "parquet"]);
    assert!(code == 2 && err.contains("tapio sql"), "{err}");
}

/// Accepts connections and answers as a web server would.
fn stranger() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut buffer = [0; 1024];
            let _ = stream.read(&mut buffer);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    address
}

#[test]
fn a_stranger_on_the_port_counts_as_absent_with_a_hint() {
    let home = tempfile::tempdir().unwrap();
    let address = stranger();
    let config = home.path().join("stranger.yaml");
    let store = home.path().join("no-store");
    let text = format!("correlation:\n  server: {address}\nstorage:\n  url: {}\n", store.display());
    fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    let (code, out, err) = tapio_in(home.path(), &["check", "-o", "json", "--config", config]);
    assert!(code == 0 || code == 1, "{code} {err}");
    assert_eq!(json(&out)["source"], "live");
    assert!(err.contains("note:") && err.contains("is no Tapio server"), "{err}");
    let (code, _, err) = tapio_in(home.path(), &["check", "--server", &address]);
    assert!(code == 2 && err.contains("is no Tapio server"), "{err}");
    // And the server does not start on it.
    let store = store.to_str().unwrap();
    let (code, _, err) = server_command(home.path(), &["--listen", &address, "--store", store]);
    assert!(code == 2 && err.contains(&address) && err.contains("--listen"), "{err}");
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    fs::write(&file, "x").unwrap();
    let below = file.join("store");
    let (code, _, err) = server_command(
        home.path(),
        &["--listen", "127.0.0.1:0", "--store", below.to_str().unwrap()],
    );
    assert!(code == 2 && err.contains("cannot create the folder"), "{err}");
    let store = home.path().join("store");
    let (code, _, err) =
        server_command(home.path(), &["--listen", "nonsense", "--store", store.to_str().unwrap()]);
    assert!(code == 2 && err.contains("cannot listen on nonsense"), "{err}");
    let (code, _, err) =
        server_command(home.path(), &["--listen", "0.0.0.0:0", "--store", store.to_str().unwrap()]);
    assert!(code == 2 && err.contains("credentials"), "{err}");
}

#[test]
fn live_observation_of_this_machine() {
    let home = tempfile::tempdir().unwrap();
    let (code, out, err) = tapio_in(home.path(), &["check", "-o", "json"]);
    assert!(code == 0 || code == 1, "{code} {err}");
    let v = json(&out);
    assert_eq!(v["source"], "live");
    let subjects = v["subjects"].as_array().unwrap();
    assert!(subjects.iter().any(|s| s["subject"]["kind"] == "node"), "{out}");
    assert!(v["as_of"].is_string() && v["data_through"] == v["as_of"], "{out}");
    // By SQL as well, in another form.
    let sql = "SELECT count(*) AS n FROM resources";
    let (code, out, err) = tapio_in(home.path(), &["sql", sql, "-o", "csv"]);
    assert_eq!(code, 0, "{err}");
    let n: i64 = out.lines().nth(1).unwrap().parse().unwrap();
    assert!(n >= 10, "{out}");
}

#[test]
fn server_and_client_from_start_to_stop() {
    let home = tempfile::tempdir().unwrap();
    let (home, store, wal) =
        (home.path(), home.path().join("store"), home.path().join("store-wal"));
    let server = Server::start(home, &store, &wal);
    let at = server.address.clone();
    let out = until(home, &["check", "--server", &at, "-o", "json"], |code, _| code < 2);
    let v = json(&out);
    assert_eq!(v["source"], "server");
    let node = v["subjects"].as_array().unwrap().iter().find(|s| s["subject"]["kind"] == "node");
    let name = node.unwrap()["subject"]["name"].as_str().unwrap().to_owned();

    // A target, in every form.
    let target = name.clone();
    let (code, out, err) = tapio_in(home, &["check", &target, "--server", &at, "-o", "json"]);
    assert!(code < 2, "{err}");
    assert_eq!(json(&out)["subject"]["kind"], "node");
    let (_, out, _) = tapio_in(home, &["check", &target, "--server", &at]);
    assert!(out.starts_with(&format!("HEALTH STATUS: {target}\n")), "{out}");
    assert!(
        out.contains("Using advanced correlation analysis") && !out.contains('\u{1b}'),
        "{out}"
    );
    let (_, out, _) = tapio_in(home, &["check", &target, "--server", &at, "-o", "yaml"]);
    assert!(out.contains("source: \"server\""), "{out}");
    let (code, out, err) = tapio_in(home, &["why", &target, "--server", &at, "-o", "json"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(json(&out)["verdict"], "no_cause_proven", "{out}");
    let (code, out, err) =
        tapio_in(home, &["fix", &target, "--server", &at, "--dry-run", "-o", "json"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(json(&out)["applied"], 0, "{out}");

    // Bad targets and statements.
    let (code, out, err) = tapio_in(home, &["check", &format!("{name}x"), "--server", &at]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("near names:") && err.contains(&name), "{err}");
    let (code, _, err) = tapio_in(home, &["sql", "SELECT nme FROM series", "--server", &at]);
    assert!(code == 2 && err.contains("nme") && err.contains("name"), "{err}");
    let (code, out, _) = tapio_in(home, &["sql", "SELECT 1 AS one", "--server", &at, "-o", "json"]);
    assert_eq!((code, json(&out)), (0, serde_json::json!([{"one": 1}])));

    // A second server on the same write-ahead directory.
    let pid = server.child.id().to_string();
    let arguments = [
        "--listen",
        "127.0.0.1:0",
        "--store",
        store.to_str().unwrap(),
        "--wal-dir",
        wal.to_str().unwrap(),
    ];
    let (code, _, err) = server_command(home, &arguments);
    assert!(code == 2 && err.contains(&pid), "{err}");
    // The doctor sees both.
    let mut doctor = tapio(home);
    doctor.args(["doctor", "-o", "json", "--server", &at, "--store", store.to_str().unwrap()]);
    let (_, out, err) = run(&mut doctor);
    let v = json(&out);
    let check =
        |n: &str| v["checks"].as_array().unwrap().iter().find(|c| c["name"] == n).cloned().unwrap();
    assert_eq!(check("server")["status"], "ok", "{err}");
    assert_eq!(check("store")["status"], "ok");
    assert!(
        check("write-ahead log")["detail"].as_str().unwrap().contains(&format!("process {pid}")),
        "{out}"
    );

    // A clean stop leaves everything in files, which are fresh for a while.
    assert!(server.terminate().success());
    let args = ["check", &target, "--store", store.to_str().unwrap(), "-o", "json"];
    let (code, out, err) = tapio_in(home, &args);
    assert!(code < 2, "{err}");
    assert_eq!(json(&out)["source"], "store");
    let (code, _, err) = tapio_in(home, &["check", &target, "--server", &at]);
    assert!(code == 2 && err.contains("no server at"), "{err}");
}

#[test]
fn a_stale_store_is_refused_unless_it_is_asked_about_the_past() {
    let home = tempfile::tempdir().unwrap();
    let store = home.path().join("store");
    stale_store(&store);
    let store = store.to_str().unwrap();
    let (code, out, err) = tapio_in(home.path(), &["check", "--store", store]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("is stale") && err.contains("--as-of 2026-01-02T03:04:05"), "{err}");
    let at = "2026-01-02T03:04:06Z";
    let args = ["check", "old", "--store", store, "--as-of", at, "-o", "json"];
    let (code, out, err) = tapio_in(home.path(), &args);
    assert_eq!(code, 0, "{err}");
    let v = json(&out);
    assert_eq!((&v["as_of"], &v["source"]), (&Value::from(at), &Value::from("store")));
    // History is what SQL is for.
    let sql = "SELECT count(*) AS n FROM resources";
    let (code, out, err) = tapio_in(home.path(), &["sql", sql, "--store", store, "-o", "json"]);
    assert_eq!((code, out.trim()), (0, "[{\"n\":1}]"), "{err}");
}

/// A store with one node that was seen once, in January 2026.
fn stale_store(path: &Path) {
    use arrow::array::{
        ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array,
    };
    use std::sync::Arc;
    const AT: i64 = 1_767_323_045_000_000;
    let store = tapio_store::Store::open(path.to_str().unwrap(), true).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for table in ["series", "resources"] {
        let def = tapio_sql::catalog().get(table).unwrap();
        let columns = def
            .columns
            .iter()
            .map(|c| {
                let text = |t: &str| Arc::new(StringArray::from(vec![t])) as ArrayRef;
                let values = match c.name.as_str() {
                    "series_id" | "workload_id" => Arc::new(Int64Array::from(vec![7])) as ArrayRef,
                    "ts" | "observed_at" => {
                        Arc::new(TimestampMicrosecondArray::from(vec![AT]).with_timezone("UTC"))
                    }
                    "kind" => text("node"),
                    "name" | "node" => text("old"),
                    "boot_id" | "incarnation" => text("b"),
                    _ => return new_null_array(&c.ty.arrow(), 1),
                };
                arrow::compute::cast(&values, &c.ty.arrow()).unwrap()
            })
            .collect();
        let batch = RecordBatch::try_new(def.schema(), columns).unwrap();
        runtime.block_on(async {
            let log = store.table(def);
            let file = log.write_file("2026-01-02", &[batch]).await.unwrap();
            let commit =
                tapio_store::Commit { add: vec![file], data_change: true, ..Default::default() };
            log.commit(commit).await.unwrap();
        });
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let home = tempfile::tempdir().unwrap();
    let mut child = tapio(home.path())
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let status = wait(&mut child);
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!((status.code(), err.as_str()), (Some(0), ""));
}
