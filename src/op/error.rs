//! Why operands do not fit an op.

use super::Type;
use crate::diag::Code;

/// Why operands do not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShapeError {
    pub code: Code,
    /// Short clause with both values.
    pub message: String,
    /// Indexes of the culprits.
    pub operands: Vec<usize>,
    pub help: Option<String>,
}

/// A type, or why there is none.
pub(super) type Inferred = Result<Type, ShapeError>;

pub(super) fn error<T>(operands: &[usize], message: impl Into<String>) -> Result<T, ShapeError> {
    Err(ShapeError { code: Code::OpShape, message: message.into(), operands: operands.to_vec(), help: None })
}

pub(super) fn same_shapes(inputs: &[&Type]) -> Result<(), ShapeError> {
    match inputs.iter().position(|t| t.shape != inputs[0].shape) {
        Some(i) => error(&[0, i], format!("{:?} and {:?} differ", inputs[0].shape, inputs[i].shape)),
        None => Ok(()),
    }
}
