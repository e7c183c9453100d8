//! One optimizer step: forward, backward, states, optimizer, averaged copies.
//!
//! **Invariant:** nothing is written to the arena before losses and gradients are known to be finite, so that the
//! step before is always whole.

use crate::backend::{Backend, BackendError, Element, HostTensor, InputValue, OutputValue, Request, Results};
use crate::graph::{Graph, InputKind, Program};
use crate::spec::EmaMoment;

use super::accumulate::{self, Accumulation};
use super::optimizer::Optimizer;
use super::{Clock, ema, init, kmeans};

/// Why a step was not made. The arena is as it was.
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
    /// Memory of earlier results: see [`Trainer::reuse`].
    spare: Results<E>,
    /// The parts of a step that is made by micro-batches, from the first one on.
    accumulation: Option<Accumulation<E>>,
}

impl<'p, E: Element> Trainer<'p, E> {
    /// A trainer at step 0 with initial values by the pipeline's seed.
    pub fn new(program: &'p Program, clock: Clock) -> Self {
        let train = &program.spec.train;
        let reached = program.train.reached(&program.layout);
        Trainer {
            program,
            arena: init::initialise(&program.layout, train.seed),
            optimizer: Optimizer::new(train, &program.layout, &reached),
            step: 0,
            clock,
            fresh_states: true,
            spare: Results::default(),
            accumulation: None,
        }
    }

    /// Takes results back that nobody looks at any more, so that the next step need not allocate.
    pub fn reuse(&mut self, results: Results<E>) {
        self.spare = results;
    }

    /// One step on `inputs`; `outputs` names values of the graph that the results shall hold.
    pub fn step(
        &mut self,
        backend: &mut dyn Backend<E>,
        inputs: &[(String, InputValue)],
        outputs: &[String],
    ) -> Result<StepReport<E>, StepError> {
        let (program, step) = (self.program, self.step);
        let (layout, graph, emas) = (&program.layout, &program.train, &program.emas);
        let inputs = &self.with_schedules(inputs);
        self.start_states(backend, inputs)?;
        let moves_before = emas.iter().any(|e| e.when == EmaMoment::BeforeForward);
        let before = moves_before.then(|| self.arena.clone());
        ema::apply(emas, EmaMoment::BeforeForward, layout, &mut self.arena, step, &self.clock);
        let request = Request { gradients: true, outputs: outputs.to_vec(), check_finite: false };
        let mut results = std::mem::take(&mut self.spare);
        let run = self.run(backend, inputs, &request, &mut results);
        let checked = run.map_err(StepError::from).and_then(|()| match not_finite(graph, layout, &results) {
            None => Ok(results),
            Some(what) => {
                let request = Request { check_finite: true, ..request };
                let culprit = match self.run(backend, inputs, &request, &mut Results::default()) {
                    Err(error) => error.to_string(),
                    Ok(()) => "every value of the forward pass is finite".to_owned(),
                };
                Err(StepError::NotFinite { step: step + 1, what, culprit })
            }
        });
        let results = match checked {
            Ok(results) => results,
            Err(error) => {
                if let Some(before) = before {
                    self.arena = before;
                }
                return Err(error);
            }
        };
        for ((path, _), values) in graph.updates.iter().zip(&results.updates) {
            if let Some((_, range)) = layout.get(path) {
                self.arena[range].copy_from_slice(values);
            }
        }
        ema::apply(emas, EmaMoment::AfterForward, layout, &mut self.arena, step, &self.clock);
        let learning_rate = self.clock.value(&program.spec.train.learning_rate, step);
        let gradient_norm = self.optimizer.update(layout, &mut self.arena, &results.gradients, step, &self.clock);
        ema::apply(emas, EmaMoment::AfterStep, layout, &mut self.arena, step, &self.clock);
        self.step += 1;
        Ok(StepReport { step: self.step, learning_rate, gradient_norm, results })
    }
}

impl<E: Element> Trainer<'_, E> {
    /// Forward and backward of the whole batch: in one run, or by micro-batches.
    fn run(
        &mut self,
        backend: &mut dyn Backend<E>,
        inputs: &[(String, InputValue)],
        request: &Request,
        results: &mut Results<E>,
    ) -> Result<(), BackendError> {
        let (program, layout) = (self.program, &self.program.layout);
        if program.spec.train.accumulate == 1 {
            return backend.run_into(&program.train, layout, &self.arena, inputs, request, results);
        }
        if self.accumulation.as_ref().is_none_or(|a| a.outputs != request.outputs) {
            let graph = accumulate::with_outputs(program, &request.outputs)?;
            self.accumulation = Some(Accumulation::new(program, &graph));
        }
        let accumulation = self.accumulation.as_mut().expect("it was made above");
        accumulation.run(backend, layout, &self.arena, inputs, request, results)
    }

    /// The numbers in force at this step beside what the batch brings; a given one stays.
    fn with_schedules(&self, inputs: &[(String, InputValue)]) -> Vec<(String, InputValue)> {
        let mut all = inputs.to_vec();
        for input in &self.program.train.inputs {
            if let InputKind::Schedule(schedule) = &input.kind
                && !inputs.iter().any(|(name, _)| *name == input.name)
            {
                let value = HostTensor { shape: Vec::new(), data: vec![self.clock.value(schedule, self.step)] };
                all.push((input.name.clone(), InputValue::Double(value)));
            }
        }
        all
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
        let results = if program.spec.train.accumulate == 1 {
            backend.run(&graph, &program.layout, &self.arena, inputs, &request)?
        } else {
            // Nothing else is made of it, for what it is cut at would be kept for the whole batch.
            let Graph { nodes, inputs: declared, outputs, .. } = graph;
            let graph = Graph { nodes, inputs: declared, outputs, ..Graph::default() };
            let mut results = Results::default();
            let mut parts = Accumulation::new(program, &graph);
            parts.run(backend, &program.layout, &self.arena, inputs, &request, &mut results)?;
            results
        };
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
fn not_finite<E: Element>(graph: &Graph, layout: &crate::graph::Layout, results: &Results<E>) -> Option<String> {
    let losses = graph.losses.iter().zip(&results.losses);
    if let Some(((name, _), value)) = losses.into_iter().find(|(_, value)| !value.is_finite()) {
        return Some(format!("the loss `{name}` ({value})"));
    }
    if let Some(at) = results.gradients.iter().position(|g| !g.is_finite()) {
        let index = layout.offsets.partition_point(|offset| *offset <= at) - 1;
        return Some(format!("the gradient of `{}`", layout.tensors[index].path));
    }
    let mut states = graph.updates.iter().zip(&results.updates);
    states.find(|(_, values)| values.iter().any(|v| !v.is_finite())).map(|((path, _), _)| format!("the state `{path}`"))
}
