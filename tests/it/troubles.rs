//! `docs/troubles.md`: what a run says when it cannot go on, as it is printed; `UPDATE_EXPECT=1` writes the messages anew. And that a
//! run can be taken up again wherever the disk failed it.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use cmae::backend::Compute;
use cmae::graph::Program;
use cmae::run::RunFolder;
use cmae::run::disk::Disk;
use cmae::train::{Ended, SessionError, SessionOptions, StepLine, Watch, session};

use crate::cases::{flat, good};
use crate::checkpoints::{FAULTS, Failing, Fault};
use crate::command::{cmaec, root, run};
use crate::methods::compile;
use crate::pictures::write_folder;
use crate::runs::{SMALL, losses, text, weights, with};
use crate::{judged_runs, judging};

/// Keeps what is said.
#[derive(Default)]
struct Lines(Vec<String>);

impl Watch for Lines {
    fn begin(&mut self, _: u64, _: u64, _: usize) {}
    fn step(&mut self, _: &StepLine<'_>) {}
    fn say(&mut self, line: &str) {
        self.0.push(line.to_owned());
    }
    fn asked_to_stop(&self) -> bool {
        // Nothing that is told later is asked for.
        self.0.iter().any(|line| line.contains("stands where it began"))
    }
    fn end(&mut self) {}
}

/// Three steps, each with its checkpoint.
fn program() -> Program {
    small(&["train.epochs=0.07", "train.checkpoint_every=1 steps"])
}

fn small(more: &[&str]) -> Program {
    let sets = ["image_size=16px", "model.encoder.embed_dim=16", "model.encoder.depth=1", "data.batch_size=32"];
    compile("quickstart", &sets.iter().chain(more).map(|set| (*set).to_owned()).collect::<Vec<_>>())
}

fn train(program: &Program, out: &Path, disk: Option<Arc<dyn Disk>>) -> (Result<Ended, SessionError>, Vec<String>) {
    let folder = RunFolder::open_for_training(out, true).expect("nobody holds it");
    let folder = match disk {
        Some(disk) => folder.on(disk),
        None => folder,
    };
    let backend = f32::backend("cpu").expect("every build has it");
    let options = SessionOptions {
        threads: 1,
        resume: true,
        accept_changes: false,
        imports: Vec::new(),
        with: Vec::new(),
        overrides: Vec::new(),
        ranks: cmae::ranks::alone(),
    };
    let mut lines = Lines::default();
    let ended = session::run(program, "pipeline", backend, Some(&folder), &options, &mut lines);
    (ended, lines.0)
}

#[test]
fn wherever_the_disk_fails_a_run_it_can_be_taken_up_again() {
    fails(2);
}

#[test]
#[ignore = "two minutes: every operation, of which the suite takes every second"]
fn wherever_the_disk_fails_at_all_a_run_it_can_be_taken_up_again() {
    fails(1);
}

/// A fault at every `stride`th operation of a whole run, of the kinds in turn: it tells, and the run is taken up again to the same bytes.
fn fails(stride: usize) {
    let program = program();
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let whole = temporary.path().join("whole");
    let sound = Failing::new(Fault::Error, usize::MAX);
    let (ended, _) = train(&program, &whole, Some(sound.clone()));
    assert_eq!(ended.expect("the disk is sound"), Ended::Finished);
    let operations = sound.done.load(Ordering::SeqCst);
    assert!(operations > 40, "{operations} operations");
    for at in (0..operations).step_by(stride) {
        let fault = FAULTS[at / stride % FAULTS.len()];
        let out = temporary.path().join(format!("run-{at}"));
        let (ended, said) = train(&program, &out, Some(Failing::new(fault, at)));
        match ended {
            // Nothing that a full disk hinders came after.
            Ok(_) => assert_eq!(fault, Fault::NoSpace, "at {at}"),
            Err(error) => {
                let error = error.to_string();
                assert!(error.starts_with("cannot "), "{fault:?} at {at}: {error}");
                let saved = out.join("last").is_file();
                assert!(!saved || said.iter().any(|line| line.contains("is kept in")), "{fault:?} at {at}: {said:?}");
            }
        }
        let (ended, said) = train(&program, &out, None);
        assert_eq!(ended.unwrap_or_else(|error| panic!("{fault:?} at {at}: {error}")), Ended::Finished);
        assert!(!said.iter().any(|line| line.contains("damaged")), "{fault:?} at {at}: {said:?}");
        assert!(weights(&whole) == weights(&out), "{fault:?} at {at}: the weights differ");
        assert_eq!(losses(&whole), losses(&out), "{fault:?} at {at}");
        fs::remove_dir_all(&out).expect("it is ours");
    }
}

/// What the last lines of a run say, with `paths` called what readers call them.
fn last_lines(said: &str, count: usize, paths: &[(&Path, &str)]) -> String {
    let lines: Vec<&str> = said.trim_end().lines().collect();
    let text = lines[lines.len().saturating_sub(count)..].join("\n");
    paths.iter().fold(text, |text, (path, name)| text.replace(&path.display().to_string(), name))
}

fn when_the_loss_is_no_number(out: &Path) -> String {
    let more = ["--out", text(out), "--set", "train.learning_rate=1e30", "--set", "train.checkpoint_every=1 steps"];
    let (code, _, said) = run(&with(&SMALL, &more));
    assert_eq!(code, 1, "{said}");
    last_lines(&said, 2, &[(out, "runs/quickstart")])
}

fn when_the_disk_is_full(out: &Path) -> String {
    // As the second checkpoint is written.
    let (ended, said) = train(&program(), out, Some(Failing::new(Fault::NoSpace, 24)));
    let error = ended.expect_err("the disk is full");
    last_lines(&format!("{}\n{error}", said.join("\n")), 2, &[(out, "runs/quickstart")])
}

fn when_the_pictures_are_gone(out: &Path, data: &Path) -> String {
    write_folder(data, 28);
    let source = format!("image_folder(\"{}\")", text(data));
    let sets = [
        format!("data.train={source}"),
        // Digits are of other classes than rows and columns.
        "evaluate.knn=none".to_owned(),
        "data.channels=3".to_owned(),
        "data.batch_size=8".to_owned(),
        "train.epochs=100000".to_owned(),
        "train.checkpoint_every=1 steps".to_owned(),
        "views.online=master |> crop(image_size, at: (0px, 0px)) |> normalize(imagenet)".to_owned(),
        "views.target=master |> random_shift(image_size, by: 0px..max_shift) |> normalize(imagenet)".to_owned(),
        "views.eval=resize(image_size) |> center_crop(image_size) |> normalize(imagenet)".to_owned(),
    ];
    let mut arguments = with(&SMALL, &["--out", text(out)]);
    sets.iter().for_each(|set| arguments.extend(["--set", set.as_str()]));
    let child = cmaec(&arguments).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the binary is there");
    let start = Instant::now();
    while !out.join("last").is_file() {
        assert!(start.elapsed() < Duration::from_secs(60), "the run does not start");
        std::thread::sleep(Duration::from_millis(5));
    }
    fs::rename(data, data.with_extension("away")).expect("it is ours");
    let output = child.wait_with_output().expect("it is ours");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let start = said.rfind("the checkpoint after step").unwrap_or_else(|| panic!("{said}"));
    last_lines(&said[start..], usize::MAX, &[(out, "runs/quickstart"), (data, "data/pictures")])
}

/// What a run on `pictures` with two epochs says at its end; `then` happens after the fourth of its eight steps.
fn when(out: &Path, pictures: &Path, then: impl FnOnce()) -> String {
    let [train_folder, val] = ["train", "val"].map(|split| pictures.join("good").join(split));
    let more = ["train.epochs=2", "evaluate.knn.every=1 epochs", "evaluate.reconstructions=none"];
    let program = judging::program(&train_folder, &val, &more);
    let (ended, said) = judged_runs::train(&program, out, false, 4, then);
    let error = ended.err().map(|error| match error {
        SessionError::Data { error, .. } => {
            let help = error.help().map(|help| format!("\nhelp: {help}")).unwrap_or_default();
            format!("\n{error}{help}")
        }
        error => format!("\n{error}"),
    });
    let text = format!("{}{}", said.join("\n"), error.unwrap_or_default());
    last_lines(&text, 4, &[(out, "runs/quickstart"), (pictures, "data")])
}

fn when_an_evaluation_fails(out: &Path, pictures: &Path) -> String {
    good(pictures);
    let val = pictures.join("good/val");
    when(out, pictures, || fs::rename(&val, pictures.join("away")).expect("it is ours"))
}

/// After the one above: the pictures are back, and one of them is gone.
fn when_the_pictures_are_others(out: &Path, pictures: &Path) -> String {
    fs::rename(pictures.join("away"), pictures.join("good/val")).expect("it is ours");
    fs::remove_file(pictures.join("good/train/a/03.png")).expect("it is there");
    let text = when(out, pictures, || ());
    let start = text.find("runs/quickstart was trained with").unwrap_or_else(|| panic!("{text}"));
    text[start..].to_owned()
}

fn when_there_are_no_labels(out: &Path, pictures: &Path) -> String {
    flat(pictures);
    let flat = pictures.join("flat/train");
    let program = judging::program(&flat, &flat, &["train.epochs=1", "evaluate.reconstructions=none"]);
    let (ended, said) = judged_runs::train(&program, out, false, 0, || ());
    assert_eq!(ended.unwrap_or_else(|error| panic!("{error}")), Ended::Finished);
    said.into_iter().find(|line| line.starts_with("kNN")).expect("it is told")
}

/// At a rate at which nothing is learned.
fn when_a_loss_does_not_move(out: &Path) -> String {
    let program =
        small(&["train.epochs=5", "train.learning_rate=1e-9", "evaluate.knn=none", "evaluate.reconstructions=none"]);
    let (ended, said) = train(&program, out, None);
    assert!(matches!(ended, Ok(Ended::Stopped { step }) if step < 70), "{said:?}");
    let lines: Vec<String> = said.into_iter().filter(|line| line.starts_with("the loss")).collect();
    lines.join("\n")
}

/// Numbers of steps hang on the moment.
fn without_steps(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("after step ") {
        let (head, tail) = rest.split_at(at + "after step ".len());
        out += head;
        out.push('N');
        rest = tail.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    out + rest
}

#[test]
fn the_page_of_troubles_is_what_runs_say() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| temporary.path().join(name);
    let (judged, pictures) = (path("judged"), path("data"));
    let said = [
        ("The pictures are gone", when_the_pictures_are_gone(&path("gone"), &path("pictures"))),
        ("The disk is full", when_the_disk_is_full(&path("full"))),
        ("The loss is not a number", when_the_loss_is_no_number(&path("nan"))),
        ("An evaluation fails", when_an_evaluation_fails(&judged, &pictures)),
        ("The pictures are others", when_the_pictures_are_others(&judged, &pictures)),
        ("The pictures have no labels", when_there_are_no_labels(&path("flat"), &pictures)),
        ("A loss does not move", when_a_loss_does_not_move(&path("still"))),
    ];
    let page = "docs/troubles.md";
    let mut found = fs::read_to_string(root(page)).expect("the page is there");
    for (title, message) in said {
        let section = found.find(&format!("## {title}\n")).unwrap_or_else(|| panic!("no section {title}"));
        let start = section + found[section..].find("```text\n").expect("a block") + "```text\n".len();
        let end = start + found[start..].find("```").expect("a block that ends");
        found.replace_range(start..end, &format!("{}\n", without_steps(&message)));
    }
    crate::docs::expect(page, &found);
}
