//! Computes values again in the backward pass instead of keeping them: memory for time.
//!
//! Before: `grad`, whose graph lists the forward pass first. After: `plan` gives a block's places away between its passes.
//!
//! By blocks, a unit is a run of forward nodes of one repeated module: `encoder.blocks.3` and all below it. What the backward pass of
//! that module alone reads is cloned, with all that it is computed from within the unit, right before its first reader there. What
//! others read too, as the next block reads a block's result, is kept, and a unit is computed again from that.
//!
//! By layers' operands, a unit is one norm or activation that a layer reads, whose own operand the backward pass needs anyway.
//!
//! **Invariant:** a clone is the same op on the same values, so that no result changes by a bit. Tensors, inputs and constants
//! are never cloned.

use std::ops::Range;

use super::{Fault, Graph, Layout, Node, ValueId, verify};
use crate::op::Op;

/// A graph whose backward pass computes values again.
#[derive(Debug, Clone, PartialEq)]
pub struct Recomputed {
    pub graph: Graph,
    /// Indexes of the nodes that are clones, a range for each run of them: right behind it stands the first node that reads one.
    /// A compiler that looks for equal computations has to be told that these are to be done again.
    pub again: Vec<Range<usize>>,
}

/// Forward nodes of one block, between others'.
struct Unit {
    /// In ascending order.
    nodes: Vec<usize>,
    /// The backward node that its clones stand before; `None` where nothing is computed again.
    before: Option<usize>,
}

/// `graph`, whose first `forward` nodes are the forward pass (see [`grad::passes`](super::grad::passes)), with its blocks' values
/// computed again where the backward pass reads them.
pub fn recompute_blocks(graph: &Graph, forward: usize, layout: &Layout) -> Result<Recomputed, Fault> {
    let (units, of) = units(&graph.nodes[..forward]);
    let again = computed_again(graph, &of);
    with_clones(graph, units, &of, &again, layout)
}

/// `graph`, as [`recompute_blocks`] takes it, with what norms and activations give to layers computed again: a pass over a value that
/// the backward pass reads then anyway, for the room of a value as large.
pub fn recompute_operands(graph: &Graph, forward: usize, layout: &Layout) -> Result<Recomputed, Fault> {
    let again = cheap(graph, forward);
    let mut of = vec![None; forward];
    let mut units = Vec::new();
    for id in (0..forward).filter(|id| again[*id]) {
        of[id] = Some(units.len());
        units.push(Unit { nodes: vec![id], before: None });
    }
    with_clones(graph, units, &of, &again, layout)
}

/// `graph` with the nodes `again` of its forward pass cloned, unit by unit; `of` says of each node in which it lies.
fn with_clones(
    graph: &Graph,
    mut units: Vec<Unit>,
    of: &[Option<usize>],
    again: &[bool],
    layout: &Layout,
) -> Result<Recomputed, Fault> {
    let forward = of.len();
    for (at, node) in graph.nodes.iter().enumerate().skip(forward) {
        for unit in node.inputs.iter().filter(|input| again.get(input.index()) == Some(&true)).map(|i| of[i.index()]) {
            units[unit.expect("only values of units are computed again")].before.get_or_insert(at);
        }
    }
    let mut made = Graph { nodes: Vec::with_capacity(graph.nodes.len()), ..graph.clone() };
    // Where each value lies now, for who reads it in its own pass, and where its clone does.
    let mut moved: Vec<ValueId> = Vec::with_capacity(graph.nodes.len());
    let mut clones: Vec<Option<ValueId>> = vec![None; forward];
    let mut again_at = Vec::new();
    for (at, node) in graph.nodes.iter().enumerate() {
        let read = |input: &ValueId, moved: &[ValueId], clones: &[Option<ValueId>]| {
            clones.get(input.index()).copied().flatten().unwrap_or(moved[input.index()])
        };
        let first = made.nodes.len();
        for unit in units.iter().filter(|unit| unit.before == Some(at)) {
            for id in unit.nodes.iter().copied().filter(|id| again[*id]) {
                let node = &graph.nodes[id];
                let inputs = node.inputs.iter().map(|input| read(input, &moved, &clones)).collect();
                clones[id] = Some(made.push(Node { inputs, ..node.clone() }));
            }
        }
        again_at.extend((made.nodes.len() > first).then_some(first..made.nodes.len()));
        let inputs = node.inputs.iter().map(|input| read(input, &moved, &clones)).collect();
        moved.push(made.push(Node { inputs, ..node.clone() }));
    }
    made.results_mut().for_each(|id| *id = moved[id.index()]);
    verify::passed("recomputing", &made, layout)?;
    Ok(Recomputed { graph: made, again: again_at })
}

