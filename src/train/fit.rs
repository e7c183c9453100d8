//! What a run takes of the memory that there is, and how much of its batch is computed at once: known before its first step.
//!
//! Before: a compiled [`Program`] and a backend. After: `run`, `bench` and `show cost` go on with the micro-batch found here, and the
//! run's folder keeps it.
//!
//! **Invariant:** a step is that of the whole batch whatever is chosen here; where memory allows for it, a batch is not cut.

use crate::backend::{Backend, BackendError, Footprint, Whose};
use crate::data::loader;
use crate::diag::Code;
use crate::graph::Program;
use crate::graph::accumulate::SplitError;
use crate::graph::step::NoStep;
use crate::run::memory::MachineMemory;
use crate::spec::{MicroBatch, ShardOptimizer};
use crate::tensor::Element;

/// Share of the machine's memory that `auto` takes at most: the system, and what it keeps of files, need the rest.
const OF_MACHINE: f64 = 0.8;
/// Share of what is available now that a run may take at all.
const OF_AVAILABLE: f64 = 0.95;
/// Share of a device's memory: what the compiler plans does not count the runtime's own.
const OF_DEVICE: f64 = 0.95;

/// How a run fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fit {
    pub micro_batch: usize,
    pub takes: Takes,
    /// What a run may take, in bytes; `None` where nobody knows.
    pub has: Option<u64>,
    /// The larger micro-batch that would fit if nothing else ran on this machine.
    pub by_itself: Option<usize>,
}

/// Bytes that a run takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Takes {
    pub footprint: Footprint,
    /// Of the machine: batches that are loaded, or on their way.
    pub batches: u64,
}

impl Takes {
    /// Bytes of the memory that the step is computed in.
    pub fn bytes(&self) -> u64 {
        match self.footprint.memory {
            Whose::Machine => self.footprint.bytes().saturating_add(self.batches),
            Whose::Device { .. } => self.footprint.bytes(),
        }
    }

    /// Whose memory it is, in words.
    pub fn whose(&self) -> &'static str {
        match self.footprint.memory {
            Whose::Machine => "this machine",
            Whose::Device { .. } => "the device",
        }
    }
}

/// `18.0 GB: 4.7 GB for tensors, gradients and moments, 3.5 GB for values, 9.9 GB for batches that are loaded`.
impl std::fmt::Display for Takes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Footprint { stored, values, memory } = self.footprint;
        let [all, stored, values] = [self.bytes(), stored, values].map(bytes_text);
        write!(f, "{all}: {stored} for tensors, gradients and moments, {values} for values")?;
        match memory {
            Whose::Machine => write!(f, ", {} for batches that are loaded", bytes_text(self.batches)),
            Whose::Device { .. } => Ok(()),
        }
    }
}

/// Why a run cannot be fitted.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error("{code}: {0}", code = Code::MemoryMissing.as_str())]
    TooLarge(TooLarge),
}

/// A step for which there is not enough memory.
#[derive(Debug)]
pub struct TooLarge {
    batch: usize,
    micro_batch: usize,
    takes: Takes,
    has: u64,
    help: String,
}

impl std::fmt::Display for TooLarge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let TooLarge { batch, micro_batch, takes, has, help } = self;
        let how = if micro_batch == batch { String::new() } else { format!(" in micro-batches of {micro_batch}") };
        let (whose, has) = (takes.whose(), bytes_text(*has));
        write!(f, "a batch of {batch}{how} takes {takes}; {whose} has {has} for it (help: {help})")
    }
}

