//! Shape rules: the type of an op's result from those of its operands, and its cost.
//!
//! **Invariant:** [`infer`] has one arm for each op, no `_`: a new op stops the build here. How many operands there are and what
//! they hold stands in the table, and has been checked when the arm is reached.

pub use super::error::ShapeError;
use super::error::{Inferred, error, same_shapes};
use super::table::{Family, Holds, Need};
use super::{DType, Op, Type, backward, forward, size};
use crate::diag::Code;

/// Result type of `op` on `inputs`. `declared` is the type of leaves and the target of `reshape`, `broadcast`,
/// `unpatchify` and the gradients of a convolution.
pub fn infer(op: &Op, inputs: &[&Type], declared: Option<&Type>) -> Inferred {
    count_operands(op, inputs.len())?;
    check_dtypes(op, inputs)?;
    declared.map_or(Ok(()), |ty| size::of_result(op, &ty.shape))?;
    let ty = result(op, inputs, declared)?;
    size::of_result(op, &ty.shape).map(|()| ty)
}

/// Blocks along `axis` lie behind one another: it is there, and all axes before it are 1.
fn check_first(shape: &[usize], axis: usize) -> Result<(), ShapeError> {
    match shape.get(axis) {
        Some(_) if shape[..axis].iter().all(|size| *size == 1) => Ok(()),
        _ => error(&[0], format!("axis {axis} of {shape:?} is not the first that is not 1")),
    }
}

