//! Reverse-mode differentiation: a graph whose further nodes are the gradients of its total.
//!
//! After: `plan` sees one graph and need not know which of its nodes belong to which pass.
//!
//! **Invariant:** a node is differentiated after all its users, for users have greater ids; its gradient is the sum of what
//! they contributed. Only values between a trained tensor and the total get one ([`Graph::carries_gradient`]), and
//! [`prune`](super::prune) removes what was made for operands that need none.

mod vjp;

use std::collections::BTreeMap;

use super::{Fault, Graph, Layout, Node, ValueId, prune, verify};
use crate::op::{Op, Type, shape};

/// What a user adds to the gradient of an operand.
#[derive(Debug, Clone, Copy)]
enum Part {
    Whole(ValueId),
    /// For `start..end` of `axis`; zero elsewhere.
    Slice {
        axis: usize,
        start: usize,
        end: usize,
        value: ValueId,
    },
}

/// `graph` with the gradients of its total as [`Graph::gradients`], of trained tensors that the total depends on.
///
/// Without a total, or where the total depends on no trained tensor, there are none.
pub fn differentiate(graph: &Graph, layout: &Layout) -> Result<Graph, Fault> {
    Ok(passes(graph, layout)?.0)
}

/// [`differentiate`], and how many of its graph's nodes, which stand first, are the forward pass.
pub fn passes(graph: &Graph, layout: &Layout) -> Result<(Graph, usize), Fault> {
    let carries = graph.carries_gradient(layout);
    let mut parts: Vec<Vec<Part>> = vec![Vec::new(); graph.nodes.len()];
    let mut pass = Pass { graph: graph.clone(), scope: String::new(), faults: Vec::new() };
    if let Some(total) = graph.total.filter(|total| carries[total.index()]) {
        let one = pass.full(1.0, &Type::float([]));
        parts[total.index()].push(Part::Whole(one));
    }
    let mut found: BTreeMap<usize, Vec<ValueId>> = BTreeMap::new();
    for (id, node) in graph.nodes.iter().enumerate().rev() {
        if !carries[id] || parts[id].is_empty() {
            continue;
        }
        pass.scope.clone_from(&node.scope);
        let gradient = pass.sum(std::mem::take(&mut parts[id]), &node.ty);
        if let Op::Param { path } = &node.op {
            found
                .entry(layout.index(path).expect("it carries a gradient, so it is trained"))
                .or_default()
                .push(gradient);
            continue;
        }
        for (operand, part) in pass.vjp(node, ValueId(id as u32), gradient) {
            let operand = node.inputs[operand].index();
            if carries[operand] {
                parts[operand].push(part);
            }
        }
    }
    for (index, values) in found {
        let decl = &layout.tensors[index];
        let parts = values.into_iter().map(Part::Whole).collect();
        let gradient = pass.sum(parts, &Type::float(decl.shape.as_slice()));
        pass.graph.gradients.push((decl.path.clone(), gradient));
    }
    let forward = prune::needed(&pass.graph)[..graph.nodes.len()].iter().filter(|needed| **needed).count();
    let graph = prune::prune(&pass.graph);
    if !pass.faults.is_empty() {
        return Err(Fault { pass: "differentiation", faults: pass.faults });
    }
    verify::passed("differentiation", &graph, layout)?;
    Ok((graph, forward))
}

/// The graph as it grows.
struct Pass {
    graph: Graph,
    /// Of the node being differentiated; its gradient's nodes carry it too.
    scope: String,
    /// Ops that did not fit their operands: no graph is given then.
    faults: Vec<String>,
}

impl Pass {
    fn ty(&self, id: ValueId) -> &Type {
        &self.graph.node(id).ty
    }

    fn shape(&self, id: ValueId) -> &[usize] {
        &self.ty(id).shape
    }

    fn push(&mut self, op: Op, inputs: &[ValueId], declared: Option<Type>) -> ValueId {
        let types: Vec<&Type> = inputs.iter().map(|id| self.ty(*id)).collect();
        let ty = match shape::infer(&op, &types, declared.as_ref()) {
            Ok(ty) => ty,
            Err(error) => {
                let ty = declared.or_else(|| types.first().map(|ty| (*ty).clone()));
                self.faults.push(format!("{} at {}: {}", op.name(), self.scope, error.message));
                ty.unwrap_or_else(|| Type::float([]))
            }
        };
        self.graph.push(Node { op, inputs: inputs.to_vec(), ty, scope: self.scope.clone() })
    }

    fn op(&mut self, op: Op, inputs: &[ValueId]) -> ValueId {
        self.push(op, inputs, None)
    }

    fn full(&mut self, value: f64, ty: &Type) -> ValueId {
        self.push(Op::Full { value }, &[], Some(ty.clone()))
    }

    fn reshape(&mut self, x: ValueId, shape: &[usize]) -> ValueId {
        if self.shape(x) == shape {
            return x;
        }
        self.push(Op::Reshape, &[x], Some(Type::float(shape)))
    }

    /// Adds up parts. Slices that lie side by side, as those of query, key and value in one projection, are joined: padding
    /// each to the whole and adding would move three times as much.
    fn sum(&mut self, parts: Vec<Part>, ty: &Type) -> ValueId {
        let mut values = Vec::new();
        let mut slices: BTreeMap<usize, Vec<(usize, usize, ValueId)>> = BTreeMap::new();
        for part in parts {
            match part {
                Part::Whole(value) => values.push(value),
                Part::Slice { axis, start, end, value } => slices.entry(axis).or_default().push((start, end, value)),
            }
        }
        for (axis, mut rest) in slices {
            rest.sort_by_key(|(start, ..)| *start);
            while !rest.is_empty() {
                let mut end = 0;
                let mut row = Vec::new();
                rest.retain(|slice| {
                    let fits = slice.0 >= end;
                    if fits {
                        end = slice.1;
                        row.push(*slice);
                    }
                    !fits
                });
                values.push(self.joined(axis, &row, ty));
            }
        }
        values.into_iter().reduce(|sum, value| self.op(Op::Add, &[sum, value])).expect("a gradient has a part")
    }

    /// Disjoint slices of `axis` in ascending order, zeros between them.
    fn joined(&mut self, axis: usize, slices: &[(usize, usize, ValueId)], ty: &Type) -> ValueId {
        let (mut operands, mut at) = (Vec::new(), 0);
        let behind_last = (ty.shape[axis], ty.shape[axis], None);
        let slices = slices.iter().map(|(start, end, value)| (*start, *end, Some(*value)));
        for (start, end, value) in slices.chain([behind_last]) {
            if start > at {
                let mut gap = ty.shape.clone();
                gap[axis] = start - at;
                operands.push(self.full(0.0, &Type::float(gap)));
            }
            operands.extend(value);
            at = end;
        }
        match operands.as_slice() {
            [one] => *one,
            _ => self.op(Op::Concat { axis }, &operands),
        }
    }
}
