//! Who looks on while a session runs, and what it hears, of steps and of what goes wrong.

use std::ops::ControlFlow;

use serde_json::Value;

use super::imports::ImportError;
use super::reconstruct;
use crate::backend::StepError;
use crate::data::DataError;
use crate::eval::Pass;
use crate::eval::quality::QualityError;
use crate::graph::Program;
use crate::run::{RunError, RunFolder};
use crate::weights::WeightsError;

/// What a session tells while it runs, and how it learns that it shall stop.
pub trait Watch {
    /// Before the first step: steps made, steps of the whole run, images a step.
    fn begin(&mut self, step: u64, total_steps: u64, batch_size: usize);
    /// After each step.
    fn step(&mut self, step: &StepLine<'_>);
    /// After each line of metrics, as it was written.
    fn logged(&mut self, _line: &Value) {}
    /// While the files of a source are listed: how many it were; `None` at its end.
    fn listing(&mut self, _source: &str, _files: Option<usize>) {}
    /// Once, before the first step: the pictures of `data.train`.
    fn counted(&mut self, _pictures: usize) {}
    /// While pictures are looked at: how far that is, after each batch and at its end.
    fn pass(&mut self, _pass: &Pass<'_>) {}
    /// A line for people.
    fn say(&mut self, line: &str);
    /// The same, of what this rank alone has met with, such as pictures of its own.
    fn say_own(&mut self, line: &str) {
        self.say(line);
    }
    /// Whether the user or the system asks to save and leave.
    fn asked_to_stop(&self) -> bool;
    /// After the last step.
    fn end(&mut self);
    /// While the run goes on, after the folder has got something new to look at.
    fn kept(&mut self, _folder: &RunFolder) {}
}

/// How looking at a step ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looked {
    AtAll,
    /// It was asked to stop.
    Stopped,
}

/// Tells `watch` of passes, and ends them where it is asked to.
pub(super) fn look(watch: &mut dyn Watch) -> impl FnMut(Pass<'_>) -> ControlFlow<()> + '_ {
    |pass| {
        watch.pass(&pass);
        if watch.asked_to_stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// What is shown of a step.
pub struct StepLine<'a> {
    pub step: u64,
    pub epoch: f64,
    pub learning_rate: f64,
    /// The step took these, waiting for its batch included.
    pub seconds: f64,
    /// Share of the time that the device had no step to make; `None` where there is no such device, or it does not tell.
    pub accelerator_idle: Option<f64>,
    /// By name, weights included.
    pub losses: &'a [(&'a str, f64)],
}

/// Why a session ended early.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The source's name, so that its place in the file can be shown.
    #[error("{error}")]
    Data { source_name: String, error: DataError },
    /// Ranks that read different files would train on different batches.
    #[error("rank {rank} reads other pictures than rank 0: {change} (help: the same files on every machine)")]
    OtherPictures { rank: usize, change: String },
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error(transparent)]
    Step(#[from] StepError),
    #[error(transparent)]
    Quality(#[from] QualityError),
    #[error(transparent)]
    Reconstruct(#[from] reconstruct::ReconstructError),
}

/// An error of the data is one of the source that it names, else of the queries.
pub(super) fn quality_error(program: &Program, error: QualityError) -> SessionError {
    let QualityError::Data { error } = error else { return error.into() };
    let named = match &error {
        DataError::NoneReadable { source_name, .. } => source_name.strip_prefix("data.").map(str::to_owned),
        _ => None,
    };
    let evaluate = &program.spec.evaluate;
    let queries = || match (&evaluate.evaluations[..], &evaluate.classifications[..], &evaluate.segmentations[..]) {
        ([evaluation, ..], ..) => evaluation.sources()[1].to_owned(),
        (_, [classification, ..], _) => classification.queries.clone(),
        (.., [segmentation, ..]) => segmentation.queries.clone(),
        _ => String::new(),
    };
    SessionError::Data { source_name: named.unwrap_or_else(queries), error }
}
