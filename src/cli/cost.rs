//! `cmaec show cost`: what a run takes on this machine, before it starts.

use std::path::Path;

use cmae::backend::xla::Devices;
use cmae::backend::{Backend, Compute, Whose};
use cmae::data::loader::LoaderOptions;
use cmae::data::rate::rate;
use cmae::data::source;
use cmae::graph::{Program, flops};
use cmae::ranks;
use cmae::spec::{Clock, MicroBatch, Precision};
use cmae::tensor::Pictures;
use cmae::train::bench::{BenchOptions, bench};
use cmae::train::fit::Fit;
use serde_json::json;

use super::output::{errln, outln};
use super::pipeline::{self, Engine, Options, start_threads};

/// Seconds that the measurement of a step shall take, about.
const SECONDS: f64 = 20.0;
/// Pictures that are loaded to measure how fast they come.
const PICTURES: usize = 128;
/// Where a backend does not say what its products reach: that of one core of a laptop.
const SLOW_FLOPS: f64 = 5e10;

/// A run's cost.
struct Cost {
    fit: Option<Fit>,
    step: Step,
    data: Option<Data>,
}

/// Seconds of a step without its data.
struct Step {
    seconds: f64,
    /// Samples of the micro-batches that it was worked out from; `None` where whole steps were timed.
    from: Option<usize>,
}

/// The pictures of a run, where they are here.
struct Data {
    pictures: usize,
    /// Pictures with all their views that come a second; `None` where none could be loaded.
    per_second: Option<f64>,
}

pub fn show(
    file: &Path,
    program: &Program,
    engine: &Engine,
    threads: Option<u16>,
    options: &Options,
    as_json: bool,
) -> Result<(), String> {
    let threads = start_threads(threads, 1)?;
    let measure = match program.spec.train.precision {
        Precision::F32 | Precision::Bf16 => of::<f32>,
        Precision::F64 => of::<f64>,
    };
    measure(file, program, engine, threads, options, as_json)
}

fn of<E: Compute>(
    file: &Path,
    program: &Program,
    engine: &Engine,
    threads: usize,
    options: &Options,
    as_json: bool,
) -> Result<(), String> {
    let mut backend = engine.open_for::<E>(program, &ranks::alone(), Devices::ONE)?;
    let name = backend.name();
    let (program, fit) = pipeline::fitted(program, &mut *backend, 1)?;
    let step = time_of_step(file, &program, backend, engine, options)?;
    let cost = Cost { fit, step, data: data(&program, threads) };
    cost.print(&program, name, threads, as_json);
    Ok(())
}

/// Times whole steps where they are short; else works their time out from steps of two and of three small micro-batches, which differ
/// by one.
fn time_of_step<E: Compute>(
    file: &Path,
    program: &Program,
    backend: Box<dyn Backend<E>>,
    engine: &Engine,
    options: &Options,
) -> Result<Step, String> {
    let bf16 = program.spec.train.precision == Precision::Bf16;
    let rate = backend.product_rate(bf16).unwrap_or(SLOW_FLOPS);
    let batch = program.spec.data.batch_size;
    let of_sample = flops::of_step(&program.train, &program.layout) as f64 / rate / batch as f64;
    let time = |program: &Program, backend| -> Result<f64, String> {
        let report = bench(program, backend, &BenchOptions { warmup: 1, steps: 1 });
        Ok(report.map_err(|error| error.to_string())?.step_ms_min / 1e3)
    };
    // A step to warm up, one that is timed, and as long again for what `bench` tells beside.
    if of_sample * batch as f64 * 4.0 <= SECONDS {
        return Ok(Step { seconds: time(program, backend)?, from: None });
    }
    drop(backend);
    let fits = SECONDS / (of_sample * (2.0 + 3.0) * 4.0);
    let samples = (fits as usize).clamp(1, program.spec.micro_batch());
    errln!("measuring steps of 2 and 3 micro-batches of {samples}; whole ones of {batch} would take too long");
    let small = |count: usize| -> Result<f64, String> {
        let mut options = options.clone();
        options.sets.extend([format!("data.batch_size={}", count * samples), "train.micro_batch=auto".to_owned()]);
        let (compiled, _) = options.compile(file)?;
        let mut program = compiled.program;
        program.spec.train.micro_batch = MicroBatch::Of(samples);
        if program.step(&[]).is_err() {
            // What joins samples keeps them from being cut: whole ones of these sizes.
            program.spec.train.micro_batch = MicroBatch::Auto;
        }
        let backend = engine.open_for::<E>(&program, &ranks::alone(), Devices::ONE)?;
        time(&program, backend)
    };
    let (two, three) = (small(2)?, small(3)?);
    let one_more = (three - two).max(0.0);
    Ok(Step { seconds: two + one_more * (batch as f64 / samples as f64 - 2.0), from: Some(samples) })
}

