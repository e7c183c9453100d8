//! The clock of a run: epochs and shares of it as steps, scheduled numbers as they are in force.

use super::{Duration, Schedule};

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
