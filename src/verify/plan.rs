//! What will be run and compared: mapping, file and graph brought together, with every gap named.
//!
//! Before: [`super::map`] and [`super::file`] are read, the pipeline is compiled. After: [`super`] runs it.
//!
//! **Invariant:** a plan without problems accounts for every tensor of the file, for every input of the graph, and
//! for every parameter that the graph reads.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::compare::Absolute;
use super::file::{Fixture, Values};
use super::links::Links;
use super::map::{Map, Mode};
use super::problem::Problem;
use crate::graph::{Graph, InputKind, Layout, Program, TensorKind};
use crate::op::DType;
use crate::pattern::closest;
use crate::spec::glob_matches;
use crate::tensor::{HostTensor, InputValue};

/// A value of a run that a mapping can name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Loss(usize),
    Total,
    Monitor(usize),
    /// Index into [`Plan::requested`].
    Output(usize),
}

/// A run and its comparisons; the parts are in no particular order.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub links: Links,
    pub inputs: Vec<(String, InputValue)>,
    /// Outputs of the graph to ask for.
    pub requested: Vec<String>,
    /// (file's tensor, value).
    pub outputs: Vec<(String, Value)>,
    pub step_losses: Option<(String, Vec<Value>)>,
    /// Values whose gradient is zero in exact arithmetic, by the tensor's index.
    pub null: HashMap<usize, Vec<Range<usize>>>,
    /// Trained tensor that an EMA copy follows, by index.
    pub ema_source: HashMap<usize, usize>,
    pub ignored: Vec<String>,
    pub without_gradient: Vec<String>,
}

impl Plan {
    pub fn new(program: &Program, graph: &Graph, file: &Fixture, map: &Map) -> Result<Plan, super::VerifyError> {
        let rules = map.rules()?;
        let layout = &program.layout;
        let mut problems = Vec::new();
        let mut plan = Plan {
            links: Links::new(layout, graph, &rules, &map.reshape, file, &mut problems),
            ignored: file.names().filter(|n| is_ignored(map, n)).map(str::to_owned).collect(),
            ..Plan::default()
        };
        plan.add_inputs(graph, file, map, &mut problems);
        plan.add_outputs(graph, file, map, &mut problems);
        plan.add_null_gradients(file, map, &mut problems);
        for ema in &program.emas {
            for (copy, source) in &ema.pairs {
                if let (Some(copy), Some(source)) = (layout.index(copy), layout.index(source)) {
                    plan.ema_source.insert(copy, source);
                }
            }
        }
        if map.mode == Mode::Train {
            plan.check_states(layout, graph, file, map, &mut problems);
        }
        plan.check_used(file, map, &mut problems);
        if problems.is_empty() { Ok(plan) } else { Err(super::VerifyError::Problems(problems)) }
    }

    fn add_inputs(&mut self, graph: &Graph, file: &Fixture, map: &Map, problems: &mut Vec<Problem>) {
        for (name, tensor) in &map.inputs {
            let Some(decl) = graph.inputs.iter().find(|decl| decl.name == *name) else {
                let suggestion = closest(name, graph.inputs.iter().map(|decl| decl.name.as_str()));
                problems.push(Problem::UnknownInput { name: name.clone(), suggestion });
                continue;
            };
            let Some(found) = file.tensor(tensor) else {
                problems.push(no_tensor(file, tensor));
                continue;
            };
            let shape = found.shape.clone();
            let value = match (decl.ty.dtype, &found.values) {
                (DType::Int, Values::Int(values)) => Some(InputValue::Int(HostTensor { shape, data: values.clone() })),
                (DType::Float, values) => {
                    let data = values.to_f64();
                    // As the loader gives them, unless the file holds what f32 cannot.
                    let single = data.iter().all(|x| f64::from(*x as f32) == *x);
                    Some(match single {
                        true => InputValue::Float(HostTensor { shape, data: data.iter().map(|x| *x as f32).collect() }),
                        false => InputValue::Double(HostTensor { shape, data }),
                    })
                }
                (DType::Int, Values::Float(_)) => None,
            };
            match value.filter(|_| found.shape == decl.ty.shape) {
                Some(value) => self.inputs.push((name.clone(), value)),
                None => problems.push(Problem::InputType {
                    name: name.clone(),
                    tensor: tensor.clone(),
                    expected: format!("{:?} {:?}", decl.ty.dtype, decl.ty.shape).to_lowercase(),
                    found: format!("{} {:?}", dtype_name(&found.values), found.shape),
                }),
            }
        }
        // A scheduled number that the file does not hold is that of the step.
        for decl in graph.inputs.iter().filter(|d| !matches!(d.kind, InputKind::Schedule(_))) {
            if !map.inputs.iter().any(|(name, _)| *name == decl.name) {
                problems.push(Problem::MissingInput { name: decl.name.clone() });
            }
        }
    }

    fn add_outputs(&mut self, graph: &Graph, file: &Fixture, map: &Map, problems: &mut Vec<Problem>) {
        for (tensor, name) in &map.outputs {
            if file.tensor(tensor).is_none() {
                problems.push(no_tensor(file, tensor));
            }
            if let Some(value) = self.value(graph, name, problems) {
                self.outputs.push((tensor.clone(), value));
            }
        }
        if let Some(step_losses) = &map.step_losses {
            if file.tensor(&step_losses.tensor).is_none() {
                problems.push(no_tensor(file, &step_losses.tensor));
            }
            let columns = step_losses.columns.iter().filter_map(|name| self.value(graph, name, problems)).collect();
            self.step_losses = Some((step_losses.tensor.clone(), columns));
        }
    }

