//! Verification: a pipeline against tensors that another implementation wrote.
//!
//! Before: a pipeline is compiled at the file's sizes, a backend stands ready. After: `cmaec verify` prints the
//! [`Report`]. [`map`] says which tensor is which, [`file`] reads the reference, [`plan`] brings both together with the
//! graph, [`compare`] judges.
//!
//! **Invariant:** no tensor of the file is passed over in silence: it is used, compared, ignored by name, or an error.

pub mod compare;
pub mod file;
mod given;
pub mod links;
pub mod map;
pub mod plan;
mod problem;
pub mod report;
mod steps;
pub mod tolerance;
pub mod views;

use std::collections::HashMap;
use std::ops::Range;

use crate::backend::{Backend, BackendError, Request, Results};
use crate::graph::{Graph, Init, Layout, Program, TensorKind};
use crate::tensor::{Element, InputValue, OutputValue};

pub use compare::Comparison;
pub use file::{ConfigScope, Fixture};
pub use given::with_given;
pub use map::{Map, Mode};
pub use problem::Problem;
pub use report::Report;
pub use tolerance::Tolerance;
pub use views::{ViewsReport, verify_views};

use compare::{Absolute, compare};
use file::{Tensor, Values};
use map::FixedPositions;
use plan::{Plan, Value, is_ignored};

/// A trainer as seen from here: one optimizer step at a time.
pub trait Steps<E: Element> {
    /// All tensors, laid out by the program's layout.
    fn tensors(&mut self) -> Result<Vec<E>, BackendError>;

    /// Puts these in their place, before the first step.
    fn fill(&mut self, tensors: Vec<E>) -> Result<(), BackendError>;

    /// One step of `program.train` on `inputs`: forward, backward, optimizer, state updates, EMA. Gives what the
    /// backend gave, before the optimizer.
    fn step(&mut self, inputs: &[(String, InputValue)], request: &Request) -> Result<Results<E>, String>;
}

/// What the command line and the evaluated expressions of the mapping add.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Takes the place of both tolerances of every group, not of those of null gradients.
    pub tolerance: Option<f64>,
    /// Steps before `after.*` is compared: the mapping's `steps`, at least 1.
    pub steps: usize,
    /// The mapping's `null_after`.
    pub null_after: Option<f64>,
}

impl Default for Options {
    fn default() -> Self {
        Options { tolerance: None, steps: 1, null_after: None }
    }
}

