//! Times whole training steps: forward, backward, states, optimizer, averaged copies; no data is loaded.
//!
//! Before: a compiled [`Program`] and a backend. After: `cmaec bench` shows the [`Report`].
//!
//! **Invariant:** what is measured beside the time of steps (kinds of steps, the machine's best) runs after them, so that it
//! changes neither their time nor the memory that is told.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{StepReport, Trainer, init};
use crate::backend::{Backend, BackendError, StepError};
use crate::data::random::RandomBatches;
use crate::graph::{Program, flops};
use crate::run::memory::peak_memory;
use crate::spec::{Clock, Precision};
use crate::tensor::{Element, Pictures};

/// Steps whose time is told by kind, where as many are timed.
const STEPS_BY_KIND: usize = 3;

#[derive(Debug, Clone, Copy)]
pub struct BenchOptions {
    /// Steps before the clock counts; at least the first, which takes memory from the system.
    pub warmup: usize,
    /// Steps that are timed; at least one.
    pub steps: usize,
}

/// What was measured. Times are in milliseconds, rates in 10⁹ FLOP a second, memory in units of 2²⁰ bytes.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub batch_size: usize,
    pub micro_batch: usize,
    pub trained_parameters: usize,
    pub steps: usize,
    /// Their median.
    pub step_ms: f64,
    pub step_ms_min: f64,
    pub step_ms_max: f64,
    /// What of a step its device takes, where the backend tells: their median. For the rest it waits for the host: steps are given to it
    /// ahead, as in runs.
    pub device_step_ms: Option<f64>,
    /// At the median.
    pub images_per_second: f64,
    /// Matrix products of one step: see [`flops::of_step`].
    pub gflop_per_step: f64,
    /// At the median.
    pub gflops: f64,
    /// At the device's median.
    pub device_gflops: Option<f64>,
    /// Of one large product; `None` where the backend does not say.
    pub gemm_peak_gflops: Option<f64>,
    /// Of the process, after the timed steps; `None` where the system does not say.
    pub peak_memory_mb: Option<f64>,
    /// Of the device at most, after the timed steps; `None` where there is no device beside the host, or it does not tell.
    pub device_memory_mb: Option<f64>,
    /// What the device's compiler has planned for a step; `None` likewise.
    pub device_planned_mb: Option<f64>,
    /// Initial values, optimizer, batch.
    pub build_ms: f64,
    /// Of the step's plan, or of its program for a device; `cmaec bench` adds the search for a micro-batch that fits.
    pub plan_ms: f64,
    pub first_step_ms: f64,
    /// By name, in the last timed step.
    pub losses: BTreeMap<String, f64>,
    /// Where the time of a step goes, by kind; measured in steps of their own.
    pub ops: BTreeMap<String, f64>,
}

/// Makes steps of `program` on pictures of noise. Modules of other pipelines keep the zeros that they start with.
pub fn bench<E: Element>(
    program: &Program,
    backend: Box<dyn Backend<E>>,
    options: &BenchOptions,
) -> Result<Report, StepError> {
    let batch_size = program.spec.data.batch_size;
    let (warmup, steps) = (options.warmup.max(1), options.steps.max(1));
    let start = Instant::now();
    // An epoch is a step: what is frozen for an epoch is not while the clock counts. One is begun ahead of those that are timed.
    let clock = Clock { steps_per_epoch: 1.0, total_steps: (warmup + 1 + steps + STEPS_BY_KIND) as f64 };
    let tensors = init::initialise(&program.layout, program.spec.train.seed);
    let session = backend.open(program, tensors)?;
    let (inputs, views) = (&program.train.inputs, &program.spec.views);
    let batches = RandomBatches::of_views(inputs, views, batch_size, program.spec.train.seed, Pictures::Levels);
    let mut bench = Bench { trainer: Trainer::new(program, session, clock), batches, losses: Vec::new() };
    let build_ms = milliseconds(start.elapsed());
    let plan_ms = bench.prepare()?;
    let first = bench.step()?;
    let first_step_ms = first.all;
    for _ in 1..warmup {
        bench.step()?;
    }
    // As in runs, a device is given the next batch while it makes a step.
    let is_ahead = first.device.is_some();
    if is_ahead {
        bench.step_ahead()?;
    }
    let (mut times, mut device_times) = (Vec::with_capacity(steps), Vec::with_capacity(steps));
    for _ in 0..steps {
        let step = if is_ahead { bench.step_ahead()? } else { bench.step()? };
        times.push(step.all);
        device_times.extend(step.device);
    }
    // Of the step with this number on every backend, whatever was begun behind it.
    let names = program.train.losses.iter().map(|(name, _)| name.clone());
    let losses = names.zip(bench.losses.iter().copied()).collect();
    bench.settle()?;
    let megabytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let peak_memory_mb = peak_memory().map(megabytes);
    let device = bench.trainer.session.device_bytes().unwrap_or_default();
    let ops = bench.by_kind(steps.min(STEPS_BY_KIND))?;
    let step_ms = median(&mut times);
    let device_step_ms = (device_times.len() == steps).then(|| median(&mut device_times));
    let flops = flops::of_step(&program.train, &program.layout) as f64;
    Ok(Report {
        batch_size,
        micro_batch: program.spec.micro_batch(),
        trained_parameters: program.layout.trained_len,
        steps,
        step_ms,
        step_ms_min: times[0],
        step_ms_max: times[steps - 1],
        device_step_ms,
        images_per_second: batch_size as f64 / (step_ms / 1e3),
        gflop_per_step: flops / 1e9,
        gflops: flops / 1e6 / step_ms,
        device_gflops: device_step_ms.map(|ms| flops / 1e6 / ms),
        gemm_peak_gflops: bench
            .trainer
            .session
            .product_rate(program.spec.train.precision == Precision::Bf16)
            .map(|rate| rate / 1e9),
        peak_memory_mb,
        device_memory_mb: device.peak.map(megabytes),
        device_planned_mb: device.planned.map(megabytes),
        build_ms,
        plan_ms,
        first_step_ms,
        losses,
        ops,
    })
}

