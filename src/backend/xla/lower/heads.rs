//! Queries, keys and values of one layer as layers of their own.
//!
//! A compiler's attention wants each of them in one piece. Cut out of one product they are copied; as products with parts of the
//! weight they are written where they belong, by as many multiplications.

use std::collections::{HashMap, HashSet};

use super::text::Scalar;
use super::{Emitter, Held, product};
use crate::graph::{Graph, Node, ValueId};
use crate::op::Op;
use crate::plan::Passes;

/// A part of a layer's features, moved.
#[derive(Debug, Clone)]
pub(super) struct Head {
    /// The layer.
    linear: usize,
    /// Which of how many parts.
    part: usize,
    parts: usize,
    /// Axes of the layer's result with its features parted, but that of the parts.
    apart: Vec<usize>,
    /// Their order in the slice.
    order: Vec<usize>,
}

/// Which nodes are written as parts of a layer, or not at all.
#[derive(Debug, Default)]
pub(super) struct Heads {
    /// By the node that takes one.
    slices: HashMap<usize, Head>,
    passed_over: HashSet<usize>,
}

impl Heads {
    /// Of rounded layers whose every reader takes one part.
    pub fn new(passes: &Passes) -> Self {
        let mut heads = Heads::default();
        let graph = &passes.graph;
        let mut readers: Vec<Vec<usize>> = vec![Vec::new(); graph.nodes.len()];
        for (index, node) in graph.nodes.iter().enumerate() {
            node.inputs.iter().for_each(|id| readers[id.index()].push(index));
        }
        // Results are read from outside.
        graph.results().for_each(|id| readers[id.index()].push(usize::MAX));
        for (linear, node) in graph.nodes.iter().enumerate() {
            if node.op == Op::Linear && passes.rounded[linear] {
                heads.add(graph, &readers, linear);
            }
        }
        heads
    }

    /// Notes the layer, where it is one: its features are parted, the parts moved ahead, and each of them read by itself.
    fn add(&mut self, graph: &Graph, readers: &[Vec<usize>], linear: usize) -> Option<()> {
        let only = |index: usize| match readers[index][..] {
            [reader] => graph.nodes.get(reader).map(|node| (reader, node)),
            _ => None,
        };
        let lead = graph.nodes[linear].ty.shape.len() - 1;
        let (reshape, parted) = only(linear).filter(|(_, node)| node.op == Op::Reshape)?;
        let (permute, moved) = only(reshape)?;
        let Op::Permute { axes } = &moved.op else { return None };
        let shape = parted.ty.shape.as_slice();
        if axes.first() != Some(&lead) || shape[..lead] != graph.nodes[linear].ty.shape.as_slice()[..lead] {
            return None;
        }
        let behind = |axis: usize| if axis > lead { axis - 1 } else { axis };
        let mut apart = shape.to_vec();
        let parts = apart.remove(lead);
        let order: Vec<usize> = axes[1..].iter().map(|axis| behind(*axis)).collect();
        let part = |index: &usize| match graph.nodes.get(*index).map(|node| &node.op) {
            Some(Op::Slice { axis: 0, start, end }) if end - start == 1 => Some((*index, *start)),
            _ => None,
        };
        let slices: Vec<(usize, usize)> = readers[permute].iter().map(part).collect::<Option<_>>()?;
        for (slice, part) in slices {
            self.slices.insert(slice, Head { linear, part, parts, apart: apart.clone(), order: order.clone() });
        }
        self.passed_over.extend([linear, reshape, permute]);
        Some(())
    }

    pub fn is_passed_over(&self, index: usize) -> bool {
        self.passed_over.contains(&index)
    }

    pub fn of_slice(&self, index: usize) -> Option<Head> {
        self.slices.get(&index).cloned()
    }
}

/// The part as a layer with its rows of the weight.
pub(super) fn emit(emitter: &mut Emitter<'_>, node: &Node, head: Head) -> Held {
    let graph = emitter.graph;
    let layer: &Node = graph.node(ValueId(head.linear as u32));
    let operands: Vec<_> = (0..layer.inputs.len()).map(|i| emitter.operand(layer, i)).collect();
    let f = &mut *emitter.function;
    let [out, width] = [operands[1].shape()[0], operands[1].shape()[1]];
    let (start, end) = (head.part * out / head.parts, (head.part + 1) * out / head.parts);
    // Rounded whole: the gradient takes it so.
    let weight = f.convert(&operands[1], Scalar::Bf16);
    let weight = f.slice(&weight, &[start, 0], &[end, width]);
    let bias = operands.get(2).map(|bias| f.slice(bias, &[start], &[end]));
    // Cut ahead: a compiler's product that cuts an operand itself does not add the bias.
    let cut = f.barrier(&[&weight].into_iter().chain(&bias).collect::<Vec<_>>());
    let (weight, bias) = (cut[0].clone(), cut.get(1).cloned());
    let product = product::linear(f, &operands[0], &weight, bias.as_ref(), true);
    let apart = f.reshape(&product, &head.apart);
    let moved = f.transpose(&apart, &head.order);
    Held::Stored(f.reshape(&moved, &node.ty.shape))
}
