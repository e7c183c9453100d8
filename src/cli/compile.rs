//! `cmaec compile`: a training step for a device that is not here, and whether it fits there.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use cmae::backend::xla::offline::{self, Report, Target};
use cmae::backend::xla::pjrt::Plugin;
use cmae::backend::xla::plugins::{self, Maker};
use cmae::graph::{Program, flops};
use cmae::spec::ShardOptimizer;
use serde_json::{Value, json};

use super::bench::PrecisionName;
use super::output::outln;
use super::pipeline::Options;

/// Compiles a training step for a device that need not be here: memory, kernels, bytes moved, FLOP, and a modelled time.
#[derive(clap::Args)]
pub struct Args {
    #[arg(value_name = "PIPELINE")]
    file: PathBuf,
    /// The device.
    #[arg(long = "for", value_name = "DEVICE", value_parser = clap::builder::PossibleValuesParser::new(Target::NAMES))]
    target: String,
    /// How many such devices of one machine share each batch.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    devices: u16,
    /// On how many machines there are so many of them: a process for each.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    machines: u16,
    /// In place of `train.precision`.
    #[arg(long)]
    precision: Option<PrecisionName>,
    /// The PJRT plugin of the device's maker. By default the first that `cmaec devices` finds.
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,
    /// Keeps the step's StableHLO and all that the compiler writes in this folder.
    #[arg(long, value_name = "DIR")]
    dump: Option<PathBuf>,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    options: Options,
}

pub fn main(args: Args) -> Result<(), String> {
    let target = Target::named(&args.target).expect("clap takes no other name");
    if target.config.is_none() {
        return Err(offline::OfflineError::NoDescription { device: target.device }.to_string());
    }
    let mut options = args.options.clone();
    if let Some(precision) = args.precision.as_ref().and_then(ValueEnum::to_possible_value) {
        options.sets.push(format!("train.precision={}", precision.get_name()));
    }
    let (compiled, _) = options.compile(&args.file)?;
    let sharded = compiled.program.spec.train.shard_optimizer == ShardOptimizer::Always;
    let machines = usize::from(args.machines);
    let program = &Program { ranks: machines * usize::from(args.devices), sharded, ..compiled.program };
    let plugin = plugin(&target, args.plugin.as_deref())?;
    let folder = Folder::new(args.dump.as_deref())?;
    let report =
        offline::compile(program, machines, &target, &plugin, folder.path()).map_err(|error| error.to_string())?;
    if args.json {
        outln!("{}", line(program, machines, &target, &report));
    } else {
        show(program, machines, &target, &report);
    }
    let (needed, has) = (report.needed(), target.memory_bytes);
    if needed <= has {
        return Ok(());
    }
    Err(format!(
        "the step does not fit: it takes {:.1} GB, a {} has {:.1} GB, {:.1} GB too few (help: {})",
        gigabytes(needed),
        target.device,
        gigabytes(has),
        gigabytes(needed - has),
        smaller(program, needed, has)
    ))
}

/// What to type for a step that takes less.
fn smaller(program: &Program, needed: u64, has: u64) -> String {
    let own = program.own_samples();
    let micro_batch = own / program.own_micro_batches();
    let fits = (micro_batch as f64 * has as f64 / needed as f64) as usize;
    // The largest below the share that would fit if all memory went with the samples.
    match (1..=fits).rev().find(|samples| own.is_multiple_of(*samples)) {
        Some(samples) => format!("--set train.micro_batch={samples}"),
        None => "a smaller model".to_owned(),
    }
}

/// A plugin of the device's maker.
fn plugin(target: &Target, named: Option<&Path>) -> Result<Plugin, String> {
    let mut found = plugins::find(named);
    if named.is_none() {
        found.retain(|plugin| plugin.maker == target.maker());
    }
    let Some(first) = found.first() else {
        let install = match target.maker() {
            Maker::Nvidia => "pip install jax-cuda13-pjrt nvidia-cuda-nvcc nvidia-nvvm",
            other => other.install().unwrap_or("--plugin FILE"),
        };
        return Err(format!(
            "no PJRT plugin of {} is found here, and a {} is compiled for by one (help: {install}; --plugin FILE names another)",
            target.maker().name(),
            target.device
        ));
    };
    Plugin::open(&first.path).map_err(|error| error.to_string())
}

/// Where the compiler writes: a folder that is kept, or one that goes with this value.
enum Folder {
    Kept(PathBuf),
    Passing(tempfile::TempDir),
}

