//! The arguments that every subcommand on a pipeline takes, and compiling with its errors drawn.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cmae::backend::cpu;
use cmae::backend::xla::{Compiling, Devices};
use cmae::backend::{Backend, BackendError, BackendOptions, Compute, Request};
use cmae::data::DataError;
use cmae::data::source::{self, Source};
use cmae::diag::{Code, Diagnostic, Diagnostics, render};
use cmae::elab::Set;
use cmae::graph::Program;
use cmae::graph::build::Compiled;
use cmae::ranks::{self, Ranks};
use cmae::run::memory::machine_memory;
use cmae::source::Sources;
use cmae::spec::{DataSpec, Precision};
use cmae::train::fit::{self, Fit, FitError, bytes_text};

use super::output::{self, errln};
use super::weights;

/// Options of every subcommand that compiles a pipeline.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Changes a parameter or setting: `--set mask_ratio=60%`, `--set train.epochs=1`. May be given several times.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub sets: Vec<String>,
    /// Takes the weights that a module begins with from this file: `--weights encoder=vit_base.pth`, which is
    /// `--set 'model.encoder.weights="vit_base.pth"'`; `none` for no file. May be given several times.
    #[arg(long = "weights", value_name = "NAME=FILE", value_parser = weights::as_override)]
    pub weights: Vec<String>,
    /// Takes the standard library from this folder instead of the one in the binary.
    #[arg(long, value_name = "FOLDER")]
    pub stdlib: Option<PathBuf>,
}

impl Options {
    pub fn sources(&self) -> Sources {
        match &self.stdlib {
            Some(folder) => Sources::with_stdlib(folder),
            None => Sources::new(),
        }
    }

    pub fn sets(&self) -> Vec<Set> {
        self.overrides().iter().map(|text| text.as_str().into()).collect()
    }

    /// Those of `--set`, then those of `--weights`.
    pub fn overrides(&self) -> Vec<String> {
        self.sets.iter().chain(&self.weights).cloned().collect()
    }

    /// Name of the pipeline at `path`.
    pub fn pipeline_name(&self, path: &Path) -> Result<String, String> {
        let (mut sources, mut diagnostics) = (self.sources(), Diagnostics::default());
        cmae::elab::name(&mut sources, &mut diagnostics, path).map_err(|_| draw(diagnostics.list(), &sources))
    }

    /// Compiles the pipeline at `path`; the error is the drawn diagnostics.
    pub fn compile(&self, path: &Path) -> Result<(Compiled, Sources), String> {
        compile(self.sources(), path, &self.sets())
    }
}

/// Compiles with the errors drawn for stderr.
pub fn compile(mut sources: Sources, path: &Path, sets: &[Set]) -> Result<(Compiled, Sources), String> {
    let mut diagnostics = Diagnostics::default();
    match cmae::compile(&mut sources, &mut diagnostics, path, sets) {
        Ok(compiled) => Ok((compiled, sources)),
        Err(_) => Err(draw(diagnostics.list(), &sources)),
    }
}

/// How many pictures `data.train` has, where they are here.
pub fn pictures_here(program: &Program) -> Option<usize> {
    let data = &program.spec.data;
    let source = data.source("train").expect("the compiler checks that there is one");
    source::open(source, data.channels, data.max_pixels).ok().map(|opened| opened.len())
}

/// An error with what to do about it.
pub fn in_words(error: &DataError) -> String {
    match error.help() {
        Some(help) => format!("{error}\nhelp: {help}"),
        None => error.to_string(),
    }
}

/// The source that `text` names: one of the pipeline's (`data.val`), or what lies at that path.
pub fn source(data: &DataSpec, text: &str) -> Result<Arc<dyn Source>, String> {
    let spec = match text.strip_prefix("data.") {
        Some(name) => data.source(name).cloned().ok_or_else(|| {
            let known: Vec<String> = data.sources.iter().map(|(name, _)| format!("data.{name}")).collect();
            format!("the pipeline has no source `{text}`\nhelp: it has {}", known.join(", "))
        })?,
        None => source::recognise(text).map_err(|error| in_words(&error))?,
    };
    source::open(&spec, data.channels, data.max_pixels).map_err(|error| in_words(&error))
}

