//! Checks a graph against its invariants, after every pass.
//!
//! Checked: operands come before their users; every node's type is what `op::shape::infer` says; inputs are declared
//! once with the type of their node; parameters exist with their shape; losses, total and monitors are scalars; updates
//! name states of the same shape, gradients trained tensors. Of the tensors themselves: no path twice, sizes that can be
//! addressed, initial values that fill them, averaged copies of the shape of what they follow, each moved once a step.

use std::collections::{BTreeMap, BTreeSet};

use crate::op::{DType, Op, Type, shape};
use crate::spec::EmaSpec;

use super::{Graph, Layout, TensorDecl, TensorKind, ValueId};

/// A graph that breaks its rules: a fault of the pass that made it, which no pipeline can be blamed for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("internal error: {pass} made an invalid graph: {}", .faults.join("; "))]
pub struct Fault {
    pub pass: &'static str,
    /// One line each.
    pub faults: Vec<String>,
}

/// Checks what a pass has made.
pub fn passed(pass: &'static str, graph: &Graph, layout: &Layout) -> Result<(), Fault> {
    verify(graph, layout).map_err(|faults| Fault { pass, faults })
}

/// Checks the tensors of a program before they are laid out.
pub fn tensors(decls: &[TensorDecl], emas: &[EmaSpec]) -> Result<(), Fault> {
    let mut faults = Vec::new();
    let mut by_path: BTreeMap<&str, &TensorDecl> = BTreeMap::new();
    let mut bytes: Option<usize> = Some(0);
    for decl in decls {
        if by_path.insert(&decl.path, decl).is_some() {
            faults.push(format!("the tensor `{}` is declared twice", decl.path));
        }
        let elements = decl.shape.iter().try_fold(size_of::<f64>(), |product, size| product.checked_mul(*size));
        bytes = bytes.zip(elements).and_then(|(sum, more)| sum.checked_add(more));
        if let Err(unfit) = decl.init.fills(&decl.shape) {
            faults.push(format!("`{}`: {}", decl.path, unfit.why));
        }
    }
    if bytes.is_none_or(|bytes| isize::try_from(bytes).is_err()) {
        faults.push("the tensors are larger than what can be addressed".to_owned());
    }
    let mut moved: BTreeSet<&str> = BTreeSet::new();
    for (copy, source) in emas.iter().flat_map(|ema| &ema.pairs) {
        if !moved.insert(copy) {
            faults.push(format!("the copy `{copy}` is moved twice a step"));
        }
        match (by_path.get(copy.as_str()), by_path.get(source.as_str())) {
            (Some(to), Some(from)) if to.kind == TensorKind::Ema && to.shape == from.shape && copy != source => {}
            // What no graph reads is left out with the import that it came from.
            (None, _) | (_, None) => {}
            (Some(_), Some(_)) => faults.push(format!("`{copy}` cannot follow `{source}`")),
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(Fault { pass: "the compiler", faults }) }
}

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
