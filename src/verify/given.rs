//! Values of the graph that a file gives instead of letting them be computed: a mask drawn by another rule, ids of a
//! tokenizer that the file does not hold.
//!
//! **Invariant:** only values that the mapping names are replaced; what else the graph computes is computed.

use std::collections::HashMap;

use super::map::Map;
use crate::graph::{Graph, InputDecl, InputKind, Node, Program, ValueId};
use crate::op::{DType, Op};

/// `program` with every output of the graph that the mapping lists under `inputs` turned into an input.
pub fn with_given(program: &Program, map: &Map) -> Program {
    let mut program = program.clone();
    let graph = &mut program.train;
    let is_input = |graph: &Graph, name: &str| graph.inputs.iter().any(|input| input.name == name);
    let mut replaced = false;
    for (name, _) in &map.inputs {
        let Some(id) = graph.output(name).filter(|_| !is_input(graph, name)) else { continue };
        let ty = graph.node(id).ty.clone();
        // Given as a whole: no kind of drawing applies to it.
        let kind = if ty.dtype == DType::Int { InputKind::Label } else { InputKind::Random };
        graph.inputs.push(InputDecl { name: name.clone(), kind, ty: ty.clone() });
        let scope = graph.node(id).scope.clone();
        graph.nodes[id.index()] = Node { op: Op::Input { name: name.clone() }, inputs: Vec::new(), ty, scope };
        replaced = true;
    }
    if replaced {
        let wanted: Vec<&str> = map.outputs.iter().map(|(_, value)| value.as_str()).collect();
        let columns = map.step_losses.iter().flat_map(|s| &s.columns).map(String::as_str);
        let wanted: Vec<&str> = wanted.into_iter().chain(columns).collect();
        graph.outputs.retain(|(name, _)| wanted.contains(&name.as_str()));
        remove_unused(graph);
    }
    program
}

/// Leaves out what neither losses, monitors and states nor the outputs need.
fn remove_unused(graph: &mut Graph) {
    let mut needed = vec![false; graph.nodes.len()];
    let named = graph.losses.iter().chain(&graph.monitors).chain(&graph.updates).chain(&graph.outputs);
    let roots = named.map(|(_, id)| *id).chain(graph.total).chain(graph.initial.iter().map(|i| i.value));
    roots.for_each(|id| needed[id.index()] = true);
    for id in (0..graph.nodes.len()).rev() {
        if needed[id] {
            graph.nodes[id].inputs.clone().into_iter().for_each(|i| needed[i.index()] = true);
        }
    }
    let mut places: HashMap<ValueId, ValueId> = HashMap::new();
    let mut nodes = Vec::new();
    for (id, mut node) in std::mem::take(&mut graph.nodes).into_iter().enumerate().filter(|(id, _)| needed[*id]) {
        places.insert(ValueId(id as u32), ValueId(nodes.len() as u32));
        node.inputs.iter_mut().for_each(|i| *i = places[i]);
        nodes.push(node);
    }
    graph.nodes = nodes;
    for list in [&mut graph.losses, &mut graph.monitors, &mut graph.updates, &mut graph.outputs] {
        list.iter_mut().for_each(|(_, id)| *id = places[id]);
    }
    graph.total = graph.total.map(|id| places[&id]);
    graph.initial.iter_mut().for_each(|initial| initial.value = places[&initial.value]);
    let read: Vec<String> = graph
        .nodes
        .iter()
        .filter_map(|node| match &node.op {
            Op::Input { name } => Some(name.clone()),
            _ => None,
        })
        .collect();
    graph.inputs.retain(|input| read.contains(&input.name));
}
