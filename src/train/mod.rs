//! Training: drives a backend through a pipeline's steps.
//!
//! Before: a [`crate::graph::Program`], a backend, batches. After: `run` keeps what [`session`] makes. [`init`] fills
//! the arena, [`trainer`] makes one step of it with [`optimizer`] and [`ema`], by micro-batches with [`accumulate`].
//!
//! **Invariant:** the same program, seed and batches give the same bytes for any number of threads.

pub mod accumulate;
pub mod bench;
pub mod ema;
mod evaluate;
mod finite;
pub mod imports;
pub mod init;
pub mod kmeans;
pub mod optimizer;
pub mod reconstruct;
mod resume;
pub mod session;
mod sources;
pub mod trainer;
mod walk;

pub use imports::ImportedRun;
pub use session::{Ended, SessionError, SessionOptions, StepLine, Watch};
pub use trainer::{StepError, StepReport, Trainer};

use crate::spec::{Duration, Schedule};

/// Elements that one task of a pass over an arena takes: enough to outweigh the cost of handing it out.
const CHUNK: usize = 1 << 14;

/// How epochs and shares of the run become steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clock {
    pub steps_per_epoch: f64,
    pub total_steps: f64,
}

impl Clock {
    /// A run of `epochs` epochs of `steps_per_epoch` steps; at least one step.
    pub fn new(epochs: f64, steps_per_epoch: u64) -> Self {
        let steps_per_epoch = steps_per_epoch as f64;
        Clock { steps_per_epoch, total_steps: (epochs * steps_per_epoch).round().max(1.0) }
    }

    pub fn steps(&self, duration: Duration) -> f64 {
        duration.steps(self.steps_per_epoch, self.total_steps)
    }

    /// Whether something that happens every `duration` happens when `step` steps are made: whole periods end there.
    pub fn is_due(&self, duration: Duration, step: u64) -> bool {
        let period = self.steps(duration).max(1.0);
        (step as f64 / period).floor() > ((step as f64 - 1.0) / period).floor()
    }

    /// A scheduled number, as it is in force in the step after `step` steps.
    pub fn value(&self, schedule: &Schedule, step: u64) -> f64 {
        schedule.at(step as f64, self.steps_per_epoch, self.total_steps)
    }
}
