//! Checks a graph against its invariants, after every pass.
//!
//! Checked: operands come before their users; every node's type is what `op::shape::infer` says; inputs are declared
//! once with the type of their node, by what fills them once; parameters exist with their shape; losses, total and monitors are
//! scalars; updates name states of the same shape, gradients trained tensors. Of a layout: no path twice, every size within the
//! limit, averaged copies of the shape of what they follow, each moved once.

use std::collections::BTreeMap;

use crate::op::{DType, Op, Type, shape};

use super::{Graph, Layout, TensorKind, ValueId};

/// All violations, one line each.
pub fn verify(graph: &Graph, layout: &Layout) -> Result<(), Vec<String>> {
    let mut errors = Vec::new();
    let mut inputs: BTreeMap<&str, &Type> = BTreeMap::new();
    for input in &graph.inputs {
        if inputs.insert(&input.name, &input.ty).is_some() {
            errors.push(format!("input `{}` is declared twice", input.name));
        }
    }
    for (id, node) in graph.nodes.iter().enumerate() {
        if let Some(late) = node.inputs.iter().find(|i| i.index() >= id) {
            errors.push(format!("%{id} uses %{}, which does not come before it", late.0));
            continue;
        }
        let types: Vec<&Type> = node.inputs.iter().map(|i| &graph.node(*i).ty).collect();
        match shape::infer(&node.op, &types, Some(&node.ty)) {
            Ok(ty) if ty == node.ty => {}
            Ok(ty) => errors.push(format!("%{id} {} is typed {:?}, its operands give {ty:?}", node.op.name(), node.ty)),
            Err(error) => errors.push(format!("%{id} {}: {}", node.op.name(), error.message)),
        }
        match &node.op {
            Op::Input { name } => match inputs.get(name.as_str()) {
                Some(ty) if **ty == node.ty => {}
                Some(ty) => errors.push(format!("%{id} reads input `{name}` as {:?}, declared {ty:?}", node.ty)),
                None => errors.push(format!("%{id} reads input `{name}`, which is not declared")),
            },
            Op::Param { path } => match layout.get(path) {
                Some((decl, _)) if decl.shape == node.ty.shape && node.ty.dtype == DType::Float => {}
                Some((decl, _)) => {
                    errors.push(format!("%{id} reads `{path}` as {:?}, it is {:?}", node.ty, decl.shape))
                }
                None => errors.push(format!("%{id} reads `{path}`, which does not exist")),
            },
            _ => {}
        }
    }
    let ty = |id: ValueId| graph.nodes.get(id.index()).map(|n| &n.ty);
    let scalars = graph.losses.iter().chain(&graph.monitors).map(|(name, id)| (name.as_str(), *id));
    for (name, id) in scalars.chain(graph.total.map(|id| ("total", id))) {
        if ty(id) != Some(&Type::float([])) {
            errors.push(format!("`{name}` is no scalar: {:?}", ty(id)));
        }
    }
    for (path, id) in &graph.updates {
        match (layout.get(path), ty(*id)) {
            (Some((decl, _)), Some(ty)) if decl.kind == TensorKind::State && decl.shape == ty.shape => {}
            (Some(_), found) => errors.push(format!("the update of `{path}` does not fit: {found:?}")),
            (None, _) => errors.push(format!("the update of `{path}` names no state")),
        }
    }
    for (path, id) in &graph.gradients {
        match (layout.get(path), ty(*id)) {
            (Some((decl, _)), Some(ty)) if decl.kind == TensorKind::Trained && decl.shape == ty.shape => {}
            (_, found) => errors.push(format!("the gradient of `{path}` is not that of a trained tensor: {found:?}")),
        }
    }
    for initial in &graph.initial {
        let fits = match (layout.get(&initial.path), ty(initial.value)) {
            (Some((decl, _)), Some(ty)) if decl.kind == TensorKind::State && ty.dtype == DType::Float => {
                decl.shape.len() == 2 && ty.shape.last() == decl.shape.last() && ty.elements() >= decl.elements()
            }
            _ => false,
        };
        if !fits {
            errors.push(format!("the first value of `{}` does not fit: {:?}", initial.path, ty(initial.value)));
        }
    }
    for (name, id) in &graph.outputs {
        if ty(*id).is_none() {
            errors.push(format!("output `{name}` names no value"));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}
