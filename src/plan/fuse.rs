//! Which values are computed together: chains of element-wise ops become one step that walks its operands once.
//!
//! A value that one element-wise op alone reads is computed within that op's step. Constants and repeated operands
//! ([`Pattern`]) are never stored where only such steps read them.

use std::fmt;

use super::heads::{self, Heads};
use super::place::Base;
use crate::graph::{Graph, ValueId};
use crate::op::{DType, Op};

/// Instructions on a stack of runs of elements.
#[derive(Debug, Clone, PartialEq)]
pub enum Instruction {
    Load(usize),
    Constant(f64),
    /// An element-wise op: pops its operands, the last on top, pushes its result.
    Apply(Op),
}

/// Which element of an operand belongs to element i of the result: `(i / each) % period`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern {
    pub each: usize,
    pub period: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Operand {
    pub value: ValueId,
    /// `None`: as many elements as the result, one for one.
    pub pattern: Option<Pattern>,
}

/// Element-wise ops computed in one pass.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    pub operands: Vec<Operand>,
    pub code: Vec<Instruction>,
    /// Greatest height of the stack.
    pub depth: usize,
}

/// Runs of 512 elements on a stack of 8 are 16 KiB in f32, half of a first-level cache.
const MAX_DEPTH: usize = 8;
/// Of a chain: each is a stream to read.
const MAX_OPERANDS: usize = 8;

impl Chain {
    /// In the order in which they are computed.
    pub fn ops(&self) -> impl Iterator<Item = &Op> {
        self.code.iter().filter_map(|instruction| match instruction {
            Instruction::Apply(op) => Some(op),
            Instruction::Load(_) | Instruction::Constant(_) => None,
        })
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.ops().map(Op::name).collect::<Vec<_>>().join("+"))
    }
}

/// What computes a node.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fused {
    /// Nothing: an alias, a leaf that is read in place, or a part of its reader's chain.
    Nothing,
    Op,
    Chain(Chain),
    /// A matrix product, and the chain that its operand `at`, the product, goes through at once.
    Product {
        product: ValueId,
        chain: Chain,
        at: usize,
    },
    /// Attention or its gradient, on heads in whatever place.
    Attention {
        attention: ValueId,
        /// Values read, and where in each the heads of the operand lie.
        reads: Vec<(ValueId, Heads)>,
        writes: Vec<Heads>,
    },
}

/// Ops on floats whose element i depends on the operands' elements i alone.
pub(super) fn is_element_wise(graph: &Graph, id: ValueId) -> bool {
    let node = graph.node(id);
    let floats = node.inputs.iter().all(|input| graph.node(*input).ty.dtype == DType::Float);
    floats
        && matches!(
            node.op,
            Op::Add
                | Op::Sub
                | Op::Mul
                | Op::Div
                | Op::Maximum
                | Op::Minimum
                | Op::Less
                | Op::Equal
                | Op::Select
                | Op::AddConst { .. }
                | Op::MulConst { .. }
                | Op::PowConst { .. }
                | Op::Neg
                | Op::Exp
                | Op::Log
                | Op::Sqrt
                | Op::Abs
                | Op::Relu
                | Op::Gelu
                | Op::GeluGrad
                | Op::Tanh
                | Op::Sigmoid
                | Op::Sin
                | Op::Cos
                | Op::Floor
                | Op::Atan2
        )
}

/// The pattern of a broadcast, if it repeats along one run of axes.
fn pattern(from: &[usize], to: &[usize]) -> Option<Pattern> {
    let skipped = to.len() - from.len();
    let is_kept = |axis: usize| axis >= skipped && from[axis - skipped] == to[axis] && to[axis] != 1;
    let first = (0..to.len()).find(|axis| is_kept(*axis));
    let Some(first) = first else { return Some(Pattern { each: to.iter().product(), period: 1 }) };
    let last = (0..to.len()).rev().find(|axis| is_kept(*axis)).unwrap_or(first);
    // Axes of one value between them neither repeat nor count.
    let solid = (first..=last).all(|axis| is_kept(axis) || to[axis] == 1);
    solid.then(|| Pattern { each: to[last + 1..].iter().product(), period: to[first..=last].iter().product() })
}

struct Fuser<'g> {
    graph: &'g Graph,
    bases: &'g [Base],
    /// How many operands and results name each node.
    uses: Vec<usize>,
    /// Nodes computed within another's chain.
    inlined: Vec<bool>,
}

