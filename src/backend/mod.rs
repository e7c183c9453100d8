//! Backends: what runs a [`Graph`]. Each implements every op of `crate::op`.
//!
//! A backend runs single graphs on tensors that it is given ([`Backend`]), and opens a [`Session`], which holds a program's tensors
//! and all that a run keeps of them on its device.
//!
//! **Invariant:** a backend sees graphs and tensors, never syntax or spans; `train` and `eval` reach it through these two traits
//! alone.

pub mod cpu;
#[cfg(not(miri))]
pub mod dfdx;
mod finite;
mod footprint;
pub mod host;
pub mod session;
pub mod xla;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::graph::step::NoStep;
use crate::graph::{Graph, Layout, Program, UnknownOutput};
use crate::plan::PlanError;
use crate::ranks::store::StoreError;
use crate::ranks::{self, Ranks};
use crate::tensor::{Element, InputError, InputValue, Inputs, OutputValue};

pub use self::footprint::{Footprint, Whose};
pub use self::session::{DeviceBytes, DeviceTime, Kept, Moment, Session, StepError, Stepped, Wanted};
pub use crate::plan::Request;

/// An element type that backends compute in.
pub trait Compute: Element {
    /// The backend that `--backend` names: one of [`NAMES`].
    fn backend_with(name: &str, options: &BackendOptions) -> Result<Box<dyn Backend<Self>>, BackendError>;

    fn backend(name: &str) -> Result<Box<dyn Backend<Self>>, BackendError> {
        Self::backend_with(name, &BackendOptions::default())
    }
}

/// What backends are opened with.
#[derive(Debug, Clone)]
pub struct BackendOptions {
    /// The plugin whose devices `xla` takes, else the one that the environment names, else what is found.
    pub plugin: Option<PathBuf>,
    /// How `xla` compiles.
    pub compiling: xla::Compiling,
    /// How many of a plugin's devices share a batch.
    pub devices: xla::Devices,
    /// The ranks of the run, of which this process is one.
    pub ranks: Arc<dyn Ranks>,
    /// How many of the machine's accelerators are other processes', which come before this one.
    pub taken: usize,
}

impl Default for BackendOptions {
    fn default() -> Self {
        BackendOptions {
            plugin: None,
            compiling: xla::Compiling::default(),
            devices: xla::Devices::ONE,
            ranks: ranks::alone(),
            taken: 0,
        }
    }
}

macro_rules! compute {
    ($element:ident) => {
        impl Compute for $element {
            fn backend_with(name: &str, options: &BackendOptions) -> Result<Box<dyn Backend<Self>>, BackendError> {
                open(name, options, oracle, cuda)
            }
        }
    };
}

compute!(f32);
compute!(f64);

/// Elements that one task of a pass over an arena takes: enough to outweigh the cost of handing it out.
const CHUNK: usize = 1 << 14;

/// Names that `--backend` takes.
pub const NAMES: [&str; 5] = ["auto", "cpu", "xla", "dfdx", "dfdx-cuda"];

type Opened<E> = Result<Box<dyn Backend<E>>, BackendError>;

/// `auto` takes an accelerator where there is one, else `cpu`.
fn open<E: cpu::Real + xla::Number>(
    name: &str,
    options: &BackendOptions,
    dfdx: fn() -> Opened<E>,
    cuda: fn() -> Opened<E>,
) -> Opened<E> {
    let of_client = |client| {
        let xla = xla::Xla::on(client, options.devices, options.compiling)?;
        Ok(Box::new(xla.among(options.ranks.clone())) as _)
    };
    let alone = |backend: Opened<E>| match (backend, options.devices) {
        (Ok(backend), xla::Devices::Of(wanted @ 2..)) => {
            Err(BackendError::OneDevice { backend: backend.name(), wanted })
        }
        (backend, _) => backend,
    };
    match name {
        "auto" => match xla::accelerator(options)? {
            Some(client) => of_client(client),
            None => alone(cuda().or_else(|_| Ok(cpu::cpu(options.ranks.clone())))),
        },
        "cpu" => alone(Ok(cpu::cpu(options.ranks.clone()))),
        "xla" => of_client(xla::client(options)?),
        "dfdx" => alone(dfdx()),
        "dfdx-cuda" => alone(cuda()),
        _ => Err(BackendError::Unknown { name: name.to_owned(), known: NAMES.join(", ") }),
    }
}

