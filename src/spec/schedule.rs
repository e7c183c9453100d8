//! Numbers over time: learning rates, weight decay, momenta, temperatures.

use serde::{Deserialize, Serialize};

/// A span of training time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Duration {
    Steps(f64),
    Epochs(f64),
    /// Share of the whole run; past 1 for a schedule that the run's end cuts off.
    Share(f64),
}

impl Duration {
    /// In optimizer steps, for a run of `total_steps` with `steps_per_epoch`.
    pub fn steps(self, steps_per_epoch: f64, total_steps: f64) -> f64 {
        match self {
            Duration::Steps(n) => n,
            Duration::Epochs(n) => n * steps_per_epoch,
            Duration::Share(share) => share * total_steps,
        }
    }
}

/// When a schedule takes its next value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tick {
    /// At every optimizer step.
    Step,
    /// At every epoch's start; the value holds for the whole epoch.
    Epoch,
}

/// The value that a cosine ends at.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum End {
    /// `end: 1e-6`: as it stands, whatever the batch size.
    Value(f64),
    /// `end: 0.1%`: a share of the peak.
    OfPeak(f64),
}

/// A number over time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Schedule {
    Constant(f64),
    /// Linear from `warmup_from · peak` to `peak` over `warmup`, then half a cosine that reaches `end` after `over`,
    /// counted from the start of the run, and stays there. Past the run's end `over` cuts the cosine off (MSN, I-JEPA).
    Cosine {
        peak: f64,
        end: End,
        warmup: Duration,
        warmup_from: f64,
        over: Duration,
        by: Tick,
    },
    /// Straight line, or half a cosine, from `from` at the start to `to` after `over`; then `to`.
    Ramp {
        from: f64,
        to: f64,
        cosine: bool,
        over: Duration,
        by: Tick,
    },
    /// Linear from `warmup_from · peak` to `peak` over `warmup`; times `factor` from each of `at` on.
    Steps {
        peak: f64,
        warmup: Duration,
        warmup_from: f64,
        factor: f64,
        at: Vec<Duration>,
    },
}

impl Schedule {
    /// The value that it ends with, where it reaches its end within the run.
    pub fn last(&self) -> f64 {
        match self {
            Schedule::Constant(value) => *value,
            Schedule::Cosine { end: End::Value(value), .. } => *value,
            Schedule::Cosine { end: End::OfPeak(share), peak, .. } => share * peak,
            Schedule::Ramp { to, .. } => *to,
            Schedule::Steps { peak, factor, at, .. } => at.iter().fold(*peak, |value, _| value * factor),
        }
    }

    /// The values that it turns at, by what makes them: between two of them it passes through nothing beyond both.
    pub fn points(&self) -> Vec<(&'static str, f64)> {
        match self {
            Schedule::Constant(value) => vec![("value", *value)],
            Schedule::Cosine { peak, warmup_from, .. } => {
                vec![("base", *peak), ("warmup_from", warmup_from * peak), ("end", self.last())]
            }
            Schedule::Ramp { from, to, .. } => vec![("from", *from), ("to", *to)],
            Schedule::Steps { peak, warmup_from, .. } => {
                vec![("base", *peak), ("warmup_from", warmup_from * peak), ("factor", self.last())]
            }
        }
    }

    /// The value in force at optimizer step `step` (from 0).
    pub fn at(&self, step: f64, steps_per_epoch: f64, total_steps: f64) -> f64 {
        let steps = |duration: &Duration| duration.steps(steps_per_epoch, total_steps);
        // Both are whole numbers in a run, so that the quotient at an epoch's start is exact.
        let step = match self.tick() {
            Tick::Epoch => (step / steps_per_epoch).floor() * steps_per_epoch,
            Tick::Step => step,
        };
        match self {
            Schedule::Constant(value) => *value,
            Schedule::Cosine { peak, end, warmup, warmup_from, over, by: _ } => {
                let warmup = steps(warmup);
                if step < warmup {
                    return warming(*peak, *warmup_from, step, warmup);
                }
                let end = match end {
                    End::Value(value) => *value,
                    End::OfPeak(share) => share * peak,
                };
                end + (peak - end) * half_cosine(done(step - warmup, steps(over) - warmup))
            }
            Schedule::Ramp { from, to, cosine, over, by: _ } => {
                let t = done(step, steps(over));
                to - (to - from) * if *cosine { half_cosine(t) } else { 1.0 - t }
            }
            Schedule::Steps { peak, warmup, warmup_from, factor, at } => {
                let warmup = steps(warmup);
                let value = if step < warmup { warming(*peak, *warmup_from, step, warmup) } else { *peak };
                let passed = at.iter().filter(|milestone| step >= steps(milestone)).count();
                (0..passed).fold(value, |value, _| value * factor)
            }
        }
    }

    pub fn tick(&self) -> Tick {
        match self {
            Schedule::Cosine { by, .. } | Schedule::Ramp { by, .. } => *by,
            Schedule::Constant(_) | Schedule::Steps { .. } => Tick::Step,
        }
    }

    /// The schedule with its peak `factor` times as high. What does not hang on the peak stays: an `end` that is a
    /// number of its own, and ramps.
    pub fn scaled(self, factor: f64) -> Schedule {
        match self {
            Schedule::Cosine { peak, end, warmup, warmup_from, over, by } => {
                Schedule::Cosine { peak: peak * factor, end, warmup, warmup_from, over, by }
            }
            Schedule::Steps { peak, warmup, warmup_from, factor: each, at } => {
                Schedule::Steps { peak: peak * factor, warmup, warmup_from, factor: each, at }
            }
            other @ (Schedule::Constant(_) | Schedule::Ramp { .. }) => other,
        }
    }

    /// Times at which the schedule turns: the ends of warm-ups, milestones, the end of what it runs over.
    pub fn turns(&self) -> Vec<Duration> {
        match self {
            Schedule::Constant(_) => Vec::new(),
            Schedule::Cosine { warmup, over, .. } => vec![*warmup, *over],
            Schedule::Ramp { over, .. } => vec![*over],
            Schedule::Steps { warmup, at, .. } => std::iter::once(*warmup).chain(at.iter().copied()).collect(),
        }
    }
}

/// A straight line from `from · peak` at step 0 to `peak` after `warmup` steps.
fn warming(peak: f64, from: f64, step: f64, warmup: f64) -> f64 {
    let start = from * peak;
    start + (peak - start) * step / warmup
}

/// Share of `whole` steps that lies behind; all of nothing.
fn done(step: f64, whole: f64) -> f64 {
    if whole > 0.0 { (step / whole).clamp(0.0, 1.0) } else { 1.0 }
}

/// From 1 at 0 to 0 at 1.
fn half_cosine(t: f64) -> f64 {
    0.5 * (1.0 + libm::cos(std::f64::consts::PI * t))
}
