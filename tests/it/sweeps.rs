//! Sweeps, and the folders that runs without `--out` take.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use cmae::run::Sweep;

use crate::command::{cmaec, root};
use crate::runs::{SMALL, losses, text, weights, with};

/// One step of [`SMALL`].
const SHORT: [&str; 2] = ["--set", "train.epochs=0.1"];

/// `cmaec run` of the quickstart in `folder`.
fn run_in(folder: &Path, more: &[&str]) -> Command {
    let pipeline = root("pipelines/quickstart.cmae");
    let mut arguments = with(&SMALL, more);
    arguments[1] = text(&pipeline);
    let mut command = cmaec(&arguments);
    command.current_dir(folder);
    command
}

/// (exit code, stdout, stderr).
fn output(mut command: Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("the binary is there");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (status.code(), text(&stdout), text(&stderr))
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).map(Iterator::flatten);
    entries.map_or_else(
        |_| BTreeSet::new(),
        |entries| entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect(),
    )
}

fn folders(folder: &Path) -> BTreeSet<String> {
    names(folder).into_iter().filter(|name| folder.join(name).is_dir()).collect()
}

#[test]
fn a_sweep_ends_with_its_table_and_every_start_has_a_folder_of_its_own() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let here = folder.path();
    let values = "train.learning_rate=cosine(base: 1e-3, warmup: 10%),1e-3,1e30";
    let arguments = with(&["--set", "train.epochs=0.3"], &["--sweep", values]);
    let (code, stdout, stderr) = output(run_in(here, &arguments));
    // The last fails, and the others are there all the same.
    assert_eq!(code, Some(1), "{stderr}");
    assert!(
        stderr.contains("is not finite") && stderr.contains("1 of 3 runs failed: train.learning_rate=1e30"),
        "{stderr}"
    );
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{stdout}");
    let width = lines[0].chars().count();
    assert!(lines[..3].iter().all(|line| line.chars().count() == width), "{stdout}");
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>(),
        ["run", "steps", "reconstruction", "contrastive", "kNN"]
    );
    let sweep = here.join("runs/quickstart");
    let recorded = Sweep::read(&sweep).expect("it can be read").expect("the folder is marked");
    assert_eq!(recorded.sweeps, [values]);
    for (line, name) in lines[1..3].iter().zip(&recorded.runs) {
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert_eq!((cells[0], cells[1], cells[5]), (name.as_str(), "3", "%"), "{line}");
        let (_, last) =
            losses(&sweep.join(name)).into_iter().rev().find(|(_, l)| l.contains("contrastive")).expect("a line");
        let last: serde_json::Value = serde_json::from_str(&last).expect("it is JSON");
        assert_eq!(cells[2], format!("{:.4}", last["reconstruction"].as_f64().expect("a number")));
    }
    assert!(sweep.join("report.html").is_file());

    // A second one, and a run, keep out of it.
    let before = names(&sweep);
    let (code, _, stderr) = output(run_in(here, &with(&SHORT, &["--sweep", "mask_ratio=50%,75%"])));
    assert_eq!(code, Some(0), "{stderr}");
    let (code, stdout, stderr) = output(run_in(here, &SHORT));
    assert_eq!((code, stdout.trim()), (Some(0), "runs/quickstart-3"), "{stderr}");
    assert_eq!(names(&sweep), before);
    let all = ["quickstart", "quickstart-2", "quickstart-3"].map(str::to_owned);
    assert_eq!(folders(&here.join("runs")), BTreeSet::from(all));
    for (more, part) in [
        (&["--out", "runs/quickstart"][..], "holds a sweep already"),
        (&["--out", "runs/quickstart-2", "--sweep", "mask_ratio=50%,75%"], "holds a sweep already"),
        (&["--out", "runs/quickstart-3", "--sweep", "mask_ratio=50%,75%"], "holds a run already"),
        (
            &["--out", "runs/quickstart-2", "--sweep", "mask_ratio=60%", "--resume"],
            "holds another sweep: --sweep mask_ratio=50%,75%",
        ),
        (&["--out", "runs/quickstart-3", "--sweep", "mask_ratio=60%", "--resume"], "holds a run, not a sweep"),
        (&["--out", "runs"], "holds others, such as quickstart"),
        (&["--out", "runs/quickstart-3/program.ron"], "is a file, not a folder"),
        (&["--sweep", "mask_ratio=1e-1,10%,0.1"], "the value 0.1 twice"),
        (&["--sweep", "train.learning_rate=1,1.0"], "train the very same"),
    ] {
        let (code, _, stderr) = output(run_in(here, &with(&SHORT, more)));
        assert!(code == Some(1) && stderr.contains(part), "{more:?}: {stderr}");
    }
    assert_eq!(folders(&here.join("runs")).len(), 3);
}

