//! Which values are stored in bf16 where products round to it: each is written once, rounded, by the step that makes it, and takes half
//! the room and half the time to read.
//!
//! Those that rounded products alone read, which would round them for each use; and what a layer gives to another layer, to an
//! activation between two, or to a norm's gradient. The residual stream, norms' inputs, logits, losses, results and gradients of
//! tensors stay as they are.

use super::base::Base;
use super::work::Work;
use crate::graph::{Graph, ValueId};
use crate::op::Op;

/// What becomes of a value that a step reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// A product rounds it.
    Rounds,
    /// The gradient of a layer's bias: sums of rows.
    Sums,
    /// The gradient that reaches a norm.
    ToNorm,
    /// An element-wise op, one for one.
    Chain,
    /// Whatever wants it in full.
    Other,
}

/// Of the operands of a step, in the order of [`Work::reads`]; `is_rounded` says whether its kernel rounds.
fn uses(graph: &Graph, work: &Work, of: ValueId, is_rounded: bool) -> Vec<Use> {
    let kernel = work.kernel(of);
    let node = graph.node(kernel);
    let operand = |i: usize| match node.op {
        // A bias is added in full.
        Op::Linear | Op::Matmul { .. } | Op::TransposedMatmul if is_rounded && i < 2 && is_single(graph, kernel) => {
            Use::Rounds
        }
        Op::LayerNormGrad { .. } if i == 1 => Use::ToNorm,
        Op::Sum { ref axes, .. } if sums_rows(graph, node.inputs[0], axes) => Use::Sums,
        _ => Use::Other,
    };
    let chained = |operand: &super::work::Operand| match operand.pattern {
        None => Use::Chain,
        Some(_) => Use::Other,
    };
    match work {
        Work::Op => (0..node.inputs.len()).map(operand).collect(),
        Work::Chain(chain) => chain.operands.iter().map(chained).collect(),
        Work::Product { chain, at, .. } => {
            let others =
                chain.operands.iter().enumerate().filter(|(i, _)| i != at).map(|(_, operand)| chained(operand));
            (0..node.inputs.len()).map(operand).chain(others).collect()
        }
        Work::Attention { reads, .. } => {
            let of_heads = if is_rounded { Use::Rounds } else { Use::Other };
            let bias = node.inputs.len() - reads.len();
            std::iter::repeat_n(of_heads, reads.len()).chain(std::iter::repeat_n(Use::Other, bias)).collect()
        }
    }
}

/// Whether a product is one, and not a batch of them.
fn is_single(graph: &Graph, product: ValueId) -> bool {
    let node = graph.node(product);
    let a = &graph.node(node.inputs[0]).ty.shape;
    node.op == Op::Linear || a[..a.len() - 2].iter().product::<usize>() == 1
}

/// Whether `axes` are all but the last, of more than one row.
fn sums_rows(graph: &Graph, of: ValueId, axes: &[usize]) -> bool {
    let rank = graph.node(of).ty.shape.len();
    rank > 1 && axes.len() == rank - 1 && axes.iter().enumerate().all(|(i, axis)| i == *axis)
}

/// Whether the kernel of a step can read its operand `i`, in the order of [`Work::reads`], in bf16.
pub(super) fn may_read(graph: &Graph, work: &Work, of: ValueId, rounded: bool, i: usize) -> bool {
    uses(graph, work, of, rounded).get(i).is_some_and(|found| *found != Use::Other)
}

/// Whether the kernel of a step can write in bf16.
pub(super) fn may_write(graph: &Graph, work: &Work, of: ValueId, rounded: bool) -> bool {
    let kernel = work.kernel(of);
    let node = graph.node(kernel);
    match (work, &node.op) {
        (Work::Chain(_), _) => true,
        (Work::Op, Op::LayerNorm { .. } | Op::Patchify { .. } | Op::Permute { .. } | Op::Slice { .. }) => true,
        (Work::Op | Work::Product { .. }, Op::Linear | Op::Matmul { .. } | Op::TransposedMatmul) => {
            rounded && is_single(graph, kernel)
        }
        // A bias's gradient, which lies behind those of the operands, is added up in full.
        (Work::Attention { reads, .. }, _) => {
            rounded && (matches!(node.op, Op::Attention { .. }) || node.inputs.len() == reads.len())
        }
        _ => false,
    }
}

/// For each node, whether its value is stored in bf16; `rounded` says which products are.
pub(super) fn halves(graph: &Graph, bases: &[Base], works: &[Option<Work>], rounded: &[bool]) -> Vec<bool> {
    let count = graph.nodes.len();
    let mut is_result = vec![false; count];
    graph.results().for_each(|id| is_result[bases[id.index()].node.index()] = true);
    let mut halves = vec![false; count];
    // By value, what reads it.
    let mut readers: Vec<Vec<(Use, ValueId)>> = vec![Vec::new(); count];
    // Readers before what they read.
    for index in (0..count).rev() {
        let of = ValueId(index as u32);
        let Some(work) = &works[index] else { continue };
        let is_layers = rounded[work.kernel(of).index()];
        if !is_result[index] && may_write(graph, work, of, is_layers) {
            let fits = |(found, reader): &(Use, ValueId)| match found {
                Use::Rounds | Use::Sums => true,
                Use::ToNorm => is_layers,
                // An activation between two layers, or its gradient.
                Use::Chain => is_layers && halves[reader.index()],
                Use::Other => false,
            };
            let found = &readers[index];
            let rounds = is_layers || found.iter().any(|(found, _)| *found == Use::Rounds);
            halves[index] = rounds && !found.is_empty() && found.iter().all(fits);
        }
        for (found, id) in uses(graph, work, of, is_layers).into_iter().zip(work.reads(graph, of)) {
            readers[bases[id.index()].node.index()].push((found, of));
        }
    }
    halves
}
