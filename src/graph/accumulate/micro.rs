//! The parts that see one micro-batch at a time.

use super::{Class, Sorted, gradient_of, rows};
use crate::graph::{Graph, InputDecl, InputKind, Node, ValueId};
use crate::op::{Op, Type};

/// Which forms of a value a part needs.
#[derive(Debug, Clone, Copy, Default)]
struct Wanted {
    /// The block of a micro-batch.
    rows: bool,
    /// The same for every micro-batch.
    whole: bool,
}

/// A value in both forms.
#[derive(Debug, Clone, Copy, Default)]
struct Made {
    rows: Option<ValueId>,
    whole: Option<ValueId>,
}

impl Sorted {
    /// Gives `outputs`, which are values that keep samples apart.
    pub(super) fn forward(&self, outputs: &[(String, ValueId)], count: usize) -> Graph {
        let (mut graph, made) = self.micro(outputs, count);
        graph.outputs = outputs.iter().map(|(name, id)| (name.clone(), made[id.index()])).collect();
        graph
    }

    /// Its total is Σ value · gradient over `values`: what it is differentiated by is what the whole batch's total is.
    pub(super) fn backward(&self, values: &[(String, ValueId)], count: usize) -> Graph {
        let (mut graph, made) = self.micro(values, count);
        let mut total = None;
        for (name, id) in values {
            let value = made[id.index()];
            let Node { ty, scope, .. } = graph.node(value).clone();
            let name = gradient_of(name);
            let mut push = |op: Op, inputs: &[ValueId], ty: Type| {
                graph.nodes.push(Node { op, inputs: inputs.to_vec(), ty, scope: scope.clone() });
                ValueId(graph.nodes.len() as u32 - 1)
            };
            let axes = (0..ty.shape.len()).collect();
            let gradient = push(Op::Input { name: name.clone() }, &[], ty.clone());
            let product = push(Op::Mul, &[value, gradient], ty.clone());
            let sum = push(Op::Sum { axes, keep: false }, &[product], Type::float([]));
            total = Some(match total {
                None => sum,
                Some(before) => push(Op::Add, &[before, sum], Type::float([])),
            });
            graph.inputs.push(InputDecl { name, kind: InputKind::Joined, ty });
        }
        graph.total = total;
        graph
    }

    /// A graph that makes `values` for a micro-batch, and the place of each; of all others nothing is known.
    fn micro(&self, values: &[(String, ValueId)], count: usize) -> (Graph, Vec<ValueId>) {
        let nodes = &self.graph.nodes;
        let mut wanted = vec![Wanted::default(); nodes.len()];
        values.iter().for_each(|(_, id)| wanted[id.index()].rows = true);
        for (id, node) in nodes.iter().enumerate().rev() {
            let Wanted { rows, whole } = wanted[id];
            for (i, operand) in node.inputs.iter().enumerate() {
                let wanted = &mut wanted[operand.index()];
                let by_rows = rows && self.reads_rows(node, i);
                wanted.rows |= by_rows;
                wanted.whole |= whole || (rows && !by_rows);
            }
        }
        let mut graph = Graph::default();
        let mut made = vec![Made::default(); nodes.len()];
        for (id, node) in nodes.iter().enumerate() {
            let mut push = |node: Node| {
                graph.nodes.push(node);
                Some(ValueId(graph.nodes.len() as u32 - 1))
            };
            let Wanted { rows, whole } = wanted[id];
            let operand = |id: &ValueId, rows: bool| {
                let made: Made = made[id.index()];
                let value = if rows { made.rows } else { made.whole };
                value.expect("operands come first, in the form that is wanted")
            };
            let mut new = Made::default();
            if whole {
                let inputs = node.inputs.iter().map(|id| operand(id, false)).collect();
                new.whole = push(Node { inputs, ..node.clone() });
            }
            if rows {
                let inputs = node.inputs.iter().enumerate().map(|(i, id)| operand(id, self.reads_rows(node, i)));
                let inputs = inputs.collect();
                new.rows = push(Node { inputs, ty: block(&node.ty, count), ..node.clone() });
            }
            made[id] = new;
            if let Op::Input { name } = &node.op
                && (rows || whole)
                && let Some(decl) = self.graph.inputs.iter().find(|decl| decl.name == *name)
            {
                let ty = if rows { block(&decl.ty, count) } else { decl.ty.clone() };
                graph.inputs.push(InputDecl { ty, ..decl.clone() });
            }
        }
        let nowhere = ValueId(u32::MAX);
        (graph, made.into_iter().map(|made| made.rows.unwrap_or(nowhere)).collect())
    }

    /// Whether operand `i` of a node that is made by rows is read by rows.
    fn reads_rows(&self, node: &Node, i: usize) -> bool {
        let types: Vec<&Type> = node.inputs.iter().map(|id| &self.graph.node(*id).ty).collect();
        let rows = rows::reads(&node.op, &types, &node.ty, self.samples);
        debug_assert!(self.class(node.inputs[i]) != Class::Apart || rows.is_some());
        rows.is_some_and(|rows| rows.contains(&i))
    }
}

/// The type of one of `count` blocks.
fn block(ty: &Type, count: usize) -> Type {
    let mut ty = ty.clone();
    if let Some(axis) = rows::sample_axis(&ty.shape) {
        ty.shape[axis] /= count;
    }
    ty
}