/// The units of a forward pass, and of each node the unit that it lies in. Leaves lie in none.
fn units(nodes: &[Node]) -> (Vec<Unit>, Vec<Option<usize>>) {
    let mut units: Vec<Unit> = Vec::new();
    let mut of = vec![None; nodes.len()];
    let mut current = None;
    for (id, node) in nodes.iter().enumerate().filter(|(_, node)| !node.inputs.is_empty()) {
        let name = block(&node.scope);
        if name.is_some() && name != current {
            units.push(Unit { nodes: Vec::new(), before: None });
        }
        current = name;
        if name.is_some() {
            of[id] = Some(units.len() - 1);
            units.last_mut().expect("a block's first node opens its unit").nodes.push(id);
        }
    }
    (units, of)
}

/// The outermost repeated module of a scope: `encoder.blocks.3` of `encoder.blocks.3.mlp.fc1`.
fn block(scope: &str) -> Option<&str> {
    let mut end = 0;
    scope.split('.').find_map(|part| {
        end += part.len() + 1;
        let is_index = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        is_index.then(|| &scope[..end - 1])
    })
}

/// Of each forward node, whether the backward pass reads a clone: it lies in a unit (`of`), it or what is computed from it there
/// is read by the backward pass of the same block, and no other node and no result reads it.
fn computed_again(graph: &Graph, of: &[Option<usize>]) -> Vec<bool> {
    let forward = of.len();
    let mut kept = vec![false; forward];
    let mut wanted = vec![false; forward];
    graph.results().filter(|id| id.index() < forward).for_each(|id| kept[id.index()] = true);
    for (at, node) in graph.nodes.iter().enumerate() {
        for input in node.inputs.iter().map(|input| input.index()).filter(|input| *input < forward) {
            if at >= forward && block(&node.scope) == block(&graph.nodes[input].scope) {
                wanted[input] = true;
            } else if at >= forward || of[at] != of[input] {
                kept[input] = true;
            }
        }
    }
    let mut again = vec![false; forward];
    for id in (0..forward).rev() {
        again[id] = wanted[id] && !kept[id] && of[id].is_some();
        if again[id] {
            let within = |input: &&ValueId| of[input.index()] == of[id];
            graph.nodes[id].inputs.iter().filter(within).for_each(|input| wanted[input.index()] = true);
        }
    }
    again
}

/// Of each forward node, whether it is a norm or an activation that a layer reads, and that the backward pass reads too, not later
/// than the node's own operands, which are tensors or are kept.
fn cheap(graph: &Graph, forward: usize) -> Vec<bool> {
    let (mut of_layer, mut of_result) = (vec![false; forward], vec![false; forward]);
    graph.results().filter(|id| id.index() < forward).for_each(|id| of_result[id.index()] = true);
    // The first and the last node of the backward pass that read each.
    let mut read: Vec<Option<(usize, usize)>> = vec![None; forward];
    for (at, node) in graph.nodes.iter().enumerate() {
        for input in node.inputs.iter().map(|input| input.index()).filter(|input| *input < forward) {
            match at < forward {
                true => of_layer[input] |= node.op == Op::Linear,
                false => read[input] = Some((read[input].map_or(at, |(first, _)| first), at)),
            }
        }
    }
    let mut again = vec![false; forward];
    for (id, node) in graph.nodes[..forward].iter().enumerate() {
        let is_cheap = match node.op {
            Op::LayerNorm { .. } => true,
            ref op => op.is_element_wise() && node.inputs.len() == 1,
        };
        let Some((first, _)) = read[id].filter(|_| is_cheap && of_layer[id] && !of_result[id]) else { continue };
        again[id] = node.inputs.iter().all(|input| {
            let input = input.index();
            matches!(graph.nodes[input].op, Op::Param { .. })
                || !again[input] && read[input].is_some_and(|(_, last)| last >= first)
        });
    }
    again
}

#[cfg(test)]
mod tests {
    use super::block;

    #[test]
    fn the_outermost_repeated_module_is_the_block() {
        assert_eq!(block("encoder.blocks.3.mlp.fc1"), Some("encoder.blocks.3"));
        assert_eq!(block("encoder.blocks.11"), Some("encoder.blocks.11"));
        assert_eq!(block("encoder.stages.0.blocks.2.norm"), Some("encoder.stages.0"));
        assert_eq!(block("encoder.fc1"), None);
        assert_eq!(block(""), None);
    }
}
