//! Ops together: the training graphs of real pipelines at small sizes, their gradients against finite differences.

use std::path::Path;

use cmae::diag::Diagnostics;
use cmae::elab::Set;
use cmae::graph::{Graph, Program, TensorKind};
use cmae::op::DType;
use cmae::source::Sources;
use cmae::tensor::{HostTensor, InputValue};

use super::case::{agreement, forward, on_each, random, run, with_plugin};

/// Sizes at which a step takes milliseconds: 64 patches, two heads, one layer, and features that no two axes share.
const ENCODER: [&str; 6] = [
    "image_size=32px",
    "patch_size=4px",
    "data.batch_size=3",
    "model.encoder.embed_dim=8",
    "model.encoder.depth=1",
    "model.encoder.num_heads=2",
];
const CMAE: [&str; 9] = [
    "model.pixel_decoder.embed_dim=12",
    "model.pixel_decoder.depth=1",
    "model.pixel_decoder.num_heads=3",
    "model.feature_decoder.embed_dim=4",
    "model.feature_decoder.depth=1",
    "model.feature_decoder.num_heads=1",
    "model.projector.hidden=6",
    "model.projector.out=5",
    "model.predictor.hidden=7",
];
const MAE: [&str; 3] = ["model.decoder.embed_dim=12", "model.decoder.depth=1", "model.decoder.num_heads=3"];

/// A unit step is spread over a whole tensor, so that single values move less than h = 1e-5 and kinks (ReLU) are not crossed.
/// Truncation: h²/6·|f‴| = 1.7e-11·|f‴|. Rounding: the total, of the order of 10, carries some 1e2 ε, which h turns into
/// 1e1·1e2·2.2e-16/1e-5 = 2e-8.
const STEP: f64 = 1e-5;
const TOLERANCE: f64 = 1e-6;

fn program(name: &str, sets: &[&str]) -> Program {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines").join(name);
    let sets: Vec<Set> = sets.iter().map(|text| Set::from(*text)).collect();
    let mut diagnostics = Diagnostics::default();
    match cmae::compile(&mut Sources::default(), &mut diagnostics, &path, &sets) {
        Ok(compiled) => compiled.program,
        Err(_) => panic!("{name}: {:?}", diagnostics.list()),
    }
}

fn inputs(graph: &Graph) -> Vec<(String, InputValue)> {
    let fill = |name: &str, count: usize| random(name, count, 0.0, 1.0).into_iter().map(|v| v as f32).collect();
    let one = |input: &cmae::graph::InputDecl| {
        let (shape, count) = (input.ty.shape.clone(), input.ty.elements());
        let value = match input.ty.dtype {
            DType::Float => InputValue::Float(HostTensor { shape, data: fill(&input.name, count) }),
            DType::Int => InputValue::Int(HostTensor { shape, data: vec![0; count] }),
        };
        (input.name.clone(), value)
    };
    graph.inputs.iter().map(one).collect()
}

fn check(name: &str, sets: &[&str]) -> Vec<String> {
    // A plugin's gradients of whole pipelines are held by `golden`, against PyTorch's.
    with_plugin(false, || on_each(|| check_here(name, sets)))
}

fn check_here(name: &str, sets: &[&str]) -> Vec<String> {
    let program = program(name, sets);
    let (graph, layout) = (&program.train, &program.layout);
    let inputs = inputs(graph);
    // As f32 holds them, so that both precisions start from the same numbers.
    let arena: Vec<f64> = random(name, layout.total_len, -0.4, 0.4).into_iter().map(|v| f64::from(v as f32)).collect();
    let exact = run::<f64>(graph, layout, &arena, &inputs).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut faults = Vec::new();
    for (index, tensor) in layout.tensors.iter().enumerate().filter(|(_, t)| t.kind == TensorKind::Trained) {
        let range = layout.range(index);
        let length = (range.len() as f64).sqrt();
        let signs = random(&tensor.path, range.len(), -1.0, 1.0).into_iter().map(f64::signum);
        let direction: Vec<f64> = signs.map(|s| s / length).collect();
        let total = |by: f64| {
            let mut moved = arena.clone();
            moved[range.clone()].iter_mut().zip(&direction).for_each(|(v, d)| *v += by * d);
            forward(graph, layout, &moved, &inputs)
        };
        let expected = (total(STEP) - total(-STEP)) / (2.0 * STEP);
        let gradient = &exact.gradients[range.clone()];
        let found: f64 = gradient.iter().zip(&direction).map(|(g, d)| g * d).sum();
        let scale = gradient.iter().map(|g| g * g).sum::<f64>().sqrt().max(1.0);
        if (found - expected).abs().partial_cmp(&(TOLERANCE * scale)) != Some(std::cmp::Ordering::Less) {
            faults.push(format!("{name}: slope along {} is {found}, by differences {expected}", tensor.path));
        }
    }
    assert!(exact.gradients.iter().any(|g| *g != 0.0), "{name} has no gradient at all");
    let single: Vec<f32> = arena.iter().map(|v| *v as f32).collect();
    let single = run::<f32>(graph, layout, &single, &inputs).unwrap_or_else(|error| panic!("{name} in f32: {error}"));
    agreement(graph, &exact, &single, &mut faults);
    faults
}

#[test]
fn pipelines_gradients_are_those_of_their_totals() {
    let mut faults = Vec::new();
    for name in ["cmae_vitb.cmae", "cmae_vitb_paper.cmae", "cmae_vitb_byol.cmae"] {
        faults.extend(check(name, &[&ENCODER[..], &CMAE].concat()));
    }
    faults.extend(check("mae_vitb.cmae", &[&ENCODER[..], &MAE].concat()));
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}
