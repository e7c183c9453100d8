//! Sessions of backends that compute on arenas of the host: `cpu`, and dfdx.
//!
//! Before: a backend that runs graphs. After: whole steps, with the optimizer and the averaged copies written here once for
//! all such backends: [`optimizer`], [`ema`], and [`accumulate`] for steps by micro-batches.
//!
//! **Invariant:** a step that is not made leaves parameters, moments and averaged copies as they were. The optimizer writes
//! once losses, gradients and states are known to be finite; copies that move before the forward pass are taken back.

pub mod accumulate;
pub mod ema;
pub mod footprint;
pub mod optimizer;
mod shards;
mod walk;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use self::accumulate::{Accumulation, Whole};
use self::ema::Averages;
use self::optimizer::Optimizer;
use super::session::{Kept, Moment, Session, StepError, Stepped, Wanted, not_finite};
use super::{Backend, BackendError, CHUNK, Results};
use crate::graph::accumulate::Micro;
use crate::graph::step::{Body, Step};
use crate::graph::{Graph, Program};
use crate::plan::{PartRequests, Request};
use crate::spec::EmaMoment;
use crate::tensor::{Element, InputValue, Inputs, OutputValue};

/// A program's tensors in an arena of the host.
pub struct HostSession<'p, E> {
    program: &'p Program,
    backend: Box<dyn Backend<E>>,
    /// All tensors, laid out by `program.layout`.
    arena: Vec<E>,
    /// From the first step, or its preparation, on: who evaluates has no use for it.
    training: Option<Training<E>>,
    /// Memory of earlier results: see [`Session::reuse`].
    spare: Results<E>,
}

/// What steps need beside the tensors.
struct Training<E> {
    optimizer: Optimizer<E>,
    /// The trained tensors of each rank, where they are shared out; else all, in one.
    shards: Vec<Range<usize>>,
    averages: Averages,
    /// What copies that move before the forward pass were before it.
    before: Vec<E>,
    /// One for each list of outputs that was asked for.
    runs: Vec<Run<E>>,
}

/// A step's forward and backward with its memory.
struct Run<E> {
    outputs: Vec<String>,
    request: Request,
    how: How<E>,
}

enum How<E> {
    Whole(Graph),
    Parts(Box<Accumulation<E>>),
}

impl<'p, E: Element> HostSession<'p, E> {
    /// `tensors` are laid out by the program's layout.
    pub fn new(backend: Box<dyn Backend<E>>, program: &'p Program, tensors: Vec<E>) -> Self {
        HostSession { program, backend, arena: tensors, training: None, spare: Results::default() }
    }
}

impl<E: Element> How<E> {
    /// As one of `ranks` ranks.
    fn new(step: Step, ranks: usize) -> Self {
        match step.body {
            Body::Whole(graph) => How::Whole(graph),
            Body::Parts(parts, count) => How::Parts(Box::new(Accumulation::new(*parts, count, ranks, step.outputs))),
        }
    }

    fn run(
        &mut self,
        backend: &mut dyn Backend<E>,
        batch: Whole<'_, E>,
        results: &mut Results<E>,
    ) -> Result<(), BackendError> {
        match self {
            How::Whole(graph) => {
                backend.run_into(graph, batch.layout, batch.arena, batch.inputs, batch.request, results)
            }
            How::Parts(parts) => parts.run(backend, batch, results),
        }
    }
}

impl<E: Element> Training<E> {
    /// Of rank `rank`.
    fn new(program: &Program, rank: usize) -> Self {
        let (train, layout) = (&program.spec.train, &program.layout);
        let shards = shards::shards(layout, program.shards());
        let own = shards[if shards.len() == 1 { 0 } else { rank }].clone();
        let (averages, reached) =
            (Averages::new(&program.emas, layout, shards.len() == 1), program.train.reached(layout));
        Training {
            optimizer: Optimizer::new(train, layout, &reached, averages.followers.clone(), own),
            shards,
            averages,
            before: Vec::new(),
            runs: Vec::new(),
        }
    }