pub(super) fn fuse(graph: &Graph, bases: &[Base], enabled: bool) -> Vec<Fused> {
    let count = graph.nodes.len();
    let mut fuser = Fuser { graph, bases, uses: vec![0; count], inlined: vec![false; count] };
    graph.nodes.iter().flat_map(|node| &node.inputs).for_each(|id| fuser.uses[id.index()] += 1);
    let named = [&graph.losses, &graph.monitors, &graph.updates, &graph.outputs, &graph.gradients];
    for id in named.into_iter().flatten().map(|(_, id)| *id).chain(graph.total) {
        fuser.uses[id.index()] += 1;
    }
    let mut fused = vec![Fused::Nothing; count];
    // Readers before what they read, so that a chain takes in all it can.
    for index in (0..count).rev() {
        let id = ValueId(index as u32);
        if fuser.inlined[index] || fuser.uses[index] == 0 || bases[index].node != id {
            continue;
        }
        fused[index] = match &graph.node(id).op {
            Op::Param { .. } => Fused::Nothing,
            _ if is_element_wise(graph, id) => {
                let chain = fuser.chain(id, enabled);
                match fuser.product(&chain).filter(|_| enabled) {
                    Some((at, product)) => {
                        fuser.inlined[product.index()] = true;
                        Fused::Product { product, chain, at }
                    }
                    None => Fused::Chain(chain),
                }
            }
            Op::Attention { .. } | Op::AttentionGrad { .. } => {
                let parts = parts(graph, id);
                let writes = parts.iter().map(|(start, shape)| Heads::contiguous(shape, *start)).collect();
                fuser.attention(id, writes, enabled)
            }
            Op::Permute { .. } if enabled => match fuser.permuted_attention(id) {
                Some((attention, writes)) => {
                    fuser.inlined[attention.index()] = true;
                    fuser.attention(attention, writes, enabled)
                }
                None => Fused::Op,
            },
            _ => Fused::Op,
        };
    }
    fused
}

/// The parts `[B, h, N, d]` of what attention or its gradient makes: where each starts, and its shape.
fn parts(graph: &Graph, attention: ValueId) -> Vec<(usize, &[usize])> {
    let node = graph.node(attention);
    let operands = if matches!(node.op, Op::Attention { .. }) { 1 } else { 3 };
    let shapes = node.inputs[..operands].iter().map(|id| graph.node(*id).ty.shape.as_slice());
    let mut start = 0;
    shapes
        .map(|shape| {
            let at = start;
            start += shape.iter().product::<usize>();
            (at, shape)
        })
        .collect()
}

