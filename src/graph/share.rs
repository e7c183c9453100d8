//! Computes equal values once: two nodes of the same op on the same operands are one.
//!
//! Before: `build` has lowered a mode's whole trace, in which each call of a function stands by itself. After: `prune` drops what
//! nothing reads any more.
//!
//! **Invariant:** what is drawn stays apart: each `op::random` is another draw, and its op says which.

use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};

use super::{Graph, ValueId};
use crate::op::Op;

/// `graph` with each value made by its first node alone; the nodes of the others are left, and nothing reads them.
pub fn share(graph: &Graph) -> Graph {
    let mut shared = graph.clone();
    let mut first: HashMap<(Discriminant<Op>, Vec<ValueId>), Vec<ValueId>> = HashMap::new();
    let mut new_ids: Vec<ValueId> = Vec::with_capacity(graph.nodes.len());
    for id in 0..graph.nodes.len() {
        let node = &mut shared.nodes[id];
        node.inputs.iter_mut().for_each(|input| *input = new_ids[input.index()]);
        let same = first.entry((discriminant(&node.op), node.inputs.clone())).or_default();
        let node = &shared.nodes[id];
        let equal = |other: &&ValueId| {
            let other = &shared.nodes[other.index()];
            other.op == node.op && other.ty == node.ty
        };
        let own = ValueId(id as u32);
        new_ids.push(match same.iter().find(equal) {
            Some(other) => *other,
            None => {
                same.push(own);
                own
            }
        });
    }
    shared.results_mut().for_each(|id| *id = new_ids[id.index()]);
    shared
}