#[cfg(not(miri))]
fn oracle<E>() -> Opened<E>
where
    E: Element + ::dfdx::prelude::Dtype,
    ::dfdx::prelude::Cpu: dfdx::Kernels<E>,
{
    Ok(dfdx::cpu())
}

#[cfg(miri)]
fn oracle<E: Compute>() -> Opened<E> {
    Err(BackendError::Unavailable { backend: "dfdx", reason: "it does not compile for Miri".to_owned() })
}

#[cfg(feature = "dfdx-cuda")]
fn cuda<E>() -> Opened<E>
where
    E: Element + ::dfdx::prelude::Dtype,
    ::dfdx::prelude::Cuda: ::dfdx::prelude::Device<E> + dfdx::Kernels<E>,
{
    dfdx::cuda()
}

#[cfg(not(feature = "dfdx-cuda"))]
fn cuda<E: Compute>() -> Opened<E> {
    let reason = "this binary was built without it (help: cargo build --release --features dfdx-cuda)".to_owned();
    Err(BackendError::Unavailable { backend: "dfdx-cuda", reason })
}

/// Results of one run.
#[derive(Debug, Clone, Default)]
pub struct Results<E> {
    /// In the order of `graph.losses`.
    pub losses: Vec<f64>,
    /// Sum of the losses; 0 for graphs without.
    pub total: f64,
    /// In the order of `graph.monitors`.
    pub monitors: Vec<f64>,
    /// In the order of `graph.updates`.
    pub updates: Vec<Vec<E>>,
    /// In the order asked for.
    pub outputs: Vec<OutputValue<E>>,
    /// `layout.trained_len` values with the layout's offsets; zero where no gradient arrives. Empty unless asked for.
    pub gradients: Vec<E>,
}

/// Why a backend could not run a graph.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    #[error("there is no backend `{name}` (help: use one of {known})")]
    Unknown { name: String, known: String },
    #[error("the {backend} backend is not there: {reason}")]
    Unavailable { backend: &'static str, reason: String },
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(transparent)]
    UnknownOutput(#[from] UnknownOutput),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Step(#[from] NoStep),
    #[error(transparent)]
    Pjrt(#[from] xla::pjrt::PjrtError),
    #[error(
        "the values of a step take {needed}, more than this machine gives (help: a smaller train.micro_batch, or data.batch_size)"
    )]
    Memory { needed: String },
    #[error("a step takes {needed} of the device, which has {limit} (help: a smaller train.micro_batch, or `auto`)")]
    DeviceMemory { needed: String, limit: String },
    #[error(
        "the {backend} backend keeps all values for its tape, so it cannot recompute blocks (help: --backend cpu, or --set \
         train.recompute=none)"
    )]
    NoRecompute { backend: &'static str },
    #[error("the {backend} backend has no bf16 (help: --backend cpu, or --set train.precision=f32)")]
    NoBf16 { backend: &'static str },
    #[error("{wanted} devices are asked for, {platform} has {has} here{}", fewer(platform, *has))]
    TooFewDevices { platform: String, wanted: usize, has: usize },
    #[error(
        "{wanted} devices are asked for, the {backend} backend has one (help: --backend xla, whose plugin for plain CPUs makes as many \
         as are asked for, to try it out)"
    )]
    OneDevice { backend: &'static str, wanted: usize },
    #[error(
        "the {backend} backend is one rank by itself, of {ranks} (help: --backend cpu, or one process with --backend xla --devices N)"
    )]
    NoRanks { backend: &'static str, ranks: usize },
    #[error("the {backend} backend sums gradients over {ranks} ranks by MPI, which has not started them (help: {})", by_mpi(*ranks))]
    NoSums { backend: &'static str, ranks: usize },
    #[error(
        "devices of {platform} are one process's, and {processes} share the batch (help: one process with --devices N, or {} and \
         --backend cpu)",
        by_mpi(*processes)
    )]
    NoProcesses { platform: String, processes: usize },
    #[error("`--devices all` is for one process of a machine, and {local} share this one (help: --devices N, of each)")]
    AllOfSeveral { local: usize },
    #[error(
        "process {rank} has {of_rank} devices, process 0 has {first} (help: --devices {}, which all have)",
        (*of_rank).min(*first)
    )]
    OtherDevices { rank: usize, of_rank: i64, first: i64 },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{op} at {scope}: {message}")]
    Op { op: &'static str, scope: String, message: String },
}

