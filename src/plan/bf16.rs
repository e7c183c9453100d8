//! Which products of a graph may be computed from operands that are rounded to bf16, where `precision = bf16` asks for it.
//!
//! Those of layers: `linear`, `conv2d`, attention, and their gradients. All else stays in f32: norms, losses, what makes logits
//! of features (`matmul`), and a linear layer whose result goes to a softmax, a cross entropy or an argmax.
//!
//! **Invariant:** a layer's product and its gradients are rounded together or not at all; a gradient is known by the scope that it
//! has of its layer.

use std::collections::HashSet;

use super::work::is_element_wise;
use crate::graph::{Graph, Node, ValueId};
use crate::op::Op;
use crate::op::table::Family;

/// For each node, whether it is such a product.
pub(super) fn rounded(graph: &Graph) -> Vec<bool> {
    let logits = logits(graph);
    let linear = |node: &&Node| matches!(node.op, Op::Linear);
    let mut layers: HashSet<&str> = graph.nodes.iter().filter(linear).map(|node| node.scope.as_str()).collect();
    for (node, is_logits) in graph.nodes.iter().zip(&logits) {
        if *is_logits && node.op == Op::Linear {
            layers.remove(node.scope.as_str());
        }
    }
    let product = |node: &Node| match node.op {
        Op::Linear | Op::Matmul { .. } | Op::TransposedMatmul => layers.contains(node.scope.as_str()),
        Op::Attention { .. }
        | Op::AttentionGrad { .. }
        | Op::Conv2d { .. }
        | Op::Conv2dInputGrad { .. }
        | Op::Conv2dWeightGrad { .. } => true,
        _ => false,
    };
    graph.nodes.iter().map(product).collect()
}

/// For each node, whether it has the scope of a linear layer whose products are `rounded`.
pub(super) fn of_layer(graph: &Graph, rounded: &[bool]) -> Vec<bool> {
    let is_layer = |(node, rounded): &(&Node, &bool)| **rounded && node.op == Op::Linear;
    let layers: HashSet<&str> =
        graph.nodes.iter().zip(rounded).filter(is_layer).map(|(node, _)| node.scope.as_str()).collect();
    graph.nodes.iter().map(|node| layers.contains(node.scope.as_str())).collect()
}

/// For each node, whether it is a sum on the residual stream: one of what a layer gives, or of the gradient that a layer or a norm
/// gives to its input, with nothing but element-wise ops and moves between. What reaches logits is none.
pub(super) fn stream(graph: &Graph, rounded: &[bool]) -> Vec<bool> {
    let logits = logits(graph);
    // Whether a value comes from a layer, with no reduction between.
    let mut flows = vec![false; graph.nodes.len()];
    let mut stream = vec![false; graph.nodes.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        let any = || node.inputs.iter().any(|id| flows[id.index()]);
        flows[index] = match &node.op {
            Op::TransposedMatmul | Op::Conv2dWeightGrad { .. } => false,
            Op::LayerNormGrad { .. } => true,
            // Gradients of a norm lie one behind another: its input's is the first.
            Op::Slice { start, .. } if matches!(graph.node(node.inputs[0]).op, Op::LayerNormGrad { .. }) => *start == 0,
            _ if rounded[index] => true,
            op => (is_element_wise(graph, ValueId(index as u32)) || moves(op)) && any(),
        };
        stream[index] = node.op == Op::Add && flows[index] && !logits[index] && node.ty.shape.len() > 1;
    }
    stream
}

/// For each node, whether its value reaches a softmax, a cross entropy or a choice by size, with nothing but element-wise ops and
/// moves between.
fn logits(graph: &Graph) -> Vec<bool> {
    let mut reaches = vec![false; graph.nodes.len()];
    for (index, node) in graph.nodes.iter().enumerate().rev() {
        let ends = matches!(node.op, Op::Softmax | Op::LogSoftmax | Op::CrossEntropy | Op::Argmax | Op::Argsort);
        let passes = reaches[index] && (is_element_wise(graph, ValueId(index as u32)) || moves(&node.op));
        if ends || passes {
            node.inputs.iter().for_each(|ValueId(id)| reaches[*id as usize] = true);
        }
    }
    reaches
}

fn moves(op: &Op) -> bool {
    op.family() == Family::Structure || *op == Op::GatherTokens
}