/// Why a verification could not be made. Differences are no errors but rows of the report.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("mapping, file and pipeline do not fit together:{}", listed(.0))]
    Problems(Vec<Problem>),
    #[error(transparent)]
    Map(#[from] map::MapError),
    #[error("the mapping's mode is {found:?}, this run is {expected:?}")]
    Mode { found: Mode, expected: Mode },
    #[error("the pipeline has no evaluation graph (help: add `evaluate {{ features = ... }}` to it)")]
    NoFeatures,
    #[error("the arena has {found} values, the layout {expected}")]
    Arena { found: usize, expected: usize },
    #[error("step {step} failed: {message}")]
    Step { step: usize, message: String },
    #[error("step {step} gave {found} {what}, expected {expected}")]
    Results { step: usize, what: &'static str, found: usize, expected: usize },
    #[error(transparent)]
    Backend(#[from] BackendError),
}

fn listed(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n  - {problem}")).collect()
}

/// Verifies `program.train` (mode Train): outputs, losses, gradients and states of the first step, the losses of
/// every step, and the state after the last.
///
/// The tensors of `steps` have the pipeline's own initial values; all that the file has weights for is overwritten.
pub fn verify_train<E: Element>(
    program: &Program,
    steps: &mut dyn Steps<E>,
    file: &Fixture,
    map: &Map,
    options: &Options,
) -> Result<Report, VerifyError> {
    if map.mode != Mode::Train {
        return Err(VerifyError::Mode { found: map.mode, expected: Mode::Train });
    }
    let (layout, graph) = (&program.layout, &program.train);
    let plan = Plan::new(program, graph, file, map)?;
    let mut rows = Rows::new(file, map, options, E::NAME);
    let mut tensors = steps.tensors()?;
    check_arena(layout, &tensors)?;
    if map.fixed == FixedPositions::Compare {
        compare_positions(&plan, layout, &tensors, &mut rows);
    }
    plan.links.load(layout, file, &mut tensors);
    steps.fill(tensors)?;

    let gradients = file.section("grad").next().is_some();
    let mut losses = Vec::new();
    for step in 0..options.steps.max(1) {
        let request = match step {
            0 => Request { gradients, outputs: plan.requested.clone(), ..Request::default() },
            // Columns of the step losses may be outputs.
            _ => Request { gradients: false, outputs: plan.requested.clone(), ..Request::default() },
        };
        let results = steps.step(&plan.inputs, &request).map_err(|message| VerifyError::Step { step, message })?;
        check_results(layout, graph, &request, &results, step)?;
        if let Some((_, columns)) = &plan.step_losses {
            losses.extend(columns.iter().flat_map(|value| tensor_of(value, &results).values.to_f64()));
        }
        if step == 0 {
            compare_outputs(&plan, &results, &mut rows);
            compare_gradients::<E>(&plan, layout, &results.gradients, &mut rows);
            compare_updates(&plan, layout, graph, &results.updates, &mut rows);
        }
    }
    if let Some((name, columns)) = &plan.step_losses {
        let found = Tensor { shape: vec![options.steps.max(1), columns.len()], values: Values::Float(losses) };
        rows.add(name, &found, None);
    }
    compare_after(&plan, layout, &steps.tensors()?, options, &mut rows);
    Ok(rows.report(map, E::NAME, plan))
}

/// Verifies `program.features` (mode Eval): its outputs, with the file's weights. `arena` holds any values.
pub fn verify_eval<E: Element>(
    program: &Program,
    backend: &mut dyn Backend<E>,
    arena: &mut [E],
    file: &Fixture,
    map: &Map,
    options: &Options,
) -> Result<Report, VerifyError> {
    if map.mode != Mode::Eval {
        return Err(VerifyError::Mode { found: map.mode, expected: Mode::Eval });
    }
    let graph = program.features.as_ref().ok_or(VerifyError::NoFeatures)?;
    let layout = &program.layout;
    let plan = Plan::new(program, graph, file, map)?;
    let mut rows = Rows::new(file, map, options, E::NAME);
    check_arena(layout, arena)?;
    plan.links.load(layout, file, arena);
    let request = Request { gradients: false, outputs: plan.requested.clone(), ..Request::default() };
    let results = backend.run(graph, layout, arena, &plan.inputs, &request)?;
    check_results(layout, graph, &request, &results, 0)?;
    compare_outputs(&plan, &results, &mut rows);
    Ok(rows.report(map, E::NAME, plan))
}

/// Rows as they come, by the file's name.
struct Rows<'a> {
    file: &'a Fixture,
    map: &'a Map,
    tolerance: Option<f64>,
    /// Whether the run is in f32.
    single: bool,
    /// Several where a mapping compares several values with one tensor.
    rows: HashMap<String, Vec<Comparison>>,
}

impl<'a> Rows<'a> {
    fn new(file: &'a Fixture, map: &'a Map, options: &Options, precision: &str) -> Self {
        Rows { file, map, tolerance: options.tolerance, single: precision == "f32", rows: HashMap::new() }
    }

    /// Compares `found` with the file's tensor `name`, unless the mapping ignores it.
    fn add(&mut self, name: &str, found: &Tensor, absolute: Option<&Absolute>) {
        let Some(reference) = self.file.tensor(name).filter(|_| !is_ignored(self.map, name)) else { return };
        let advice = if self.single { &self.file.single } else { &self.file.tolerances };
        let (group, advised) = advice.of(self.file.own_name(name));
        let tolerance = self.tolerance.map_or(advised, |t| Tolerance { max: t, rms: t });
        let row = compare(name, found, reference, (group, tolerance), absolute);
        self.rows.entry(name.to_owned()).or_default().push(row);
    }

    fn report(mut self, map: &Map, precision: &str, plan: Plan) -> Report {
        Report {
            pipeline: map.pipeline.clone(),
            precision: precision.to_owned(),
            rows: self.file.names().filter_map(|name| self.rows.remove(name)).flatten().collect(),
            ignored: plan.ignored,
            without_gradient: plan.without_gradient,
        }
    }
}

fn compare_outputs<E: Element>(plan: &Plan, results: &Results<E>, rows: &mut Rows<'_>) {
    for (name, value) in &plan.outputs {
        rows.add(name, &tensor_of(value, results), None);
    }
}

/// Positions that the pipeline computes, before the file's overwrite them.
fn compare_positions<E: Element>(plan: &Plan, layout: &Layout, arena: &[E], rows: &mut Rows<'_>) {
    for (index, names) in &plan.links.tensors {
        let decl = &layout.tensors[*index];
        if decl.kind == TensorKind::Fixed && matches!(decl.init, Init::SinCos2d { .. }) {
            for name in names {
                let Some(place) = plan.links.place(name).filter(|place| place.index == *index) else { continue };
                let found = &arena[layout.range(*index)][place.range.clone()];
                rows.add_part(&format!("weights.{name}"), found, None);
            }
        }
    }
}

fn compare_gradients<E: Element>(plan: &Plan, layout: &Layout, gradients: &[E], rows: &mut Rows<'_>) {
    // Rounding alone: 1e-3 is the advice of the CMAE fixtures for f32, and f64 rounds by 1e-9 less.
    let null_tolerance = if E::NAME == "f64" { 1e-6 } else { 1e-3 };
    for (name, _) in rows.file.section("grad") {
        let Some(place) = plan.links.place(name) else { continue };
        if layout.tensors[place.index].kind == TensorKind::Trained {
            let absolute = plan.null_within(place.index, &place.range, null_tolerance, true);
            let found = &gradients[layout.range(place.index)][place.range.clone()];
            rows.add_part(&format!("grad.{name}"), found, absolute.as_ref());
        }
    }
}

fn compare_updates<E: Element>(plan: &Plan, layout: &Layout, graph: &Graph, updates: &[Vec<E>], rows: &mut Rows<'_>) {
    for (name, _) in rows.file.section("after1") {
        let Some(place) = plan.links.place(name) else { continue };
        let path = &layout.tensors[place.index].path;
        // The last counts: a state may be written by several calls, in program order.
        let update = graph.updates.iter().zip(updates).rev().find(|((updated, _), _)| updated == path);
        let Some((_, values)) = update else { continue };
        rows.add_part(&format!("after1.{name}"), slice(values, &place.range), None);
    }
}

fn compare_after<E: Element>(plan: &Plan, layout: &Layout, arena: &[E], options: &Options, rows: &mut Rows<'_>) {
    for (name, _) in rows.file.section("after") {
        let Some(place) = plan.links.place(name) else { continue };
        let absolute = options.null_after.and_then(|tolerance| {
            let null = plan.null_within(place.index, &place.range, tolerance, false);
            let noise = if E::NAME == "f32" { noise(rows.file, name) } else { Vec::new() };
            let ranges: Vec<Range<usize>> = null.into_iter().flat_map(|null| null.ranges).chain(noise).collect();
            (!ranges.is_empty()).then_some(Absolute { ranges, tolerance, with_zero: false })
        });
        let found = &arena[layout.range(place.index)][place.range.clone()];
        rows.add_part(&format!("after.{name}"), found, absolute.as_ref());
    }
}

/// Elements of a parameter whose gradient is lost in the rounding of f32: below 2⁻²⁰ of the tensor's greatest, where sums of
/// some hundred terms of that size, each rounded to 2⁻²⁴, end. Adam makes steps of them as it does of null gradients.
fn noise(file: &Fixture, name: &str) -> Vec<Range<usize>> {
    let Some(gradient) = file.tensor(&format!("grad.{name}")) else { return Vec::new() };
    let values = gradient.values.to_f64();
    let greatest = values.iter().fold(0.0_f64, |greatest, g| greatest.max(g.abs()));
    let lost = |(at, g): (usize, &f64)| (g.abs() < greatest / f64::from(1 << 20)).then_some(at..at + 1);
    values.iter().enumerate().filter_map(lost).collect()
}

impl Rows<'_> {
    /// Compares part of a pipeline's tensor, in the shape that the file's weights have: [`links`] checked that they
    /// fit, so that a gradient or state of another shape shows as a difference.
    fn add_part<E: Element>(&mut self, name: &str, found: &[E], absolute: Option<&Absolute>) {
        let weights = name.split_once('.').and_then(|(_, rest)| self.file.tensor(&format!("weights.{rest}")));
        let shape = weights.map_or_else(|| vec![found.len()], |weights| weights.shape.clone());
        let values = Values::Float(found.iter().map(|x| x.to_f64()).collect());
        self.add(name, &Tensor { shape, values }, absolute);
    }
}

