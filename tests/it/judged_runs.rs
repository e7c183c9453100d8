//! Runs that judge: nothing is lost where an evaluation is left or fails, and none goes on with other pictures unless told.

use std::fs;
use std::path::Path;

use cmae::backend::Compute;
use cmae::eval::Pass;
use cmae::graph::Program;
use cmae::run::{Checkpoint, RunFolder};
use cmae::spec::{Duration, EvaluateSpec, Judging};
use cmae::train::{Ended, SessionError, SessionOptions, StepLine, Watch, session};

use crate::cases::good;
use crate::judging::{program, temporary};
use crate::runs::{losses, metrics, weights};

/// What happens after a step: a picture comes, a folder goes.
struct After<F> {
    step: u64,
    then: Option<F>,
    said: Vec<String>,
}

impl<F: FnOnce()> Watch for After<F> {
    fn begin(&mut self, _: u64, _: u64, _: usize) {}
    fn step(&mut self, line: &StepLine<'_>) {
        if line.step == self.step
            && let Some(then) = self.then.take()
        {
            then();
        }
    }
    fn say(&mut self, line: &str) {
        self.said.push(line.to_owned());
    }
    fn asked_to_stop(&self) -> bool {
        false
    }
    fn end(&mut self) {}
}

/// Trains on, and calls `then` after `step`.
pub fn train(
    program: &Program,
    out: &Path,
    accept_changes: bool,
    step: u64,
    then: impl FnOnce(),
) -> (Result<Ended, SessionError>, Vec<String>) {
    let folder = RunFolder::open_for_training(out, true).expect("nobody holds it");
    let backend = f32::backend("cpu").expect("every build has it");
    let (imports, overrides) = (Vec::new(), Vec::new());
    let options = SessionOptions {
        threads: 1,
        resume: true,
        accept_changes,
        imports,
        with: Vec::new(),
        overrides,
        ranks: cmae::ranks::alone(),
    };
    let mut watch = After { step, then: Some(then), said: Vec::new() };
    let ended = session::run(program, "pipeline", backend, Some(&folder), &options, &mut watch);
    (ended, watch.said)
}