    fn value(&mut self, graph: &Graph, name: &str, problems: &mut Vec<Problem>) -> Option<Value> {
        // An output first: a pipeline may call a branch `losses`.
        if graph.output(name).is_some() {
            let index = self.requested.iter().position(|asked| asked == name).unwrap_or_else(|| {
                self.requested.push(name.to_owned());
                self.requested.len() - 1
            });
            return Some(Value::Output(index));
        }
        let found = match name.split_once('.') {
            Some(("losses", "total")) if graph.total.is_some() => Some(Value::Total),
            Some(("losses", loss)) => graph.losses.iter().position(|(n, _)| n == loss).map(Value::Loss),
            Some(("monitors", monitor)) => graph.monitors.iter().position(|(n, _)| n == monitor).map(Value::Monitor),
            _ => None,
        };
        if found.is_none() {
            let losses = graph.losses.iter().map(|(n, _)| format!("losses.{n}"));
            let monitors = graph.monitors.iter().map(|(n, _)| format!("monitors.{n}"));
            let outputs = graph.outputs.iter().map(|(n, _)| n.clone());
            let there: Vec<String> = outputs.chain(losses).chain(monitors).collect();
            let suggestion = closest(name, there.iter().map(String::as_str));
            problems.push(Problem::UnknownValue { name: name.to_owned(), suggestion });
        }
        found
    }

    fn add_null_gradients(&mut self, file: &Fixture, map: &Map, problems: &mut Vec<Problem>) {
        if map.mode == Mode::Eval {
            return;
        }
        for null in &file.null_gradients {
            let Some(place) = self.links.place(&null.name) else {
                let weights: Vec<&str> = file.section("weights").map(|(name, _)| name).collect();
                let suggestion = closest(&null.name, weights);
                problems.push(Problem::UnknownNull { name: null.name.clone(), suggestion });
                continue;
            };
            let part = null.range.clone().unwrap_or(0..place.range.len());
            let range = place.range.start + part.start..(place.range.start + part.end).min(place.range.end);
            self.null.entry(place.index).or_default().push(range);
        }
    }

    /// Whether gradients and states of the file have a counterpart in the pipeline.
    fn check_states(&mut self, layout: &Layout, graph: &Graph, file: &Fixture, map: &Map, problems: &mut Vec<Problem>) {
        let path_of = |name: &str| self.links.place(name).map(|place| &layout.tensors[place.index]);
        for (name, _) in file.section("grad") {
            let full = format!("grad.{name}");
            if let Some(decl) = path_of(name).filter(|decl| decl.kind != TensorKind::Trained && !is_ignored(map, &full))
            {
                problems.push(Problem::NotTrained { name: full, path: decl.path.clone() });
            }
        }
        for (name, _) in file.section("after1") {
            let full = format!("after1.{name}");
            let written = |path: &str| graph.updates.iter().any(|(updated, _)| updated == path);
            if let Some(decl) = path_of(name).filter(|decl| !written(&decl.path) && !is_ignored(map, &full)) {
                problems.push(Problem::NotWritten { name: full, path: decl.path.clone() });
            }
        }
        let gradients: HashSet<&str> = file.section("grad").map(|(name, _)| name).collect();
        if !gradients.is_empty() {
            self.without_gradient = self.links.trained_without(layout, &gradients);
        }
    }

    fn check_used(&self, file: &Fixture, map: &Map, problems: &mut Vec<Problem>) {
        let named: HashSet<&str> = map
            .inputs
            .iter()
            .map(|(_, tensor)| tensor)
            .chain(map.outputs.iter().map(|(tensor, _)| tensor))
            .chain(map.step_losses.iter().map(|step_losses| &step_losses.tensor))
            .map(String::as_str)
            .collect();
        for name in file.names() {
            let linked = name.split_once('.').is_some_and(|(section, rest)| {
                let sections: &[&str] =
                    if map.mode == Mode::Train { &["weights", "grad", "after", "after1"] } else { &["weights"] };
                sections.contains(&section) && self.links.place(rest).is_some()
            });
            // A shape that does not fit has been told already, and leaves its tensors without a place.
            let told = problems.iter().any(|problem| match problem {
                Problem::Shape { names, .. } => {
                    name.split_once('.').is_some_and(|(_, rest)| names.iter().any(|n| n == rest))
                }
                _ => false,
            });
            if !named.contains(name) && !linked && !told && !is_ignored(map, name) {
                problems.push(Problem::Unused { name: name.to_owned() });
            }
        }
    }

    /// Null gradients within values `part` of tensor `index` (or of the tensor it copies), counted from `part`.
    pub fn null_within(&self, index: usize, part: &Range<usize>, tolerance: f64, with_zero: bool) -> Option<Absolute> {
        let source = self.ema_source.get(&index).unwrap_or(&index);
        let null = self.null.get(source)?;
        let inside = null.iter().map(|r| r.start.max(part.start)..r.end.min(part.end));
        let ranges: Vec<Range<usize>> =
            inside.filter(|r| r.start < r.end).map(|r| r.start - part.start..r.end - part.start).collect();
        (!ranges.is_empty()).then_some(Absolute { ranges, tolerance, with_zero })
    }
}

pub(super) fn is_ignored(map: &Map, name: &str) -> bool {
    map.ignore.iter().any(|glob| glob_matches(glob, name))
}

fn no_tensor(file: &Fixture, name: &str) -> Problem {
    Problem::NoTensor { name: name.to_owned(), suggestion: closest(name, file.names()) }
}

fn dtype_name(values: &Values) -> &'static str {
    match values {
        Values::Float(_) => "float",
        Values::Int(_) => "int",
    }
}
