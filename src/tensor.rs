//! Tensors on the host: element types, what fills a graph's inputs, what is read back.
//!
//! **Invariant:** nothing here knows of a backend or a graph; `data` makes these values and `backend` takes them.

use std::fmt::{Debug, Display};
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};
use std::sync::Arc;

use crate::op::{DType, Type};
use crate::spec::Scaling;

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
        }
    };
}

element!(f32, "f32");
element!(f64, "f64");

/// A tensor on the host, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor<T> {
    pub shape: Vec<usize>,
    pub data: Vec<T>,
}

/// In which form pictures reach a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pictures {
    /// Normalised.
    #[default]
    Floats,
    /// As [`Levels`], a quarter of the bytes, for who normalises them where it computes.
    Levels,
}

/// Pictures in bytes, `[B, C, H, W]`, and how they become the numbers that a graph takes in.
#[derive(Debug, Clone, PartialEq)]
pub struct Levels {
    pub tensor: HostTensor<u8>,
    pub scaling: Arc<Scaling>,
}

impl Levels {
    /// The numbers, in the same order.
    pub fn floats(&self) -> Vec<f32> {
        let channels = self.scaling.mean.len();
        let plane = self.tensor.shape.iter().skip(2).product::<usize>().max(1);
        let planes = self.tensor.data.chunks(plane).enumerate();
        planes.flat_map(|(at, plane)| plane.iter().copied().map(self.scaling.of_channel(at % channels))).collect()
    }
}

/// What fills one input of a graph.
#[derive(Debug, Clone, PartialEq)]
pub enum InputValue {
    /// Pictures and noise are f32 whatever the backend's precision.
    Float(HostTensor<f32>),
    /// Scheduled numbers, and what a reference file holds beyond f32.
    Double(HostTensor<f64>),
    Int(HostTensor<i64>),
    /// Pictures that are not normalised yet.
    Levels(Levels),
}

/// Inputs of a graph by name.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    pub batch: &'a [(String, InputValue)],
    /// What the batch does not bring, such as scheduled numbers; where both have a name, the batch's counts.
    pub others: &'a [(String, InputValue)],
}

/// Why an input cannot fill its place in a graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    #[error("the graph's input `{name}` was not given")]
    Missing { name: String },
    #[error("input `{name}` has shape {found:?}, the graph expects {expected:?}")]
    Shape { name: String, found: Vec<usize>, expected: Vec<usize> },
    #[error("input `{name}` holds {found}, the graph expects {expected}")]
    Type { name: String, found: &'static str, expected: &'static str },
    #[error("input `{name}` has {found} values, its shape {shape:?} holds {expected}")]
    Cut { name: String, found: usize, shape: Vec<usize>, expected: usize },
}

impl<'a> Inputs<'a> {
    /// Of a batch that brings them all.
    pub fn of_batch(batch: &'a [(String, InputValue)]) -> Self {
        Inputs { batch, others: &[] }
    }

    pub fn get(&self, name: &str) -> Result<&'a InputValue, InputError> {
        let found = self.batch.iter().chain(self.others).find(|(n, _)| n == name);
        found.map(|(_, value)| value).ok_or_else(|| InputError::Missing { name: name.to_owned() })
    }

    /// What fills input `name` of a graph, which is of type `ty`: of its type, its shape, and whole.
    pub fn filling(&self, name: &str, ty: &Type) -> Result<&'a InputValue, InputError> {
        let value = self.get(name)?;
        let (dtype, shape, len) = match value {
            InputValue::Float(tensor) => (DType::Float, &tensor.shape, tensor.data.len()),
            InputValue::Double(tensor) => (DType::Float, &tensor.shape, tensor.data.len()),
            InputValue::Int(tensor) => (DType::Int, &tensor.shape, tensor.data.len()),
            InputValue::Levels(Levels { tensor, .. }) => (DType::Float, &tensor.shape, tensor.data.len()),
        };
        let (expected, wanted) = (&ty.shape, ty.elements());
        let of = |dtype| if dtype == DType::Int { "ids" } else { "numbers" };
        let name = || name.to_owned();
        if dtype != ty.dtype {
            return Err(InputError::Type { name: name(), found: of(dtype), expected: of(ty.dtype) });
        }
        if shape != expected {
            return Err(InputError::Shape { name: name(), found: shape.clone(), expected: expected.clone() });
        }
        if len != wanted {
            return Err(InputError::Cut { name: name(), found: len, shape: shape.clone(), expected: wanted });
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
