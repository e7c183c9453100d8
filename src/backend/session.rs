//! Sessions: a program's tensors on a backend's device for the length of a run, and the steps that are made of them there.
//!
//! Before: a compiled [`Program`] and values for its tensors. After: `train` makes steps, `eval` runs evaluation graphs, `run`
//! reads back what a checkpoint holds.
//!
//! **Invariant:** a step that is not made leaves tensors and slots as they were: nothing is written where a loss, a gradient or
//! a state is not finite.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use super::finite::all_finite;
use super::{BackendError, Results};
use crate::graph::{Graph, Layout, Program};
use crate::spec::Clock;
use crate::tensor::{Element, InputValue, Inputs, OutputValue};

/// When a step is made: what schedules go by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// Steps made before.
    pub step: u64,
    pub clock: Clock,
}

/// What a step shall give beside losses and monitors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// Names of outputs of the training graph.
    pub outputs: &'a [String],
    /// [`Results::gradients`] and [`Results::updates`]. Sessions whose tensors are on the host give them anyway.
    pub gradients: bool,
}

/// What one step gave.
#[derive(Debug, Clone)]
pub struct Stepped<E> {
    /// Steps made, this one included.
    pub step: u64,
    pub results: Results<E>,
    /// Of all gradients before clipping, where `train` clips.
    pub gradient_norm: Option<f64>,
    /// What optimizer and averaged copies took; zero where they are a part of the one program that is run.
    pub update_time: Duration,
    /// Where steps are handed to a device that makes them by itself, and it tells.
    pub device: Option<DeviceTime>,
}

/// Where the time of a device went that makes a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceTime {
    /// From when the step was there and the one before it was over, to its own end.
    pub busy: Duration,
    /// From the end of the step before to when this one was there: the device had none. `None` where none was before, or what came
    /// between was no step's time, such as an evaluation.
    pub idle: Option<Duration>,
}

impl DeviceTime {
    /// Share of the time that the device had no step, 0 to 1.
    pub fn idle_share(&self) -> Option<f64> {
        let (busy, idle) = (self.busy.as_secs_f64(), self.idle?.as_secs_f64());
        (busy + idle > 0.0).then(|| idle / (busy + idle))
    }
}

/// Bytes of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeviceBytes {
    /// Most in use since the session was opened; `None` where the device does not tell.
    pub peak: Option<u64>,
    /// What the compiler has planned for a step; `None` where it does not tell, or before there is one.
    pub planned: Option<u64>,
}

/// What a checkpoint holds of a session.
#[derive(Debug, Clone)]
pub struct Kept<'a, E: Element> {
    /// All tensors, laid out by the program's layout.
    pub tensors: &'a [E],
    /// What the optimizer keeps of each trained value, in the order of its slots: `layout.trained_len` values each. Where ranks
    /// share it out, it was put together, and rank 0 alone has it.
    pub slots: Cow<'a, [Vec<E>]>,
    /// Updates that each trained tensor has had.
    pub updates: &'a [u64],
}

/// Why a step was not made.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error("step {step}: {what} is not finite; {culprit}")]
    NotFinite { step: u64, what: String, culprit: String },
}

/// A program on a device.
pub trait Session<E: Element> {
    /// As in `--backend NAME`.
    fn backend(&self) -> &'static str;

    fn program(&self) -> &Program;

    /// Which of the program's ranks are this session's: a batch brings their rows and no others.
    fn ranks(&self) -> Range<usize>;

    /// Takes programs that an earlier start of the run has compiled, by the names that [`Session::new_programs`] gave. Before anything
    /// is compiled.
    fn offer_programs(&mut self, _programs: Vec<(String, Vec<u8>)>) {}

    /// Programs compiled since this was last asked, to be kept with the run: a device's numbers may hang on how one was compiled. The
    /// names of steps begin with `step`. None from backends that compile none.
    fn new_programs(&mut self) -> Vec<(String, Vec<u8>)> {
        Vec::new()
    }

    /// Makes ready what the first step needs, so that its time can be told apart, and a step that cannot be made is told.
    fn prepare(&mut self) -> Result<(), BackendError>;

    /// One step on `inputs`: forward, backward, states, optimizer, averaged copies.
    fn step(&mut self, inputs: Inputs<'_>, at: Moment, wanted: Wanted<'_>) -> Result<Stepped<E>, StepError>;

    /// Begins a step on `batch`, and gives what was begun before it, or this very one: the device need not wait for who reads its losses.
    /// `others` are the inputs that the batch does not bring.
    ///
    /// A step that is begun behind one that cannot be made is not made either.
    fn step_ahead(
        &mut self,
        batch: Vec<(String, InputValue)>,
        others: &[(String, InputValue)],
        at: Moment,
    ) -> Result<Option<Stepped<E>>, StepError> {
        self.step(Inputs::new(&batch, others), at, Wanted::default()).map(Some)
    }

    /// What was begun and not given yet. To be asked for before anything else is, but another step.
    fn settle(&mut self) -> Result<Option<Stepped<E>>, StepError> {
        Ok(None)
    }

    /// Takes results back that nobody looks at any more, so that the next step need not allocate.
    fn reuse(&mut self, _results: Results<E>) {}

    /// Values that states start from, in the order of `train.initial`.
    fn first_values(&mut self, inputs: Inputs<'_>) -> Result<Vec<OutputValue<E>>, BackendError>;

    /// Runs an evaluation graph of the program on its tensors, for `outputs`.
    fn evaluate(
        &mut self,
        graph: &Graph,
        inputs: &[(String, InputValue)],
        outputs: &[String],
    ) -> Result<Vec<OutputValue<E>>, BackendError>;

    /// All tensors, laid out by the program's layout.
    fn tensors(&mut self) -> Result<&[E], BackendError>;

    /// Puts `tensors` in the place of those that are there; gives back those.
    fn exchange(&mut self, tensors: Vec<E>) -> Result<Vec<E>, BackendError>;

    /// All ranks ask for it, or none does.
    fn kept(&mut self) -> Result<Kept<'_, E>, BackendError>;

    /// Takes a checkpoint up: as [`Kept`] says of each.
    fn restore(&mut self, tensors: Vec<E>, slots: Vec<Vec<E>>, updates: Vec<u64>) -> Result<(), BackendError>;

    /// See [`super::Backend::start_timing`].
    fn start_timing(&mut self) {}

    /// See [`super::Backend::take_times`].
    fn take_times(&mut self) -> BTreeMap<String, Duration> {
        BTreeMap::new()
    }

    /// See [`super::Backend::product_rate`].
    fn product_rate(&self, _bf16: bool) -> Option<f64> {
        None
    }

    /// What there is of memory beside the host's.
    fn device_bytes(&self) -> Option<DeviceBytes> {
        None
    }
}

/// What of the results is not finite: a loss by name, else a parameter's gradient, else a state.
pub(super) fn not_finite<E: Element>(graph: &Graph, layout: &Layout, results: &Results<E>) -> Option<String> {
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
