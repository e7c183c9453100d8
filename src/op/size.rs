//! What every tensor's shape keeps to, in a pipeline, a graph or a test: no empty axis, and sizes whose products no arithmetic
//! on them can wrap around.

use super::Op;
use super::error::ShapeError;
use crate::diag::Code;

/// Elements of one tensor: 4 terabytes of f32. Sums over all tensors of a graph stay below 2⁶³ bytes.
pub const MAX_ELEMENTS: usize = 1 << 40;
/// Axes of one tensor.
const MAX_AXES: usize = 16;

/// Refuses the shape of a result of `op` that is empty or too large.
pub(super) fn of_result(op: &Op, shape: &[usize]) -> Result<(), ShapeError> {
    // The backward pass lays gradients of several operands behind one another.
    check(shape, if op.is_backward() { 16 * MAX_ELEMENTS } else { MAX_ELEMENTS })
}

/// Refuses a shape that is empty or too large.
pub fn sized(shape: &[usize]) -> Result<(), ShapeError> {
    check(shape, MAX_ELEMENTS)
}

fn check(shape: &[usize], most: usize) -> Result<(), ShapeError> {
    let error =
        |code, message, help: &str| Err(ShapeError { code, message, operands: Vec::new(), help: Some(help.into()) });
    if shape.len() > MAX_AXES {
        let message = format!("a tensor of {} axes, {MAX_AXES} are the most", shape.len());
        return error(Code::ShapeTooLarge, message, "join axes with `op::reshape(x, (…))`");
    }
    if shape.contains(&0) {
        let message = format!("a tensor of {shape:?} holds nothing");
        return error(Code::EmptyShape, message, "every size of a tensor is a whole number from 1");
    }
    match shape.iter().try_fold(1_usize, |product, size| product.checked_mul(*size)) {
        Some(elements) if elements <= most => Ok(()),
        _ => {
            let elements: f64 = shape.iter().map(|size| *size as f64).product();
            let message = format!("a tensor of {shape:?} holds {elements:.1e} numbers, {most} are the most");
            error(Code::ShapeTooLarge, message, "make it smaller: a size of it is larger than any machine's memory")
        }
    }
}