fn result(op: &Op, inputs: &[&Type], declared: Option<&Type>) -> Inferred {
    let shape = |i: usize| inputs[i].shape.as_slice();
    match op {
        Op::Input { .. } | Op::Param { .. } | Op::Full { .. } => target(declared),
        Op::Iota => {
            let ty = target(declared)?;
            if ty.dtype != DType::Int || ty.shape.len() != 1 {
                return error(&[], format!("iota makes ids of one axis, not {:?}", ty.shape));
            }
            Ok(ty)
        }
        Op::ResizeWeights { from, to } => match (from, to) {
            (0, _) | (_, 0) => error(&[], format!("an axis of {from} is resized to {to}")),
            _ => Ok(Type::float([*to, *from])),
        },
        Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Maximum | Op::Minimum | Op::Atan2 => {
            same_shapes(inputs).map(|()| inputs[0].clone())
        }
        Op::Less | Op::Equal => same_shapes(inputs).map(|()| Type::float(shape(0))),
        Op::Select => same_shapes(inputs).map(|()| inputs[1].clone()),
        Op::AddConst { .. }
        | Op::MulConst { .. }
        | Op::PowConst { .. }
        | Op::Neg
        | Op::Exp
        | Op::Log
        | Op::Sqrt
        | Op::Abs
        | Op::Relu
        | Op::Gelu
        | Op::Tanh
        | Op::Sigmoid
        | Op::Sin
        | Op::Cos
        | Op::Floor
        | Op::StopGradient
        | Op::Replicate { .. }
        | Op::AllReduce { .. } => Ok(inputs[0].clone()),
        Op::AllGather { axis, ranks } => {
            let mut dims = shape(0).to_vec();
            check_first(&dims, *axis)?;
            match dims[*axis].checked_mul(*ranks) {
                Some(size) if *ranks > 0 => dims[*axis] = size,
                _ => return error(&[0], format!("{} rows of each of {ranks} ranks", dims[*axis])),
            }
            Ok(Type { dtype: inputs[0].dtype, shape: dims })
        }
        Op::OwnRows { axis, ranks } => {
            let mut dims = shape(0).to_vec();
            check_first(&dims, *axis)?;
            if *ranks == 0 || !dims[*axis].is_multiple_of(*ranks) {
                return error(&[0], format!("{} rows are not shared out evenly among {ranks} ranks", dims[*axis]));
            }
            dims[*axis] /= ranks;
            Ok(Type::float(dims))
        }
        Op::ToFloat => Ok(Type::float(shape(0))),
        Op::ToInt => Ok(Type::int(shape(0))),
        Op::Sum { axes, keep } | Op::Mean { axes, keep } => {
            let rank = shape(0).len();
            if axes.iter().any(|a| *a >= rank) || axes.windows(2).any(|w| w[0] >= w[1]) {
                return error(&[0], format!("axes {axes:?} are not distinct axes of a tensor with {rank}"));
            }
            let dims = shape(0).iter().enumerate().filter_map(|(i, d)| match (axes.contains(&i), keep) {
                (false, _) => Some(*d),
                (true, true) => Some(1),
                (true, false) => None,
            });
            Ok(Type::float(dims.collect::<Vec<_>>()))
        }
        Op::Reshape => {
            let ty = target(declared)?;
            if ty.elements() != inputs[0].elements() {
                let (found, wanted) = (inputs[0].elements(), ty.elements());
                return Err(ShapeError {
                    code: Code::OpShape,
                    message: format!("{found} values do not fill {:?}, which holds {wanted}", ty.shape),
                    operands: vec![0],
                    help: Some("leave one size open: `-1` is what the others leave".into()),
                });
            }
            Ok(Type { dtype: inputs[0].dtype, shape: ty.shape })
        }
        Op::Permute { axes } => {
            let mut sorted = axes.clone();
            sorted.sort_unstable();
            if sorted != (0..shape(0).len()).collect::<Vec<_>>() {
                return error(&[0], format!("{axes:?} is no order of {} axes", shape(0).len()));
            }
            Ok(Type { dtype: inputs[0].dtype, shape: axes.iter().map(|a| shape(0)[*a]).collect() })
        }
        Op::Broadcast => {
            let ty = target(declared)?;
            let skipped = ty.shape.len().checked_sub(shape(0).len());
            let fits = skipped.is_some_and(|s| shape(0).iter().zip(&ty.shape[s..]).all(|(a, b)| a == b || *a == 1));
            if !fits {
                return error(&[0], format!("{:?} cannot be repeated to {:?}", shape(0), ty.shape));
            }
            Ok(Type { dtype: inputs[0].dtype, shape: ty.shape })
        }
        Op::Slice { axis, start, end } => {
            let Some(size) = shape(0).get(*axis) else {
                return error(&[0], format!("axis {axis} of a tensor with {} axes", shape(0).len()));
            };
            if start >= end || end > size {
                return error(&[0], format!("{start}..{end} is no part of an axis of {size}"));
            }
            let mut dims = shape(0).to_vec();
            dims[*axis] = end - start;
            Ok(Type { dtype: inputs[0].dtype, shape: dims })
        }
        Op::Concat { axis } => forward::concat(inputs, *axis),
        Op::Matmul { transpose_b } => forward::matmul(shape(0), shape(1), *transpose_b),
        Op::Linear => forward::linear(inputs),
        Op::Attention { .. } => forward::attention(inputs),
        Op::Conv2d { stride, padding, groups } => forward::conv2d(inputs, *stride, *padding, *groups),
        Op::LayerNorm { .. } | Op::BatchNorm { .. } => {
            let Some(last) = shape(0).last() else { return error(&[0], "a scalar has no features to normalise") };
            for i in 1..inputs.len() {
                if shape(i) != [*last] {
                    return error(&[0, i], format!("{:?} does not fit features of size {last}", shape(i)));
                }
            }
            if matches!(op, Op::BatchNorm { .. }) && shape(0).len() < 2 {
                return error(&[0], "batch_norm wants a batch axis before the features");
            }
            Ok(inputs[0].clone())
        }
        Op::Softmax | Op::LogSoftmax | Op::L2Normalize { .. } => match shape(0) {
            [] => error(&[0], "a scalar has no last axis"),
            _ => Ok(inputs[0].clone()),
        },
        Op::CrossEntropy => match shape(0).split_last() {
            Some((_, rows)) if rows == shape(1) => Ok(Type::float(rows)),
            _ => error(&[0, 1], format!("logits {:?} want one id for each row, found ids {:?}", shape(0), shape(1))),
        },
        Op::LogDet => match shape(0) {
            [rest @ .., rows, columns] if rows == columns => Ok(Type::float(rest)),
            found => error(&[0], format!("log_det wants square matrices [.., n, n], found {found:?}")),
        },
        Op::Patchify { patch, .. } => forward::patchify(shape(0), *patch),
        Op::Unpatchify { patch, .. } => {
            let ty = target(declared)?;
            let patches = forward::patchify(&ty.shape, *patch)?;
            if patches.shape != shape(0) {
                return error(
                    &[0],
                    format!("{:?} are not the patches of {:?}: {:?}", shape(0), ty.shape, patches.shape),
                );
            }
            Ok(ty)
        }
        Op::GatherTokens => match (shape(0), shape(1)) {
            ([b, _, d], [b2, k]) if b == b2 => Ok(Type { dtype: inputs[0].dtype, shape: vec![*b, *k, *d] }),
            (x, ids) => {
                error(&[0, 1], format!("gather_tokens wants [B, N, D] and ids [B, K], found {x:?} and {ids:?}"))
            }
        },
        Op::OneHot { classes } => {
            let mut dims = shape(0).to_vec();
            dims.push(*classes);
            Ok(Type::float(dims))
        }
        Op::Argmax => match shape(0).split_last() {
            Some((_, rest)) => Ok(Type::int(rest)),
            None => error(&[0], "a scalar has no last axis"),
        },
        Op::Argsort => match shape(0) {
            [] => error(&[0], "a scalar has no last axis"),
            _ => Ok(Type::int(shape(0))),
        },
        Op::TransposedMatmul => backward::transposed_matmul(shape(0), shape(1)),
        Op::GeluGrad | Op::SoftmaxGrad | Op::LogSoftmaxGrad | Op::L2NormalizeGrad { .. } => {
            same_shapes(inputs).map(|()| inputs[0].clone())
        }
        Op::CrossEntropyGrad => backward::cross_entropy(inputs),
        Op::LogDetGrad => backward::log_det(inputs),
        Op::LayerNormGrad { .. } | Op::BatchNormGrad { .. } => backward::norm(inputs),
        Op::AttentionGrad { .. } => backward::attention(inputs),
        Op::Conv2dInputGrad { stride, padding, groups } => {
            let ty = target(declared)?;
            let sizes = forward::conv2d(&[&ty, inputs[1]], *stride, *padding, *groups)?;
            backward::of_convolution(inputs[0], &sizes, ty)
        }
        Op::Conv2dWeightGrad { stride, padding, groups } => {
            let ty = target(declared)?;
            let sizes = forward::conv2d(&[inputs[1], &ty], *stride, *padding, *groups)?;
            backward::of_convolution(inputs[0], &sizes, ty)
        }
        Op::ScatterTokens { tokens } => backward::scatter_tokens(shape(0), shape(1), *tokens),
    }
}

