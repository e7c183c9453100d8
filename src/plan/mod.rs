//! One static step: which nodes are computed, in which order, where each value lies, and what is computed in one pass.
//!
//! Before: `graph::grad`. After: a backend runs the steps one by one, without asking the graph again.
//!
//! Values live in one arena of floats and one of ids. A value's place is free again after its last reader, a reader may
//! write where an operand lay that it is the last to read ([`Step::in_place`]), and ops that move nothing (reshape, slices of
//! the first axis) have no step: their value is a part of their operand's place. Gradients are written where the caller wants
//! them, and parameters are read where they are.
//!
//! **Invariant:** a step's place and scratch overlap no place that it reads, but for the operand `in_place`.

mod bf16;
mod cost;
mod fuse;
mod heads;
mod place;

use crate::graph::{Graph, Layout, ValueId};
use crate::op::{DType, Op};

pub use cost::Cost;
pub use fuse::{Chain, Instruction, Operand, Pattern};
pub use heads::Heads;
pub use place::{Held, Place, Space};

/// What a plan is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Element-wise chains are one step. Without, every value is computed by a step of its own, so that each can be looked
    /// at.
    pub fuse: bool,
    /// Products of layers round their operands to bf16: see [`Step::bf16`].
    pub bf16: bool,
}

/// Floats that the backend's kernel for a node needs; the flag is [`Step::bf16`].
pub type Scratch<'a> = &'a dyn Fn(&Graph, ValueId, bool) -> usize;

#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// The node's op on the places of its operands.
    Op,
    /// Element-wise ops in one pass.
    Chain(Chain),
    /// A matrix product and the chain that goes over each part of it as soon as it is there; the product is the chain's
    /// operand `at`. The product's operands are read first, then the chain's others.
    Product { product: ValueId, chain: Chain, at: usize },
    /// Attention or its gradient: where in the operands, and in what is written, the heads lie. A bias is read last.
    Attention { attention: ValueId, reads: Vec<Heads>, writes: Vec<Heads> },
}

#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Whose value it makes.
    pub node: ValueId,
    pub work: Work,
    pub reads: Vec<Place>,
    pub writes: Place,
    /// Floats that the step needs for itself; empty for most.
    pub scratch: Place,
    /// The read whose place is also written.
    pub in_place: Option<usize>,
    /// Its products round their operands to bf16 and add up in f32.
    pub bf16: bool,
    /// A value that no input changes: computed in the first run, and its place is its own for ever.
    pub once: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub graph: Graph,
    pub steps: Vec<Step>,
    /// Where each node's value lies, if it lies anywhere: at the plan's end only results still do.
    pub places: Vec<Option<Place>>,
    /// Elements of the arenas.
    pub floats: usize,
    pub ints: usize,
    /// When the arena of floats holds most; it is larger by what lies free between values then.
    pub most: Held,
    /// Gradients that no step writes into the caller's arena: they are copied, from and to.
    pub copies: Vec<(Place, Place)>,
    /// Gradients of trained tensors that the total does not depend on: the caller's ranges to be zeroed.
    pub zeros: Vec<Place>,
}

/// Plans `graph`, which must hold what is wanted and nothing else (see `graph::prune`).
pub fn plan(graph: Graph, layout: &Layout, options: Options, scratch: Scratch) -> Plan {
    let bases = place::bases(&graph);
    let works = fuse::fuse(&graph, &bases, options.fuse);
    let rounded = if options.bf16 { bf16::rounded(&graph) } else { vec![false; graph.nodes.len()] };
    place::place(graph, layout, &bases, works, &rounded, scratch)
}

impl Step {
    /// The node whose op a kernel of its own computes: that of the value, or the one that is fused with what follows it.
    pub fn kernel(&self) -> ValueId {
        self.work.kernel().unwrap_or(self.node)
    }
}

impl Work {
    /// The node that is fused with what follows it.
    fn kernel(&self) -> Option<ValueId> {
        match self {
            Work::Op | Work::Chain(_) => None,
            Work::Product { product: node, .. } | Work::Attention { attention: node, .. } => Some(*node),
        }
    }
}

/// Whether the value depends on no input and no tensor.
fn is_constant(op: &Op) -> bool {
    matches!(op, Op::Full { .. } | Op::Iota | Op::ResizeWeights { .. })
}

fn space_of(graph: &Graph, id: ValueId) -> Space {
    match graph.node(id).ty.dtype {
        DType::Float => Space::Floats,
        DType::Int => Space::Ints,
    }
}
