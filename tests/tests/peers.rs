//! Other engines read what Tapio writes. Needs the Python packages of `tests/peers/requirements.txt`; `.ci/run` installs
//! them and names the interpreter in TAPIO_TEST_PYTHON.

use std::{path::PathBuf, process::Command, time::Duration};

use tapio_tests::{wait_for, workspace};

use crate::server::Server;

fn python(test: &str) -> Option<PathBuf> {
    let python = std::env::var_os("TAPIO_TEST_PYTHON").map(PathBuf::from);
    if python.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{test} must run in CI");
        eprintln!("SKIPPED: {test}: TAPIO_TEST_PYTHON is not set");
    }
    python
}

fn run(python: &PathBuf, script: &str, args: &[&str]) -> String {
    let script = workspace().join("tests/peers").join(script);
    let out = Command::new(python).arg(script).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    text
}

#[test]
fn deltalake_polars_and_duckdb_read_the_store_and_adbc_the_server() {
    let Some(python) = python("peers") else { return };
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    wait_for("rows", Duration::from_secs(60), || {
        let out = server.json(&["sql", "SELECT count(*) AS n FROM resources"])?;
        out[0]["n"].as_i64().filter(|n| *n > 0)
    });
    run(&python, "adbc_check.py", &[&format!("grpc://{}", server.address)]);
    server.stop();
    let store = dir.path().join("store");
    let counted = run(&python, "read_store.py", &[store.to_str().unwrap()]);
    let out = Command::new(tapio_tests::binary("tapio"))
        .args(["sql", "SELECT count(*) FROM resources", "-o", "csv", "--as-of", "now"])
        .args(["--store", store.to_str().unwrap()])
        .output()
        .unwrap();
    let ours = String::from_utf8(out.stdout).unwrap();
    let ours = ours.lines().nth(1).unwrap();
    for engine in ["deltalake", "polars", "duckdb"] {
        assert!(counted.contains(&format!("{engine} resources {ours}\n")), "{ours}: {counted}");
    }
}