/// Starts the threads that compute, unless a number is given one for each core that is this process's where `sharers` processes share
/// the machine; gives how many.
pub fn start_threads(wanted: Option<u16>, sharers: usize) -> Result<usize, String> {
    let threads = match wanted {
        Some(threads) => usize::from(threads),
        None => (std::thread::available_parallelism().map_or(1, usize::from) / sharers.max(1)).max(1),
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    pool.map_err(|error| format!("the threads cannot be started: {error}"))?;
    Ok(threads)
}

/// The backend unless another is named.
pub const AUTO: &str = "auto";

/// What runs the graph.
#[derive(clap::Args, Clone, Debug)]
pub struct Engine {
    /// What runs the graph: auto (an accelerator where there is one, else cpu), cpu, xla, dfdx or dfdx-cuda.
    #[arg(long, default_value = AUTO)]
    pub backend: String,
    /// The PJRT plugin whose devices xla takes. By default the one that `CMAE_PJRT_PLUGIN` names, else what `cmaec devices` finds.
    #[arg(long, value_name = "FILE")]
    pub plugin: Option<PathBuf>,
    /// On xla, leaves out what would give other bits each time (some percent slower on GPUs).
    #[arg(long)]
    pub deterministic: bool,
}

impl Engine {
    /// One for graphs by themselves, on a device of this process's own where `ranks` share the machine.
    pub fn open<E: Compute>(&self, ranks: &dyn Ranks) -> Result<Box<dyn Backend<E>>, String> {
        self.open_as(ranks::alone(), Devices::ONE, ranks.local_rank())
    }

    /// `taken` devices of the machine are others'.
    fn open_as<E: Compute>(
        &self,
        ranks: Arc<dyn Ranks>,
        devices: Devices,
        taken: usize,
    ) -> Result<Box<dyn Backend<E>>, String> {
        let compiling = Compiling { deterministic: self.deterministic, kernels: None };
        let options = BackendOptions { plugin: self.plugin.clone(), compiling, ranks, devices, taken };
        E::backend_with(&self.backend, &options).map_err(|error| error.to_string())
    }

    /// One that is able to train `program` as one of `ranks`, on so many devices of each of them.
    pub fn open_for<E: Compute>(
        &self,
        program: &Program,
        ranks: &Arc<dyn Ranks>,
        devices: Devices,
    ) -> Result<Box<dyn Backend<E>>, String> {
        let taken = match devices {
            Devices::Of(own) => ranks.local_rank() * own,
            Devices::All => 0,
        };
        let backend = self.open_as::<E>(ranks.clone(), devices, taken)?;
        let (name, count) = (backend.name(), ranks.count());
        if let Some(other) = ranks::text_of_each(&**ranks, name).into_iter().find(|other| other != name) {
            return Err(format!(
                "one rank computes on {name}, another on {other} (help: --backend {name}, or {other}, for all)"
            ));
        }
        match name {
            _ if count == 1 => {}
            "xla" => {}
            "cpu" if ranks.sums_steps() => {}
            "cpu" => return Err(BackendError::NoSums { backend: name, ranks: count }.to_string()),
            _ => return Err(BackendError::NoRanks { backend: name, ranks: count }.to_string()),
        }
        match backend.accept(&Request::of_step(program, &[])) {
            Ok(()) => Ok(backend),
            Err(error @ BackendError::NoBf16 { .. }) => Err(format!("{}: {error}", Code::PrecisionMissing.as_str())),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// `--devices N`.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Share {
    /// On xla, how many of the plugin's devices share each batch, of each process of a run: a number, or `all`. The step is that of one
    /// device with memory for all. Processes of one machine take one behind the other.
    #[arg(long, value_name = "N", default_value = "1")]
    pub devices: Devices,
}

/// `backend xla on 4 devices`.
pub fn engine_text<E: Compute>(backend: &dyn Backend<E>) -> String {
    match backend.devices() {
        1 => format!("backend {}", backend.name()),
        count => format!("backend {} on {count} devices", backend.name()),
    }
}

/// `program` for the devices of the backend, with the micro-batch that this machine, or its device, has memory for; and how it fits,
/// where that can be told. `sharers` processes share the machine.
pub fn fitted<E: Compute>(
    program: &Program,
    backend: &mut dyn Backend<E>,
    sharers: usize,
) -> Result<(Program, Option<Fit>), String> {
    let mut program = program.clone();
    program.ranks *= backend.devices();
    let memory = machine_memory().map(|memory| memory.among(sharers));
    let fit = fit::fit(&mut program, backend, memory).map_err(|error| error.to_string())?;
    Ok((program, fit))
}

/// The same for the `cpu` backend on this machine. What does not fit here is shown all the same, uncut, and said.
pub fn fitted_for_cpu(program: &Program) -> Result<(Program, Fit), String> {
    match program.spec.train.precision {
        Precision::F32 | Precision::Bf16 => shown::<f32>(program, cpu::cpu(ranks::alone())),
        Precision::F64 => shown::<f64>(program, cpu::cpu(ranks::alone())),
    }
}

fn shown<E: Compute>(program: &Program, mut backend: Box<dyn Backend<E>>) -> Result<(Program, Fit), String> {
    let mut of = |machine| {
        let mut program = program.clone();
        let fit = fit::fit(&mut program, &mut *backend, machine)?;
        Ok((program, fit.expect("the `cpu` backend says what a run takes")))
    };
    let fitted = match of(machine_memory()) {
        Err(error @ FitError::TooLarge(_)) => {
            errln!("warning: on this machine it would not run: {error}");
            of(None)
        }
        fitted => fitted,
    };
    fitted.map_err(|error| error.to_string())
}

/// A run's memory, in a line for people.
pub fn memory_line(Fit { takes, has, .. }: &Fit) -> String {
    match has {
        Some(has) => format!("{takes}; {} has {} for it", takes.whose(), bytes_text(*has)),
        None => takes.to_string(),
    }
}

/// Draws diagnostics as stderr allows.
pub fn draw(diagnostics: &[Diagnostic], sources: &Sources) -> String {
    let color = output::is_terminal() && std::env::var_os("NO_COLOR").is_none();
    render(diagnostics, sources, color).trim_end().to_owned()
}
