//! What a backend's kernels take, and what they need: what a plan is made for.

use super::work::Work;
use crate::graph::{Graph, ValueId};

#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Elements that places of values begin at whole multiples of.
    pub alignment: usize,
    pub chains: ChainLimits,
    /// Floats that the kernel of a node works in.
    pub scratch: fn(&Graph, ValueId, Rounds) -> usize,
}

/// What of a step is rounded to bf16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rounds {
    /// Those of its products: [`Step::bf16`](super::Step::bf16).
    pub operands: bool,
    /// What it writes.
    pub result: bool,
}

impl Target {
    /// Floats that a step which makes the value of `of` works in; chains need none.
    pub(super) fn scratch_of(&self, graph: &Graph, work: &Work, of: ValueId, rounds: Rounds) -> usize {
        match work {
            Work::Chain(_) => 0,
            Work::Op | Work::Product { .. } | Work::Attention { .. } => (self.scratch)(graph, work.kernel(of), rounds),
        }
    }
}

/// How long a chain of element-wise ops may be. A longer one is cut: what one chain makes is an operand of the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainLimits {
    /// Each is a stream to read.
    pub operands: usize,
    /// Values on its stack.
    pub depth: usize,
    pub ops: usize,
}
