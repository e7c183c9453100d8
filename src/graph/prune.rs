//! Removes what no result needs.

use super::{Graph, ValueId};

/// Which nodes the results of `graph` need.
pub fn needed(graph: &Graph) -> Vec<bool> {
    let mut needed = vec![false; graph.nodes.len()];
    graph.results().for_each(|id| needed[id.index()] = true);
    // Operands have smaller ids, so one pass from the end reaches all.
    for (id, node) in graph.nodes.iter().enumerate().rev() {
        if needed[id] {
            node.inputs.iter().for_each(|input| needed[input.index()] = true);
        }
    }
    needed
}

/// `graph` with the nodes that are [`needed`], in their order, and the inputs that they read.
pub fn prune(graph: &Graph) -> Graph {
    let needed = needed(graph);
    let mut next = 0;
    let new_ids: Vec<ValueId> = needed
        .iter()
        .map(|needed| {
            let id = ValueId(next);
            next += u32::from(*needed);
            id
        })
        .collect();
    let mut pruned = graph.clone();
    let mut keep = needed.iter().copied();
    pruned.nodes.retain(|_| keep.next().unwrap_or(false));
    let new = |id: &mut ValueId| *id = new_ids[id.index()];
    pruned.nodes.iter_mut().flat_map(|node| &mut node.inputs).for_each(new);
    pruned.results_mut().for_each(new);
    let read =
        |name: &str| pruned.nodes.iter().any(|n| matches!(&n.op, crate::op::Op::Input { name: of } if of == name));
    let inputs = pruned.inputs.iter().filter(|input| read(&input.name)).cloned().collect();
    pruned.inputs = inputs;
    pruned
}