impl Folder {
    fn new(dump: Option<&Path>) -> Result<Self, String> {
        let Some(path) = dump else {
            let folder = tempfile::tempdir().map_err(|error| format!("there is no temporary folder: {error}"))?;
            return Ok(Folder::Passing(folder));
        };
        let failed = |error: std::io::Error| format!("`{}` cannot be written to: {error}", path.display());
        std::fs::create_dir_all(path).map_err(failed)?;
        // The compiler's text of another step would be taken for this one's.
        if std::fs::read_dir(path).map_err(failed)?.next().is_some() {
            return Err(format!("`{}` is not empty (help: --dump names a new folder)", path.display()));
        }
        Ok(Folder::Kept(path.to_owned()))
    }

    fn path(&self) -> &Path {
        match self {
            Folder::Kept(path) => path,
            Folder::Passing(folder) => folder.path(),
        }
    }
}

fn gigabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

/// FLOP of a step's products as all backends count them: nothing that is computed twice.
fn flop(program: &Program) -> u64 {
    flops::of_step(&program.train, &program.layout)
}

fn line(program: &Program, machines: usize, target: &Target, report: &Report) -> Value {
    let (memory, total) = (&report.memory, &report.cost.total);
    let kinds = report.cost.kinds.iter().map(|(kind, sum)| {
        let row =
            json!({ "kernels": sum.kernels, "bytes": sum.bytes, "flop": sum.flops, "modelled_ms": sum.seconds * 1e3 });
        (kind.clone(), row)
    });
    json!({
        "pipeline": program.spec.name,
        "for": target.name,
        "device": target.device,
        "precision": program.spec.train.precision.name(),
        "batch_size": program.spec.data.batch_size,
        "devices": program.ranks,
        "machines": machines,
        "memory_bytes": report.needed(),
        "device_memory_bytes": target.memory_bytes,
        "fits": report.needed() <= target.memory_bytes,
        "argument_bytes": memory.arguments,
        "temporary_bytes": memory.temporary,
        "kernels": total.kernels,
        "bytes_moved": total.bytes,
        "flop": flop(program),
        "flop_of_kernels": total.flops,
        "cudnn_attentions": report.cost.attentions(),
        "modelled_ms": total.seconds * 1e3,
        "modelled_images_per_second": program.spec.data.batch_size as f64 / total.seconds,
        "model_bytes_per_second": target.bytes_per_second,
        "model_flops_bf16": target.flops_bf16,
        "compile_seconds": report.compile_seconds,
        "kinds": kinds.collect::<serde_json::Map<_, _>>(),
    })
}

fn show(program: &Program, machines: usize, target: &Target, report: &Report) {
    let (memory, total, batch) = (&report.memory, &report.cost.total, program.spec.data.batch_size);
    let precision = program.spec.train.precision.name();
    let whom = match (machines, program.ranks) {
        (1, 1) => target.device.clone(),
        (1, devices) => format!("{devices} × {}", target.device),
        (machines, devices) => format!("{machines} × {} × {}", devices / machines, target.device),
    };
    let of_each = if program.ranks == 1 { "" } else { " of each device" };
    outln!("{}: one step for {whom}, batches of {}, {precision}", program.spec.name, program.batch_text());
    outln!(
        "memory    {:.1} GB of {:.1} GB{of_each}: {:.1} GB of tensors and inputs, {:.1} GB while a step runs",
        gigabytes(report.needed()),
        gigabytes(target.memory_bytes),
        gigabytes(memory.arguments),
        gigabytes(memory.temporary)
    );
    outln!("kernels   {}, {:.1} GB moved{of_each}", total.kernels, gigabytes(total.bytes));
    outln!(
        "products  {:.2} TFLOP a step, {:.2} with what is computed twice",
        flop(program) as f64 / 1e12,
        (total.flops * program.ranks as u64) as f64 / 1e12
    );
    outln!("modelled  {:.1} ms a step, {:.0} images/s", total.seconds * 1e3, batch as f64 / total.seconds);
    outln!(
        "          a model, not a measurement: each kernel takes the longer of its bytes at {:.1} TB/s and its bf16 products at",
        target.bytes_per_second / 1e12
    );
    outln!("          {:.0} TFLOP/s; real steps take longer", target.flops_bf16 / 1e12);
    if program.ranks > 1 {
        outln!("          what devices exchange counts as bytes of memory; the links between them are left out");
    }
    outln!("start     compiled in {:.1} s", report.compile_seconds);
    outln!();
    outln!("{:<36} {:>7} {:>10} {:>9} {:>9}", "kernels by kind", "count", "GB", "TFLOP", "ms");
    let mut kinds: Vec<_> = report.cost.kinds.iter().collect();
    kinds.sort_by(|a, b| b.1.seconds.total_cmp(&a.1.seconds));
    for (kind, sum) in kinds {
        outln!(
            "{kind:<36} {:>7} {:>10.2} {:>9.2} {:>9.2}",
            sum.kernels,
            gigabytes(sum.bytes),
            sum.flops as f64 / 1e12,
            sum.seconds * 1e3
        );
    }
}