/// How ranks are started by MPI.
fn by_mpi(ranks: usize) -> String {
    let built = if cfg!(feature = "mpi") { "" } else { "cargo build --release --features mpi, " };
    format!("{built}mpirun -n {ranks} cmaec run …")
}

/// What to do where a client has `has` devices and more were asked for.
fn fewer(platform: &str, has: usize) -> String {
    match platform {
        "cpu" => " (help: its client option `cpu_device_count` says how many there are)".to_owned(),
        _ => format!(" (help: --devices {has})"),
    }
}

/// Runs graphs in precision `E`.
pub trait Backend<E: Element> {
    /// As in `--backend NAME`.
    fn name(&self) -> &'static str;

    /// Runs `graph` on the tensors of `arena` (laid out by `layout`) and `inputs`. What `results` holds is overwritten; its
    /// memory is used again. After an error it holds anything.
    fn run_into(
        &mut self,
        graph: &Graph,
        layout: &Layout,
        arena: &[E],
        inputs: Inputs<'_>,
        request: &Request,
        results: &mut Results<E>,
    ) -> Result<(), BackendError>;

    /// A session of `program`, whose tensors are `tensors`, laid out by the program's layout.
    fn open<'p>(
        self: Box<Self>,
        program: &'p Program,
        tensors: Vec<E>,
    ) -> Result<Box<dyn Session<E> + 'p>, BackendError>;

    /// Which of the ranks that share a batch this is.
    fn rank(&self) -> usize {
        0
    }

    /// Devices of this process that share its part of a batch, each as a rank of its own.
    fn devices(&self) -> usize {
        1
    }

    /// Sums `values` over all ranks, element by element, in the place of each rank's own.
    fn sum_over_ranks(&mut self, _values: &mut [E]) {}

    /// Fills `values` with those of rank `from`.
    fn copy_of_rank(&mut self, _from: usize, _values: &mut [E]) {}

    /// Why this backend cannot do what `request` asks for, whatever the graph: to be known before a run starts.
    fn accept(&self, _request: &Request) -> Result<(), BackendError> {
        Ok(())
    }

    /// What a run of `program` takes, before its session is opened; `None` where that cannot be told.
    fn footprint(&mut self, _program: &Program) -> Result<Option<Footprint>, BackendError> {
        Ok(None)
    }

    /// Makes ready what the first run of `graph` for `request` needs, so that its time can be told apart. Never needed.
    fn prepare(&mut self, _graph: &Graph, _layout: &Layout, _request: &Request) -> Result<(), BackendError> {
        Ok(())
    }

    /// From now on runs add up where their time goes; what was counted before is forgotten. Costs nothing where it was
    /// never called.
    fn start_timing(&mut self) {}

    /// Ends that, and gives the time of each kind of step; empty from backends that cannot tell.
    fn take_times(&mut self) -> BTreeMap<String, Duration> {
        BTreeMap::new()
    }

    /// FLOP a second of a large matrix product in this precision, or with operands of bf16, on the threads at hand,
    /// measured now: what a step could reach at best. `None` from backends that do not say.
    fn product_rate(&self, _bf16: bool) -> Option<f64> {
        None
    }

    /// Whether the machine has instructions on bf16. Without, products of layers round their operands all the same, and take the time of
    /// f32's at least.
    fn multiplies_bf16(&self) -> bool {
        true
    }

    /// [`Backend::run_into`] new results, on a batch that brings all inputs.
    fn run(
        &mut self,
        graph: &Graph,
        layout: &Layout,
        arena: &[E],
        inputs: &[(String, InputValue)],
        request: &Request,
    ) -> Result<Results<E>, BackendError> {
        let mut results = Results::default();
        self.run_into(graph, layout, arena, Inputs::of_batch(inputs), request, &mut results)?;
        Ok(results)
    }
}
