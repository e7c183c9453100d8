//! Who looks on while a session runs, and what it hears, of steps and of what goes wrong.

use serde_json::Value;

use super::imports::ImportError;
use super::reconstruct;
use crate::backend::StepError;
use crate::data::DataError;
use crate::eval::quality::QualityError;
use crate::graph::Program;
use crate::run::{RunError, RunFolder};

/// What a session tells while it runs, and how it learns that it shall stop.
pub trait Watch {
    /// Before the first step: steps made, steps of the whole run, images a step.
    fn begin(&mut self, step: u64, total_steps: u64, batch_size: usize);
    /// After each step.
    fn step(&mut self, step: &StepLine<'_>);
    /// After each line of metrics, as it was written.
    fn logged(&mut self, _line: &Value) {}
    /// Once, before the first step: the pictures of `data.train`.
    fn counted(&mut self, _pictures: usize) {}
    /// A line for people.
    fn say(&mut self, line: &str);
    /// Whether the user or the system asks to save and leave.
    fn asked_to_stop(&self) -> bool;
    /// After the last step.
    fn end(&mut self);
    /// While the run goes on, after the folder has got something new to look at.
    fn kept(&mut self, _folder: &RunFolder) {}
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
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Import(#[from] ImportError),
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
    let queries = || program.spec.evaluate.knn.as_ref().map_or_else(String::new, |knn| knn.queries.clone());
    SessionError::Data { source_name: named.unwrap_or_else(queries), error }
}
