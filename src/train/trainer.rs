//! One optimizer step: forward, backward, states, optimizer, averaged copies.
//!
//! **Invariant:** a step that is not made leaves parameters, moments and averaged copies as they were. The optimizer writes
//! once losses, gradients and states are known to be finite; copies that move before the forward pass are taken back.

use std::time::{Duration, Instant};

use crate::backend::{Backend, BackendError, Request, Results};
use crate::graph::{Graph, InputKind, Layout, Program};
use crate::spec::{EmaMoment, Precision, Schedule};
use crate::tensor::{Element, HostTensor, InputValue, Inputs, OutputValue};

use super::accumulate::{self, Accumulation, Whole};
use super::ema::Averages;
use super::finite::all_finite;
use super::optimizer::Optimizer;
use super::{Clock, init, kmeans};

/// Why a step was not made. The arena is as it was, but for states that the first batch starts: those stay filled.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error("step {step}: {what} is not finite; {culprit}")]
    NotFinite { step: u64, what: String, culprit: String },
}

/// What one step gave.
#[derive(Debug, Clone)]
pub struct StepReport<E> {
    /// Steps made, this one included.
    pub step: u64,
    pub learning_rate: f64,
    /// Of all gradients before clipping, where `train` clips.
    pub gradient_norm: Option<f64>,
    /// What optimizer and averaged copies took.
    pub update_time: Duration,
    pub results: Results<E>,
}

/// Parameters, the optimizer and the clock of a run.
pub struct Trainer<'p, E> {
    pub program: &'p Program,
    /// All tensors, laid out by `program.layout`.
    pub arena: Vec<E>,
    pub optimizer: Optimizer<E>,
    /// Steps made.
    pub step: u64,
    pub clock: Clock,
    /// Whether states that the first batch starts are still to be filled: not where they were given.
    pub fresh_states: bool,
    averages: Averages,
    /// What copies that move before the forward pass were before it.
    before: Vec<E>,
    /// Inputs of the graph beside what the batch brings: the numbers in force at the step at hand.
    scheduled: Vec<(String, InputValue)>,
    /// Memory of earlier results: see [`Trainer::reuse`].
    spare: Results<E>,
    /// The parts of a step that is made by micro-batches, from the first one on.
    accumulation: Option<Accumulation<E>>,
}

impl<'p, E: Element> Trainer<'p, E> {
    /// A trainer at step 0 with initial values by the pipeline's seed.
    pub fn new(program: &'p Program, clock: Clock) -> Self {
        let (train, layout) = (&program.spec.train, &program.layout);
        let averages = Averages::new(&program.emas, layout);
        let scheduled = scheduled(&program.train)
            .map(|(name, _)| (name.to_owned(), InputValue::Double(HostTensor { shape: Vec::new(), data: vec![0.0] })));
        Trainer {
            program,
            arena: init::initialise(layout, train.seed),
            optimizer: Optimizer::new(train, layout, &program.train.reached(layout), averages.followers.clone()),
            step: 0,
            clock,
            fresh_states: true,
            averages,
            before: Vec::new(),
            scheduled: scheduled.collect(),
            spare: Results::default(),
            accumulation: None,
        }
    }

    /// Takes results back that nobody looks at any more, so that the next step need not allocate.
    pub fn reuse(&mut self, results: Results<E>) {
        self.spare = results;
    }

