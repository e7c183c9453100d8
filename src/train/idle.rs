//! The share of the time that an accelerator had no step to make, over the steps of a line of metrics.

use std::time::Duration;

use crate::backend::DeviceTime;

/// Steps added up.
#[derive(Debug, Default)]
pub(super) struct Idle {
    sum: Option<DeviceTime>,
}

impl Idle {
    /// A step of which it is not known how long the device had waited for it is left out.
    pub fn add(&mut self, step: Option<DeviceTime>) {
        let Some(DeviceTime { busy, idle: Some(idle) }) = step else { return };
        let before = self.sum.unwrap_or(DeviceTime { busy: Duration::ZERO, idle: None });
        self.sum = Some(DeviceTime { busy: before.busy + busy, idle: Some(before.idle.unwrap_or_default() + idle) });
    }

    /// 0 to 1, of the steps since it was last asked; `None` where none was told of.
    pub fn take(&mut self) -> Option<f64> {
        self.sum.take()?.idle_share()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_time_not_of_the_steps() {
        let step = |busy, idle: Option<u64>| {
            Some(DeviceTime { busy: Duration::from_millis(busy), idle: idle.map(Duration::from_millis) })
        };
        let mut idle = Idle::default();
        assert_eq!(idle.take(), None);
        [step(30, Some(10)), step(50, None), None, step(10, Some(50))].into_iter().for_each(|told| idle.add(told));
        assert_eq!(idle.take(), Some(0.6));
        assert_eq!(idle.take(), None, "it begins anew");
    }
}
