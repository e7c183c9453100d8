//! One static step: which nodes are computed, in which order, where each value lies, and what is computed in one pass.
//!
//! Before: `graph` has the forward pass. After: a backend runs the steps one by one, without asking the graph again.
//!
//! Branches that no gradient flows through go first. Values live in one arena of floats, one of numbers of bf16 and one of ids, which
//! are laid out when it is known how long each value is needed. A value's place is free again after its last reader, a reader may
//! write where an operand lay that it is the last to read ([`Step::in_place`]), and ops that move nothing (reshape, slices of the first
//! axis) have no step: their value is a part of their operand's place. Gradients are written where the caller wants them, whose
//! room is for other values until then, and parameters are read where they are.
//!
//! **Invariant:** what kernels take for granted, [`verify`] has checked, of every plan: a backend is given no other.

mod arena;
mod base;
mod bf16;
mod cost;
mod fuse;
mod halves;
mod heads;
mod order;
mod place;
mod request;
mod step;
mod target;
mod traffic;
mod verify;
mod work;

pub use arena::{LINE, Place, Space};
pub use cost::Cost;
pub use heads::Heads;
pub use request::{PartRequests, Request};
pub use step::{Copied, Held, Plan, Step};
pub use target::{ChainLimits, Rounds, Target};
pub use traffic::{Exchanged, NoTraffic, Traffic};
pub use verify::verify;
pub use work::{Chain, Instruction, Operand, Pattern, Work};

use std::ops::Range;

use crate::graph::{Fault, Graph, Layout, UnknownOutput, grad, prune, recompute};
use crate::spec::Recompute;

/// Why a graph has no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error(transparent)]
    UnknownOutput(#[from] UnknownOutput),
    #[error(transparent)]
    Graph(#[from] Fault),
    /// A fault of this program, which no pipeline can be blamed for.
    #[error("internal error: the plan breaks what kernels rely on: {}", .0.join("; "))]
    Plan(Vec<String>),
}

/// A graph made ready for what a request asks: differentiated if it asks for gradients, without what no result needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Passes {
    pub graph: Graph,
    /// Runs of nodes that compute values again: see [`Recomputed`](recompute::Recomputed).
    pub again: Vec<Range<usize>>,
    /// For each node, whether it is a product whose operands are rounded to bf16.
    pub rounded: Vec<bool>,
    /// For each node, whether it belongs to a layer whose products are.
    pub of_layer: Vec<bool>,
    /// For each node, whether it is a sum on the residual stream, or of its gradients, that may be stored in bf16.
    pub stream: Vec<bool>,
}

/// What the backward pass computes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    Nothing,
    /// What norms and activations give to layers.
    Operands,
    Blocks,
}

/// `graph` as a backend computes it that has no tape of its own.
pub fn passes(graph: &Graph, layout: &Layout, request: &Request) -> Result<Passes, PlanError> {
    let again = match request.recompute {
        Recompute::None => Again::Nothing,
        Recompute::Blocks => Again::Blocks,
    };
    both_ways(&wanted(graph, request)?, layout, request, again)
}

/// `graph` for the results of `request`.
fn wanted(graph: &Graph, request: &Request) -> Result<Graph, UnknownOutput> {
    let mut wanted = graph.with_outputs(&request.outputs)?;
    // First values of states are no part of a run: who wants them asks for them as outputs.
    wanted.initial.clear();
    Ok(wanted)
}

fn both_ways(wanted: &Graph, layout: &Layout, request: &Request, again: Again) -> Result<Passes, PlanError> {
    let computed_again = |by: fn(&Graph, usize, &Layout) -> Result<recompute::Recomputed, Fault>| {
        let (passes, forward) = grad::passes(wanted, layout)?;
        by(&passes, forward, layout).map(|recomputed| (recomputed.graph, recomputed.again))
    };
    let (graph, again) = match (request.gradients, again) {
        (false, _) => (prune::prune(wanted), Vec::new()),
        (true, Again::Nothing) => (grad::differentiate(wanted, layout)?, Vec::new()),
        (true, Again::Operands) => computed_again(recompute::recompute_operands)?,
        (true, Again::Blocks) => computed_again(recompute::recompute_blocks)?,
    };
    let rounded = if request.bf16 { bf16::rounded(&graph) } else { vec![false; graph.nodes.len()] };
    let of_layer = bf16::of_layer(&graph, &rounded);
    let stream = match request.bf16 && request.bf16_residual {
        true => bf16::stream(&graph, &rounded),
        false => vec![false; graph.nodes.len()],
    };
    Ok(Passes { graph, again, rounded, of_layer, stream })
}

/// The plan of `graph` for what `request` asks, differentiated if it asks for gradients.
pub fn lower(graph: &Graph, layout: &Layout, request: &Request, target: &Target) -> Result<Plan, PlanError> {
    let again = match request.recompute {
        Recompute::Blocks => Again::Blocks,
        // In bf16 what is stored is what is small beside the stream, and a pass over it is as quick as reading it.
        Recompute::None if request.bf16 => Again::Operands,
        Recompute::None => Again::Nothing,
    };
    let wanted = wanted(graph, request)?;
    // Where a value is looked for that is not finite, what is trained goes before what follows it.
    let ordered = if request.check_finite { wanted } else { order::targets_first(&wanted, layout) };
    let Passes { graph, rounded, .. } = both_ways(&ordered, layout, request, again)?;
    let bases = base::bases(&graph);
    // Where every value is looked at, each is computed by a step of its own.
    let works = fuse::fuse(&graph, &bases, target.chains, !request.check_finite);
    let halves = halves::halves(&graph, &bases, &works, &rounded);
    let plan = place::place(graph, layout, &bases, works, (&rounded, &halves), target);
    verify(&plan, layout, target).map_err(PlanError::Plan)?;
    Ok(plan)
}
