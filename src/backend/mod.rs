//! Backends: what runs a [`Graph`]. Each implements every op of `crate::op`.
//!
//! **Invariant:** a backend sees graphs and arenas, never syntax or spans; `train` and `eval` see only this trait.

pub mod cpu;
#[cfg(not(miri))]
pub mod dfdx;
pub mod wide;

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};
use std::time::Duration;

use crate::graph::accumulate::SplitError;
use crate::graph::{Graph, Layout, Node, UnknownOutput};
use crate::op::DType;
use crate::plan::PlanError;

pub use crate::plan::Request;

/// Host-side element of parameters and results: f32, or f64 for the oracle.
pub trait Element:
    Copy
    + Debug
    + Display
    + Default
    + PartialOrd
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + 'static
{
    const NAME: &'static str;
    const ZERO: Self;
    const ONE: Self;
    fn from_f64(value: f64) -> Self;
    fn to_f64(self) -> f64;
    fn is_finite(self) -> bool;
    fn sqrt(self) -> Self;
    /// The backend that `--backend` names: one of [`NAMES`].
    fn backend(name: &str) -> Result<Box<dyn Backend<Self>>, BackendError>;
}

macro_rules! element {
    ($element:ident, $name:literal) => {
        impl Element for $element {
            const NAME: &'static str = $name;
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            #[inline(always)]
            fn from_f64(value: f64) -> Self {
                value as $element
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn is_finite(self) -> bool {
                $element::is_finite(self)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                $element::sqrt(self)
            }
            fn backend(name: &str) -> Result<Box<dyn Backend<Self>>, BackendError> {
                open(name, oracle, cuda)
            }
        }
    };
}

element!(f32, "f32");
element!(f64, "f64");

/// Names that `--backend` takes.
pub const NAMES: [&str; 4] = ["auto", "cpu", "dfdx", "dfdx-cuda"];

type Opened<E> = Result<Box<dyn Backend<E>>, BackendError>;

/// `auto` takes the GPU where this build has it and there is one, else `cpu`.
fn open<E: cpu::Real>(name: &str, dfdx: fn() -> Opened<E>, cuda: fn() -> Opened<E>) -> Opened<E> {
    match name {
        "auto" => cuda().or_else(|_| Ok(cpu::cpu())),
        "cpu" => Ok(cpu::cpu()),
        "dfdx" => dfdx(),
        "dfdx-cuda" => cuda(),
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
fn oracle<E: Element>() -> Opened<E> {
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
fn cuda<E: Element>() -> Opened<E> {
    let reason = "this binary was built without it (help: cargo build --release --features dfdx-cuda)".to_owned();
    Err(BackendError::Unavailable { backend: "dfdx-cuda", reason })
}

/// A tensor on the host, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor<T> {
    pub shape: Vec<usize>,
    pub data: Vec<T>,
}

/// What fills one input of a graph.
#[derive(Debug, Clone, PartialEq)]
pub enum InputValue {
    /// Pictures and noise are f32 whatever the backend's precision.
    Float(HostTensor<f32>),
    /// Scheduled numbers, and what a reference file holds beyond f32.
    Double(HostTensor<f64>),
    Int(HostTensor<i64>),
}

/// Inputs of a graph by name.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    pub batch: &'a [(String, InputValue)],
    /// What the batch does not bring, such as scheduled numbers; where both have a name, the batch's counts.
    pub others: &'a [(String, InputValue)],
}

impl<'a> Inputs<'a> {
    pub fn get(&self, name: &str) -> Result<&'a InputValue, BackendError> {
        let found = self.batch.iter().chain(self.others).find(|(n, _)| n == name);
        found.map(|(_, value)| value).ok_or_else(|| BackendError::MissingInput { name: name.to_owned() })
    }

    /// What fills `node`, the graph's input `name`: of its type, its shape, and whole.
    fn of(&self, name: &str, node: &Node) -> Result<&'a InputValue, BackendError> {
        let value = self.get(name)?;
        let (dtype, shape, len) = match value {
            InputValue::Float(tensor) => (DType::Float, &tensor.shape, tensor.data.len()),
            InputValue::Double(tensor) => (DType::Float, &tensor.shape, tensor.data.len()),
            InputValue::Int(tensor) => (DType::Int, &tensor.shape, tensor.data.len()),
        };
        let (expected, wanted) = (&node.ty.shape, node.ty.elements());
        let of = |dtype| if dtype == DType::Int { "ids" } else { "numbers" };
        let name = || name.to_owned();
        if dtype != node.ty.dtype {
            return Err(BackendError::InputType { name: name(), found: of(dtype), expected: of(node.ty.dtype) });
        }
        if shape != expected {
            return Err(BackendError::InputShape { name: name(), found: shape.clone(), expected: expected.clone() });
        }
        if len != wanted {
            return Err(BackendError::InputCut { name: name(), found: len, shape: shape.clone(), expected: wanted });
        }
        Ok(value)
    }
}

/// A value read back from a backend.
#[derive(Debug, Clone, PartialEq)]
pub enum OutputValue<E> {
    Float(HostTensor<E>),
    Int(HostTensor<i64>),
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
    #[error("the graph's input `{name}` was not given")]
    MissingInput { name: String },
    #[error("input `{name}` has shape {found:?}, the graph expects {expected:?}")]
    InputShape { name: String, found: Vec<usize>, expected: Vec<usize> },
    #[error("input `{name}` holds {found}, the graph expects {expected}")]
    InputType { name: String, found: &'static str, expected: &'static str },
    #[error("input `{name}` has {found} values, its shape {shape:?} holds {expected}")]
    InputCut { name: String, found: usize, shape: Vec<usize>, expected: usize },
    #[error(transparent)]
    UnknownOutput(#[from] UnknownOutput),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Split(#[from] SplitError),
    #[error(
        "the values of a step take {needed}, more than this machine gives (help: a smaller data.batch_size, with \
         train.accumulate for as large a batch)"
    )]
    Memory { needed: String },
    #[error(
        "the {backend} backend keeps all values for its tape, so it cannot recompute blocks (help: --backend cpu, or --set \
         train.recompute=none)"
    )]
    NoRecompute { backend: &'static str },
    #[error("the {backend} backend has no bf16 (help: --backend cpu, or --set train.precision=f32)")]
    NoBf16 { backend: &'static str },
    #[error("{op} at {scope}: {message}")]
    Op { op: &'static str, scope: String, message: String },
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

    /// Why this backend cannot do what `request` asks for, whatever the graph: to be known before a run starts.
    fn accept(&self, _request: &Request) -> Result<(), BackendError> {
        Ok(())
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
        let inputs = Inputs { batch: inputs, others: &[] };
        self.run_into(graph, layout, arena, inputs, request, &mut results)?;
        Ok(results)
    }
}
