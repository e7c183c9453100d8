//! What `check` and `run` warn of, with the numbers of the run.

use std::path::Path;

use cmae::diag::{Code, Diagnostics, Severity, render};
use cmae::elab::Set;
use cmae::graph::outlook::{Remark, outlook};
use cmae::source::Sources;

use crate::command::{root, run};

/// What is to be told of the quickstart with `sets`, on `pictures` pictures.
fn remarks(sets: &[&str], pictures: Option<usize>) -> Vec<Remark> {
    let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::default());
    let sets: Vec<Set> = sets.iter().map(|set| (*set).into()).collect();
    let path = root("pipelines/quickstart.cmae");
    match cmae::compile(&mut sources, &mut diagnostics, Path::new(&path), &sets) {
        Ok(compiled) => outlook(&compiled.program, pictures),
        Err(_) => panic!("{}", render(diagnostics.list(), &sources, false)),
    }
}

/// Asserts that one thing is told, of this kind and with these words.
fn told(sets: &[&str], pictures: Option<usize>, code: Code, words: &[&str]) {
    let found = remarks(sets, pictures);
    let [remark] = found.as_slice() else { panic!("{sets:?}: {found:?}") };
    assert_eq!(remark.code, code, "{remark:?}");
    assert_eq!(remark.code.severity(), Severity::Warning);
    for word in words {
        assert!(remark.message.contains(word) || remark.help.contains(word), "`{word}` is missing: {remark:?}");
    }
}

fn silent(sets: &[&str], pictures: Option<usize>) {
    assert_eq!(remarks(sets, pictures), [], "{sets:?} on {pictures:?} pictures");
}

#[test]
fn pictures_that_no_batch_takes() {
    let words = ["4 of 20", "batch of 16", "20.0 %", "batch_size = 10`"];
    told(&["data.batch_size=16", FLAT], Some(20), Code::PicturesUnseen, &words);
    let accumulated = ["data.batch_size=16", "train.micro_batch=8", FLAT];
    told(&accumulated, Some(20), Code::PicturesUnseen, &["4 of 20", "batch_size = 10`"]);
    told(&["data.batch_size=16"], Some(15), Code::NoStep, &["15 pictures", "16"]);
    // A tenth is where it begins: 2 of 20 is told, 1 of 17 is not.
    told(&["data.batch_size=9"], Some(20), Code::PicturesUnseen, &["2 of 20", "10.0 %"]);
    silent(&["data.batch_size=16", FLAT], Some(17));
    silent(&["data.batch_size=16"], Some(32));
    silent(&["data.batch_size=16"], None);
}

/// A rate that is no concern of a test.
const FLAT: &str = "train.learning_rate=1e-3";

#[test]
fn rates_of_zero() {
    // One step an epoch: the warm-up's first one is at zero.
    told(&[], Some(64), Code::RateOfZero, &["epoch 1 trains nothing", "its only step"]);
    silent(&[], Some(128));
    silent(&["train.learning_rate=cosine(base: 1e-3, warmup: 10%, warmup_from: 1%)"], Some(64));
    // By epochs the first one is at zero, however many steps it has.
    let by_epoch = "train.learning_rate=cosine(base: 1e-3, warmup: 3 epochs, by: \"epoch\")";
    told(&[by_epoch], None, Code::RateOfZero, &["epoch 1 trains nothing"]);
    told(&[by_epoch], Some(640), Code::RateOfZero, &["all of its 10 steps"]);
    told(&["train.learning_rate=0"], None, Code::RateOfZero, &["trains nothing"]);
    // A cosine that arrives early leaves the rest of the run at nothing.
    let early = ["train.epochs=10", "train.learning_rate=cosine(base: 1e-3, over: 50%)"];
    told(&early, Some(640), Code::RateOfZero, &["epoch 6 trains nothing"]);
    silent(&["train.learning_rate=cosine(base: 1e-3)"], Some(64));
}

