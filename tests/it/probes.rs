//! Linear probing: against scikit-learn's logistic regression, and what a run and `cmaec eval` make of it.

use cmae::eval::Features;
use cmae::eval::knn::accuracy;
use cmae::eval::linear::{Classifiers, Course, Normalised, Rate, train};
use cmae::eval::logistic::fit;
use cmae::train::Ended;
use cmae::verify::file::{Fixture, Values};

use crate::cases::good;
use crate::command::run;
use crate::judged_runs;
use crate::judging::{program_of, temporary};
use crate::runs::{metrics, text, weights};

/// Of `knn_linear`: features that are trained on, those that are classified, and labels of both.
pub struct Digits {
    pub file: Fixture,
    pub known: Features,
    pub asked: Features,
    pub labels: Vec<i64>,
}

impl Digits {
    pub fn read() -> Digits {
        let path = crate::command::root("tests/golden/knn_linear.safetensors");
        let file = Fixture::read(&path).expect("it is in the repository");
        let train = file.config.lookup("train").expect("in its config").as_u64().expect("a count") as usize;
        let all: Vec<f32> = floats(&file, "input.features").iter().map(|&x| x as f32).collect();
        let labels = ints(&file, "input.labels");
        let dim = all.len() / labels.len();
        let known = Features { rows: train, dim, data: all[..train * dim].to_vec() };
        let asked = Features { rows: labels.len() - train, dim, data: all[train * dim..].to_vec() };
        Digits { file, known, asked, labels }
    }

    pub fn labels(&self) -> (&[i64], &[i64]) {
        self.labels.split_at(self.known.rows)
    }
}

pub fn floats(file: &Fixture, name: &str) -> Vec<f64> {
    file.tensor(name).expect("the fixture holds it").values.to_f64()
}

pub fn ints(file: &Fixture, name: &str) -> Vec<i64> {
    match &file.tensor(name).expect("the fixture holds it").values {
        Values::Int(values) => values.clone(),
        Values::Float(_) => panic!("{name} is float"),
    }
}

fn converged(digits: &Digits) -> Classifiers {
    fit(&digits.known, digits.labels().0, 10, |_| Ok::<(), ()>(())).expect("nobody stops it")
}

#[test]
fn logistic_regression_agrees_with_the_fixture() {
    let digits = Digits::read();
    let found = converged(&digits);
    for (name, values) in [("expect.linear_weight", &found.weight), ("expect.linear_bias", &found.bias)] {
        for (value, expected) in values.iter().zip(floats(&digits.file, name)) {
            assert!((f64::from(*value) - expected).abs() <= 1e-4, "{name}: {value}, expected {expected}");
        }
    }
    let predictions = found.predictions(&digits.asked).remove(0);
    let probabilities = floats(&digits.file, "expect.linear_probabilities");
    let expected = ints(&digits.file, "expect.linear_predictions");
    for (row, (found, expected)) in predictions.iter().zip(&expected).enumerate() {
        let mut of_row = probabilities[row * 10..(row + 1) * 10].to_vec();
        of_row.sort_by(f64::total_cmp);
        assert!(found == expected || of_row[9] - of_row[8] < 1e-3, "row {row}: {found}, expected {expected}");
    }
    let expected = digits.file.config.lookup("accuracy.linear").expect("in its config").as_f64();
    assert_eq!(Some(accuracy(&predictions, digits.labels().1)), expected);
}

fn rate(learning_rate: f64) -> Rate {
    Rate { learning_rate, weight_decay: 0.0 }
}

#[test]
fn sgd_comes_near_the_converged_fit() {
    let mut digits = Digits::read();
    let of_converged = accuracy(&converged(&digits).predictions(&digits.asked)[0], digits.labels().1);
    let by = Normalised::by(&digits.known);
    by.apply(&mut digits.known);
    by.apply(&mut digits.asked);
    let rates = [0.01, 0.1, 1.0].map(rate);
    let course = Course { epochs: 90, batch_size: 64 };
    let told = std::cell::Cell::new(0);
    let epoch = |done| {
        told.set(done);
        Ok::<(), ()>(())
    };
    let found = train(&digits.known, digits.labels().0, 10, (&rates, course), epoch).expect("nobody stops it");
    assert_eq!(told.get(), 90);
    let shares = found.predictions(&digits.asked).into_iter().map(|found| accuracy(&found, digits.labels().1));
    let best = shares.fold(0.0, f64::max);
    assert!((best - of_converged).abs() <= 0.02, "{best}, the converged one has {of_converged}");
}

/// Neither threads nor neighbours change a bit; a rate that is too large for its features spoils none but its own.
#[test]
fn a_classifier_hangs_on_nothing_beside_it() {
    let digits = Digits::read();
    // More classes than lie in one part, so that a part holds those of two classifiers.
    let labels: Vec<i64> =
        digits.labels().0.iter().enumerate().map(|(row, label)| label + 10 * (row as i64 % 9)).collect();
    let course = Course { epochs: 3, batch_size: 50 };
    let made = |threads: usize, rates: &[Rate]| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be had");
        pool.install(|| {
            train(&digits.known, &labels, 90, (rates, course), |_| Ok::<(), ()>(())).expect("nobody stops it")
        })
    };
    let decayed = Rate { learning_rate: 0.1, weight_decay: 0.01 };
    let rates = [rate(0.1), decayed, rate(1e30)];
    let together = made(1, &rates);
    assert_eq!(made(3, &rates).predictions(&digits.asked), together.predictions(&digits.asked));
    let weights = 90 * digits.known.dim;
    for (at, rate) in rates[..2].iter().enumerate() {
        let alone = made(3, &[*rate]);
        assert!(alone.weight == together.weight[at * weights..(at + 1) * weights], "{rate:?}");
    }
    assert!(together.weight[..weights] != together.weight[weights..2 * weights], "decay does something");
    let fits = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be had");
        pool.install(|| converged(&digits))
    };
    assert_eq!(fits(1), fits(3));
}

