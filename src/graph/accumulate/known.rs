//! Gradients of joined values that are known before any micro-batch is run: those of a mean over samples, whatever its weights, and
//! over masked tokens, whose count hangs on noise alone.

use super::{Sorted, gradient_of, name_of};
use crate::graph::{Fault, Graph, InputKind, Layout, Node, ValueId, grad, prune};
use crate::op::Op;

impl Sorted {
    /// The graph that gives the gradients of `values`, which are tensors of the coupled part's `layout`, from the batch's inputs and the
    /// program's own tensors. `None` where one of them hangs on what only an encoder makes, or where there are none.
    pub(super) fn known(
        &self,
        coupled: &Graph,
        layout: &Layout,
        values: &[(String, ValueId)],
    ) -> Result<Option<Graph>, Fault> {
        if values.is_empty() {
            return Ok(None);
        }
        let Graph { nodes, inputs, gradients, .. } = grad::differentiate(coupled, layout)?;
        let gradient =
            |path: &String| gradients.iter().find(|(of, _)| of == path).map(|(_, id)| (gradient_of(path), *id));
        let Some(outputs) = values.iter().map(|(path, _)| gradient(path)).collect::<Option<Vec<_>>>() else {
            return Ok(None);
        };
        let after = prune::prune(&Graph { nodes, inputs, outputs, ..Graph::default() });
        // In place of a joined value stands all that it is made of, if that is little.
        let joined = |node: &Node| match &node.op {
            Op::Param { path: name } | Op::Input { name } => self.joined(name),
            _ => None,
        };
        let wanted: Vec<(String, ValueId)> =
            after.nodes.iter().filter_map(joined).map(|id| (name_of(id), id)).collect();
        let before = prune::prune(&Graph { outputs: wanted, ..self.bare() });
        if before.nodes.iter().any(|node| self.comes_late(node)) {
            return Ok(None);
        }
        let Graph { mut nodes, mut inputs, outputs: made, .. } = before;
        let mut new_ids: Vec<ValueId> = Vec::with_capacity(after.nodes.len());
        for node in &after.nodes {
            let replaced = joined(node).and_then(|id| made.iter().find(|(name, _)| *name == name_of(id)));
            new_ids.push(match replaced {
                Some((_, id)) => *id,
                None => {
                    let operands = node.inputs.iter().map(|id| new_ids[id.index()]).collect();
                    nodes.push(Node { inputs: operands, ..node.clone() });
                    ValueId(nodes.len() as u32 - 1)
                }
            });
        }
        inputs.extend(after.inputs.iter().filter(|decl| decl.kind != InputKind::Joined).cloned());
        inputs.sort_by(|a, b| a.name.cmp(&b.name));
        inputs.dedup_by(|a, b| a.name == b.name);
        let outputs = after.outputs.iter().map(|(name, id)| (name.clone(), new_ids[id.index()])).collect();
        Ok(Some(prune::prune(&Graph { nodes, inputs, outputs, ..Graph::default() })))
    }

    /// The joined value of that name.
    fn joined(&self, name: &str) -> Option<ValueId> {
        let index: u32 = name.strip_prefix('%')?.parse().ok()?;
        ((index as usize) < self.graph.nodes.len()).then_some(ValueId(index))
    }

    /// All nodes and inputs, and no results.
    fn bare(&self) -> Graph {
        Graph { nodes: self.graph.nodes.clone(), inputs: self.graph.inputs.clone(), ..Graph::default() }
    }

    /// Whether a value takes more than noise, labels and numbers: pictures, or a tensor.
    fn comes_late(&self, node: &Node) -> bool {
        match &node.op {
            Op::Param { .. } => true,
            Op::Input { name } => {
                let decl = self.graph.inputs.iter().find(|decl| decl.name == *name);
                decl.is_some_and(|decl| matches!(decl.kind, InputKind::View { .. } | InputKind::Beside { .. }))
            }
            _ => false,
        }
    }
}
