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

/// Every shipped pipeline by its path below `pipelines/`, without the ending: `cmae_vitb`, …, `bench/mae_tiny64`.
pub fn pipelines() -> Vec<String> {
    let mut names = Vec::new();
    for folder in ["", "bench/"] {
        for entry in std::fs::read_dir(root(&format!("pipelines/{folder}"))).expect("it is in the repository") {
            let path = entry.expect("it can be read").path();
            match path.extension() {
                Some(extension) if extension == "cmae" => {
                    names.push(format!("{folder}{}", path.file_stem().expect("it has a name").to_string_lossy()));
                }
                _ => assert!(
                    ["pipelines/bench", "pipelines/studies"].iter().any(|folder| path.ends_with(folder)),
                    "{} is no pipeline",
                    path.display()
                ),
            }
        }
    }
    names.sort_by_key(|name| (name.contains('/'), name.clone()));
    names
}

/// A tool that not every machine has, as the test found it. Where it is missing the test is left out, with a line that says so; where
/// `CI` is set it fails, for there a test that is left out holds nothing.
pub fn tool<T>(name: &str, found: Option<T>, install: &str) -> Option<T> {
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{name} is missing, and CI is set\nhelp: {install}");
        println!("left out: there is no {name} here (help: {install})");
    }
    found
}

/// The first program of these names in the folders of `PATH`.
pub fn on_path(names: &[&str]) -> Option<PathBuf> {
    let folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name))).find(|path| path.is_file())
}

/// Whether tests write what they find in the place of what they expect: with `UPDATE_EXPECT=1`, and never where `CI` is set.
pub fn updates_expected() -> bool {
    let updates = std::env::var_os("UPDATE_EXPECT").is_some();
    assert!(!updates || std::env::var_os("CI").is_none(), "with UPDATE_EXPECT no page can fail: not where CI is set");
    updates
}

/// A path below the repository's root.
pub fn root(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}
