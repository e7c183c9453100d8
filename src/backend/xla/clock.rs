//! When a device had a step to make, and when it had none.
//!
//! **Invariant:** the busy and idle times of steps in a row add up to the time from the end of the step before the first to that of
//! the last.

use std::time::Instant;

use super::pjrt::{Buffer, Ending, Event};
use crate::backend::DeviceTime;

/// When a step was given to the device, and when it was over.
pub struct Timed {
    given: Instant,
    /// None of a plugin that does not tell.
    ending: Option<Ending>,
}

impl Timed {
    /// Of a step that was given to the device at `given`, and has this result.
    pub fn new(given: Instant, result: &Buffer) -> Self {
        Timed { given, ending: result.ready().and_then(Event::ending).ok() }
    }
}

/// The steps of a session, one behind the other.
#[derive(Debug, Default)]
pub struct Clock {
    /// When the last step that was read was over, where nothing has come behind it but steps.
    last_end: Option<Instant>,
}

impl Clock {
    /// Where the device's time went of the next step, which is over.
    pub fn read(&mut self, step: &Timed) -> Option<DeviceTime> {
        let end = step.ending.as_ref().and_then(Ending::at);
        let before = std::mem::replace(&mut self.last_end, end);
        Some(times(before, step.given, end?))
    }

    /// What comes next is no step: the wait for it is not the device's.
    pub fn pause(&mut self) {
        self.last_end = None;
    }
}

/// Of a step given at `given` and over at `end`, behind one that was over at `before`.
fn times(before: Option<Instant>, given: Instant, end: Instant) -> DeviceTime {
    let start = before.map_or(given, |before| before.max(given));
    DeviceTime {
        busy: end.saturating_duration_since(start),
        idle: before.map(|before| given.saturating_duration_since(before)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::times;
    use crate::backend::DeviceTime;

    #[test]
    fn a_step_that_is_there_in_time_leaves_no_gap() {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        // The end of the step before, when this one was given, its end; busy and idle.
        let table = [
            (None, 10, 30, (20, None)),
            // Given while the one before was under way.
            (Some(20), 10, 30, (10, Some(0))),
            (Some(20), 20, 30, (10, Some(0))),
            // Given late.
            (Some(20), 24, 30, (6, Some(4))),
        ];
        for (before, given, end, (busy, idle)) in table {
            let wanted = DeviceTime { busy: Duration::from_millis(busy), idle: idle.map(Duration::from_millis) };
            assert_eq!(times(before.map(at), at(given), at(end)), wanted, "{before:?} {given} {end}");
        }
    }
}
