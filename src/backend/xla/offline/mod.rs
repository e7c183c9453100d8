//! Programs for devices that are not here: compiled by the maker's plugin, read back as kernels, and modelled.
//!
//! Before: a compiled pipeline and a [`Target`]. After: a [`Report`] of memory as the compiler has planned it, of each kernel's bytes
//! and FLOP as its text has them ([`hlo`]), and of a time that is a model ([`cost`]) and was measured by nobody.

pub mod cost;
pub mod hlo;
mod target;

use std::fs;
use std::path::Path;
use std::time::Instant;

pub use cost::Cost;
pub use target::Target;

use super::lower::{Kernels, Scalar};
use super::pjrt::{CompileOptions, CreateOption, Flag, MemoryStats, OptionValue, PjrtError, Plugin, Topology};
use super::plugins::Maker;
use super::programs::compile_options;
use super::step::{Numbers, StepProgram, scalings};
use crate::backend::BackendError;
use crate::graph::Program;
use crate::spec::Precision;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    #[error(
        "{device} has no description here that its maker's compiler takes without the device (help: --for h100, h200 or a100)"
    )]
    NoDescription { device: String },
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error("the compiler refuses the step for {device}: {error}{help}")]
    Refused { device: String, error: PjrtError, help: &'static str },
    #[error("the compiler's text cannot be kept in `{folder}`: {error}")]
    Folder { folder: String, error: std::io::Error },
    #[error("the compiler has left no text of its kernels in `{folder}`: 0 files end in `{ending}`, 1 is wanted")]
    NoText { folder: String, ending: &'static str },
}

/// A step as a compiler has made it for a device, be it one of several that share its batch.
#[derive(Debug, Clone)]
pub struct Report {
    pub memory: MemoryStats,
    pub cost: Cost,
    pub compile_seconds: f64,
}

impl Report {
    /// Bytes that the device needs at one time.
    pub fn needed(&self) -> u64 {
        let memory = &self.memory;
        let sum = memory.arguments + memory.outputs.saturating_sub(memory.aliased) + memory.temporary;
        if memory.peak > 0 { memory.peak } else { sum }
    }
}

/// The end of the name of the file that XLA writes its optimised program to.
const ENDING: &str = "after_optimizations.txt";

/// The type of a program's floats.
fn scalar(program: &Program) -> Scalar {
    match program.spec.train.precision {
        Precision::F64 => Scalar::F64,
        Precision::F32 | Precision::Bf16 => Scalar::F32,
    }
}

/// The text of a training step for a device of this maker.
pub fn text(program: &Program, maker: Maker) -> Result<String, BackendError> {
    let numbers = Numbers::new(program, &vec![0; program.layout.trained()]);
    let kernels = if maker == Maker::Nvidia { Kernels::NVIDIA } else { Kernels::default() };
    let step = program.step(&[])?;
    Ok(StepProgram::new(program, &step, &numbers, scalar(program), &scalings(program), kernels, false)?.text)
}

/// Compiles a training step for one of as many devices as the program has ranks, on so many machines, which each have as many of them.
/// The compiler writes what it makes of it into `folder`, which is there, beside our text.
pub fn compile(
    program: &Program,
    machines: usize,
    target: &Target,
    plugin: &Plugin,
    folder: &Path,
) -> Result<Report, OfflineError> {
    let device = &target.device;
    let config = target.config.ok_or_else(|| OfflineError::NoDescription { device: device.clone() })?;
    let failed = |error| OfflineError::Folder { folder: folder.display().to_string(), error };
    let text = text(program, target.maker())?;
    fs::write(folder.join("step.mlir"), &text).map_err(failed)?;
    let refused = |error: PjrtError| {
        let help = match error.to_string().contains("PTX") {
            true => " (help: pip install nvidia-cuda-nvcc nvidia-nvvm, into the environment of the plugin)",
            false => "",
        };
        OfflineError::Refused { device: device.clone(), error, help }
    };
    let described = [
        CreateOption::new("target_config", OptionValue::Text(config.to_owned())),
        CreateOption::new("topology", OptionValue::Text(format!("1x{machines}x{}", program.ranks / machines))),
    ];
    let topology = Topology::new(plugin, &described).map_err(refused)?;
    let mut options = CompileOptions { replicas: program.ranks, ..compile_options(target.platform()) };
    // There is no device to time choices on: default ones are taken.
    options.flags.insert("xla_gpu_autotune_level".to_owned(), Flag::Int(0));
    options.flags.insert("xla_dump_to".to_owned(), Flag::Text(folder.display().to_string()));
    options.flags.insert("xla_dump_hlo_as_text".to_owned(), Flag::Bool(true));
    let start = Instant::now();
    let compiled = topology.compile(&text, &options).map_err(refused)?;
    let compile_seconds = start.elapsed().as_secs_f64();
    let memory = compiled.memory().map_err(refused)?;
    let files = fs::read_dir(folder).map_err(failed)?;
    let written = files.filter_map(Result::ok).map(|entry| entry.path());
    let optimised = written.into_iter().find(|path| path.to_string_lossy().ends_with(ENDING));
    let optimised =
        optimised.ok_or_else(|| OfflineError::NoText { folder: folder.display().to_string(), ending: ENDING })?;
    let module = hlo::Module::read(&fs::read_to_string(optimised).map_err(failed)?);
    Ok(Report { memory, cost: Cost::of(&module, target), compile_seconds })
}
