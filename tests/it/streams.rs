//! Runs whose readers or terminals go away: they go on, or save and leave; none dies, and none is left behind.

#![cfg(unix)]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use cmae::run::RunFolder;

use crate::command::{cmaec, on_path, root, tool};
use crate::runs::{SMALL, metrics, text, with};

/// A run that no test waits out.
const ENDLESS: [&str; 2] = ["--set", "train.epochs=5000"];

fn wait_for(what: &str, mut reached: impl FnMut() -> bool) {
    let start = Instant::now();
    while !reached() {
        assert!(start.elapsed() < Duration::from_secs(120), "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn has_begun(out: &Path) -> bool {
    fs::metadata(out.join("metrics.jsonl")).is_ok_and(|metadata| metadata.len() > 0)
}

/// Waits for the end of a process that must end.
fn ended(child: &mut Child) -> ExitStatus {
    let mut status = None;
    wait_for("the run does not end", || {
        status = child.try_wait().expect("it is ours");
        status.is_some()
    });
    status.expect("it has ended")
}

fn signal(child: &Child, name: &str) {
    let kill = Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status();
    assert!(kill.expect("kill is part of every Unix").success());
}

/// A shell's word for each argument, behind `program`.
fn line(program: &str, arguments: &[&str]) -> String {
    let words = arguments.iter().map(|word| cmae::run::shell::word(word));
    std::iter::once(program.to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

fn binary() -> String {
    cmae::run::shell::word(&cmaec(&[]).get_program().to_string_lossy())
}

#[test]
fn a_run_goes_on_when_nobody_reads_what_it_says() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("run");
    let arguments = with(&SMALL, &["--out", text(&out)]);
    let mut child =
        cmaec(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary is there");
    drop((child.stdout.take(), child.stderr.take()));
    assert_eq!(ended(&mut child).code(), Some(0));
    assert_eq!(fs::read_to_string(out.join("last")).expect("it saved"), "step-00000020");

    // As people do it.
    let out = folder.path().join("head");
    let arguments = with(&SMALL, &["--out", text(&out), "--set", "train.epochs=0.5"]);
    let piped = format!("{} 2>&1 | head -n 1", line(&binary(), &arguments));
    let output = Command::new("sh").args(["-c", &piped]).current_dir(root("")).output().expect("a shell");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("quickstart: "), "{output:?}");
    wait_for("the run does not end", || out.join("last").is_file());
}

#[test]
fn no_command_dies_of_a_closed_stderr() {
    for arguments in [&["check", "no/such.cmae"][..], &["run", "no/such.cmae"], &["inspect", "no"], &["export", "no"]] {
        let mut child =
            cmaec(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary is there");
        drop(child.stderr.take());
        let code = ended(&mut child).code();
        assert!(matches!(code, Some(1 | 2)), "{arguments:?}: {code:?}");
    }
}

#[test]
fn a_hangup_saves_and_leaves_however_often_it_comes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("run");
    let arguments = with(&with(&SMALL, &ENDLESS), &["--out", text(&out)]);
    let mut child = cmaec(&arguments).stderr(Stdio::piped()).spawn().expect("the binary is there");
    wait_for("the run does not start", || has_begun(&out));
    // The kernel's and the shell's.
    signal(&child, "HUP");
    signal(&child, "HUP");
    assert_eq!(ended(&mut child).code(), Some(1));
    let output = child.wait_with_output().expect("it is ours");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("stopped and saved after step"), "{said}");
    assert!(out.join("last").is_file());
}

#[test]
fn a_hangup_that_is_ignored_stays_so() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("run");
    let arguments = with(&SMALL, &["--out", text(&out)]);
    // What `nohup` does.
    let ignoring = format!("trap '' HUP; exec {}", line(&binary(), &arguments));
    let mut child = Command::new("sh")
        .args(["-c", &ignoring])
        .current_dir(root(""))
        .stderr(Stdio::null())
        .spawn()
        .expect("every Unix has a shell");
    wait_for("the run does not start", || has_begun(&out));
    signal(&child, "HUP");
    assert_eq!(ended(&mut child).code(), Some(0), "the run goes on");
    assert_eq!(metrics(&out).iter().filter_map(|line| line["step"].as_u64()).max(), Some(20));
}

/// Starts `line` in a terminal that `script` makes, and takes the terminal away once the run has begun.
fn without_its_terminal(line: &str, out: &Path) {
    let mut terminal = Command::new("script")
        .args(["--quiet", "--return", "--command", &format!("stty cols 100 rows 30; {line}"), "/dev/null"])
        .current_dir(root(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("`script` was found");
    wait_for("the run does not start", || has_begun(out));
    terminal.kill().expect("it is ours");
    terminal.wait().expect("it is ours");
    let in_use = || RunFolder::open(out).is_ok_and(|folder| folder.in_use());
    wait_for("the run holds its folder for ever", || !in_use());
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_that_goes_away_saves_and_leaves_or_is_survived() {
    if tool("script", on_path(&["script"]), "apt-get install bsdutils").is_none() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let step = |out: &Path| -> String { fs::read_to_string(out.join("last")).unwrap_or_else(|_| "nothing".to_owned()) };
    let endless = |out: &Path, view: bool| {
        let view: &[&str] = if view { &["--tui"] } else { &[] };
        line(&binary(), &with(&with(&SMALL, &ENDLESS), &with(&["--out", text(out)], view)))
    };
    // With a view and with lines of progress; and where nobody sends a signal, since the terminal is not the process's own.
    for (name, view, before) in [("tui", true, "exec"), ("lines", false, "exec"), ("other", true, "setsid --wait")] {
        let out = folder.path().join(name);
        without_its_terminal(&format!("{before} {}", endless(&out, view)), &out);
        assert!(step(&out).starts_with("step-"), "{name} saves: {}", step(&out));
    }
    let out = folder.path().join("nohup");
    let arguments = with(&SMALL, &["--out", text(&out), "--tui", "--set", "train.epochs=8"]);
    without_its_terminal(&format!("trap '' HUP; exec {}", line(&binary(), &arguments)), &out);
    assert_eq!(step(&out), "step-00000080", "it goes on to its end");
}
