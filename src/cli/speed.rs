//! How fast a run goes: images a second while it trains, and how long it takes with all else that it does.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Steps that the shown speed is taken over.
const STEPS: usize = 50;

#[derive(Default)]
pub struct Speed {
    /// Seconds of the last steps, waiting for their batches included.
    steps: VecDeque<f64>,
    batch_size: usize,
    /// When the session began, and steps made since.
    begun: Option<Instant>,
    made: u64,
}

impl Speed {
    /// Before the first step.
    pub fn begin(&mut self, batch_size: usize) {
        *self = Speed { batch_size, begun: Some(Instant::now()), ..Speed::default() };
    }

    /// After a step that took `seconds`.
    pub fn step(&mut self, seconds: f64) {
        self.made += 1;
        self.steps.push_back(seconds);
        if self.steps.len() > STEPS {
            self.steps.pop_front();
        }
    }

    /// Images a second over the last steps; `None` before the first step.
    pub fn images_per_second(&self) -> Option<f64> {
        let seconds: f64 = self.steps.iter().sum();
        (seconds > 0.0).then(|| (self.steps.len() * self.batch_size) as f64 / seconds)
    }

    /// How long `steps` more take, with evaluations and checkpoints as often as so far.
    pub fn left(&self, steps: u64) -> Option<Duration> {
        let seconds = self.begun?.elapsed().as_secs_f64() * steps as f64 / self.made as f64;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::Speed;

    #[test]
    fn what_comes_between_steps_takes_no_speed_away_but_time() {
        let mut speed = Speed::default();
        assert_eq!((speed.images_per_second(), speed.left(1)), (None, None));
        speed.begin(8);
        assert_eq!((speed.images_per_second(), speed.left(1)), (None, None));
        speed.step(0.5);
        // An evaluation, longer than two steps of these.
        std::thread::sleep(std::time::Duration::from_millis(30));
        speed.step(0.5);
        assert_eq!(speed.images_per_second(), Some(16.0));
        let left = speed.left(20).expect("two steps are made");
        assert!(left >= std::time::Duration::from_millis(300), "{left:?}");
    }
}