    /// One step on `inputs`; `outputs` names values of the graph that the results shall hold. A scheduled number that `inputs`
    /// gives stays.
    ///
    /// On the `cpu` backend it allocates nothing from the third on, where [`Trainer::reuse`] is given each step's results and no
    /// output is asked for.
    pub fn step(
        &mut self,
        backend: &mut dyn Backend<E>,
        inputs: &[(String, InputValue)],
        outputs: &[String],
    ) -> Result<StepReport<E>, StepError> {
        let (program, step) = (self.program, self.step);
        let (layout, graph) = (&program.layout, &program.train);
        self.fill_schedules();
        self.start_states(backend, inputs)?;
        let (clock, inputs) = (self.clock, Inputs { batch: inputs, others: &self.scheduled });
        self.averages.apply(EmaMoment::BeforeForward, &mut self.arena, step, &clock, Some(&mut self.before));
        let request = request(program, outputs);
        let mut results = std::mem::take(&mut self.spare);
        let (arena, accumulation) = (&self.arena, &mut self.accumulation);
        let ran = run(program, accumulation, backend, arena, inputs, &request, &mut results);
        let checked = ran.map_err(StepError::from).and_then(|()| match not_finite(graph, layout, &results) {
            None => Ok(results),
            Some(what) => {
                let request = Request { check_finite: true, ..request };
                let mut unused = Results::default();
                let culprit = match run(program, accumulation, backend, arena, inputs, &request, &mut unused) {
                    Err(error) => error.to_string(),
                    Ok(()) => "every value of the forward pass is finite".to_owned(),
                };
                Err(StepError::NotFinite { step: step + 1, what, culprit })
            }
        });
        let results = match checked {
            Ok(results) => results,
            Err(error) => {
                self.averages.take_back(EmaMoment::BeforeForward, &mut self.arena, &self.before);
                return Err(error);
            }
        };
        let update_start = Instant::now();
        // Among rayon's threads, as a backend's step is: else each of the parallel loops would have to wake one up.
        let gradient_norm = rayon::scope(|_| self.write(&results));
        let learning_rate = clock.value(&program.spec.train.learning_rate, step);
        self.step += 1;
        let update_time = update_start.elapsed();
        Ok(StepReport { step: self.step, learning_rate, gradient_norm, update_time, results })
    }
}

/// Inputs of `graph` that are scheduled numbers.
fn scheduled(graph: &Graph) -> impl Iterator<Item = (&str, &Schedule)> {
    graph.inputs.iter().filter_map(|input| match &input.kind {
        InputKind::Schedule(schedule) => Some((input.name.as_str(), schedule)),
        _ => None,
    })
}

/// What a step asks the backend for beside losses, monitors and updates; `outputs` names values of the graph.
pub fn request(program: &Program, outputs: &[String]) -> Request {
    let train = &program.spec.train;
    Request {
        gradients: true,
        outputs: outputs.to_vec(),
        check_finite: false,
        recompute: train.recompute,
        bf16: train.precision == Precision::Bf16,
    }
}

/// Forward and backward of the whole batch: in one run, or by micro-batches.
fn run<E: Element>(
    program: &Program,
    accumulation: &mut Option<Accumulation<E>>,
    backend: &mut dyn Backend<E>,
    arena: &[E],
    inputs: Inputs<'_>,
    request: &Request,
    results: &mut Results<E>,
) -> Result<(), BackendError> {
    if program.spec.train.accumulate == 1 {
        return backend.run_into(&program.train, &program.layout, arena, inputs, request, results);
    }
    let accumulation = match accumulation {
        Some(found) if found.outputs == request.outputs => found,
        _ => {
            let graph = program.train.with_outputs(&request.outputs)?;
            accumulation.insert(Accumulation::new(program, &graph)?)
        }
    };
    let batch = Whole { layout: &program.layout, arena, inputs, request };
    accumulation.run(backend, batch, results)
}