fn data(program: &Program, threads: usize) -> Option<Data> {
    let spec = &program.spec;
    let train = spec.data.source("train").expect("the compiler checks that there is one");
    let source = source::open(train, spec.data.channels, spec.data.max_pixels).ok()?;
    let pictures = source.len();
    let loader_options = LoaderOptions {
        seed: spec.train.seed,
        threads,
        prefetch: 1,
        max_broken: spec.data.max_broken,
        pictures: Pictures::Levels,
    };
    let rate = rate(&*source, &spec.views, &program.train.inputs, loader_options, PICTURES).ok().flatten();
    Some(Data { pictures, per_second: rate.map(|rate| rate.per_second()) })
}

impl Cost {
    /// Seconds of a step with its data: the processor's cores do both where it computes, a device waits for the slower.
    fn step_seconds(&self, program: &Program, on_device: bool) -> f64 {
        let per_second = self.data.as_ref().and_then(|data| data.per_second);
        let loading = per_second.map_or(0.0, |rate| program.spec.data.batch_size as f64 / rate);
        if on_device { self.step.seconds.max(loading) } else { self.step.seconds + loading }
    }

    /// Whether something else computes than what loads.
    fn is_on_device(&self) -> bool {
        !self.fit.is_some_and(|fit| fit.takes.footprint.memory == Whose::Machine)
    }

    fn print(&self, program: &Program, backend: &str, threads: usize, as_json: bool) {
        let (spec, batch) = (&program.spec, program.spec.data.batch_size);
        let on_device = self.is_on_device();
        let seconds = self.step_seconds(program, on_device);
        let pictures = self.data.as_ref().map(|data| data.pictures);
        let steps_per_epoch = pictures.map(|pictures| (pictures / batch) as u64);
        let clock = steps_per_epoch.map(|steps| Clock::new(spec.train.epochs, steps));
        let run = clock.map(|clock| seconds * clock.total_steps);
        if as_json {
            let line = json!({
                "pipeline": spec.name,
                "backend": backend,
                "precision": spec.train.precision.name(),
                "threads": threads,
                "batch_size": batch,
                "micro_batch": spec.micro_batch(),
                "memory_bytes": self.fit.map(|fit| fit.takes.bytes()),
                "stored_bytes": self.fit.map(|fit| fit.takes.footprint.stored),
                "values_bytes": self.fit.map(|fit| fit.takes.footprint.values),
                "batches_bytes": self.fit.map(|fit| fit.takes.batches),
                "has_bytes": self.fit.and_then(|fit| fit.has),
                "compute_seconds": self.step.seconds,
                "measured_micro_batch": self.step.from,
                "pictures": pictures,
                "pictures_per_second": self.data.as_ref().and_then(|data| data.per_second),
                "step_seconds": seconds,
                "steps": clock.map(|clock| clock.total_steps),
                "run_seconds": run,
            });
            outln!("{line}");
            return;
        }
        let precision = spec.train.precision.name();
        outln!("{}: batches of {}, backend {backend}, {precision}, {threads} threads", spec.name, spec.batch_text());
        match &self.fit {
            Some(fit) => outln!("memory    {}", pipeline::memory_line(fit)),
            None => outln!("memory    not known: this backend does not say"),
        }
        let how = match self.step.from {
            Some(samples) => format!("worked out from steps of 2 and 3 micro-batches of {samples}"),
            None => "measured".to_owned(),
        };
        let rate = batch as f64 / self.step.seconds;
        outln!("compute   {} a step, {how}; {rate:.1} images a second", time_text(self.step.seconds));
        match &self.data {
            Some(Data { per_second: Some(rate), .. }) => {
                outln!(
                    "data      {} a step, {rate:.1} pictures a second with all their views",
                    time_text(batch as f64 / rate)
                );
            }
            Some(Data { per_second: None, .. }) => outln!("data      not measured: no picture could be read"),
            None => outln!("data      not measured: the pictures of data.train are not here"),
        }
        outln!("step      {}, {}", time_text(seconds), if on_device { "the longer of both" } else { "both" });
        match (clock, run) {
            (Some(clock), Some(run)) if clock.total_steps > 0.0 => outln!(
                "run       {} epochs of {} steps, {} in all: {}",
                spec.train.epochs,
                clock.steps_per_epoch,
                clock.total_steps,
                time_text(run)
            ),
            (Some(_), _) => outln!("run       no step: an epoch has fewer pictures than a batch"),
            _ => outln!(
                "run       {} epochs; a million pictures take {}",
                spec.train.epochs,
                time_text(seconds * 1e6 / batch as f64)
            ),
        }
    }
}

/// 0.25 → "250 ms", 5400 → "1.5 h".
pub fn time_text(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.0} µs", s * 1e6),
        s if s < 1e-2 => format!("{:.1} ms", s * 1e3),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.1} min", s / 60.0),
        s if s < 2.0 * 86400.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86400.0),
    }
}