fn target(declared: Option<&Type>) -> Inferred {
    match declared {
        Some(ty) => Ok(ty.clone()),
        None => error(&[], "no type was declared"),
    }
}

/// Least and greatest number of operands.
pub fn arity(op: &Op) -> (usize, usize) {
    let operands = op.row().operands;
    let least = operands.iter().filter(|operand| operand.need == Need::Needed).count();
    let open = operands.iter().any(|operand| operand.need == Need::Repeated);
    (least, if open { usize::MAX } else { operands.len() })
}

fn count_operands(op: &Op, found: usize) -> Result<(), ShapeError> {
    let row = op.row();
    if row.operands.get(found).is_some_and(|missing| missing.need == Need::WithLast) {
        let (last, missing) = (found - 1, row.names[found]);
        return error(&[last], format!("{} and {missing} come together or not at all", row.names[last]));
    }
    let (least, most) = arity(op);
    if (least..=most).contains(&found) {
        return Ok(());
    }
    let more = if most == usize::MAX { "more".to_owned() } else { format!("up to {most}") };
    error(&[], format!("{} takes {least} operands or {more}, found {found}", row.name))
}

fn check_dtypes(op: &Op, inputs: &[&Type]) -> Result<(), ShapeError> {
    let operands = op.row().operands;
    for (i, ty) in inputs.iter().enumerate() {
        let wanted = match operands[i.min(operands.len() - 1)].holds {
            Holds::Numbers => DType::Float,
            Holds::Ids => DType::Int,
            Holds::Either => inputs[0].dtype,
        };
        if ty.dtype != wanted {
            let (wanted, found) = if ty.dtype == DType::Int { ("numbers", "ids") } else { ("ids", "numbers") };
            let message = format!("{} wants {wanted} as operand {}, found {found}", op.name(), i + 1);
            let help = (ty.dtype == DType::Int).then(|| "turn ids into numbers with `op::to_float(…)`".to_owned());
            return Err(ShapeError { code: Code::OpShape, message, operands: vec![i], help });
        }
    }
    Ok(())
}

/// Floating-point operations of one evaluation: 2 for each multiply-add of products, 1 for each element otherwise; what only
/// moves values is free.
pub fn flops(op: &Op, inputs: &[&Type], output: &Type) -> u64 {
    let elements = output.elements() as u64;
    let all = |sizes: &[usize]| sizes.iter().product::<usize>() as u64;
    // Of shapes near their limit the product is past what a number holds; `shape::trace` refuses such a pipeline.
    let times = u64::saturating_mul;
    let last = |ty: &Type| ty.shape.last().copied().unwrap_or(1) as u64;
    match op.family() {
        Family::Leaf | Family::Cast | Family::Structure | Family::Tokens => return 0,
        Family::Reduction | Family::Loss | Family::Order => return inputs[0].elements() as u64,
        Family::ElementWise | Family::Normalisation => return elements,
        Family::Product | Family::Factor => {}
    }
    match op {
        Op::Matmul { .. } | Op::Linear => times(2 * elements, last(inputs[0])),
        Op::TransposedMatmul => times(2 * inputs[0].elements() as u64, last(inputs[1])),
        Op::Conv2d { .. } => times(2 * elements, all(&inputs[1].shape[1..])),
        // Cholesky's factor of an n × n matrix; with it the factor's inverse, and the product of that with itself.
        Op::LogDet => times(inputs[0].elements() as u64, last(inputs[0])) / 3,
        Op::LogDetGrad => times(elements, last(output)),
        // q·kᵀ and the product with v.
        Op::Attention { .. } => times(4 * elements, inputs[1].shape[2] as u64),
        // As the forward product, plus the scores once more: they are not kept.
        Op::AttentionGrad { .. } => times(10 * inputs[0].elements() as u64, inputs[1].shape[2] as u64),
        Op::Conv2dInputGrad { .. } => times(2 * inputs[0].elements() as u64, all(&inputs[1].shape[1..])),
        Op::Conv2dWeightGrad { .. } => times(2 * inputs[0].elements() as u64, all(&output.shape[1..])),
        other => unreachable!("{} is a product whose cost nobody knows", other.name()),
    }
}
