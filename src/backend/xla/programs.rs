//! The programs of a session: compiled, or taken from an earlier start of the run.
//!
//! **Invariant:** the name of a program that is kept tells all that its numbers hang on: its text, how it was compiled, the
//! plugin's file, the device, how many of them run it. A plugin may load what another has compiled, and compute something else.

use std::collections::HashMap;
use std::env;

use super::lower::Kernels;
use super::pjrt::{Client, CompileOptions, Executable, Flag, MemoryStats};
use super::step::{Numbers, StepProgram};
use super::values::Number;
use crate::backend::{BackendError, Wanted};
use crate::graph::Program;
use crate::spec::Scaling;

pub struct Programs {
    client: Client,
    options: CompileOptions,
    /// Of the plugin's file; made when a name is first asked for.
    plugin: Option<String>,
    kernels: Kernels,
    offered: HashMap<String, Vec<u8>>,
    /// Compiled since somebody asked.
    fresh: Vec<(String, Vec<u8>)>,
}

/// How programs are compiled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Compiling {
    /// In place of those of the client's compiler.
    pub kernels: Option<Kernels>,
    /// Leaves out what gives other bits each time.
    pub deterministic: bool,
}

/// How programs are compiled for a platform, by the name that a client gives it.
///
/// On NVIDIA products are cuBLAS's, which tries a handful of algorithms for each. With Triton's among them, which it takes if the
/// flag is left to itself, dozens of kernels are compiled for each product only to be timed: on an H200 with 16 cores `cmae_vitb`
/// did not start within 80 s, instead of within 25. Who names the flag in `XLA_FLAGS` decides.
pub fn compile_options(platform: &str) -> CompileOptions {
    const TRITON: &str = "xla_gpu_enable_triton_gemm";
    let mut options = CompileOptions::default();
    let is_named = env::var("XLA_FLAGS").is_ok_and(|flags| flags.contains(TRITON));
    if platform.eq_ignore_ascii_case("cuda") && !is_named {
        options.flags.insert(TRITON.to_owned(), Flag::Bool(false));
    }
    options
}

impl Programs {
    pub fn new(client: Client, compiling: Compiling) -> Self {
        let mut options = compile_options(client.platform_name());
        if compiling.deterministic && !client.is_cpu() {
            options.flags.insert("xla_gpu_deterministic_ops".to_owned(), Flag::Bool(true));
        }
        if client.processes() > 1 {
            // By itself a process would take the first device of all.
            options.devices = client.devices().iter().take(1).map(|device| device.id).collect();
        }
        let kernels = compiling.kernels.unwrap_or_else(|| Kernels::of_platform(client.platform_name()));
        Programs { client, options, plugin: None, kernels, offered: HashMap::new(), fresh: Vec::new() }
    }

    /// Takes what was kept, by name.
    pub fn offer(&mut self, programs: Vec<(String, Vec<u8>)>) {
        self.offered = programs.into_iter().collect();
    }

    /// What is to be kept and was not given yet.
    pub fn fresh(&mut self) -> Vec<(String, Vec<u8>)> {
        std::mem::take(&mut self.fresh)
    }

    /// What steps and evaluations are written with.
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// How all of them are compiled, but for the number of devices.
    pub fn options(&self) -> &CompileOptions {
        &self.options
    }

    /// How a program for the first devices of all processes, `replicas` together, is compiled, or for the first one of this.
    fn options_for(&self, replicas: usize) -> Result<CompileOptions, BackendError> {
        let mut options = CompileOptions { replicas, ..self.options.clone() };
        let processes = self.client.processes();
        if processes == 1 {
            return Ok(options);
        }
        if replicas == 1 {
            // Choices are shared out over the processes where all compile a program: here one may be by itself.
            if self.client.platform_name().eq_ignore_ascii_case("cuda") {
                options.flags.insert("xla_gpu_shard_autotuning".to_owned(), Flag::Bool(false));
            }
            return Ok(options);
        }
        let platform = self.client.platform_name().to_owned();
        let of_each = replicas / processes;
        let too_few = BackendError::TooFewDevices { platform, wanted: of_each, has: self.client.devices().len() };
        options.devices = self.client.device_ids(of_each).ok_or(too_few)?;
        Ok(options)
    }

