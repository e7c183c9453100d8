//! In which order the forward pass goes: branches without gradients before all others.
//!
//! What a target's branch makes is done with when its result is there, but what another keeps for its backward pass is not: the
//! branch that is run first works in room that the others take afterwards.

use crate::graph::{Graph, Layout, ValueId};
use crate::op::Op;

/// `graph`, which is not differentiated yet, with all first that is computed from tensors and that no gradient flows through, and what
/// that is computed from; otherwise in its order.
pub(super) fn targets_first(graph: &Graph, layout: &Layout) -> Graph {
    let first = targets(graph, layout);
    let mut ordered = Graph { nodes: Vec::with_capacity(graph.nodes.len()), ..graph.clone() };
    let mut moved = vec![ValueId(0); graph.nodes.len()];
    for of_targets in [true, false] {
        for (id, node) in graph.nodes.iter().enumerate().filter(|(id, _)| first[*id] == of_targets) {
            moved[id] = ValueId(ordered.nodes.len() as u32);
            ordered.nodes.push(node.clone());
        }
    }
    let nodes = ordered.nodes.iter_mut().flat_map(|node| &mut node.inputs);
    nodes.for_each(|id| *id = moved[id.index()]);
    ordered.results_mut().for_each(|id| *id = moved[id.index()]);
    ordered
}

/// For each node, whether it goes first. With a node, all that it is computed from does.
fn targets(graph: &Graph, layout: &Layout) -> Vec<bool> {
    let carries = graph.carries_gradient(layout);
    let is_leaf = |id: &ValueId| graph.node(*id).inputs.is_empty();
    let is_param = |id: &ValueId| matches!(graph.node(*id).op, Op::Param { .. });
    // Without a gradient, and computed from none with one; then with a tensor among what it is computed from.
    let mut without = vec![false; graph.nodes.len()];
    let mut first = vec![false; graph.nodes.len()];
    for (id, node) in graph.nodes.iter().enumerate() {
        without[id] = !carries[id] && node.inputs.iter().all(|input| is_leaf(input) || without[input.index()]);
        first[id] = without[id] && node.inputs.iter().any(|input| is_param(input) || first[input.index()]);
    }
    for (id, node) in graph.nodes.iter().enumerate().rev() {
        if first[id] {
            node.inputs.iter().for_each(|input| first[input.index()] = true);
        }
    }
    first
}
