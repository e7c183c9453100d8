//! What crosses between the host and a device: element types, and inputs on their way there.

use super::lower::{Scalar, TensorType};
use super::pjrt::{Buffer, Client, HostElement};
use crate::backend::BackendError;
use crate::op::{DType, Type};
use crate::spec::Scaling;
use crate::tensor::{Element, Filling, HostTensor, InputValue, Inputs, OutputValue};

/// An element type that programs have.
pub trait Number: Element + HostElement {
    const SCALAR: Scalar;
}

impl Number for f32 {
    const SCALAR: Scalar = Scalar::F32;
}

impl Number for f64 {
    const SCALAR: Scalar = Scalar::F64;
}

/// What fills input `name`, of type `ty`, on a device.
pub(super) fn upload_input<E: Number>(
    client: &Client,
    device: usize,
    name: &str,
    ty: &TensorType,
    inputs: Inputs<'_>,
) -> Result<Buffer, BackendError> {
    let dtype = if ty.scalar == Scalar::I64 { DType::Int } else { DType::Float };
    let wanted = Type { dtype, shape: ty.shape.clone() };
    let numbers = |values: Vec<E>| client.upload_values(device, &ty.shape, &values);
    Ok(match inputs.filling(name, &wanted)? {
        Filling::Float(values) => numbers(values.iter().map(|value| E::from_f64(f64::from(*value))).collect())?,
        Filling::Double(values) => numbers(values.iter().map(|value| E::from_f64(*value)).collect())?,
        Filling::Int(values) => client.upload_values(device, &ty.shape, values)?,
        Filling::Levels(levels) if ty.scalar == Scalar::U8 => client.upload_values(device, &ty.shape, levels.bytes)?,
        Filling::Levels(levels) => numbers(levels.numbers())?,
    })
}

/// The pictures of a batch that are not normalised.
pub fn in_bytes(inputs: Inputs<'_>) -> Vec<(String, Scaling)> {
    let scaled = |(name, value): &(String, InputValue)| match value {
        InputValue::Levels(levels) => Some((name.clone(), (*levels.scaling).clone())),
        _ => None,
    };
    inputs.batch.iter().filter_map(scaled).collect()
}

/// A result as it was asked for.
pub fn read_output<E: Number>(buffer: &Buffer, is_int: bool, shape: &[usize]) -> Result<OutputValue<E>, BackendError> {
    let shape = shape.to_vec();
    Ok(match is_int {
        true => OutputValue::Int(HostTensor { shape, data: buffer.read()? }),
        false => OutputValue::Float(HostTensor { shape, data: buffer.read()? }),
    })
}
