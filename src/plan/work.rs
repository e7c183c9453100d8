//! What one step computes: an op, a chain of element-wise ops, or an op and what goes over its result at once.

use std::fmt;

use super::arena::Space;
use super::heads::Heads;
use crate::graph::{Graph, ValueId};
use crate::op::{DType, Op};

/// What computes a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// The node's op on the places of its operands.
    Op,
    /// Element-wise ops in one pass.
    Chain(Chain),
    /// A matrix product and the chain that goes over each part of it as soon as it is there; the product is the chain's
    /// operand `at`. The product's operands are read first, then the chain's others.
    Product { product: ValueId, chain: Chain, at: usize },
    /// Attention or its gradient, on heads in whatever place: the values read and where in each the heads of the operand lie,
    /// and where those of the results do in what is written. A bias is read last.
    Attention { attention: ValueId, reads: Vec<(ValueId, Heads)>, writes: Vec<Heads> },
}

impl Work {
    /// The node whose op a kernel of its own computes: `of`, whose value is made, or the one that is fused with what follows it.
    pub fn kernel(&self, of: ValueId) -> ValueId {
        match self {
            Work::Op | Work::Chain(_) => of,
            Work::Product { product: node, .. } | Work::Attention { attention: node, .. } => *node,
        }
    }

    /// The values that are read to make that of `of`, in the order of the step's places.
    pub fn reads(&self, graph: &Graph, of: ValueId) -> Vec<ValueId> {
        let operands = |chain: &Chain| chain.operands.iter().map(|operand| operand.value).collect::<Vec<_>>();
        match self {
            Work::Op => graph.node(of).inputs.clone(),
            Work::Chain(chain) => operands(chain),
            Work::Product { product, chain, at } => {
                let mut reads = graph.node(*product).inputs.clone();
                reads.extend(operands(chain).into_iter().enumerate().filter(|(i, _)| i != at).map(|(_, value)| value));
                reads
            }
            Work::Attention { attention, reads, .. } => {
                let bias = graph.node(*attention).inputs.get(reads.len()).copied();
                reads.iter().map(|(value, _)| *value).chain(bias).collect()
            }
        }
    }
}

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

/// Whether a node is a chain's: its op is element-wise, and its operands are floats.
pub(super) fn is_element_wise(graph: &Graph, id: ValueId) -> bool {
    let node = graph.node(id);
    node.op.is_element_wise() && node.inputs.iter().all(|input| graph.node(*input).ty.dtype == DType::Float)
}

/// Whether an op is a matrix product whose parts a chain can go over.
pub(super) fn is_product(op: &Op) -> bool {
    matches!(op, Op::Linear | Op::Matmul { .. } | Op::TransposedMatmul)
}

/// Whether the value depends on no input and no tensor.
pub(super) fn is_constant(op: &Op) -> bool {
    matches!(op, Op::Full { .. } | Op::Iota | Op::ResizeWeights { .. })
}

/// The arena that a value lies in, if it is no tensor and no gradient.
pub(super) fn space_of(graph: &Graph, id: ValueId) -> Space {
    match graph.node(id).ty.dtype {
        DType::Float => Space::Floats,
        DType::Int => Space::Ints,
    }
}
