//! One optimizer step: forward, backward, states, optimizer, averaged copies.
//!
//! **Invariant:** nothing is written to the arena before losses and gradients are known to be finite, so that the
//! step before is always whole.

use crate::backend::{Backend, BackendError, Element, InputValue, Request, Results};
use crate::graph::{Graph, Program};
use crate::spec::EmaMoment;

use super::optimizer::Optimizer;
use super::{Clock, ema, init};

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
        }
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
        let moves_before = emas.iter().any(|e| e.when == EmaMoment::BeforeForward);
        let before = moves_before.then(|| self.arena.clone());
        ema::apply(emas, EmaMoment::BeforeForward, layout, &mut self.arena, step, &self.clock);
        let request = Request { gradients: true, outputs: outputs.to_vec(), check_finite: false };
        let run = backend.run(graph, layout, &self.arena, inputs, &request);
        let checked = run.map_err(StepError::from).and_then(|results| match not_finite(graph, layout, &results) {
            None => Ok(results),
            Some(what) => {
                let request = Request { check_finite: true, ..request };
                let culprit = match backend.run(graph, layout, &self.arena, inputs, &request) {
                    Err(error) => error.to_string(),
                    Ok(_) => "every value of the forward pass is finite".to_owned(),
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
