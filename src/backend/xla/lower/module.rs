//! A graph as a module of its own: what it reads are the arguments of `@main`, what it is there for are the results.

use std::collections::HashMap;

use super::text::{Function, Scalar, TensorType, Value};
use super::{Kernels, Values, emit, tensor_type};
use crate::graph::{Graph, ValueId};
use crate::op::{DType, Op};
use crate::plan::Passes;

/// What is passed for an argument.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Leaf {
    /// The tensor at a path.
    Param(String),
    /// The input of this name.
    Input(String),
}

/// A module's text, and what goes into it and comes out.
#[derive(Debug, Clone)]
pub struct Module {
    pub text: String,
    /// Each leaf once, in the order of the graph's first reader.
    pub arguments: Vec<(Leaf, TensorType)>,
    /// The values of [`Graph::results`] in their order; then, where there are [`Module::id_checks`], for each of them the first id
    /// that is out of range, else 0; then, where there are [`Module::watched`] values, for each of them a number that is finite
    /// if all of it is.
    pub results: Vec<TensorType>,
    /// Nodes that take ids which may be out of range, and what those have to lie below.
    pub id_checks: Vec<(ValueId, usize)>,
    pub watched: Vec<ValueId>,
}

/// The module of a graph whose floats are `scalar`, for a compiler with these `kernels`. `watch`: whether it tells of each value if it is finite.
pub fn module(passes: &Passes, scalar: Scalar, kernels: Kernels, watch: bool) -> Module {
    let graph = &passes.graph;
    let mut function = Function::with(kernels);
    let mut leaves: HashMap<Leaf, Value> = HashMap::new();
    let mut arguments = Vec::new();
    // Arguments are written before any op that reads one.
    for node in &graph.nodes {
        let Some(leaf) = leaf(&node.op) else { continue };
        leaves.entry(leaf.clone()).or_insert_with(|| {
            let ty = tensor_type(&node.ty, scalar);
            arguments.push((leaf, ty.clone()));
            function.argument(ty)
        });
    }
    let mut values = emit(&mut function, passes, scalar, &mut |_, node| {
        leaf(&node.op).and_then(|leaf| leaves.get(&leaf).cloned()).expect("every leaf has its argument")
    });
    let mut results: Vec<Value> = graph.results().map(|id| values.get(&mut function, id)).collect();
    let id_checks = values.id_checks.iter().map(|check| (check.node, check.limit)).collect();
    if !values.id_checks.is_empty() {
        let bad: Vec<Value> = values.id_checks.iter().map(|check| check.first_bad(&mut function)).collect();
        results.push(joined(&mut function, &bad));
    }
    let watched: Vec<ValueId> = if watch { made_floats(graph) } else { Vec::new() };
    if !watched.is_empty() {
        let sums: Vec<Value> = watched.iter().map(|id| spoilt(&mut function, &mut values, *id)).collect();
        results.push(joined(&mut function, &sums));
    }
    Module {
        text: function.module("graph", 1, &results.iter().collect::<Vec<_>>()),
        arguments,
        results: results.into_iter().map(|value| value.ty).collect(),
        id_checks,
        watched,
    }
}

fn leaf(op: &Op) -> Option<Leaf> {
    match op {
        Op::Param { path } => Some(Leaf::Param(path.clone())),
        Op::Input { name } => Some(Leaf::Input(name.clone())),
        _ => None,
    }
}

/// Values of floats that the graph computes or is fed.
fn made_floats(graph: &Graph) -> Vec<ValueId> {
    let is_made = |id: &ValueId| {
        let node = graph.node(*id);
        node.ty.dtype == DType::Float && !matches!(node.op, Op::Param { .. })
    };
    (0..graph.nodes.len() as u32).map(ValueId).filter(is_made).collect()
}

/// The sum of what is not finite in a value: 0 where all is, else itself not finite.
fn spoilt(function: &mut Function, values: &mut Values, id: ValueId) -> Value {
    let value = values.get(function, id);
    let is_finite = function.is_finite(&value);
    let zero = function.constant(0.0, &value.ty);
    let rest = function.select(&is_finite, &zero, &value);
    function.sum(&rest, &(0..value.rank()).collect::<Vec<_>>())
}

/// Scalars as one vector.
fn joined(function: &mut Function, scalars: &[Value]) -> Value {
    let ones: Vec<Value> = scalars.iter().map(|scalar| function.reshape(scalar, &[1])).collect();
    function.concat(&ones.iter().collect::<Vec<_>>(), 0)
}
