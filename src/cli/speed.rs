//! How fast a run goes: images a second while it trains, and how long it takes with all else that it does.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use cmae::train::StepLine;

/// Steps that the shown speed is taken over.
const STEPS: usize = 50;

/// Images a second for people: a network that takes seconds for one has a digit behind the point.
pub fn rounded(speed: f64) -> String {
    if speed < 10.0 { format!("{speed:.1}") } else { format!("{speed:.0}") }
}

#[derive(Default)]
pub struct Speed {
    /// Seconds of the last steps, waiting for their batches included, and the share of them that the accelerator had none.
    steps: VecDeque<(f64, Option<f64>)>,
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

    /// After a step.
    pub fn step(&mut self, step: &StepLine<'_>) {
        self.made += 1;
        self.steps.push_back((step.seconds, step.accelerator_idle));
        if self.steps.len() > STEPS {
            self.steps.pop_front();
        }
    }

    /// Images a second over the last steps; `None` before the first step.
    pub fn images_per_second(&self) -> Option<f64> {
        let seconds: f64 = self.steps.iter().map(|(seconds, _)| seconds).sum();
        (seconds > 0.0).then(|| (self.steps.len() * self.batch_size) as f64 / seconds)
    }

    /// Share of the last steps' time that the accelerator had no step to make; `None` where that is not told.
    pub fn accelerator_idle(&self) -> Option<f64> {
        let told = || self.steps.iter().filter_map(|(seconds, share)| Some((*seconds, (*share)?)));
        let seconds: f64 = told().map(|(seconds, _)| seconds).sum();
        (seconds > 0.0).then(|| told().map(|(seconds, share)| seconds * share).sum::<f64>() / seconds)
    }

    /// How long `steps` more take, with evaluations and checkpoints as often as so far.
    pub fn left(&self, steps: u64) -> Option<Duration> {
        let seconds = self.begun?.elapsed().as_secs_f64() * steps as f64 / self.made as f64;
        Duration::try_from_secs_f64(seconds).ok()
    }
}

#[cfg(test)]
mod tests {
    use cmae::train::StepLine;

    use super::Speed;

    fn half_a_second(accelerator_idle: Option<f64>) -> StepLine<'static> {
        StepLine { step: 1, epoch: 0.1, learning_rate: 1e-3, seconds: 0.5, accelerator_idle, losses: &[] }
    }

    #[test]
    fn what_comes_between_steps_takes_no_speed_away_but_time() {
        let mut speed = Speed::default();
        assert_eq!((speed.images_per_second(), speed.left(1)), (None, None));
        speed.begin(8);
        assert_eq!((speed.images_per_second(), speed.left(1)), (None, None));
        speed.step(&half_a_second(None));
        assert_eq!(speed.accelerator_idle(), None);
        // An evaluation, longer than two steps of these.
        std::thread::sleep(std::time::Duration::from_millis(30));
        speed.step(&half_a_second(Some(0.25)));
        assert_eq!(speed.accelerator_idle(), Some(0.25));
        assert_eq!(speed.images_per_second(), Some(16.0));
        let left = speed.left(20).expect("two steps are made");
        assert!(left >= std::time::Duration::from_millis(300), "{left:?}");
    }
}