    /// States and parameters after the step, and the copies that follow them. Gives the norm of the gradients, where it is asked for.
    fn write(&mut self, program: &Program, arena: &mut [E], results: &Results<E>, at: Moment) -> Option<f64> {
        let Training { optimizer, averages, .. } = self;
        for ((path, _), values) in program.train.updates.iter().zip(&results.updates) {
            if let Some((_, range)) = program.layout.get(path) {
                arena[range].copy_from_slice(values);
            }
        }
        averages.apply(EmaMoment::AfterForward, arena, at.step, &at.clock, None);
        optimizer.update(arena, &results.gradients, at.step, &at.clock)
    }
}

/// The run that gives `outputs`, made where there is none yet.
fn run_of<'r, E: Element>(
    runs: &'r mut Vec<Run<E>>,
    program: &Program,
    outputs: &[String],
) -> Result<&'r mut Run<E>, BackendError> {
    let at = match runs.iter().position(|run| run.outputs == outputs) {
        Some(at) => at,
        None => {
            let how = How::new(program.step(outputs)?, program.ranks);
            runs.push(Run { outputs: outputs.to_vec(), request: Request::of_step(program, outputs), how });
            runs.len() - 1
        }
    };
    Ok(&mut runs[at])
}

impl<E: Element> Session<E> for HostSession<'_, E> {
    fn backend(&self) -> &'static str {
        self.backend.name()
    }

    fn program(&self) -> &Program {
        self.program
    }

    fn ranks(&self) -> Range<usize> {
        let rank = self.backend.rank();
        rank..rank + 1
    }

    fn prepare(&mut self) -> Result<(), BackendError> {
        let (program, backend) = (self.program, &mut self.backend);
        self.training.get_or_insert_with(|| Training::new(program, backend.rank()));
        let request = Request::of_step(program, &[]);
        match program.step(&[])?.body {
            Body::Whole(graph) => backend.prepare(&graph, &program.layout, &request),
            Body::Parts(parts, _) => {
                let requests = PartRequests::new(&parts, &request);
                backend.prepare(parts.micro.forward(), &program.layout, &requests.forward)?;
                backend.prepare(&parts.coupled, &parts.layout, &requests.coupled)?;
                match &parts.micro {
                    Micro::Twice { backward: Some(backward), .. } => {
                        backend.prepare(backward, &program.layout, &requests.backward)
                    }
                    Micro::Twice { backward: None, .. } => Ok(()),
                    Micro::Once { known, .. } => backend.prepare(known, &program.layout, &requests.known),
                }
            }
        }
    }

    /// On the `cpu` backend it allocates nothing from the third step on, where [`Session::reuse`] is given each step's results
    /// and no output is asked for.
    fn step(&mut self, inputs: Inputs<'_>, at: Moment, wanted: Wanted<'_>) -> Result<Stepped<E>, StepError> {
        let program = self.program;
        let layout = &program.layout;
        let training = self.training.get_or_insert_with(|| Training::new(program, self.backend.rank()));
        let run = run_of(&mut training.runs, program, wanted.outputs)?;
        training.averages.apply(
            EmaMoment::BeforeForward,
            &mut self.arena,
            at.step,
            &at.clock,
            Some(&mut training.before),
        );
        let mut results = std::mem::take(&mut self.spare);
        let backend = &mut *self.backend;
        let batch = Whole { layout, arena: &self.arena, inputs, request: &run.request };
        let ran = run.how.run(backend, batch, &mut results);
        let checked = ran.map_err(StepError::from).and_then(|()| match not_finite(&program.train, layout, &results) {
            None => Ok(results),
            Some(what) => {
                let request = Request { check_finite: true, ..run.request.clone() };
                let culprit = match run.how.run(backend, Whole { request: &request, ..batch }, &mut Results::default())
                {
                    Err(error) => error.to_string(),
                    Ok(()) => "every value of the forward pass is finite".to_owned(),
                };
                Err(StepError::NotFinite { step: at.step + 1, what, culprit })
            }
        });
        let results = match checked {
            Ok(results) => results,
            Err(error) => {
                training.averages.take_back(EmaMoment::BeforeForward, &mut self.arena, &training.before);
                return Err(error);
            }
        };
        let update_start = Instant::now();
        // Among rayon's threads, as a backend's step is: else each of the parallel loops would have to wake one up.
        let arena = &mut self.arena[..];
        let gradient_norm = rayon::scope(|_| training.write(program, arena, &results, at));
        if training.shards.len() > 1 {
            shards::spread(backend, layout, &training.shards, arena);
        }
        rayon::scope(|_| training.averages.apply(EmaMoment::AfterStep, arena, at.step, &at.clock, None));
        let update_time = update_start.elapsed();
        Ok(Stepped { step: at.step + 1, results, gradient_norm, update_time, device: None })
    }

    fn reuse(&mut self, results: Results<E>) {
        self.spare = results;
    }

    fn first_values(&mut self, inputs: Inputs<'_>) -> Result<Vec<OutputValue<E>>, BackendError> {
        let (program, mut results) = (self.program, Results::default());
        let step = program.first_values()?;
        let request = Request { outputs: step.outputs.clone(), ..Request::default() };
        let batch = Whole { layout: &program.layout, arena: &self.arena, inputs, request: &request };
        How::new(step, program.ranks).run(&mut *self.backend, batch, &mut results)?;
        Ok(results.outputs)
    }

    fn evaluate(
        &mut self,
        graph: &Graph,
        inputs: &[(String, InputValue)],
        outputs: &[String],
    ) -> Result<Vec<OutputValue<E>>, BackendError> {
        let request = Request { outputs: outputs.to_vec(), ..Request::default() };
        Ok(self.backend.run(graph, &self.program.layout, &self.arena, inputs, &request)?.outputs)
    }

    fn exchange(&mut self, tensors: Vec<E>) -> Result<Vec<E>, BackendError> {
        assert_eq!(tensors.len(), self.program.layout.total_len, "tensors are laid out by the program's layout");
        Ok(std::mem::replace(&mut self.arena, tensors))
    }

    fn kept(&mut self) -> Result<Kept<'_, E>, BackendError> {
        let (program, backend) = (self.program, &mut *self.backend);
        let training = self.training.get_or_insert_with(|| Training::new(program, backend.rank()));
        let Training { optimizer, shards, .. } = training;
        let slots = match shards.len() {
            1 => Cow::Borrowed(&optimizer.slots[..]),
            _ => Cow::Owned(shards::gathered(backend, &program.layout, shards, &optimizer.slots)),
        };
        Ok(Kept { tensors: &self.arena, slots, updates: &optimizer.updates })
    }

    fn tensors(&mut self) -> Result<&[E], BackendError> {
        Ok(&self.arena)
    }

    fn restore(&mut self, tensors: Vec<E>, slots: Vec<Vec<E>>, updates: Vec<u64>) -> Result<(), BackendError> {
        let (program, rank) = (self.program, self.backend.rank());
        self.exchange(tensors)?;
        let Training { optimizer, shards, .. } = self.training.get_or_insert_with(|| Training::new(program, rank));
        optimizer.slots = match shards.len() {
            1 => slots,
            _ => {
                let own = walk::values_of(&program.layout, shards[rank].clone());
                slots.into_iter().map(|slot| slot[own.clone()].to_vec()).collect()
            }
        };
        optimizer.updates = updates;
        Ok(())
    }

    fn start_timing(&mut self) {
        self.backend.start_timing();
    }

    fn take_times(&mut self) -> BTreeMap<String, Duration> {
        self.backend.take_times()
    }

    fn product_rate(&self, bf16: bool) -> Option<f64> {
        self.backend.product_rate(bf16)
    }
}
