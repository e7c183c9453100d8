//! Steps for devices that are not here: what the text asks cuDNN for, and that the maker's compiler takes it.
//!
//! ```text
//! pip install jax-cuda13-pjrt nvidia-cuda-nvcc nvidia-nvvm        in the Python environment that is active
//! cargo test --test it xla_offline -- --nocapture
//! ```

use std::path::Path;

use cmae::backend::xla::offline::{self, Target};
use cmae::backend::xla::pjrt::Plugin;
use cmae::backend::xla::plugins::{self, Maker};
use cmae::diag::Diagnostics;
use cmae::graph::Program;
use cmae::op::Op;
use cmae::source::Sources;

use serde::Deserialize;

use crate::command::root;

const FORWARD: &str = "\"__cudnn$fmhaSoftmax\"";
const BACKWARD: &str = "\"__cudnn$fmhaSoftmaxBackward\"";

/// What a step may move, by `tests/xla_budgets.ron`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Budget {
    pipeline: String,
    sets: Vec<String>,
    /// What of it costs so much.
    because: String,
    /// Bytes of our own text: see [`stored`].
    stored_f32: u64,
    stored_bf16: u64,
    /// Of the step that the compiler for an H100 makes of it, where one is held against it.
    h100: Option<Compiled>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Compiled {
    gigabytes: f64,
    modelled_ms: f64,
}

fn budgets() -> Vec<Budget> {
    let text = std::fs::read_to_string(root("tests/xla_budgets.ron")).expect("tests/xla_budgets.ron");
    ron::from_str(&text).unwrap_or_else(|error| panic!("tests/xla_budgets.ron: {error}"))
}

fn program(path: &Path, precision: &str) -> Program {
    with_sets(path, &[format!("train.precision={precision}"), "data.batch_size=4".to_owned()])
}

fn with_sets(path: &Path, sets: &[String]) -> Program {
    let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::default());
    let sets: Vec<_> = sets.iter().map(|text| text.as_str().into()).collect();
    let compiled = cmae::compile(&mut sources, &mut diagnostics, path, &sets);
    compiled.unwrap_or_else(|_| panic!("{:?}", diagnostics.list())).program
}

fn calls(program: &Program, maker: Maker) -> (usize, usize) {
    let text = offline::text(program, maker).unwrap_or_else(|error| panic!("{error}"));
    (text.matches(FORWARD).count(), text.matches(BACKWARD).count())
}

#[test]
fn attentions_of_a_step_in_bf16_are_calls_of_cudnn_and_of_no_other() {
    let path = root("pipelines/bench/mae_tiny64.cmae");
    let step = program(&path, "bf16");
    let attentions = step.train.nodes.iter().filter(|node| matches!(node.op, Op::Attention { .. })).count();
    assert!(attentions > 0);
    assert_eq!(calls(&step, Maker::Nvidia), (attentions, attentions));
    assert_eq!(calls(&step, Maker::Cpu), (0, 0));
    assert_eq!(calls(&program(&path, "f32"), Maker::Nvidia), (0, 0));
}

fn nvidia() -> Plugin {
    let found = plugins::find(None).into_iter().find(|found| found.maker == Maker::Nvidia).map(|found| found.path);
    let install = "pip install jax-cuda13-pjrt nvidia-cuda-nvcc nvidia-nvvm";
    let path = found.unwrap_or_else(|| panic!("there is no PJRT plugin of NVIDIA here (help: {install})"));
    Plugin::open(&path).unwrap_or_else(|error| panic!("{error}"))
}

/// Bytes of a tensor's type in a text: `50432x512xbf16`.
fn bytes(ty: &str) -> (u64, bool) {
    let (axes, scalar) = ty.rsplit_once('x').unwrap_or(("", ty));
    let elements: u64 = axes.split('x').filter_map(|axis| axis.parse::<u64>().ok()).product();
    (elements * if scalar == "bf16" { 2 } else { 4 }, scalar == "bf16")
}

