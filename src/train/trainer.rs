//! Steps of a run: a session of the backend, the clock, and what the first batch starts.
//!
//! **Invariant:** a step that is not made leaves the run where it was, but for states that the first batch starts: those stay
//! filled.

use std::time::Duration;

use super::kmeans;
use crate::backend::{BackendError, DeviceTime, Kept, Moment, Results, Session, StepError, Stepped, Wanted};
use crate::data::batch::Share;
use crate::graph::{Graph, InputKind, Program};
use crate::spec::{Clock, Schedule};
use crate::tensor::{Element, HostTensor, InputValue, Inputs, OutputValue};

/// What one step gave.
#[derive(Debug, Clone)]
pub struct StepReport<E> {
    /// Steps made, this one included.
    pub step: u64,
    pub learning_rate: f64,
    /// Of all gradients before clipping, where `train` clips.
    pub gradient_norm: Option<f64>,
    /// What optimizer and averaged copies took, where they are told apart.
    pub update_time: Duration,
    /// Where steps are handed to a device that makes them by itself, and it tells.
    pub device: Option<DeviceTime>,
    pub results: Results<E>,
}

/// A session and the clock of a run.
pub struct Trainer<'p, E> {
    pub session: Box<dyn Session<E> + 'p>,
    /// Steps begun.
    pub step: u64,
    pub clock: Clock,
    /// Whether states that the first batch starts are still to be filled: not where they were given.
    pub fresh_states: bool,
    program: &'p Program,
    /// Inputs of the graph beside what the batch brings: the numbers in force at the step at hand.
    scheduled: Vec<(String, InputValue)>,
}

impl<'p, E: Element> Trainer<'p, E> {
    /// A trainer at step 0 of what the session holds, which is one of `program`.
    pub fn new(program: &'p Program, session: Box<dyn Session<E> + 'p>, clock: Clock) -> Self {
        let scheduled = scheduled(&program.train)
            .map(|(name, _)| (name.to_owned(), InputValue::Double(HostTensor { shape: Vec::new(), data: vec![0.0] })));
        Trainer { session, step: 0, clock, fresh_states: true, program, scheduled: scheduled.collect() }
    }

    /// One step on `inputs`. A scheduled number that `inputs` gives stays.
    pub fn step(&mut self, inputs: &[(String, InputValue)]) -> Result<StepReport<E>, StepError> {
        self.step_giving(inputs, Wanted::default())
    }

    /// The same, with what else is wanted of it.
    pub fn step_giving(
        &mut self,
        inputs: &[(String, InputValue)],
        wanted: Wanted<'_>,
    ) -> Result<StepReport<E>, StepError> {
        self.fill_schedules();
        self.start_states(inputs)?;
        let (at, inputs) = (Moment { step: self.step, clock: self.clock }, Inputs::new(inputs, &self.scheduled));
        let stepped = self.session.step(inputs, at, wanted)?;
        self.step += 1;
        Ok(self.report(stepped))
    }

    /// Begins a step on `inputs`; gives the report of it, or of the one before: a device need not wait for who looks at it.
    pub fn step_ahead(&mut self, inputs: Vec<(String, InputValue)>) -> Result<Option<StepReport<E>>, StepError> {
        self.fill_schedules();
        self.start_states(&inputs)?;
        let at = Moment { step: self.step, clock: self.clock };
        let stepped = self.session.step_ahead(inputs, &self.scheduled, at)?;
        self.step += 1;
        Ok(stepped.map(|stepped| self.report(stepped)))
    }

    /// The report of a step that was begun and not told of yet.
    pub fn settle(&mut self) -> Result<Option<StepReport<E>>, StepError> {
        let stepped = self.session.settle()?;
        Ok(stepped.map(|stepped| self.report(stepped)))
    }

    fn report(&self, stepped: Stepped<E>) -> StepReport<E> {
        let Stepped { step, results, gradient_norm, update_time, device } = stepped;
        let learning_rate = self.clock.value(&self.program.spec.train.learning_rate, step - 1);
        StepReport { step, learning_rate, gradient_norm, update_time, device, results }
    }

    /// The rows of a batch that the session takes in: those of its own ranks.
    pub fn share(&self) -> Share {
        let (own, ranks) = (self.program.own_samples(), self.session.ranks());
        Share { batch: self.program.spec.data.batch_size, rows: ranks.start * own..ranks.end * own }
    }

    /// All tensors, laid out by the program's layout.
    pub fn tensors(&mut self) -> Result<&[E], BackendError> {
        self.session.tensors()
    }

    /// What a checkpoint holds beside the step.
    pub fn kept(&mut self) -> Result<Kept<'_, E>, BackendError> {
        self.session.kept()
    }

    /// The numbers in force at this step.
    fn fill_schedules(&mut self) {
        for ((_, value), (_, schedule)) in self.scheduled.iter_mut().zip(scheduled(&self.program.train)) {
            if let InputValue::Double(number) = value {
                number.data[0] = self.clock.value(schedule, self.step);
            }
        }
    }

    /// Before the first step: states that start from the first batch, unless they were given.
    fn start_states(&mut self, inputs: &[(String, InputValue)]) -> Result<(), BackendError> {
        let program = self.program;
        if self.step > 0 || !self.fresh_states || program.train.initial.is_empty() {
            return Ok(());
        }
        let values = self.session.first_values(Inputs::new(inputs, &self.scheduled))?;
        let mut tensors = self.session.tensors()?.to_vec();
        for (initial, value) in program.train.initial.iter().zip(&values) {
            if let (OutputValue::Float(rows), Some((decl, range))) = (value, program.layout.get(&initial.path)) {
                let width = decl.shape.last().copied().unwrap_or(1);
                let seed = program.spec.train.seed;
                let centres = kmeans::centres(&rows.data, width, decl.shape[0], initial.rounds, seed, &initial.path);
                tensors[range].copy_from_slice(&centres);
            }
        }
        self.session.exchange(tensors)?;
        self.fresh_states = false;
        Ok(())
    }
}

/// Inputs of `graph` that are scheduled numbers.
fn scheduled(graph: &Graph) -> impl Iterator<Item = (&str, &Schedule)> {
    graph.inputs.iter().filter_map(|input| match &input.kind {
        InputKind::Schedule(schedule) => Some((input.name.as_str(), schedule)),
        _ => None,
    })
}