#[test]
fn a_sweep_is_taken_up_again() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [whole, cut] = ["whole", "cut"].map(|name| folder.path().join(name));
    let more = ["--set", "train.epochs=0.5", "--sweep", "mask_ratio=50%,75%"];
    let (code, _, stderr) = output(run_in(folder.path(), &with(&more, &["--out", text(&whole)])));
    assert_eq!(code, Some(0), "{stderr}");
    fs::create_dir(&cut).expect("it is ours");
    let mut child = run_in(folder.path(), &with(&more, &["--out", text(&cut)]))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary is there");
    let second = cut.join("mask_ratio=75%");
    while !second.join("lock").exists() {
        assert!(child.try_wait().expect("it is ours").is_none(), "it ended before its second run");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    child.kill().expect("it is ours");
    child.wait().expect("it is ours");
    // Neither overrides nor sweeps are typed again.
    let pipeline = root("pipelines/quickstart.cmae");
    let mut again = cmaec(&["run", text(&pipeline), "--out", text(&cut), "--resume"]);
    again.current_dir(folder.path());
    let (code, _, stderr) = output(again);
    assert_eq!(code, Some(0), "{stderr}");
    for name in ["mask_ratio=50%", "mask_ratio=75%"] {
        assert!(weights(&whole.join(name)) == weights(&cut.join(name)), "{name}");
    }
}

#[test]
fn starts_in_one_moment_take_different_folders() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let start = |more: &[&str]| {
        let mut command = run_in(folder.path(), &with(&SHORT, more));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary is there")
    };
    let children: Vec<_> =
        (0..4).map(|at| start(if at == 0 { &["--sweep", "mask_ratio=50%,75%"] } else { &[] })).collect();
    let mut taken = BTreeSet::new();
    for child in children {
        let Output { status, stdout, stderr } = child.wait_with_output().expect("it is ours");
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
        let stdout = String::from_utf8_lossy(&stdout).into_owned();
        taken.insert(stdout.lines().last().expect("it names its folder").to_owned());
    }
    let wanted = ["runs/quickstart", "runs/quickstart-2", "runs/quickstart-3", "runs/quickstart-4"];
    assert_eq!(taken, wanted.map(str::to_owned).into());
}

#[test]
fn a_start_that_fails_leaves_nothing_in_the_way() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let missing = ["--set", "data.train=image_folder(\"no/where\")"];
    for more in [&[][..], &["--out", "a/b"], &["--sweep", "mask_ratio=50%,75%"]] {
        let (code, _, stderr) = output(run_in(folder.path(), &with(&missing, more)));
        assert!(code == Some(1) && stderr.contains("no/where"), "{stderr}");
    }
    assert_eq!((folders(&folder.path().join("runs")), folders(&folder.path().join("a"))), Default::default());
    // What was there before stays, and is no hindrance: a log, and what a start that was killed left.
    let out = folder.path().join("mine");
    fs::create_dir(&out).expect("it is ours");
    fs::write(out.join("log.txt"), "").expect("it is ours");
    let (code, ..) = output(run_in(folder.path(), &with(&missing, &["--out", text(&out)])));
    assert_eq!(code, Some(1));
    assert!(out.join("log.txt").is_file());
    fs::write(out.join("program.ron"), "(cut").expect("it is ours");
    let (code, _, stderr) = output(run_in(folder.path(), &with(&SHORT, &["--out", text(&out)])));
    assert_eq!(code, Some(0), "{stderr}");
}

#[cfg(unix)]
#[test]
fn what_it_says_to_go_on_with_goes_on() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let shipped = fs::read_to_string(root("pipelines/quickstart.cmae")).expect("it is in the repository");
    let file = folder.path().join("it's mine.cmae");
    fs::write(&file, shipped).expect("it is ours");
    let out = folder.path().join("a \"run\" of $HOME");
    let mut arguments =
        with(&SMALL, &["--out", text(&out), "--set", "train.learning_rate=cosine(base: 1e-3, warmup: 10%)"]);
    arguments[1] = text(&file);
    let child = cmaec(&with(&arguments, &["--threads", "1", "--set", "train.epochs=6"]))
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary is there");
    while !out.join("last").is_file() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let kill = Command::new("kill").arg("-TERM").arg(child.id().to_string()).status();
    assert!(kill.expect("kill is part of every Unix").success());
    let output = child.wait_with_output().expect("it is ours");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = said.split_once("go on with: ").unwrap_or_else(|| panic!("{said}")).1.trim().to_owned();
    assert!(line.ends_with("--resume --threads 1"), "{line}");
    // Typed as it was printed, but for the end, which would take a while; stopped by the other way out.
    let binary = PathBuf::from(cmaec(&[]).get_program());
    let path = binary.parent().expect("it lies in a folder").to_owned();
    let path = std::env::join_paths(
        [path].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    );
    let again = Command::new("sh")
        .args(["-c", &format!("{line} --set evaluate.knn.k=5")])
        .env("PATH", path.expect("plain folders"))
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&again.stderr);
    assert!(again.status.success(), "{said}");
    assert!(said.contains("resuming after step"), "{said}");
    let started = fs::read_to_string(out.join("started.ron")).expect("a run has it");
    for part in ["cosine(base: 1e-3, warmup: 10%)", "train.epochs=6", "evaluate.knn.k=5", "model.encoder.depth=1"] {
        assert!(started.contains(part), "`{part}` is missing: {started}");
    }
}
