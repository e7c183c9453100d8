//! How much of a batch is computed at once: the largest divisor that there is memory for, and what is told where there is none.

use cmae::backend::{Compute, Footprint, Whose};
use cmae::graph::Program;
use cmae::run::memory::MachineMemory;
use cmae::spec::MicroBatch;
use cmae::train::fit::{Fit, FitError, fit};

use crate::command::{run, succeed};
use crate::methods::compile;

const FILE: &str = "bench/cmae_tiny64";

fn program(sets: &[&str]) -> Program {
    compile(FILE, &sets.iter().map(|set| (*set).to_owned()).collect::<Vec<_>>())
}

fn machine(total: u64, available: u64) -> Option<MachineMemory> {
    Some(MachineMemory { total, available })
}

fn fitted(sets: &[&str], memory: Option<MachineMemory>) -> Result<(Program, Fit), FitError> {
    let mut program = program(sets);
    let mut backend = f32::backend("cpu").expect("every build has it");
    let fit = fit(&mut program, &mut *backend, memory)?;
    Ok((program, fit.expect("the `cpu` backend says what a run takes")))
}

fn footprint(sets: &[&str]) -> Footprint {
    let mut backend = f32::backend("cpu").expect("every build has it");
    backend.footprint(&program(sets)).expect("it is planned").expect("the `cpu` backend says what a run takes")
}

#[test]
fn a_batch_that_fits_is_not_cut() {
    for memory in [None, machine(1 << 40, 1 << 40)] {
        let (program, fit) = fitted(&[], memory).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((fit.micro_batch, program.spec.micro_batches()), (64, 1));
        assert_eq!(program.spec.train.micro_batch, MicroBatch::Of(64));
        assert_eq!((fit.takes.footprint, fit.by_itself), (footprint(&[]), None));
    }
}

/// A machine that has room for 16 samples and not for 32: four fifths of its memory are taken.
#[test]
fn the_largest_micro_batch_that_fits_is_taken() {
    let (_, whole) = fitted(&[], None).unwrap_or_else(|error| panic!("{error}"));
    let [small, large] = ["train.micro_batch=16", "train.micro_batch=32"].map(|set| footprint(&[set]).bytes());
    assert!(small < large, "{small} {large}");
    let total = (f64::midpoint(small as f64, large as f64) as u64 + whole.takes.batches) * 5 / 4;
    let (program, fit) = fitted(&[], machine(total, total)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((fit.micro_batch, fit.by_itself), (16, None));
    assert_eq!(program.spec.batch_text(), "64 in 4 micro-batches of 16");
    assert!(fit.takes.bytes() <= total * 4 / 5);
    // Twice the machine, of which others hold half: what it would take by itself is told.
    let (_, fit) = fitted(&[], machine(1 << 40, total)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((fit.micro_batch <= 32, fit.by_itself), (true, Some(64)));
}

#[test]
fn what_was_chosen_and_does_not_fit_names_what_does() {
    let takes = footprint(&["train.micro_batch=8"]).bytes() + 200_000_000;
    let error = fitted(&["train.micro_batch=64"], machine(takes, takes)).expect_err("it does not fit").to_string();
    assert!(error.starts_with("graph::memory_missing: a batch of 64 takes "), "{error}");
    let help = error.split("(help: --set train.micro_batch=").nth(1).and_then(|rest| rest.strip_suffix(')'));
    let samples: usize = help.and_then(|samples| samples.parse().ok()).unwrap_or_else(|| panic!("{error}"));
    // It is true.
    let set = format!("train.micro_batch={samples}");
    let (_, fit) = fitted(&[&set], machine(takes, takes)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(fit.micro_batch, samples);
    // Not even one sample does.
    let error = fitted(&[], machine(1 << 20, 1 << 20)).expect_err("it does not fit").to_string();
    assert!(error.contains("in micro-batches of 1 takes ") && error.contains("a smaller model"), "{error}");
}

/// dfdx keeps every value for its tape, and as many gradients.
#[test]
fn a_tape_takes_more_than_a_plan() {
    let mut backend = f32::backend("dfdx").expect("every build has it");
    let tape = backend.footprint(&program(&[])).expect("it is counted").expect("it says");
    let plan = footprint(&[]);
    assert!(tape.values > 2 * plan.values && tape.stored == plan.stored, "{tape:?} {plan:?}");
    assert_eq!((tape.memory, plan.memory), (Whose::Machine, Whose::Machine));
}

#[test]
fn the_cost_of_a_run_is_told_before_it() {
    let quick = ["show", "cost", "pipelines/quickstart.cmae", "--threads", "2", "--set", "data.batch_size=8"];
    let text = succeed(&quick);
    for line in [
        "quickstart: batches of 8, ",
        "memory    ",
        "compute   ",
        "data      ",
        "step      ",
        "run       30 epochs of 175 steps, 5250 in all: ",
    ] {
        assert!(text.lines().any(|found| found.starts_with(line)), "`{line}`: {text}");
    }
    let cost: serde_json::Value =
        serde_json::from_str(&succeed(&[&quick[..], &["--json"]].concat())).expect("one line of JSON");
    assert_eq!((cost["pictures"].as_u64(), cost["steps"].as_f64()), (Some(1400), Some(5250.0)));
    let number = |name: &str| cost[name].as_f64().unwrap_or_else(|| panic!("no `{name}`: {cost}"));
    assert!((number("run_seconds") - 5250.0 * number("step_seconds")).abs() < 1e-6 * number("run_seconds"));
    assert_eq!(number("memory_bytes"), number("stored_bytes") + number("values_bytes") + number("batches_bytes"));
    // Nothing has the memory for that.
    let many = [
        "show",
        "cost",
        "pipelines/mae_vitl.cmae",
        "--set",
        "train.micro_batch=131072",
        "--set",
        "data.batch_size=131072",
    ];
    let (code, _, error) = run(&many);
    assert!(code == 1 && error.starts_with("graph::memory_missing: a batch of 131072"), "{error}");
    // A summary is one all the same.
    let (code, text, error) = run(&[&["show", "summary"], &many[2..]].concat());
    assert!(code == 0 && text.contains("\nmemory: ") && error.contains("graph::memory_missing"), "{text}{error}");
}
