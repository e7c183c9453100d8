//! What a training step multiplies and adds in matrix products: the one figure that implementations are compared by, that
//! `cmaec bench` divides by the time of a step, and that `cmaec show summary` states before there is one.

use super::{Graph, Layout, Node, prune};
use crate::op::{Op, Type, shape};

/// FLOPs of one evaluation of a node: see [`shape::flops`].
pub fn of_node(graph: &Graph, node: &Node) -> u64 {
    let types: Vec<&Type> = node.inputs.iter().map(|input| &graph.node(*input).ty).collect();
    shape::flops(&node.op, &types, &node.ty)
}

/// The same of matrix products, 2 for each multiply-add; 0 of all other ops.
pub fn of_products(graph: &Graph, node: &Node) -> u64 {
    match node.op {
        Op::Linear | Op::Matmul { .. } | Op::Conv2d { .. } | Op::Attention { .. } => of_node(graph, node),
        _ => 0,
    }
}

/// FLOPs of the matrix products of one step: forward, and backward a product of the same size for each factor that a gradient
/// flows to. Nothing that is computed anew, nothing element-wise, and nothing that no loss, monitor or state needs.
pub fn of_step(graph: &Graph, layout: &Layout) -> u64 {
    let mut needed = graph.clone();
    needed.outputs.clear();
    needed.initial.clear();
    let graph = prune::prune(&needed);
    let carries = graph.carries_gradient(layout);
    let mut flops = 0;
    for (id, node) in graph.nodes.iter().enumerate() {
        let to = |operand: usize| u64::from(carries[id] && carries[node.inputs[operand].index()]);
        // Halves of the forward pass's, where that is two products.
        let products = match node.op {
            // q·kᵀ and weights · v; the weights' gradient is a third where query or key want theirs.
            Op::Attention { .. } => 2 + to(0) + to(1) + to(2) + to(0).max(to(1)),
            Op::Linear | Op::Matmul { .. } | Op::Conv2d { .. } => 2 * (1 + to(0) + to(1)),
            _ => continue,
        };
        flops += of_products(&graph, node) / 2 * products;
    }
    flops
}
