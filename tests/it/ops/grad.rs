//! Differentiated graphs: what they hold and what they must not.

use std::collections::BTreeSet;

use cmae::diag::Diagnostics;
use cmae::graph::grad::differentiate;
use cmae::graph::{Graph, text};
use cmae::op::Op;
use cmae::source::Sources;

use super::sweep::Build;
use crate::command::{pipelines, root};

/// Every shipped pipeline at its own size: the verifier passes (or `differentiate` would panic), each tensor that the total
/// depends on has its gradient, no other has, and the text form reads back.
#[test]
fn every_pipeline_is_differentiated() {
    for name in pipelines() {
        let path = root(&format!("pipelines/{name}.cmae"));
        let (mut sources, mut diagnostics) = (Sources::default(), Diagnostics::default());
        let Ok(compiled) = cmae::compile(&mut sources, &mut diagnostics, &path, &[]) else {
            panic!("{} does not compile", path.display())
        };
        let (graph, layout) = (&compiled.program.train, &compiled.program.layout);
        let whole = differentiate(graph, layout).expect("it is sound");
        let found: BTreeSet<&str> = whole.gradients.iter().map(|(path, _)| path.as_str()).collect();
        let reached = graph.reached(layout).into_iter().zip(&layout.tensors).filter(|(reached, _)| *reached);
        assert_eq!(found, reached.map(|(_, decl)| decl.path.as_str()).collect(), "{}", path.display());
        assert!(text::parse(&text::print(&whole)).expect("it is a printed graph") == whole);
    }
}

fn backward_ops(graph: &Graph) -> Vec<&'static str> {
    graph.nodes.iter().filter(|node| node.op.is_backward()).map(|node| node.op.name()).collect()
}

#[test]
fn nothing_is_computed_for_a_stopped_branch() {
    let mut build = Build::default();
    let (x, y) = (build.param("x", &[2, 3]), build.param("y", &[2, 3]));
    let online = build.op(Op::Gelu, &[x]);
    let target = build.op(Op::Softmax, &[y]);
    let target = build.op(Op::StopGradient, &[target]);
    let product = build.op(Op::Mul, &[online, target]);
    build.graph.total = Some(build.op(Op::Sum { axes: vec![0, 1], keep: false }, &[product]));
    let (graph, layout) = build.case("stopped".to_owned()).with_total(true);
    let whole = differentiate(&graph, &layout).expect("it is sound");
    assert_eq!(backward_ops(&whole), ["gelu_grad"]);
    assert_eq!(whole.gradients.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), ["x"]);
    // The product's other slope, online · g, is pruned: forward 7 nodes, backward one, its spread, one product and gelu_grad.
    assert_eq!(whole.nodes.len(), graph.nodes.len() + 5, "{}", text::print(&whole));
}

/// Query, key and value are slices of one projection: their gradients are joined, not padded and added.
#[test]
fn slices_side_by_side_are_joined() {
    let mut build = Build::default();
    let x = build.param("x", &[3, 2, 2]);
    let part = |build: &mut Build, i: usize| build.op(Op::Slice { axis: 0, start: i, end: i + 1 }, &[x]);
    let parts = [2, 0, 1].map(|i| part(&mut build, i));
    let product = build.op(Op::Mul, &[parts[0], parts[1]]);
    let product = build.op(Op::Mul, &[product, parts[2]]);
    build.graph.total = Some(build.op(Op::Sum { axes: vec![0, 1, 2], keep: false }, &[product]));
    let (graph, layout) = build.case("slices".to_owned()).with_total(true);
    let whole = differentiate(&graph, &layout).expect("it is sound");
    let count = |name: &str| whole.nodes.iter().filter(|node| node.op.name() == name).count();
    assert_eq!((count("concat"), count("add")), (1, 0), "{}", text::print(&whole));
}

#[test]
fn a_total_without_trained_tensors_has_no_gradient() {
    let mut build = Build::default();
    let x = build.param("fixed.x", &[2]);
    build.graph.total = Some(build.op(Op::Sum { axes: vec![0], keep: false }, &[x]));
    let (graph, layout) = build.case("fixed".to_owned()).with_total(true);
    assert!(differentiate(&graph, &layout).expect("it is sound") == graph);
}
