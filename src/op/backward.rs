//! Shape rules of the backward pass's own ops. Only `graph::grad` makes them, so messages speak to its writer.

use super::error::{Inferred, error, same_shapes};
use super::{Type, forward};

pub(super) fn transposed_matmul(a: &[usize], b: &[usize]) -> Inferred {
    let rank = a.len();
    if rank < 2 || b.len() != rank || a[..rank - 1] != b[..rank - 1] {
        return error(&[0, 1], format!("{a:?} and {b:?} are no matrices with equal leading axes and rows"));
    }
    let mut dims = a[..rank - 2].to_vec();
    dims.extend([a[rank - 1], b[rank - 1]]);
    Ok(Type::float(dims))
}

/// (x, g).
pub(super) fn log_det(inputs: &[&Type]) -> Inferred {
    match inputs[0].shape.as_slice() {
        [rest @ .., rows, columns] if rows == columns && rest == inputs[1].shape => Ok(inputs[0].clone()),
        _ => error(&[0, 1], "square matrices want one gradient for each"),
    }
}

/// (logits, ids, g).
pub(super) fn cross_entropy(inputs: &[&Type]) -> Inferred {
    match inputs[0].shape.split_last() {
        Some((_, rows)) if rows == inputs[1].shape && rows == inputs[2].shape => Ok(inputs[0].clone()),
        _ => error(&[0, 1, 2], "logits want one id and one gradient for each row"),
    }
}

/// (x, g, weight?).
pub(super) fn norm(inputs: &[&Type]) -> Inferred {
    same_shapes(&inputs[..2])?;
    let width = inputs[0].shape.last().copied();
    match inputs.get(2) {
        None => Ok(Type::float([inputs[0].elements()])),
        Some(weight) if weight.shape.len() == 1 && weight.shape.last().copied() == width => {
            Ok(Type::float([inputs[0].elements() + 2 * weight.elements()]))
        }
        Some(weight) => {
            error(&[0, 2], format!("{:?} does not fit the features of {:?}", weight.shape, inputs[0].shape))
        }
    }
}

/// (q, k, v, g, bias?).
pub(super) fn attention(inputs: &[&Type]) -> Inferred {
    let forward: Vec<&Type> = inputs[..3].iter().chain(inputs.get(4)).copied().collect();
    let result = forward::attention(&forward)?;
    if result != *inputs[3] {
        return error(&[3], format!("the gradient {:?} is not that of {:?}", inputs[3].shape, result.shape));
    }
    Ok(Type::float([forward.iter().map(|ty| ty.elements()).sum::<usize>()]))
}

/// `sizes` is what the convolution gives, `wanted` what is asked for.
pub(super) fn of_convolution(gradient: &Type, sizes: &Type, wanted: Type) -> Inferred {
    if gradient == sizes {
        return Ok(wanted);
    }
    error(&[0], format!("the gradient {:?} is not that of {:?}", gradient.shape, sizes.shape))
}

pub(super) fn scatter_tokens(gradient: &[usize], ids: &[usize], tokens: usize) -> Inferred {
    match (gradient, ids) {
        ([b, k, d], [b2, k2]) if (b, k) == (b2, k2) => Ok(Type::float([*b, tokens, *d])),
        _ => error(&[0, 1], format!("scatter_tokens wants [B, K, D] and ids [B, K], found {gradient:?} and {ids:?}")),
    }
}
