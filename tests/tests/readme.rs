//! The output blocks of README.md are what the commands really print.

use std::{fs, process::Command};

use tapio_tests::{binary, workspace};

/// A line before a block: `<!-- output of: tapio ARGUMENTS -->`.
const MARK: &str = "<!-- output of: tapio ";

#[test]
fn output_blocks_are_real() {
    let text = fs::read_to_string(workspace().join("README.md")).unwrap();
    let mut checked = 0;
    let mut rest = text.as_str();
    while let Some(at) = rest.find(MARK) {
        rest = &rest[at + MARK.len()..];
        let (command, after) = rest.split_once(" -->").unwrap();
        let block = after.split_once("```text\n").unwrap().1.split_once("```").unwrap().0;
        let out = Command::new(binary("tapio"))
            .args(command.split_whitespace())
            .current_dir(workspace())
            .env("NO_COLOR", "1")
            .output()
            .unwrap();
        let printed = String::from_utf8(out.stdout).unwrap();
        assert!(
            printed == block,
            "README: `tapio {command}` prints something else now:\n{printed}\n{}",
            String::from_utf8_lossy(&out.stderr)
        );
        checked += 1;
    }
    assert!(checked >= 2, "README shows {checked} checked outputs");
}

#[test]
fn the_readme_shows_one_command_to_run_and_one_to_test() {
    let text = fs::read_to_string(workspace().join("README.md")).unwrap();
    assert!(text.contains("cargo run -- replay datasets/oom-linear"));
    assert!(text.contains("cargo test --workspace"));
}