/// Asks to leave when a pass over pictures has come so far.
struct Leaving {
    at: (&'static str, usize),
    asked: bool,
    said: Vec<String>,
}

impl Watch for Leaving {
    fn begin(&mut self, _: u64, _: u64, _: usize) {}
    fn step(&mut self, _: &StepLine<'_>) {}
    fn pass(&mut self, pass: &Pass<'_>) {
        assert!(!self.asked, "it goes on: {pass:?}");
        self.asked = pass.what == self.at.0 && pass.done >= self.at.1;
    }
    fn say(&mut self, line: &str) {
        self.said.push(line.to_owned());
    }
    fn asked_to_stop(&self) -> bool {
        self.asked
    }
    fn end(&mut self) {}
}

/// Trains on, and asks to leave when a pass has come so far.
pub fn leave(program: &Program, run: &Path, at: (&'static str, usize)) -> (Ended, Vec<String>) {
    let folder = RunFolder::open_for_training(run, true).expect("nobody holds it");
    let backend = f32::backend("cpu").expect("every build has it");
    let (imports, with, overrides) = (Vec::new(), Vec::new(), Vec::new());
    let options = SessionOptions {
        threads: 1,
        resume: true,
        accept_changes: false,
        imports,
        with,
        overrides,
        ranks: cmae::ranks::alone(),
    };
    let mut watch = Leaving { at, asked: false, said: Vec::new() };
    let ended = session::run(program, "pipeline", backend, Some(&folder), &options, &mut watch);
    (ended.expect("nothing goes wrong"), watch.said)
}

/// Whoever asks to leave while pictures are judged does not wait for the last of them, and loses nothing: the run that is taken up
/// again ends with the same weights and the same lines as one that was left alone.
#[test]
fn an_evaluation_that_is_left_is_made_when_the_run_goes_on() {
    let out = temporary();
    good(out.path());
    let (train_folder, val) = (out.path().join("good/train"), out.path().join("good/val"));
    let sets = ["train.epochs=1", "evaluate.knn.every=2 steps", "train.checkpoint_every=100 epochs"];
    let program = program(&train_folder, &val, &sets);
    let whole = out.path().join("whole");
    let (ended, _) = train(&program, &whole, false, 0, || ());
    assert_eq!(ended.expect("nothing goes wrong"), Ended::Finished);
    for at in [("features of the untrained encoder", 16), ("raw pixels", 72), ("features", 40)] {
        let run = out.path().join(at.0);
        // Once after the step, and once more as the run is taken up.
        for _ in 0..2 {
            let (ended, said) = leave(&program, &run, at);
            assert_eq!((ended, last(&run).as_str()), (Ended::Stopped { step: 2 }, "step-00000002"), "{at:?}");
            assert!(said.iter().all(|line| !line.contains("failed")), "{said:?}");
            assert!(metrics(&run).iter().all(|line| line.get("evaluation").is_none()), "{at:?}");
        }
        let (ended, _) = train(&program, &run, false, 0, || ());
        assert_eq!(ended.expect("nothing goes wrong"), Ended::Finished);
        assert!(weights(&whole) == weights(&run), "{at:?}");
        assert_eq!(losses(&whole), losses(&run), "{at:?}");
    }
    // After the last step too.
    let run = out.path().join("end");
    let mut at_its_end = program.clone();
    let Judging::Knn(knn) = &mut at_its_end.spec.evaluate.evaluations[0].how else { panic!("it is kNN") };
    knn.every = Duration::Share(1.0);
    for _ in 0..2 {
        assert_eq!(leave(&at_its_end, &run, ("features", 1)).0, Ended::Stopped { step: 4 });
    }
    let (ended, _) = train(&at_its_end, &run, false, 0, || ());
    assert_eq!(ended.expect("nothing goes wrong"), Ended::Finished);
    assert!(weights(&whole) == weights(&run));
    assert_eq!(metrics(&run).iter().filter(|line| line.get("evaluation").is_some()).count(), 1);
}

fn last(run: &Path) -> String {
    fs::read_to_string(run.join("last")).expect("a run names its last checkpoint")
}

/// The pictures of `val` go away in the middle of a run and at its end: the step whose evaluation fails is kept, and the run that is
/// taken up again makes the evaluation and ends as one that was left alone.
#[test]
fn an_evaluation_that_fails_loses_no_step() {
    let out = temporary();
    good(out.path());
    let (train_folder, val) = (out.path().join("good/train"), out.path().join("good/val"));
    let away = out.path().join("away");
    let sets = ["train.epochs=2", "evaluate.knn.every=2 steps", "evaluate.reconstructions.every=3 steps"];
    let checkpoints = ["train.checkpoint_every=100 epochs"];
    let program = program(&train_folder, &val, &[&sets[..], &checkpoints].concat());
    let whole = out.path().join("whole");
    let (ended, _) = train(&program, &whole, false, 0, || ());
    assert_eq!(ended.expect("nothing goes wrong"), Ended::Finished);
    for step in [2, 3, 8] {
        let run = out.path().join(format!("run-{step}"));
        let (ended, said) = train(&program, &run, false, step, || fs::rename(&val, &away).expect("it is ours"));
        let error = ended.expect_err("the pictures are gone");
        assert!(error.to_string().contains("good/val"), "{error}");
        assert_eq!(last(&run), format!("step-{step:08}"), "saved before it was judged");
        let call = if step == 2 { "knn" } else { "reconstructions" };
        let kept = format!("the checkpoint after step {step} is kept in");
        for part in [format!("`{call}` of `evaluate` failed"), format!("evaluate.{call}=none"), kept] {
            assert!(said.iter().any(|line| line.contains(&part)), "`{part}` is missing: {said:?}");
        }
        // What is known when it is taken up again is said then.
        let (ended, _) = train(&program, &run, false, 0, || ());
        assert!(ended.expect_err("they are still gone").to_string().contains("does not exist"));
        if step == 2 {
            // It goes on without them.
            let without = out.path().join("without");
            let copied = std::process::Command::new("cp").arg("-r").arg(&run).arg(&without).status();
            assert!(copied.expect("cp is part of every Unix").success());
            let mut deaf = program.clone();
            deaf.spec.evaluate = EvaluateSpec::default();
            let (ended, _) = train(&deaf, &without, false, 0, || ());
            assert_eq!(ended.expect("nothing is judged"), Ended::Finished);
            assert!(weights(&whole) == weights(&without), "evaluation is no part of training");
        }
        fs::rename(&away, &val).expect("it is ours");
        let (ended, said) = train(&program, &run, false, 0, || ());
        assert_eq!(ended.unwrap_or_else(|error| panic!("{step}: {error}\n{said:?}")), Ended::Finished);
        assert!(weights(&whole) == weights(&run), "{step}: the weights differ");
        assert_eq!(losses(&whole), losses(&run), "{step}");
        let names = |run: &Path, folder: &str| {
            let entries = fs::read_dir(run.join(folder)).expect("a run has it");
            entries.map(|entry| entry.expect("it can be read").file_name()).collect::<std::collections::BTreeSet<_>>()
        };
        for folder in ["checkpoints", "reconstructions"] {
            assert_eq!(names(&whole, folder), names(&run, folder), "{step}");
        }
        assert_eq!(
            fs::read(whole.join("best")).expect("it was judged"),
            fs::read(run.join("best")).expect("so was it")
        );
    }
}

#[test]
fn a_run_does_not_go_on_with_other_pictures_unless_told() {
    let out = temporary();
    good(out.path());
    let (train_folder, val) = (out.path().join("good/train"), out.path().join("good/val"));
    let program = program(&train_folder, &val, &["train.epochs=1", "evaluate.reconstructions=none"]);
    let run = out.path().join("run");
    let resumed = |accept| train(&program, &run, accept, 0, || ());
    assert_eq!(resumed(false).0.expect("nothing is wrong"), Ended::Finished);
    assert_eq!(resumed(false).0.expect("nothing has changed"), Ended::Finished);
    let refused = |expected: &[&str]| {
        let said = resumed(false).0.expect_err("it has changed").to_string();
        for part in expected.iter().chain(&["was trained with other pictures", "--accept-changes"]) {
            assert!(said.contains(part), "`{part}` is missing: {said}");
        }
    };
    let (first, other) = (train_folder.join("b/00.png"), train_folder.join("b/0x.png"));
    fs::copy(&first, &other).expect("a temporary folder");
    refused(&["data.train had 36 pictures in 3 classes and has 37 pictures in 3 classes"]);
    fs::remove_file(&first).expect("it is there");
    refused(&["data.train has 36 pictures in 3 classes as before, of other names or in another order: their sum was "]);
    fs::rename(&other, &first).expect("it is ours");
    assert_eq!(resumed(false).0.expect("all is as it was"), Ended::Finished);
    // A class that sorts first moves all labels.
    fs::rename(val.join("c"), val.join("0")).expect("a new name");
    fs::rename(train_folder.join("c"), train_folder.join("0")).expect("a new name");
    refused(&["data.train of its classes `0` are new; of its classes `c` are gone", "data.val of its classes `0`"]);
    let (ended, said) = resumed(true);
    assert_eq!(ended.unwrap_or_else(|error| panic!("{error}")), Ended::Finished);
    let warned = said.iter().filter(|line| line.starts_with("warning: going on although data.")).count();
    assert_eq!(warned, 2, "{said:?}");
    // A checkpoint of a version that did not note them.
    let state = run.join("checkpoints").join(last(&run)).join("state.ron");
    let text = fs::read_to_string(&state).expect("a checkpoint has it");
    let (body, _) = text.rsplit_once("\n// blake3 ").expect("its checksum is its last line");
    let (start, end) =
        (body.find("    sources: [").expect("it notes them"), body.find("    files: [").expect("and these"));
    let older = format!("{}{}", &body[..start], &body[end..]);
    fs::write(&state, cmae::run::checkpoint::sealed(&older)).expect("it can be written");
    let (ended, said) = resumed(false);
    assert_eq!(ended.unwrap_or_else(|error| panic!("{error}")), Ended::Finished);
    assert!(said.iter().any(|line| line.contains("did not note its pictures")), "{said:?}");
    let folder = RunFolder::open(&run).expect("it is a run");
    assert!(Checkpoint::<f32>::load_newest(&folder, &program.layout).is_ok());
}