/// Bytes that results of products, of cuDNN's calls and of barriers have in a text; in f32, then in bf16. A product that is rounded
/// with its bias counts in both.
fn stored(text: &str) -> (u64, u64) {
    let ops = ["\"stablehlo.dot_general\"", "\"stablehlo.custom_call\"", "\"stablehlo.optimization_barrier\""];
    let (mut f32, mut bf16) = (0, 0);
    for line in text.lines().filter(|line| ops.iter().any(|op| line.contains(op))) {
        let results = line.rsplit_once("->").expect("an op says what it gives").1;
        for ty in results.split("tensor<").skip(1).filter_map(|rest| rest.split('>').next()) {
            let (bytes, is_bf16) = bytes(ty);
            *if is_bf16 { &mut bf16 } else { &mut f32 } += bytes;
        }
    }
    (f32, bf16)
}

/// In full precision the text is the same for every maker: what is rounded hangs on the precision, not on the device.
#[test]
fn without_bf16_a_step_for_nvidia_is_that_of_all() {
    for precision in ["f32", "f64"] {
        let step = program(&root("pipelines/bench/mae_tiny64.cmae"), precision);
        let [nvidia, other] = [Maker::Nvidia, Maker::Cpu].map(|maker| offline::text(&step, maker).expect("it lowers"));
        assert!(nvidia == other && !nvidia.contains("bf16"), "{precision}");
    }
}

/// Budgets of our own text, which need no compiler. What is over one of them by more than 1 % has become stored, or f32; what is
/// under one by more than 5 % is no longer stored as bf16, or deserves a lower budget.
#[test]
fn a_step_stores_no_more_than_its_budget() {
    let mut broken = Vec::new();
    for budget in budgets() {
        let step = with_sets(&root(&format!("pipelines/{}.cmae", budget.pipeline)), &budget.sets);
        let (f32, bf16) = stored(&offline::text(&step, Maker::Nvidia).expect("it lowers"));
        let (name, sets, because) = (&budget.pipeline, &budget.sets, &budget.because);
        println!("{name} {sets:?}: stored_f32: {f32}, stored_bf16: {bf16}");
        for (what, found, most) in [("f32", f32, budget.stored_f32), ("bf16", bf16, budget.stored_bf16)] {
            if found * 100 > most * 101 || found * 100 < most * 95 {
                broken.push(format!("{name} {sets:?}: {found} bytes of {what}, the budget is {most} ({because})"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
#[ignore = "wants NVIDIA's plugin and compiler, which are no part of a build"]
fn the_compiler_for_an_h100_takes_a_step() {
    let plugin = nvidia();
    let target = Target::named("h100").expect("it is known");
    let step = program(&root("pipelines/bench/mae_tiny64.cmae"), "bf16");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let report = offline::compile(&step, 1, &target, &plugin, folder.path()).unwrap_or_else(|error| panic!("{error}"));
    let (forward, backward) = calls(&step, Maker::Nvidia);
    assert_eq!(report.cost.attentions(), (forward + backward) as u64);
    assert!(report.needed() > 0 && report.needed() < target.memory_bytes, "{report:?}");
    assert!(report.cost.total.bytes > 0 && report.cost.total.flops > 0, "{report:?}");
    // Two machines of two each: the batch and the exchanges of four.
    let several = Program { ranks: 4, ..step };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let spread =
        offline::compile(&several, 2, &target, &plugin, folder.path()).unwrap_or_else(|error| panic!("{error}"));
    assert!(spread.memory.temporary < report.memory.temporary, "{spread:?}");
    let text = std::fs::read_to_string(folder.path().join("step.mlir")).expect("it was written");
    assert!(text.contains("dense<[[0, 1, 2, 3]]> : tensor<1x4xi64>"));
}

#[test]
#[ignore = "wants NVIDIA's plugin and compiler, and minutes"]
fn steps_for_an_h100_keep_to_their_budgets() {
    let (plugin, target) = (nvidia(), Target::named("h100").expect("it is known"));
    for budget in budgets() {
        let Some(most) = &budget.h100 else { continue };
        let step = with_sets(&root(&format!("pipelines/{}.cmae", budget.pipeline)), &budget.sets);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let report =
            offline::compile(&step, 1, &target, &plugin, folder.path()).unwrap_or_else(|error| panic!("{error}"));
        let total = report.cost.total;
        let (gigabytes, ms) = (total.bytes as f64 / 1e9, total.seconds * 1e3);
        println!("{} {:?}: {gigabytes:.1} GB, {ms:.1} ms", budget.pipeline, budget.sets);
        assert!(gigabytes <= most.gigabytes && ms <= most.modelled_ms, "{most:?}: {gigabytes} GB, {ms} ms");
    }
}