impl Fuser<'_> {
    /// The operand of a chain that is a matrix product which the chain alone reads.
    fn product(&self, chain: &Chain) -> Option<(usize, ValueId)> {
        chain.operands.iter().enumerate().find_map(|(at, operand)| {
            let base = self.bases[operand.value.index()];
            let is_product =
                matches!(self.graph.node(base.node).op, Op::Linear | Op::Matmul { .. } | Op::TransposedMatmul);
            let loads = chain.code.iter().filter(|i| **i == Instruction::Load(at)).count();
            let alone = loads == 1 && self.read_once(operand.value);
            (operand.pattern.is_none() && base.start == 0 && is_product && alone).then_some((at, base.node))
        })
    }

    /// Attention that the permutation `id` alone reads, and where the permutation puts its heads.
    fn permuted_attention(&self, id: ValueId) -> Option<(ValueId, Vec<Heads>)> {
        let node = self.graph.node(id);
        let (from, base) = (node.inputs[0], self.bases[node.inputs[0].index()]);
        let of = self.graph.node(base.node);
        let is_attention = matches!(of.op, Op::Attention { .. } | Op::AttentionGrad { .. });
        // A gradient of the bias lies behind those of the operands, and would have to lie apart.
        let whole = base.start == 0 && of.ty.elements() == node.ty.elements();
        if !is_attention || !whole || !self.read_once(from) {
            return None;
        }
        Some((base.node, heads::written(self.graph, id, &parts(self.graph, base.node))?))
    }

    fn attention(&mut self, attention: ValueId, writes: Vec<Heads>, enabled: bool) -> Fused {
        let node = self.graph.node(attention);
        let operands = if matches!(node.op, Op::Attention { .. }) { 3 } else { 4 };
        let mut reads = Vec::with_capacity(operands);
        for id in &node.inputs[..operands] {
            let contiguous = (*id, Heads::contiguous(&self.graph.node(*id).ty.shape, 0));
            let (from, heads) = if enabled { heads::read(self.graph, self.bases, *id) } else { contiguous };
            if from != *id {
                // Read here now, whether or not the permuted copy is still stored for others.
                self.uses[from.index()] += 1;
                self.leave(*id);
            }
            reads.push((from, heads));
        }
        Fused::Attention { attention, reads, writes }
    }

    fn chain(&mut self, root: ValueId, enabled: bool) -> Chain {
        let mut chain = Chain { operands: Vec::new(), code: Vec::new(), depth: 0 };
        self.apply(root, &mut chain, 0, enabled);
        chain
    }

    /// Code for `id`, an element-wise node, on a stack of `height`.
    fn apply(&mut self, id: ValueId, chain: &mut Chain, height: usize, enabled: bool) {
        let node = self.graph.node(id);
        for (i, operand) in node.inputs.iter().enumerate() {
            self.operand(*operand, node.ty.elements(), chain, height + i, enabled);
        }
        chain.code.push(Instruction::Apply(node.op.clone()));
    }

    fn operand(&mut self, id: ValueId, elements: usize, chain: &mut Chain, height: usize, enabled: bool) {
        chain.depth = chain.depth.max(height + 1);
        if let Some(value) = self.constant(id) {
            self.leave(id);
            return chain.code.push(Instruction::Constant(value));
        }
        // The whole of a value under another shape is the same run of elements.
        let base = &self.bases[id.index()];
        let whole = base.start == 0 && self.graph.node(base.node).ty.elements() == elements;
        let alone = self.read_once(id);
        if enabled && whole && alone && is_element_wise(self.graph, base.node) {
            // Its own operands come on the stack, one above the other; each is a stream more, the value itself one less.
            let more = self.graph.node(base.node).inputs.len();
            if height + more <= MAX_DEPTH && chain.operands.len() + more <= MAX_OPERANDS {
                self.inlined[base.node.index()] = true;
                return self.apply(base.node, chain, height, enabled);
            }
        }
        if enabled
            && whole
            && let Op::Broadcast = self.graph.node(base.node).op
        {
            let broadcast = self.graph.node(base.node);
            let from = broadcast.inputs[0];
            if let Some(pattern) = pattern(&self.graph.node(from).ty.shape, &broadcast.ty.shape) {
                if let Some(value) = self.constant(from) {
                    self.leave(id);
                    return chain.code.push(Instruction::Constant(value));
                }
                // Read here now, whether or not the broadcast itself is still stored for others.
                self.uses[from.index()] += 1;
                self.leave(id);
                return self.load(Operand { value: from, pattern: Some(pattern) }, chain);
            }
        }
        self.load(Operand { value: id, pattern: None }, chain);
    }

    fn load(&self, operand: Operand, chain: &mut Chain) {
        let known = chain.operands.iter().position(|o| *o == operand);
        let index = known.unwrap_or_else(|| {
            chain.operands.push(operand);
            chain.operands.len() - 1
        });
        chain.code.push(Instruction::Load(index));
    }

    /// The number that all elements are.
    fn constant(&self, id: ValueId) -> Option<f64> {
        let base = &self.bases[id.index()];
        match self.graph.node(base.node).op {
            Op::Full { value } => Some(value),
            _ => None,
        }
    }

    /// One reader less; a value that none reads is not stored, nor then what it alone reads.
    fn leave(&mut self, id: ValueId) {
        self.uses[id.index()] -= 1;
        if self.uses[id.index()] == 0 {
            for input in &self.graph.node(id).inputs {
                self.leave(*input);
            }
        }
    }

    /// Whether one reader alone reads the value, under whatever shape.
    fn read_once(&self, id: ValueId) -> bool {
        let base = self.bases[id.index()].node;
        let uses = if id == base { Some(1) } else { self.uses_through(id, base) };
        self.uses[id.index()] == 1 && uses == Some(self.uses[base.index()])
    }

    /// How many of the uses of `base` lead to `id`, which is a part of it, if each value between has one reader.
    fn uses_through(&self, id: ValueId, base: ValueId) -> Option<usize> {
        if id == base {
            return Some(1);
        }
        if self.uses[id.index()] != 1 {
            return None;
        }
        self.graph.node(id).inputs.iter().map(|input| self.uses_through(*input, base)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_broadcasts() {
        let found = |from: &[usize], to: &[usize]| pattern(from, to).map(|p| (p.each, p.period));
        assert_eq!(found(&[], &[2, 3]), Some((6, 1)));
        assert_eq!(found(&[3], &[2, 3]), Some((1, 3)));
        assert_eq!(found(&[2, 1], &[2, 3]), Some((3, 2)));
        assert_eq!(found(&[2, 3], &[2, 3]), Some((1, 6)));
        assert_eq!(found(&[2, 1, 3], &[2, 4, 3]), None);
        assert_eq!(found(&[1, 4, 1], &[2, 4, 3]), Some((3, 4)));
    }
}
