//! Runs the binary as a user does.

use std::path::PathBuf;
use std::process::{Command, Output};

/// `cmaec` in the repository's root, without colour.
pub fn cmaec(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cmaec"));
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).env("NO_COLOR", "1");
    command
}

/// Runs to the end: (exit code, stdout, stderr).
pub fn run(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = cmaec(arguments).output().expect("the binary was built for this test");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (status.code().unwrap_or(-1), text(&stdout), text(&stderr))
}

/// Runs and expects exit code 0; gives stdout.
pub fn succeed(arguments: &[&str]) -> String {
    let (code, stdout, stderr) = run(arguments);
    assert_eq!(code, 0, "cmaec {}\n{stdout}\n{stderr}", arguments.join(" "));
    stdout
}

/// Runs and expects exit code 1 without a panic; gives stderr.
pub fn fail(arguments: &[&str]) -> String {
    let (code, stdout, stderr) = run(arguments);
    assert_eq!(code, 1, "cmaec {}\n{stdout}\n{stderr}", arguments.join(" "));
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr
}

/// A path below the repository's root.
pub fn root(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}
