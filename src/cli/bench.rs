//! `cmaec bench`: how long a training step takes, and where the time goes.

use std::path::PathBuf;
use std::time::Instant;

use clap::ValueEnum;
use cmae::backend::Compute;
use cmae::graph::Program;
use cmae::ranks;
use cmae::run::memory::peak_memory;
use cmae::spec::Precision;
use cmae::train::bench::{BenchOptions, Report, bench};
use serde_json::{Value, json};

use super::bench_loader;
use super::output::outln;
use super::pipeline::{self, Engine, Options, Share};

/// Share of a step below which people need no line of its own for a kind.
const SMALL: f64 = 0.005;

#[derive(Clone, Copy, ValueEnum)]
pub enum PrecisionName {
    F32,
    Bf16,
    F64,
}

/// Times whole training steps of a pipeline on pictures of noise, or its loader on real ones; nothing is written.
///
/// Steps read no data, and the loader makes no step: `--loader` tells how many pictures a second are read, decoded and drawn with
/// all views of the pipeline.
#[derive(clap::Args)]
pub struct Args {
    #[arg(value_name = "PIPELINE")]
    file: PathBuf,
    #[command(flatten)]
    engine: Engine,
    #[command(flatten)]
    share: Share,
    /// In place of `train.precision`.
    #[arg(long)]
    precision: Option<PrecisionName>,
    /// Threads that compute. By default one for each core.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Steps that are timed.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
    /// Steps before the clock counts; the first is one of them.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    warmup: u32,
    /// Prints one line of JSON.
    #[arg(long)]
    json: bool,
    /// Times the loader alone, without a step.
    #[arg(long, conflicts_with_all = ["backend", "plugin", "deterministic", "devices", "precision", "steps", "warmup"])]
    loader: bool,
    /// With --loader, where pictures lie, as `cmaec data check PATH` takes it, or a source of the pipeline.
    #[arg(long, value_name = "PATH", default_value = "data.train", requires = "loader")]
    data: String,
    /// With --loader, pictures that are timed.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..), requires = "loader")]
    pictures: u32,
    #[command(flatten)]
    options: Options,
}

/// What is known of a run before it starts.
struct Setting {
    threads: usize,
    compile_ms: f64,
    /// Bytes held at most before anything was compiled.
    memory_before: Option<u64>,
}

pub fn main(args: Args) -> Result<(), String> {
    let memory_before = peak_memory();
    let threads = pipeline::start_threads(args.threads, 1)?;
    let mut options = args.options.clone();
    if let Some(precision) = args.precision.as_ref().and_then(ValueEnum::to_possible_value) {
        options.sets.push(format!("train.precision={}", precision.get_name()));
    }
    let start = Instant::now();
    let (compiled, _) = options.compile(&args.file)?;
    if args.loader {
        return bench_loader::show(&compiled.program, &args.data, threads, args.pictures as usize, args.json);
    }
    let setting = Setting { threads, compile_ms: start.elapsed().as_secs_f64() * 1e3, memory_before };
    let measure = match compiled.program.spec.train.precision {
        Precision::F32 | Precision::Bf16 => measure::<f32>,
        Precision::F64 => measure::<f64>,
    };
    measure(&compiled.program, &args, &setting)
}