impl<E: Element> Trainer<'_, E> {
    /// Makes ready what the first step needs of the backend: see [`Backend::prepare`].
    pub fn prepare(&self, backend: &mut dyn Backend<E>) -> Result<(), BackendError> {
        let (program, request) = (self.program, request(self.program, &[]));
        if program.spec.train.accumulate == 1 {
            return backend.prepare(&program.train, &program.layout, &request);
        }
        let parts = accumulate::parts_of_step(program)?;
        let requests = accumulate::requests(&parts, &request);
        backend.prepare(&parts.forward, &program.layout, &requests.forward)?;
        backend.prepare(&parts.coupled, &parts.layout, &requests.coupled)?;
        match &parts.backward {
            Some(backward) => backend.prepare(backward, &program.layout, &requests.backward),
            None => Ok(()),
        }
    }

    /// The numbers in force at this step.
    fn fill_schedules(&mut self) {
        for ((_, value), (_, schedule)) in self.scheduled.iter_mut().zip(scheduled(&self.program.train)) {
            if let InputValue::Double(number) = value {
                number.data[0] = self.clock.value(schedule, self.step);
            }
        }
    }

    /// States, parameters and copies after the step. Gives the norm of the gradients, where it is asked for.
    fn write(&mut self, results: &Results<E>) -> Option<f64> {
        let Trainer { program, arena, averages, step, clock, .. } = self;
        let layout = &program.layout;
        for ((path, _), values) in program.train.updates.iter().zip(&results.updates) {
            if let Some((_, range)) = layout.get(path) {
                arena[range].copy_from_slice(values);
            }
        }
        averages.apply(EmaMoment::AfterForward, arena, *step, clock, None);
        let norm = self.optimizer.update(arena, &results.gradients, *step, clock);
        averages.apply(EmaMoment::AfterStep, arena, *step, clock, None);
        norm
    }

    /// Before the first step: states that start from the first batch, unless they were given.
    fn start_states(
        &mut self,
        backend: &mut dyn Backend<E>,
        inputs: &[(String, InputValue)],
    ) -> Result<(), BackendError> {
        let program = self.program;
        if self.step > 0 || !self.fresh_states || program.train.initial.is_empty() {
            return Ok(());
        }
        let mut graph = program.train.clone();
        let names: Vec<String> = (0..graph.initial.len()).map(|i| format!("initial.{i}")).collect();
        // Asked for as outputs of a graph of their own, which no name of the pipeline can clash with.
        graph.outputs = names.iter().cloned().zip(graph.initial.iter().map(|i| i.value)).collect();
        let request = Request { outputs: names, ..Request::default() };
        let (inputs, mut results) = (Inputs { batch: inputs, others: &self.scheduled }, Results::default());
        if program.spec.train.accumulate == 1 {
            backend.run_into(&graph, &program.layout, &self.arena, inputs, &request, &mut results)?;
        } else {
            // Nothing else is made of it, for what it is cut at would be kept for the whole batch.
            let Graph { nodes, inputs: declared, outputs, .. } = graph;
            let graph = Graph { nodes, inputs: declared, outputs, ..Graph::default() };
            let mut parts = Accumulation::new(program, &graph)?;
            let batch = Whole { layout: &program.layout, arena: &self.arena, inputs, request: &request };
            parts.run(backend, batch, &mut results)?;
        }
        for (initial, value) in program.train.initial.iter().zip(&results.outputs) {
            if let (OutputValue::Float(rows), Some((decl, range))) = (value, program.layout.get(&initial.path)) {
                let width = decl.shape.last().copied().unwrap_or(1);
                let seed = program.spec.train.seed;
                let centres = kmeans::centres(&rows.data, width, decl.shape[0], initial.rounds, seed, &initial.path);
                self.arena[range].copy_from_slice(&centres);
            }
        }
        self.fresh_states = false;
        Ok(())
    }
}

/// What of the results is not finite: a loss by name, else a parameter's gradient, else a state.
fn not_finite<E: Element>(graph: &Graph, layout: &Layout, results: &Results<E>) -> Option<String> {
    let losses = graph.losses.iter().zip(&results.losses);
    if let Some(((name, _), value)) = losses.into_iter().find(|(_, value)| !value.is_finite()) {
        return Some(format!("the loss `{name}` ({value})"));
    }
    if !all_finite(&results.gradients)
        && let Some(at) = results.gradients.iter().position(|g| !g.is_finite())
    {
        let index = layout.offsets.partition_point(|offset| *offset <= at) - 1;
        return Some(format!("the gradient of `{}`", layout.tensors[index].path));
    }
    let mut states = graph.updates.iter().zip(&results.updates);
    states.find(|(_, values)| values.iter().any(|v| !v.is_finite())).map(|((path, _), _)| format!("the state `{path}`"))
}