/// 2288200000 → "2.3 GB".
pub fn bytes_text(bytes: u64) -> String {
    match bytes {
        0..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// Chooses the micro-batch of `program` where it is left to the machine, and whether ranks share out what the optimizer keeps, and sets
/// both. `None` where the backend cannot say what a run
/// takes: then the batch is not cut.
///
/// # Errors
/// Where a run would not fit, with the override that does.
pub fn fit<E: Element>(
    program: &mut Program,
    backend: &mut dyn Backend<E>,
    machine: Option<MachineMemory>,
) -> Result<Option<Fit>, FitError> {
    // Each rank cuts its own part of the batch.
    let (batch, own) = (program.spec.data.batch_size, program.own_samples());
    let wanted = program.spec.train.micro_batch;
    let first = match wanted {
        MicroBatch::Auto => own,
        MicroBatch::Of(samples) => samples,
    };
    let shard = program.spec.train.shard_optimizer;
    program.sharded = program.ranks > 1 && shard == ShardOptimizer::Always;
    let Some(Some(mut whole)) = takes(program, backend, first)? else { return Ok(None) };
    let (most, now) = limits(whole.footprint.memory, machine).unzip();
    let fit = |micro_batch, takes, by_itself| Fit { micro_batch, takes, has: now, by_itself };
    let limit = match wanted {
        MicroBatch::Auto => most.min(now),
        MicroBatch::Of(_) => now,
    };
    // Before the batch is cut: that takes time, this takes what is sent once more.
    if program.ranks > 1 && shard == ShardOptimizer::Auto && limit.is_some_and(|limit| whole.bytes() > limit) {
        program.sharded = true;
        if let Some(Some(shared)) = takes(program, backend, first)? {
            whole = shared;
        }
    }
    let mut measure = |samples: usize| takes(program, backend, samples);
    let found = match (limit, now) {
        (Some(limit), Some(now)) if whole.bytes() > limit => {
            // What it would be if nothing else ran here.
            let ideal = match most {
                Some(most) if wanted == MicroBatch::Auto && most > limit && whole.bytes() <= most => Some(own),
                Some(most) if wanted == MicroBatch::Auto && most > limit => {
                    largest(own, first, whole, most, &mut measure)?.map(|(samples, _)| samples)
                }
                _ => None,
            };
            let smaller = largest(own, first, whole, limit, &mut measure)?;
            match (smaller, wanted) {
                (Some((samples, takes)), MicroBatch::Auto) => {
                    fit(samples, takes, ideal.filter(|ideal| *ideal > samples))
                }
                (Some((samples, _)), MicroBatch::Of(_)) => {
                    return Err(too_large(batch, first, whole, now, Some(samples)));
                }
                (None, _) => {
                    // What a sample by itself takes tells what is missing.
                    let (samples, takes) = measure(1)?.flatten().map_or((first, whole), |one| (1, one));
                    return Err(too_large(batch, samples, takes, now, None));
                }
            }
        }
        _ => fit(first, whole, None),
    };
    program.spec.train.micro_batch = MicroBatch::Of(found.micro_batch);
    Ok(Some(found))
}

/// What `samples` at once take. The inner `None`: nobody can tell; the outer one: what joins samples keeps them from being cut.
fn takes<E: Element>(
    program: &mut Program,
    backend: &mut dyn Backend<E>,
    samples: usize,
) -> Result<Option<Option<Takes>>, BackendError> {
    let before = std::mem::replace(&mut program.spec.train.micro_batch, MicroBatch::Of(samples));
    let found = backend.footprint(program);
    program.spec.train.micro_batch = before;
    let batches = loader::held_bytes(&program.train.inputs, &program.spec.views, program.spec.data.prefetch_batches);
    match found {
        Ok(footprint) => Ok(Some(footprint.map(|footprint| Takes { footprint, batches }))),
        Err(BackendError::Step(NoStep::Split(SplitError::Coupled(_)))) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What `auto` may take at most, and what can be had now; `None` where the system does not say.
fn limits(memory: Whose, machine: Option<MachineMemory>) -> Option<(u64, u64)> {
    let share = |of: f64, bytes: u64| (bytes as f64 * of) as u64;
    match memory {
        Whose::Device { bytes } => Some((share(OF_DEVICE, bytes), share(OF_DEVICE, bytes))),
        Whose::Machine => {
            machine.map(|machine| (share(OF_MACHINE, machine.total), share(OF_AVAILABLE, machine.available)))
        }
    }
}

/// The largest divisor of the batch below `from`, which takes `takes`, that fits into `limit`. It is the last that is measured.
fn largest(
    batch: usize,
    from: usize,
    takes: Takes,
    limit: u64,
    measure: &mut dyn FnMut(usize) -> Result<Option<Option<Takes>>, BackendError>,
) -> Result<Option<(usize, Takes)>, BackendError> {
    // Values go with the samples, about; so those that are far too many are not measured.
    let others = takes.bytes() - takes.footprint.values;
    let share = limit.saturating_sub(others) as f64 / takes.footprint.values.max(1) as f64;
    let hopeless = |samples: usize| samples as f64 > 1.5 * share * from as f64;
    for samples in (1..from).rev().filter(|samples| batch.is_multiple_of(*samples)) {
        if samples > 1 && hopeless(samples) {
            continue;
        }
        match measure(samples)? {
            Some(Some(takes)) if takes.bytes() <= limit => return Ok(Some((samples, takes))),
            Some(_) => {}
            None => return Ok(None),
        }
    }
    Ok(None)
}

fn too_large(batch: usize, micro_batch: usize, takes: Takes, has: u64, fits: Option<usize>) -> FitError {
    let help = match fits {
        Some(samples) => format!("--set train.micro_batch={samples}"),
        None if takes.footprint.bytes() <= has => {
            let fits = batch as f64 * (has - takes.footprint.bytes()) as f64 / takes.batches.max(1) as f64;
            let power = 1_usize << (fits as usize).max(1).ilog2();
            format!("--set data.batch_size={power}, for a batch is held as a whole")
        }
        None => "a smaller model, or --set train.recompute=blocks".to_owned(),
    };
    FitError::TooLarge(TooLarge { batch, micro_batch, takes, has, help })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    fn takes(values: u64) -> Takes {
        Takes { footprint: Footprint { stored: GB, values, memory: Whose::Machine }, batches: GB }
    }

    /// A sample takes a gigabyte.
    fn measured(samples: usize) -> Result<Option<Option<Takes>>, BackendError> {
        Ok(Some(Some(takes(samples as u64 * GB))))
    }

    #[test]
    fn the_largest_divisor_that_fits_is_taken() {
        for (limit, samples) in [(66, Some(48)), (34, Some(32)), (33, Some(24)), (7, Some(4)), (3, Some(1)), (2, None)]
        {
            let found = largest(96, 96, takes(96 * GB), limit * GB, &mut measured).expect("nothing fails");
            assert_eq!(found.map(|(samples, _)| samples), samples, "{limit} GB");
        }
    }

    #[test]
    fn what_is_far_too_large_is_not_measured() {
        let mut asked = Vec::new();
        let mut measure = |samples| {
            asked.push(samples);
            measured(samples)
        };
        let found = largest(4096, 4096, takes(4096 * GB), 70 * GB, &mut measure).expect("nothing fails");
        assert_eq!(found.map(|(samples, _)| samples), Some(64));
        assert_eq!(asked, [64]);
    }

    #[test]
    fn a_graph_that_cannot_be_cut_ends_the_search() {
        let found = largest(8, 8, takes(8 * GB), 4 * GB, &mut |_| Ok(None)).expect("nothing fails");
        assert_eq!(found, None);
    }
}
