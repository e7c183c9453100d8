//! What a plan costs, and its text: for `cmaec show plan` and for tests.

use std::fmt::Write;

use super::arena::{Place, Space};
use super::step::{Plan, Step};
use super::work::{Chain, Work};
use crate::graph::flops;

/// Of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Floats, numbers of bf16 and ids read and written, each operand once.
    pub floats: usize,
    pub halves: usize,
    pub ints: usize,
    /// As [`flops::of_node`] counts; an element-wise chain's are one an element and op.
    pub flops: u64,
}

impl Cost {
    /// Bytes moved where a float takes `float_bytes`; a number of bf16 takes 2, an id 8.
    pub fn bytes(&self, float_bytes: usize) -> usize {
        self.floats * float_bytes + self.halves * 2 + self.ints * 8
    }
}

impl Plan {
    pub fn cost(&self, step: &Step) -> Cost {
        let node = self.graph.node(step.node);
        let places = || step.reads.iter().chain([&step.writes]);
        let len = |space: Space| places().filter(|place| place.space == space).map(|place| place.len).sum::<usize>();
        let kernel = || flops::of_node(&self.graph, self.graph.node(step.kernel()));
        let chained = |chain: &Chain| chain.ops().count() as u64 * node.ty.elements() as u64;
        let flops = match &step.work {
            Work::Op | Work::Attention { .. } => kernel(),
            Work::Chain(chain) => chained(chain),
            Work::Product { chain, .. } => kernel() + chained(chain),
        };
        let of = |spaces: &[Space]| spaces.iter().map(|space| len(*space)).sum();
        let floats = of(&[Space::Params, Space::Gradients, Space::Floats]);
        Cost { floats, halves: of(&[Space::Halves, Space::SpareHalves]), ints: len(Space::Ints), flops }
    }

    /// What a step computes: its op, the ops of its chain, or both.
    pub fn work(&self, step: &Step) -> String {
        let op = self.graph.node(step.kernel()).op.name();
        let op = if step.bf16 { format!("{op}.bf16") } else { op.to_owned() };
        match &step.work {
            Work::Op | Work::Attention { .. } => op,
            Work::Chain(chain) => chain.to_string(),
            Work::Product { chain, .. } => format!("{op}+{chain}"),
        }
    }

    /// One line a step: `f[0..64] = add+gelu(f[64..128], param[0..64]) in place  768 B  128 FLOP  ; encoder.blocks.0.mlp`, with a
    /// float of `float_bytes`.
    pub fn text(&self, float_bytes: usize) -> String {
        let mut text = String::new();
        for step in &self.steps {
            let node = self.graph.node(step.node);
            let reads: Vec<String> = step.reads.iter().map(Place::to_string).collect();
            let _ = write!(text, "{} = {}({})", step.writes, self.work(step), reads.join(", "));
            if step.in_place.is_some() {
                let _ = write!(text, " in place");
            }
            if !step.scratch.is_empty() {
                let _ = write!(text, " with {}", step.scratch);
            }
            if step.once {
                let _ = write!(text, " once");
            }
            let cost = self.cost(step);
            let _ = write!(text, "  {} B  {} FLOP", cost.bytes(float_bytes), cost.flops);
            if !node.scope.is_empty() {
                let _ = write!(text, "  ; {}", node.scope);
            }
            text.push('\n');
        }
        text
    }
}
