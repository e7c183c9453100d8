//! Values of the graph that a file gives instead of letting them be computed: a mask drawn by another rule, ids of a
//! tokenizer that the file does not hold.
//!
//! **Invariant:** only values that the mapping names are replaced; what else the graph computes is computed.

use super::map::Map;
use crate::graph::{Graph, InputDecl, InputKind, Node, Program, prune};
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
        program.train = prune::prune(graph);
    }
    program
}
