//! Which values are computed together: chains of element-wise ops become one step that walks its operands once.
//!
//! A value that one element-wise op alone reads is computed within that op's step. Constants and repeated operands
//! ([`Pattern`]) are never stored where only such steps read them.

use super::base::Base;
use super::heads::{self, Heads};
use super::target::ChainLimits;
use super::work::{Chain, Instruction, Operand, Pattern, Work, is_element_wise, is_product};
use crate::graph::{Graph, ValueId};
use crate::op::Op;

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

/// A chain as it is put together.
struct Draft {
    chain: Chain,
    /// Begun, whether or not they stand in the code yet.
    ops: usize,
    /// Operands of these that have no place on the stack yet: each is a stream more at most.
    open: usize,
}

struct Fuser<'g> {
    graph: &'g Graph,
    bases: &'g [Base],
    limits: ChainLimits,
    /// Without it every value is computed by a step of its own.
    enabled: bool,
    /// How many operands and results name each node.
    uses: Vec<usize>,
    /// Nodes computed within another's chain.
    inlined: Vec<bool>,
}

/// What computes each node: nothing where it is an alias, a leaf that is read in place, or a part of its reader's step.
pub(super) fn fuse(graph: &Graph, bases: &[Base], limits: ChainLimits, enabled: bool) -> Vec<Option<Work>> {
    let count = graph.nodes.len();
    let mut fuser = Fuser { graph, bases, limits, enabled, uses: vec![0; count], inlined: vec![false; count] };
    graph.nodes.iter().flat_map(|node| &node.inputs).for_each(|id| fuser.uses[id.index()] += 1);
    graph.results().for_each(|id| fuser.uses[id.index()] += 1);
    let mut works = vec![None; count];
    // Readers before what they read, so that a chain takes in all it can.
    for index in (0..count).rev() {
        let id = ValueId(index as u32);
        if fuser.inlined[index] || fuser.uses[index] == 0 || bases[index].node != id {
            continue;
        }
        works[index] = match &graph.node(id).op {
            Op::Param { .. } => None,
            _ if is_element_wise(graph, id) => {
                let chain = fuser.chain(id);
                match fuser.product(&chain).filter(|_| enabled) {
                    Some((at, product)) => {
                        fuser.inlined[product.index()] = true;
                        Some(Work::Product { product, chain, at })
                    }
                    None => Some(Work::Chain(chain)),
                }
            }
            Op::Attention { .. } | Op::AttentionGrad { .. } => {
                let parts = parts(graph, id);
                let writes = parts.iter().map(|(start, shape)| Heads::contiguous(shape, *start)).collect();
                Some(fuser.attention(id, writes))
            }
            Op::Permute { .. } if enabled => match fuser.permuted_attention(id) {
                Some((attention, writes)) => {
                    fuser.inlined[attention.index()] = true;
                    Some(fuser.attention(attention, writes))
                }
                None => Some(Work::Op),
            },
            _ => Some(Work::Op),
        };
    }
    works
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
            let is_product = is_product(&self.graph.node(base.node).op);
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

    fn attention(&mut self, attention: ValueId, writes: Vec<Heads>) -> Work {
        let node = self.graph.node(attention);
        let operands = if matches!(node.op, Op::Attention { .. }) { 3 } else { 4 };
        let mut reads = Vec::with_capacity(operands);
        for id in &node.inputs[..operands] {
            let contiguous = (*id, Heads::contiguous(&self.graph.node(*id).ty.shape, 0));
            let (from, heads) = if self.enabled { heads::read(self.graph, self.bases, *id) } else { contiguous };
            if from != *id {
                // Read here now, whether or not the permuted copy is still stored for others.
                self.uses[from.index()] += 1;
                self.leave(*id);
            }
            reads.push((from, heads));
        }
        Work::Attention { attention, reads, writes }
    }

    fn chain(&mut self, root: ValueId) -> Chain {
        let chain = Chain { operands: Vec::new(), code: Vec::new(), depth: 0 };
        let mut draft = Draft { chain, ops: 0, open: 0 };
        self.apply(root, &mut draft, 0);
        draft.chain
    }

    /// Code for `id`, an element-wise node, on a stack of `height`.
    fn apply(&mut self, id: ValueId, draft: &mut Draft, height: usize) {
        let node = self.graph.node(id);
        draft.ops += 1;
        draft.open += node.inputs.len();
        for (i, operand) in node.inputs.iter().enumerate() {
            draft.open -= 1;
            self.operand(*operand, node.ty.elements(), draft, height + i);
        }
        draft.chain.code.push(Instruction::Apply(node.op.clone()));
    }

    fn operand(&mut self, id: ValueId, elements: usize, draft: &mut Draft, height: usize) {
        let Draft { chain, ops, open } = draft;
        chain.depth = chain.depth.max(height + 1);
        if let Some(value) = self.constant(id) {
            self.leave(id);
            return chain.code.push(Instruction::Constant(value));
        }
        // The whole of a value under another shape is the same run of elements.
        let base = &self.bases[id.index()];
        let whole = self.enabled && base.start == 0 && self.graph.node(base.node).ty.elements() == elements;
        if whole && self.read_once(id) && is_element_wise(self.graph, base.node) {
            // Its own operands come on the stack, one above the other, and each may be a stream.
            let more = self.graph.node(base.node).inputs.len();
            let ChainLimits { operands, depth, ops: most } = self.limits;
            if height + more <= depth && chain.operands.len() + *open + more <= operands && *ops < most {
                self.inlined[base.node.index()] = true;
                return self.apply(base.node, draft, height);
            }
        }
        if whole && let Op::Broadcast = self.graph.node(base.node).op {
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
                return load(Operand { value: from, pattern: Some(pattern) }, chain);
            }
        }
        load(Operand { value: id, pattern: None }, chain);
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
        let mut left = vec![id];
        while let Some(id) = left.pop() {
            self.uses[id.index()] -= 1;
            if self.uses[id.index()] == 0 {
                left.extend(&self.graph.node(id).inputs);
            }
        }
    }

    /// Whether one reader alone reads the value, under whatever shape.
    fn read_once(&self, id: ValueId) -> bool {
        let base = self.bases[id.index()].node;
        // How many of the uses of the base lead here; each value between must have one reader.
        let (mut uses, mut through) = (0, vec![id]);
        while let Some(id) = through.pop() {
            if id == base {
                uses += 1;
            } else if self.uses[id.index()] == 1 {
                through.extend(&self.graph.node(id).inputs);
            } else {
                return false;
            }
        }
        uses == self.uses[base.index()]
    }
}

fn load(operand: Operand, chain: &mut Chain) {
    let known = chain.operands.iter().position(|o| *o == operand);
    let index = known.unwrap_or_else(|| {
        chain.operands.push(operand);
        chain.operands.len() - 1
    });
    chain.code.push(Instruction::Load(index));
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