/// `values[range]`, cut where a backend gave fewer: the comparison tells.
fn slice<'a, E>(values: &'a [E], range: &Range<usize>) -> &'a [E] {
    &values[range.start.min(values.len())..range.end.min(values.len())]
}

fn tensor_of<E: Element>(value: &Value, results: &Results<E>) -> Tensor {
    let scalar = |x: f64| Tensor { shape: vec![], values: Values::Float(vec![x]) };
    match value {
        Value::Loss(index) => scalar(results.losses[*index]),
        Value::Total => scalar(results.total),
        Value::Monitor(index) => scalar(results.monitors[*index]),
        Value::Output(index) => match &results.outputs[*index] {
            OutputValue::Float(tensor) => {
                let values = tensor.data.iter().map(|x| x.to_f64()).collect();
                Tensor { shape: tensor.shape.clone(), values: Values::Float(values) }
            }
            OutputValue::Int(tensor) => {
                Tensor { shape: tensor.shape.clone(), values: Values::Int(tensor.data.clone()) }
            }
        },
    }
}

fn check_arena<E>(layout: &Layout, arena: &[E]) -> Result<(), VerifyError> {
    if arena.len() == layout.total_len {
        return Ok(());
    }
    Err(VerifyError::Arena { found: arena.len(), expected: layout.total_len })
}

/// Whether a backend gave what the graph and the request say, so that nothing below can be out of range.
fn check_results<E: Element>(
    layout: &Layout,
    graph: &Graph,
    request: &Request,
    results: &Results<E>,
    step: usize,
) -> Result<(), VerifyError> {
    let gradients = if request.gradients { layout.trained_len } else { results.gradients.len() };
    for (what, found, expected) in [
        ("losses", results.losses.len(), graph.losses.len()),
        ("monitors", results.monitors.len(), graph.monitors.len()),
        ("updates", results.updates.len(), graph.updates.len()),
        ("outputs", results.outputs.len(), request.outputs.len()),
        ("gradient values", results.gradients.len(), gradients),
    ] {
        if found != expected {
            return Err(VerifyError::Results { step, what, found, expected });
        }
    }
    Ok(())
}