/// The middle one, or what lies between the two; `values` is not empty, and is sorted.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2])
}

/// Milliseconds of a step.
struct Times {
    all: f64,
    /// Of optimizer and averaged copies, where they are told apart.
    update: f64,
    device: Option<f64>,
}

struct Bench<'a, E> {
    trainer: Trainer<'a, E>,
    batches: RandomBatches<'a>,
    /// Of the last step.
    losses: Vec<f64>,
}

impl<E: Element> Bench<'_, E> {
    fn prepare(&mut self) -> Result<f64, BackendError> {
        let start = Instant::now();
        self.trainer.session.prepare()?;
        Ok(milliseconds(start.elapsed()))
    }

    /// One step with masks of its own, from its begin to its end.
    fn step(&mut self) -> Result<Times, StepError> {
        let start = Instant::now();
        let inputs = self.batches.batch(self.trainer.step);
        let report = self.trainer.step(inputs)?;
        Ok(self.times(start, Some(report)))
    }

    /// Begins a step, and waits for the one before it: what a step takes while others surround it.
    fn step_ahead(&mut self) -> Result<Times, StepError> {
        let start = Instant::now();
        let inputs = self.batches.batch(self.trainer.step).to_vec();
        let report = self.trainer.step_ahead(inputs)?;
        Ok(self.times(start, report))
    }

    /// Waits for what was begun.
    fn settle(&mut self) -> Result<(), StepError> {
        let start = Instant::now();
        let report = self.trainer.settle()?;
        self.times(start, report);
        Ok(())
    }

    fn times(&mut self, start: Instant, report: Option<StepReport<E>>) -> Times {
        let mut times = Times { all: milliseconds(start.elapsed()), update: 0.0, device: None };
        if let Some(report) = report {
            times.update = milliseconds(report.update_time);
            times.device = report.device.map(|device| milliseconds(device.busy));
            self.losses.clone_from(&report.results.losses);
            self.trainer.session.reuse(report.results);
        }
        times
    }

    /// Milliseconds a step by kind, the mean of `steps`.
    fn by_kind(&mut self, steps: usize) -> Result<BTreeMap<String, f64>, StepError> {
        self.trainer.session.start_timing();
        let (mut all, mut updates) = (0.0, 0.0);
        for _ in 0..steps {
            let step = self.step()?;
            all += step.all;
            updates += step.update;
        }
        let mut kinds: BTreeMap<String, f64> =
            self.trainer.session.take_times().into_iter().map(|(name, time)| (name, milliseconds(time))).collect();
        let rest = all - updates - kinds.values().sum::<f64>();
        kinds.insert("optimizer and averages".to_owned(), updates);
        kinds.insert("rest".to_owned(), rest);
        kinds.values_mut().for_each(|sum| *sum /= steps as f64);
        Ok(kinds)
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
