//! Ops that move nothing: their value is a part of their operand's place, under another shape.

use crate::graph::{Graph, Node, ValueId};
use crate::op::Op;

/// The node whose place a value lies in, and from which element of it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Base {
    pub node: ValueId,
    pub start: usize,
}

/// Of each node: itself, or the operand that it gives on unmoved.
pub(super) fn bases(graph: &Graph) -> Vec<Base> {
    let mut bases: Vec<Base> = Vec::with_capacity(graph.nodes.len());
    for (index, node) in graph.nodes.iter().enumerate() {
        let shape = |i: usize| graph.node(node.inputs[i]).ty.shape.as_slice();
        let start = match &node.op {
            Op::Reshape | Op::StopGradient | Op::Replicate { .. } => Some(0),
            Op::AllGather { ranks: 1, .. } | Op::OwnRows { ranks: 1, .. } | Op::AllReduce { ranks: 1 } => Some(0),
            Op::Slice { axis, start, .. } if shape(0)[..*axis].iter().all(|d| *d == 1) => {
                Some(start * shape(0)[axis + 1..].iter().product::<usize>())
            }
            Op::Permute { axes } => {
                let moved: Vec<usize> = axes.iter().copied().filter(|a| shape(0)[*a] != 1).collect();
                moved.is_sorted().then_some(0)
            }
            Op::Concat { axis } => joined(graph, &bases, node, *axis),
            Op::Broadcast => (shape(0).iter().product::<usize>() == node.ty.elements()).then_some(0),
            Op::Sum { axes, .. } | Op::Mean { axes, .. } => axes.iter().all(|a| shape(0)[*a] == 1).then_some(0),
            _ => None,
        };
        bases.push(match start {
            Some(start) => {
                let of = bases[node.inputs[0].index()];
                Base { node: of.node, start: of.start + start }
            }
            None => Base { node: ValueId(index as u32), start: 0 },
        });
    }
    bases
}

/// Parts of one value put together again, in their order.
fn joined(graph: &Graph, bases: &[Base], node: &Node, axis: usize) -> Option<usize> {
    let parts = node.inputs.iter().map(|id| (bases[id.index()], graph.node(*id).ty.elements()));
    let outer: usize = node.ty.shape[..axis].iter().product();
    let first = bases[node.inputs[0].index()];
    let mut end = first.start;
    for (base, len) in parts {
        if outer != 1 || base != (Base { node: first.node, start: end }) {
            return None;
        }
        end += len;
    }
    Some(0)
}
