//! Tensors on the host: element types, what fills a graph's inputs, what is read back.
//!
//! **Invariant:** nothing here knows of a backend or a graph; `data` makes these values and `backend` takes them.

use std::fmt::{Debug, Display};
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};
use std::sync::Arc;

use rayon::prelude::*;

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
    fn values(of: &[Self]) -> Values<'_>;
    fn values_mut(of: &mut [Self]) -> ValuesMut<'_>;
}

/// Values of whichever type.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
    I64(&'a [i64]),
}

/// The same, to be filled.
#[derive(Debug)]
pub enum ValuesMut<'a> {
    F32(&'a mut [f32]),
    F64(&'a mut [f64]),
    I64(&'a mut [i64]),
}

impl ValuesMut<'_> {
    /// To be read.
    pub fn shared(&self) -> Values<'_> {
        match self {
            ValuesMut::F32(values) => Values::F32(values),
            ValuesMut::F64(values) => Values::F64(values),
            ValuesMut::I64(values) => Values::I64(values),
        }
    }
}

macro_rules! element {
    ($element:ident, $variant:ident, $name:literal) => {
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
            fn values(of: &[Self]) -> Values<'_> {
                Values::$variant(of)
            }
            fn values_mut(of: &mut [Self]) -> ValuesMut<'_> {
                ValuesMut::$variant(of)
            }
        }
    };
}

element!(f32, F32, "f32");
element!(f64, F64, "f64");

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
    /// To be read in place.
    pub fn view(&self) -> LevelsView<'_> {
        let plane = self.tensor.shape.iter().skip(2).product::<usize>().max(1);
        LevelsView { bytes: &self.tensor.data, plane, scaling: &self.scaling }
    }
}

/// Some or all of the pictures of [`Levels`].
#[derive(Debug, Clone, Copy)]
pub struct LevelsView<'a> {
    /// Plane after plane, of each picture all channels.
    pub bytes: &'a [u8],
    /// Values of a plane.
    pub plane: usize,
    pub scaling: &'a Scaling,
}

impl LevelsView<'_> {
    /// Fills `to`, which is as long, with the numbers in the same order: those of f32, whatever `E` is.
    pub fn write<E: Element>(self, to: &mut [E]) {
        let channels = self.scaling.mean.len();
        let planes = to.par_chunks_mut(self.plane).zip(self.bytes.par_chunks(self.plane)).enumerate();
        planes.for_each(|(at, (to, bytes))| {
            let number = self.scaling.of_channel(at % channels);
            let table: [E; 256] = std::array::from_fn(|level| E::from_f64(f64::from(number(level as u8))));
            to.iter_mut().zip(bytes).for_each(|(to, level)| *to = table[usize::from(*level)]);
        });
    }

    /// The numbers, in the same order.
    pub fn numbers<E: Element>(self) -> Vec<E> {
        let mut numbers = vec![E::default(); self.bytes.len()];
        self.write(&mut numbers);
        numbers
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

/// The values of one input, read where they lie.
#[derive(Debug, Clone, Copy)]
pub enum Filling<'a> {
    Float(&'a [f32]),
    Double(&'a [f64]),
    Int(&'a [i64]),
    Levels(LevelsView<'a>),
}

/// Inputs of a graph by name.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    pub batch: &'a [(String, InputValue)],
    /// What the batch does not bring, such as scheduled numbers; where both have a name, the batch's counts.
    pub others: &'a [(String, InputValue)],
    /// The micro-batch that is read of what has a block for each, counted from 0; `None` where the graph takes all samples.
    pub micro: Option<usize>,
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
    pub fn new(batch: &'a [(String, InputValue)], others: &'a [(String, InputValue)]) -> Self {
        Inputs { batch, others, micro: None }
    }

    /// Of a batch that brings them all.
    pub fn of_batch(batch: &'a [(String, InputValue)]) -> Self {
        Inputs::new(batch, &[])
    }

    /// The same for a graph that takes micro-batch `micro`.
    pub fn of_micro(self, micro: usize) -> Self {
        Inputs { micro: Some(micro), ..self }
    }

    pub fn get(&self, name: &str) -> Result<&'a InputValue, InputError> {
        let found = self.batch.iter().chain(self.others).find(|(n, _)| n == name);
        found.map(|(_, value)| value).ok_or_else(|| InputError::Missing { name: name.to_owned() })
    }

    /// What fills input `name` of a graph, which is of type `ty`: of its type, its shape, and whole. Of a batch's value that is as
    /// large as all micro-batches, the block of the one that is read.
    pub fn filling(&self, name: &str, ty: &Type) -> Result<Filling<'a>, InputError> {
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
        let all = shape.iter().product();
        let begin = match self.micro {
            _ if shape == expected => Some(0),
            Some(micro) if shape.get(1..) == expected.get(1..) => Some(micro * wanted),
            _ => None,
        };
        let Some(begin) = begin.filter(|begin| begin + wanted <= all) else {
            return Err(InputError::Shape { name: name(), found: shape.clone(), expected: expected.clone() });
        };
        if len != all {
            return Err(InputError::Cut { name: name(), found: len, shape: shape.clone(), expected: all });
        }
        let range = begin..begin + wanted;
        Ok(match value {
            InputValue::Float(tensor) => Filling::Float(&tensor.data[range]),
            InputValue::Double(tensor) => Filling::Double(&tensor.data[range]),
            InputValue::Int(tensor) => Filling::Int(&tensor.data[range]),
            InputValue::Levels(levels) => {
                let view = levels.view();
                Filling::Levels(LevelsView { bytes: &view.bytes[range], ..view })
            }
        })
    }
}

/// A value read back from a backend.
#[derive(Debug, Clone, PartialEq)]
pub enum OutputValue<E> {
    Float(HostTensor<E>),
    Int(HostTensor<i64>),
}
