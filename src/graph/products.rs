//! What a training step multiplies and adds in matrix products: the figure that implementations are compared by.

use super::{Graph, Layout, prune};
use crate::op::{Op, Type, shape};

/// FLOPs of the matrix products of one step, 2 for each multiply-add: forward, and backward a product of the same size for
/// each factor that a gradient flows to. Nothing that is computed anew, nothing element-wise, and nothing that no loss,
/// monitor or state needs.
pub fn step_flops(graph: &Graph, layout: &Layout) -> u64 {
    let mut needed = graph.clone();
    needed.outputs.clear();
    needed.initial.clear();
    let graph = prune::prune(&needed);
    let carries = graph.carries_gradient(layout);
    let mut flops = 0;
    for (id, node) in graph.nodes.iter().enumerate() {
        let types: Vec<&Type> = node.inputs.iter().map(|input| &graph.node(*input).ty).collect();
        let forward = || shape::flops(&node.op, &types, &node.ty);
        let to = |operand: usize| u64::from(carries[id] && carries[node.inputs[operand].index()]);
        flops += match node.op {
            Op::Linear | Op::Matmul { .. } | Op::Conv2d { .. } => forward() * (1 + to(0) + to(1)),
            // Two products, q·kᵀ and weights · v; the weights' gradient is a third where query or key want theirs.
            Op::Attention { .. } => forward() / 2 * (2 + to(0) + to(1) + to(2) + to(0).max(to(1))),
            _ => 0,
        };
    }
    flops
}
