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

use crate::command::root;

const FORWARD: &str = "\"__cudnn$fmhaSoftmax\"";
const BACKWARD: &str = "\"__cudnn$fmhaSoftmaxBackward\"";

fn program(path: &Path, precision: &str) -> Program {
    let (mut sources, mut diagnostics) = (Sources::new(), Diagnostics::default());
    let sets = [format!("train.precision={precision}"), "data.batch_size=4".to_owned()];
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

#[test]
#[ignore = "wants NVIDIA's plugin and compiler, which are no part of a build"]
fn the_compiler_for_an_h100_takes_a_step() {
    let found = plugins::find(None).into_iter().find(|found| found.maker == Maker::Nvidia).map(|found| found.path);
    let install = "pip install jax-cuda13-pjrt nvidia-cuda-nvcc nvidia-nvvm";
    let path = found.unwrap_or_else(|| panic!("there is no PJRT plugin of NVIDIA here (help: {install})"));
    let plugin = Plugin::open(&path).unwrap_or_else(|error| panic!("{error}"));
    let target = Target::named("h100").expect("it is known");
    let step = program(&root("pipelines/bench/mae_tiny64.cmae"), "bf16");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let report = offline::compile(&step, &target, &plugin, folder.path()).unwrap_or_else(|error| panic!("{error}"));
    let (forward, backward) = calls(&step, Maker::Nvidia);
    assert_eq!(report.cost.attentions(), (forward + backward) as u64);
    assert!(report.needed() > 0 && report.needed() < target.memory_bytes, "{report:?}");
    assert!(report.cost.total.bytes > 0 && report.cost.total.flops > 0, "{report:?}");
}
