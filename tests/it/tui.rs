//! `cmaec run --tui` in a terminal and without one; what it draws is held by the unit tests beside it.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::command::{cmaec, fail, on_path, root, tool};
use crate::runs::{SMALL, text, with};

const ENTER: &str = "\u{1b}[?1049h";
const LEAVE: &str = "\u{1b}[?1049l";

#[test]
fn without_a_terminal_it_says_so() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("run");
    let error = fail(&with(&SMALL, &["--out", text(&out), "--tui"]));
    assert!(error.contains("`--tui` needs a terminal") && !out.exists(), "{error}");
}

/// Runs in a terminal of 100 × 30 that `script` makes, with `keys` typed; (exit code, what the terminal was sent).
fn in_terminal(arguments: &[&str], keys: &str) -> (Option<i32>, String) {
    let binary = cmaec(&[]).get_program().to_string_lossy().into_owned();
    let words: Vec<String> = arguments.iter().map(|word| format!("'{word}'")).collect();
    let line = format!("stty cols 100 rows 30; exec '{binary}' {}", words.join(" "));
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .current_dir(root(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("`script` was found");
    let mut stdin = child.stdin.take().expect("it was piped");
    // Typed before the view is there, keys wait in the terminal.
    stdin.write_all(keys.as_bytes()).expect("the terminal takes keys");
    let output = child.wait_with_output().expect("it is ours");
    drop(stdin);
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(target_os = "linux")]
#[test]
fn it_draws_and_gives_the_terminal_back() {
    if tool("script", on_path(&["script"]), "apt-get install bsdutils").is_none() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("run");
    let arguments = with(&SMALL, &["--out", text(&out), "--tui"]);
    let (code, sent) = in_terminal(&with(&arguments, &["--set", "train.epochs=500"]), "q");
    assert_eq!(code, Some(1), "{sent}");
    let (enter, leave) = (sent.find(ENTER), sent.find(LEAVE));
    assert!(enter.is_some() && enter < leave && sent.matches(LEAVE).count() == 1, "{sent:?}");
    let after = leave.map_or("", |at| &sent[at..]);
    for part in ["8 of 16 patches visible", "stopped and saved after step", "--resume"] {
        assert!(after.contains(part), "`{part}` stays in the terminal: {sent:?}");
    }
    assert!(out.join("last").is_file(), "`q` saves");

    // To the end, and what went wrong is told after the view.
    let out = folder.path().join("whole");
    let arguments = with(&SMALL, &["--out", text(&out), "--tui", "--set", "train.epochs=10"]);
    let (code, sent) = in_terminal(&arguments, "");
    assert_eq!(code, Some(0), "{sent}");
    for part in ["contrastive", "learning", "images/s", "saves"] {
        assert!(sent[..sent.find(LEAVE).unwrap_or(0)].contains(part), "`{part}` was not drawn: {sent:?}");
    }
    let again = in_terminal(&arguments, "");
    assert!(again.0 == Some(1) && again.1.contains("holds a run already"), "{}", again.1);
    let broken = folder.path().join("broken");
    let arguments = with(&SMALL, &["--out", text(&broken), "--tui", "--set", "train.learning_rate=1e30"]);
    let (code, sent) = in_terminal(&arguments, "");
    let after = sent.find(LEAVE).map_or("", |at| &sent[at..]);
    assert!(code == Some(1) && after.contains("is not finite"), "{sent:?}");
}
