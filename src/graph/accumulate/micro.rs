//! The parts that see one micro-batch at a time.

use super::{Class, Sorted, gradient_of};
use crate::graph::{Graph, InputDecl, InputKind, Node, ValueId};
use crate::op::{Op, Type};

/// A form of a value in a part: all of it, the same for every micro-batch, or its block along an axis.
pub(super) type Form = Option<usize>;

/// What makes values of a micro-batch.
pub(super) struct Made {
    pub graph: Graph,
    /// The place of each value that was asked for; of all others nothing is known.
    pub places: Vec<ValueId>,
    /// The form of each of the graph's values.
    pub forms: Vec<Form>,
}

impl Sorted {
    /// Gives `outputs`, which are values that keep samples apart.
    pub(super) fn forward(&self, outputs: &[(String, ValueId)], count: usize) -> Graph {
        let Made { mut graph, places: made, .. } = self.micro(outputs, count);
        graph.outputs = outputs.iter().map(|(name, id)| (name.clone(), made[id.index()])).collect();
        graph
    }

    /// Its total is Σ value · gradient over `values`: what it is differentiated by is what the whole batch's total is.
    pub(super) fn backward(&self, values: &[(String, ValueId)], count: usize) -> Graph {
        self.both(values, &[], count)
    }

    /// The same, which gives `outputs` too.
    pub(super) fn both(&self, values: &[(String, ValueId)], outputs: &[(String, ValueId)], count: usize) -> Graph {
        let Made { mut graph, places: made, .. } = self.micro(&[values, outputs].concat(), count);
        graph.outputs = outputs.iter().map(|(name, id)| (name.clone(), made[id.index()])).collect();
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

    /// A graph that makes the blocks of `values` for a micro-batch.
    pub(super) fn micro(&self, values: &[(String, ValueId)], count: usize) -> Made {
        let nodes = &self.graph.nodes;
        let axis = |id: ValueId| match self.class(id) {
            Class::Apart(axis) => axis,
            Class::Shared | Class::Joined(_) => unreachable!("only what keeps samples apart is asked of micro-batches"),
        };
        let mut wanted: Vec<Vec<Form>> = vec![Vec::new(); nodes.len()];
        values.iter().for_each(|(_, id)| wanted[id.index()] = vec![Some(axis(*id))]);
        for (id, node) in nodes.iter().enumerate().rev() {
            for form in wanted[id].clone() {
                for (operand, form) in node.inputs.iter().zip(self.operand_forms(node, form)) {
                    let wanted = &mut wanted[operand.index()];
                    if !wanted.contains(&form) {
                        wanted.push(form);
                    }
                }
            }
        }
        let (mut graph, mut forms_made) = (Graph::default(), Vec::new());
        let mut made: Vec<Vec<(Form, ValueId)>> = vec![Vec::new(); nodes.len()];
        for (id, node) in nodes.iter().enumerate() {
            for form in &wanted[id] {
                let forms = self.operand_forms(node, *form);
                let operand = |(id, form): (&ValueId, Form)| {
                    let made = made[id.index()].iter().find(|(of, _)| *of == form);
                    made.expect("operands come first, in the form that is wanted").1
                };
                let inputs = node.inputs.iter().zip(forms).map(operand).collect();
                let ty = block(&node.ty, *form, count);
                if let Op::Input { name } = &node.op
                    && let Some(decl) = self.graph.inputs.iter().find(|decl| decl.name == *name)
                {
                    graph.inputs.push(InputDecl { ty: ty.clone(), ..decl.clone() });
                }
                made[id].push((*form, ValueId(graph.nodes.len() as u32)));
                graph.nodes.push(Node { inputs, ty, ..node.clone() });
                forms_made.push(*form);
            }
        }
        let nowhere = ValueId(u32::MAX);
        let places = made.iter().map(|forms| forms.first().map_or(nowhere, |(_, value)| *value)).collect();
        Made { graph, places, forms: forms_made }
    }

    /// The forms of the operands of a node that is made in form `form`.
    fn operand_forms(&self, node: &Node, form: Form) -> Vec<Form> {
        let cuts = form.and_then(|axis| self.cuts(node, axis));
        cuts.unwrap_or_else(|| vec![None; node.inputs.len()])
    }
}

/// The type of one of `count` blocks, or of the whole.
fn block(ty: &Type, form: Form, count: usize) -> Type {
    let mut ty = ty.clone();
    if let Some(axis) = form {
        ty.shape[axis] /= count;
    }
    ty
}