    /// The program of this text for the first `replicas` devices; `what` is the first part of its name.
    ///
    /// Of several processes each compiles it, and none is kept: their compilers agree on their choices while they compile, and where
    /// one took what is kept the others would wait for it.
    pub fn compile(&mut self, what: &str, text: &str, replicas: usize) -> Result<Executable, BackendError> {
        let options = self.options_for(replicas)?;
        if self.client.processes() > 1 {
            return Ok(self.client.compile(text, &options)?);
        }
        let name = self.name(what, text, &options)?;
        let compiled = self.fresh.iter().find(|(fresh, _)| *fresh == name).map(|(_, bytes)| bytes);
        if let Some(bytes) = self.offered.get(&name).or(compiled)
            && let Ok(executable) = self.client.load(bytes)
            && executable.devices().len() == replicas
        {
            return Ok(executable);
        }
        let executable = self.client.compile(text, &options)?;
        // Plugins that cannot write a program down give none to keep.
        if let Ok(bytes) = executable.serialize() {
            self.fresh.push((name, bytes));
        }
        Ok(executable)
    }

    /// What `write` writes, with its text, for the kernels of the device, compiled.
    pub fn compile_for_device<T>(
        &mut self,
        what: &str,
        replicas: usize,
        write: impl Fn(Kernels) -> Result<(String, T), BackendError>,
    ) -> Result<(T, Executable), BackendError> {
        let (text, written) = write(self.kernels)?;
        match self.compile(what, &text, replicas) {
            Ok(executable) => Ok((written, executable)),
            // A library on the device may refuse what others of its versions take: plain ops are taken by all.
            Err(_) if self.kernels != Kernels::default() => {
                let (text, written) = write(Kernels::default())?;
                let executable = self.compile(what, &text, replicas)?;
                Ok((written, executable))
            }
            Err(error) => Err(error),
        }
    }

    fn name(&mut self, what: &str, text: &str, options: &CompileOptions) -> Result<String, BackendError> {
        let plugin = match &self.plugin {
            Some(plugin) => plugin.clone(),
            None => self.plugin.insert(self.client.plugin().hash()?).clone(),
        };
        let device = self.client.devices().first().map_or("", |device| device.kind.as_str());
        let mut hasher = blake3::Hasher::new();
        for part in [plugin.as_bytes(), device.as_bytes(), &options.encode(), text.as_bytes()] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Ok(format!("{what}-{}", &hasher.finalize().to_hex()[..32]))
    }
}

/// The program of a step that gives these, for a device of each of the program's ranks, whose pictures come in bytes where `scalings` says so, written with what the device has
/// kernels for.
pub fn compile_step<E: Number>(
    programs: &mut Programs,
    program: &Program,
    numbers: &Numbers,
    scalings: &[(String, Scaling)],
    wanted: Wanted<'_>,
) -> Result<(StepProgram, Executable), BackendError> {
    let step = program.step(wanted.outputs)?;
    programs.compile_for_device("step", program.ranks, |kernels| {
        let made = StepProgram::new(program, &step, numbers, E::SCALAR, scalings, kernels, wanted.gradients)?;
        Ok((made.text.clone(), made))
    })
}

/// Bytes of the device that a program takes at one time.
pub fn peak(stats: &MemoryStats) -> u64 {
    // What is passed stays, results that take an argument's memory need none.
    let kept = stats.arguments + stats.outputs.saturating_sub(stats.aliased);
    (kept + stats.temporary).max(stats.peak)
}

/// Refuses a program that takes more of the device than there is.
pub fn fits(stats: &MemoryStats, limit: Option<u64>) -> Result<(), BackendError> {
    let needed = peak(stats);
    let Some(limit) = limit.filter(|limit| needed > *limit) else { return Ok(()) };
    let gigabytes = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
    Err(BackendError::DeviceMemory { needed: gigabytes(needed), limit: gigabytes(limit) })
}