#[test]
fn what_the_end_of_the_run_cuts_off() {
    let long = "train.learning_rate=cosine(base: 2.4e-3, warmup: 40 epochs)";
    for pictures in [None, Some(6400)] {
        let words = ["40 epochs", "10 epochs", "6.0e-4 of 2.4e-3"];
        told(&["train.epochs=10", long], pictures, Code::WarmupUnfinished, &words);
        silent(&["train.epochs=41", long], pictures);
    }
    // Steps are compared where they are counted.
    let steps = "train.learning_rate=cosine(base: 1e-3, warmup: 1000 steps)";
    silent(&[steps], None);
    let words = ["1000 steps", "100 steps", "1.0e-4 of 1.0e-3"];
    told(&["train.epochs=10", steps], Some(640), Code::WarmupUnfinished, &words);
    silent(&["train.epochs=101", steps], Some(640));

    let slow = "model.momentum.momentum=ramp(0.9, 1.0, over: 60 epochs, cosine: false)";
    let words = ["`momentum`", "60 epochs", "30 epochs", "0.950 instead of 1.000"];
    told(&[slow], None, Code::ScheduleUnfinished, &words);
    // The whole run is the default, and a share past it is written by who wants that.
    silent(&["model.momentum.momentum=ramp(0.9, 1.0)"], None);
    silent(&["model.momentum.momentum=ramp(0.9, 1.0, over: 125%)"], None);
    let cold = "losses.contrastive=op::mean(online.query) / ramp(0.04, 0.08, over: 40 epochs, cosine: false)";
    told(&[cold], None, Code::ScheduleUnfinished, &["`contrastive`", "40 epochs", "0.070 instead of 0.080"]);
    let decay = "train.optimizer=adamw(weight_decay: ramp(0.04, 0.4, over: 31 epochs))";
    told(&[decay], None, Code::ScheduleUnfinished, &["weight_decay", "31 epochs"]);
    let milestones = "train.learning_rate=steps(base: 1e-3, at: [10 epochs, 700 epochs])";
    told(&[milestones], None, Code::NeverReached, &["700 epochs", "30 epochs"]);
    silent(&["train.learning_rate=steps(base: 1e-3, at: [10 epochs, 29 epochs])"], None);
    // What happens now and then need not happen.
    silent(&["evaluate.knn.every=50 epochs", "train.checkpoint_every=50 epochs"], None);
}

#[test]
fn check_and_run_warn_and_go_on() {
    let file = "pipelines/quickstart.cmae";
    let long = ["--set", "train.epochs=2", "--set", "train.learning_rate=cosine(base: 2.4e-3, warmup: 40 epochs)"];
    let with = |first: &[&str], more: &[&str]| run(&[first, &long, more].concat());
    let (code, out, err) = with(&["check", file], &[]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("quickstart.cmae: ok"), "{out}");
    assert!(err.contains("warning: the warm-up of") && err.contains("warning::warmup_unfinished"), "{err}");
    let (code, out, err) = with(&["check", file], &["--deny", "warnings"]);
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(err.contains("warning: the warm-up of"), "{err}");
    let (code, out, _) = with(&["check", "--json", file], &[]);
    assert_eq!(code, 0);
    let told: serde_json::Value = serde_json::from_str(&out).expect("one object");
    let named = (told["severity"].as_str(), told["code"].as_str());
    assert_eq!(named, (Some("warning"), Some("warning::warmup_unfinished")));
    let (code, out, err) = run(&["check", "--deny", "warnings", file]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");

    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("run").display().to_string();
    let mut arguments = vec!["run", file, "--out", &out];
    let sets = [
        "train.epochs=1",
        "data.batch_size=16",
        "data.channels=3",
        "data.train=shapes(\"train\", count: 20, size: 16px)",
        "data.val=shapes(\"val\", count: 20, size: 16px)",
        "evaluate.knn.k=1",
    ];
    sets.iter().for_each(|set| arguments.extend(["--set", *set]));
    let (code, _, err) = run(&arguments);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("4 of 20 pictures of `data.train`"), "{err}");
    assert!(err.contains("warning::rate_of_zero"), "{err}");
}