fn measure<E: Compute>(program: &Program, args: &Args, setting: &Setting) -> Result<(), String> {
    let start = Instant::now();
    let mut backend = args.engine.open_for::<E>(program, &ranks::alone(), args.share.devices)?;
    let (program, _) = &pipeline::fitted(program, &mut *backend, 1)?;
    let fit_ms = start.elapsed().as_secs_f64() * 1e3;
    let options = BenchOptions { warmup: args.warmup as usize, steps: args.steps as usize };
    let (name, engine) = (backend.name(), pipeline::engine_text(&*backend));
    let mut report = bench(program, backend, &options).map_err(|error| error.to_string())?;
    // To know what a step takes, a device's compiler has made it: most of the start.
    report.plan_ms += fit_ms;
    if args.json {
        outln!("{}", line(program, name, program.spec.train.precision.name(), setting, &report));
    } else {
        show(program, &engine, program.spec.train.precision.name(), setting, &report);
    }
    Ok(())
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn line(program: &Program, backend: &str, precision: &str, setting: &Setting, report: &Report) -> Value {
    let before = setting.memory_before.map(megabytes);
    let mut line = json!(report);
    line["pipeline"] = json!(program.spec.name);
    line["backend"] = json!(backend);
    line["precision"] = json!(precision);
    line["devices"] = json!(program.ranks);
    line["threads"] = json!(setting.threads);
    line["compile_ms"] = json!(setting.compile_ms);
    line["memory_before_mb"] = json!(before);
    line["memory_mb"] = json!(report.peak_memory_mb.zip(before).map(|(peak, before)| peak - before));
    line
}

fn show(program: &Program, engine: &str, precision: &str, setting: &Setting, report: &Report) {
    outln!(
        "{}: {:.2} M trained parameters, batches of {}, {engine}, {precision}, {} threads",
        program.spec.name,
        report.trained_parameters as f64 / 1e6,
        program.batch_text(),
        setting.threads,
    );
    outln!(
        "step      {:.1} ms, the median of {}; {:.1} to {:.1} ms",
        report.step_ms,
        report.steps,
        report.step_ms_min,
        report.step_ms_max
    );
    if let Some(device) = report.device_step_ms {
        outln!(
            "device    {device:.1} ms of it, the median; for the other {:.1} ms it waits for the host",
            (report.step_ms - device).max(0.0)
        );
    }
    outln!("images    {:.1} a second", report.images_per_second);
    // Of a device its own time tells how well it is used: the host's is told beside it.
    let rate = report.device_gflops.unwrap_or(report.gflops);
    let of_whom = if report.device_gflops.is_some() { " of the device's time" } else { "" };
    let best = match report.gemm_peak_gflops {
        Some(peak) => {
            format!(", {:.0} % of the {peak:.1} GFLOP/s that a large product reaches here", 100.0 * rate / peak)
        }
        None => String::new(),
    };
    outln!("products  {:.1} GFLOP a step, {rate:.1} GFLOP/s{of_whom}{best}", report.gflop_per_step);
    match (report.peak_memory_mb, setting.memory_before.map(megabytes)) {
        (Some(peak), Some(before)) => {
            outln!("memory    {peak:.0} MB at most, {before:.0} MB of them before the pipeline was read");
        }
        _ => outln!("memory    not known: this system does not say"),
    }
    let told = |what: &str, mb: Option<f64>| mb.map(|mb| format!("{mb:.0} MB {what}"));
    let device =
        [told("in use at most", report.device_memory_mb), told("planned for a step", report.device_planned_mb)];
    let device: Vec<String> = device.into_iter().flatten().collect();
    if !device.is_empty() {
        outln!("on device {}", device.join(", "));
    }
    outln!(
        "start     compiled in {:.0} ms, built in {:.0} ms, planned in {:.0} ms, first step {:.0} ms",
        setting.compile_ms,
        report.build_ms,
        report.plan_ms,
        report.first_step_ms
    );
    let losses: Vec<String> = report.losses.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
    outln!("losses    {}", losses.join("  "));
    outln!();
    outln!("{:<24} {:>10} {:>8}", "a step's time by kind", "ms", "share");
    let mut kinds: Vec<(&String, &f64)> = report.ops.iter().collect();
    kinds.sort_by(|a, b| b.1.total_cmp(a.1));
    let all: f64 = report.ops.values().sum();
    let row = |name: &str, ms: f64| outln!("{name:<24} {ms:>10.2} {:>6.1} %", 100.0 * ms / all);
    let (large, small): (Vec<_>, Vec<_>) = kinds.into_iter().partition(|(_, ms)| **ms >= SMALL * all);
    large.into_iter().for_each(|(name, ms)| row(name, *ms));
    if !small.is_empty() {
        row(&format!("{} smaller ones", small.len()), small.iter().map(|(_, ms)| **ms).sum());
    }
}
