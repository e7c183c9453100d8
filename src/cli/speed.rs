//! How fast a run goes, from the ends of its last steps.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Steps that the shown speed is taken over.
const STEPS: usize = 50;

#[derive(Default)]
pub struct Speed {
    ends: VecDeque<Instant>,
    batch_size: usize,
}

impl Speed {
    /// Before the first step.
    pub fn begin(&mut self, batch_size: usize) {
        self.batch_size = batch_size;
        self.ends = VecDeque::from([Instant::now()]);
    }

    /// After a step.
    pub fn step(&mut self) {
        self.ends.push_back(Instant::now());
        if self.ends.len() > STEPS {
            self.ends.pop_front();
        }
    }

    /// Images a second over the last steps; `None` before the first step.
    pub fn images_per_second(&self) -> Option<f64> {
        let seconds = self.ends.back()?.duration_since(*self.ends.front()?).as_secs_f64();
        let steps = self.ends.len() - 1;
        (steps > 0 && seconds > 0.0).then(|| (steps * self.batch_size) as f64 / seconds)
    }

    /// How long `steps` more take at this speed.
    pub fn left(&self, steps: u64) -> Option<Duration> {
        let seconds = steps as f64 * self.batch_size as f64 / self.images_per_second()?;
        Duration::try_from_secs_f64(seconds).ok()
    }
}