const JUDGED: [&str; 3] =
    ["train.epochs=1", "evaluate.knn=knn(features, k: [3, 1], every: 2 steps)", "train.checkpoint_every=100 epochs"];

/// Several values are judged side by side, each by its name; a run that is left within a probe is taken up again to the same bytes.
#[test]
fn several_evaluations_stand_side_by_side_and_are_taken_up_again() {
    let out = temporary();
    good(out.path());
    let (train_folder, val) = (out.path().join("good/train"), out.path().join("good/val"));
    let file = out.path().join("probed.cmae");
    let evaluations = "use pipeline std::quickstart\n\npipeline probed = quickstart with {\n  \
         add evaluate.cls = linear(encoded.cls, learning_rates: [0.1, 1], epochs: 3, every: 4 steps)\n  \
         add evaluate.few = linear(train_limit: 50%, solver: \"exact\", every: 2 steps)\n}\n";
    std::fs::write(&file, evaluations).expect("it is ours");
    let program = program_of(&file, &train_folder, &val, &JUDGED);
    let whole = out.path().join("whole");
    let (ended, said) = judged_runs::train(&program, &whole, false, 0, || ());
    assert_eq!(ended.expect("nothing goes wrong"), Ended::Finished);
    let line = said.iter().find(|line| line.starts_with("after 1 epochs: ")).expect("it is told");
    for part in [
        "kNN accuracy ",
        "k = 3: ",
        "k = 1: ",
        "; cls accuracy ",
        "learning rate ",
        "; few accuracy ",
        "train 18 of 36",
    ] {
        assert!(line.contains(part), "`{part}` is missing: {line}");
    }
    let evaluated = |run: &std::path::Path| -> Vec<serde_json::Value> {
        metrics(run).into_iter().filter(|line| line.get("evaluation").is_some()).map(timeless).collect()
    };
    let lines = evaluated(&whole);
    // After two steps those of that period alone.
    assert!(
        lines[0]["evaluation"].get("cls_accuracy").is_none() && lines[1]["evaluation"].get("cls_accuracy").is_some()
    );
    let figures = &lines[1]["evaluation"];
    for name in [
        "knn_accuracy",
        "knn_accuracy_k3",
        "knn_accuracy_k1",
        "cls_accuracy",
        "cls_accuracy_lr0.1",
        "cls_accuracy_lr1",
        "cls_accuracy_untrained",
        "cls_accuracy_raw_pixels",
        "cls_learning_rate",
        "cls_effective_rank",
        "few_accuracy",
        "few_train_pictures",
        "effective_rank",
        "uniformity",
    ] {
        assert!(figures[name].as_f64().is_some_and(f64::is_finite), "{name}: {figures}");
    }
    assert_eq!(figures["knn_accuracy"], figures["knn_accuracy_k3"], "the first is the one that goes on");
    let taken = out.path().join("taken up");
    let (ended, _) = judged_runs::leave(&program, &taken, ("linear probing", 36));
    assert_eq!(ended, Ended::Stopped { step: 2 });
    let (ended, _) = judged_runs::train(&program, &taken, false, 0, || ());
    assert_eq!(ended.expect("nothing goes wrong"), Ended::Finished);
    assert!(weights(&whole) == weights(&taken));
    assert_eq!(lines, evaluated(&taken));
}

/// A line without the moment it was written at.
fn timeless(mut line: serde_json::Value) -> serde_json::Value {
    line.as_object_mut().expect("a line is an object").remove("wall_time");
    line
}

#[test]
fn a_run_is_probed_by_the_command() {
    let out = temporary();
    let folder = crate::cases::trained(out.path());
    let probe = |more: &[&str]| run(&[&["eval", "linear", text(&folder)], more].concat());
    let sgd = ["--epochs", "3", "--learning-rates", "0.1,1"];
    let (code, stdout, stderr) = probe(&sgd);
    assert_eq!(code, 0, "{stderr}");
    for part in [
        "linear probing accuracy, 3 epochs of batches of 256",
        "this run ",
        "untrained encoder ",
        "raw pixels ",
        "learning rate 1 ",
    ] {
        assert!(stdout.contains(part), "`{part}` is missing: {stdout}");
    }
    let (code, stdout, _) = probe(&[&sgd[..], &["--train-limit", "50%", "--json"]].concat());
    let figures: serde_json::Value = serde_json::from_str(&stdout).expect("it is JSON");
    assert_eq!((code, &figures["train_pictures"]), (0, &serde_json::json!(18)), "{figures}");
    assert!(figures["linear_accuracy_lr0.1"].is_f64() && figures["learning_rate"].is_f64(), "{figures}");
    let (code, stdout, _) = probe(&["--solver", "exact"]);
    assert!(code == 0 && stdout.contains("logistic regression"), "{stdout}");
    for (wrong, said) in [
        (&["--learning-rates", "0"][..], "a learning rate is 0"),
        (&["--solver", "exact", "--epochs", "3"], "--epochs is of --solver sgd"),
        (&["--epochs", "0"], "are from 1"),
        (&["--of", "cls"], "`evaluate` has no `cls`"),
    ] {
        let (code, _, stderr) = probe(wrong);
        assert!(code == 1 && stderr.contains(said), "{wrong:?}: {stderr}");
    }
}
