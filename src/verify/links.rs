//! Which tensors of the file make up which tensor of the pipeline, and where in it each lies.
//!
//! Before: [`super::map`] gives the rules. After: [`super`] loads weights and cuts gradients and states by them.
//!
//! **Invariant:** the names linked with a tensor have, joined along axis 0, exactly its values.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::file::{Fixture, Tensor};
use super::map::Rule;
use super::problem::Problem;
use crate::graph::{Graph, Layout, TensorKind};
use crate::op::Op;
use crate::pattern::closest;
use crate::spec::glob_matches;
use crate::tensor::Element;

/// Where a tensor of the file lies in the pipeline's: values `range` of tensor `index` of the layout.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    pub index: usize,
    pub range: Range<usize>,
}

/// Links of a whole layout with a file's weights.
#[derive(Debug, Clone, Default)]
pub struct Links {
    /// (tensor's index, names without the section), in the layout's order.
    pub tensors: Vec<(usize, Vec<String>)>,
    /// By name without the section. A name that several tensors are made of stands with the first of the layout,
    /// which is the trained one where there is one.
    places: HashMap<String, Place>,
}

impl Links {
    /// Links every tensor of `layout` that the file has weights for; tensors that `graph` reads must be linked.
    pub fn new(
        layout: &Layout,
        graph: &Graph,
        rules: &[Rule],
        reshape: &[String],
        file: &Fixture,
        problems: &mut Vec<Problem>,
    ) -> Links {
        let needed: HashSet<&str> = graph.nodes.iter().filter_map(|node| param_path(&node.op)).collect();
        let weights: HashMap<&str, &Tensor> = file.section("weights").collect();
        let mut links = Links::default();
        for (index, decl) in layout.tensors.iter().enumerate() {
            let tried: Vec<Vec<String>> = rules.iter().filter_map(|rule| rule.names_for(&decl.path)).collect();
            let Some(names) = tried.iter().find(|names| names.iter().all(|name| weights.contains_key(name.as_str())))
            else {
                if needed.contains(decl.path.as_str()) {
                    let tried: Vec<String> = tried.into_iter().flatten().collect();
                    // The name of the first rule that matches is what the author meant.
                    let missing = tried.iter().find(|name| !weights.contains_key(name.as_str()));
                    let suggestion = missing.and_then(|name| closest(name, weights.keys().copied()));
                    problems.push(Problem::MissingWeight { path: decl.path.clone(), tried, suggestion });
                }
                continue;
            };
            let parts: Vec<&Tensor> = names.iter().map(|name| weights[name.as_str()]).collect();
            let may_reshape = reshape.iter().any(|glob| glob_matches(glob, &decl.path));
            let joined = joined_shape(&parts);
            let same_count = parts.iter().map(|part| part.values.len()).sum::<usize>() == decl.elements();
            if joined.as_ref() != Some(&decl.shape) && !(may_reshape && same_count) {
                problems.push(Problem::Shape {
                    path: decl.path.clone(),
                    expected: decl.shape.clone(),
                    names: names.clone(),
                    found: parts.iter().map(|part| part.shape.clone()).collect(),
                });
                continue;
            }
            let mut start = 0;
            for (name, part) in names.iter().zip(parts) {
                let range = start..start + part.values.len();
                start = range.end;
                links.places.entry(name.clone()).or_insert(Place { index, range });
            }
            links.tensors.push((index, names.clone()));
        }
        links
    }

    pub fn place(&self, name: &str) -> Option<&Place> {
        self.places.get(name)
    }

    /// Trained tensors of which no part is in `names` (without the section).
    pub fn trained_without(&self, layout: &Layout, names: &HashSet<&str>) -> Vec<String> {
        let linked: HashMap<usize, &Vec<String>> = self.tensors.iter().map(|(index, names)| (*index, names)).collect();
        let trained = layout.tensors.iter().enumerate().filter(|(_, decl)| decl.kind == TensorKind::Trained);
        trained
            .filter(|(index, _)| !linked.get(index).is_some_and(|n| n.iter().all(|name| names.contains(name.as_str()))))
            .map(|(_, decl)| decl.path.clone())
            .collect()
    }

    /// Writes the file's weights into `arena`.
    pub fn load<E: Element>(&self, layout: &Layout, file: &Fixture, arena: &mut [E]) {
        for (index, names) in &self.tensors {
            let values = names.iter().flat_map(|name| {
                let tensor = file.tensor(&format!("weights.{name}")).expect("links are made of the file's own names");
                tensor.values.to_f64()
            });
            for (slot, value) in arena[layout.range(*index)].iter_mut().zip(values) {
                *slot = E::from_f64(value);
            }
        }
    }
}

fn param_path(op: &Op) -> Option<&str> {
    match op {
        Op::Param { path } => Some(path),
        _ => None,
    }
}

/// Shape of `parts` joined along axis 0; `None` where they do not fit together.
fn joined_shape(parts: &[&Tensor]) -> Option<Vec<usize>> {
    let (first, rest) = parts.split_first()?;
    let mut shape = first.shape.clone();
    for part in rest {
        let (rows, sides) = part.shape.split_first()?;
        let (all, own) = shape.split_first_mut()?;
        if own != sides {
            return None;
        }
        *all += rows;
    }
    Some(shape)
}
