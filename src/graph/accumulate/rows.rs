//! Which operations keep samples apart.
//!
//! A value that keeps them apart holds them along one of its axes, in order: B of them, or a like number of rows for each. A
//! micro-batch's part of it is a block of that axis.
//!
//! **Invariant:** one arm for each op, no `_`: a new op must say here whether it joins samples.

use crate::op::{Op, Type};

/// For a block along `axis` of the result of `op`, the axis of each operand along which a block of it is enough; `None` within
/// for an operand that is read whole. `None` where the block needs all of every operand, or no such block can be made.
pub fn cuts(op: &Op, operands: &[&Type], ty: &Type, axis: usize, samples: usize) -> Option<Vec<Option<usize>>> {
    let count = operands.len();
    let rank = |i: usize| operands[i].shape.len();
    let all = || Some(vec![Some(axis); count]);
    // A block of the first `n` operands along the same axis, all of the others.
    let first = |n: usize| Some((0..count).map(|i| (i < n).then_some(axis)).collect());
    match op {
        // What hangs on samples among the leaves is an input, and known by its kind.
        Op::Input { .. } | Op::Param { .. } | Op::Iota | Op::ResizeWeights { .. } => None,
        Op::Full { .. } => Some(Vec::new()),

        Op::Add
        | Op::Sub
        | Op::Mul
        | Op::Div
        | Op::Maximum
        | Op::Minimum
        | Op::Less
        | Op::Equal
        | Op::Select
        | Op::AddConst { .. }
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
        | Op::Atan2
        | Op::ToFloat
        | Op::ToInt
        | Op::StopGradient => all(),

        Op::Sum { axes, keep } | Op::Mean { axes, keep } => {
            let kept = |a: &usize| *keep || !axes.contains(a);
            let from = (0..rank(0)).filter(kept).nth(axis)?;
            (!axes.contains(&from)).then_some(vec![Some(from)])
        }
        Op::Reshape => Some(vec![Some(same_rows(&operands[0].shape, &ty.shape, axis, samples)?)]),
        Op::Permute { axes } => Some(vec![Some(axes[axis])]),
        Op::Broadcast => {
            let own = axis.checked_sub(ty.shape.len() - rank(0)).filter(|own| operands[0].shape[*own] > 1);
            // The same for each row where the operand has no such axis.
            Some(vec![own])
        }
        Op::Slice { axis: cut, .. } => (*cut != axis).then_some(vec![Some(axis)]),
        Op::Concat { axis: joined } => {
            if *joined == axis {
                None
            } else {
                all()
            }
        }

        // Rows of the one matrix, or a matrix of each sample.
        Op::Matmul { .. } if axis + 2 == rank(0) => first(1),
        Op::Matmul { .. } => {
            if axis + 2 < rank(0) {
                all()
            } else {
                None
            }
        }
        Op::Linear => {
            if axis + 1 < rank(0) {
                first(1)
            } else {
                None
            }
        }
        Op::Attention { .. } => {
            if axis == 0 {
                first(3)
            } else {
                None
            }
        }
        Op::Conv2d { .. } => {
            if axis == 0 {
                first(1)
            } else {
                None
            }
        }

        Op::LayerNorm { .. } | Op::Softmax | Op::LogSoftmax | Op::L2Normalize { .. } => {
            if axis + 1 < rank(0) {
                first(1)
            } else {
                None
            }
        }
        Op::BatchNorm { .. } => None,
        Op::CrossEntropy | Op::Argmax | Op::Argsort => {
            if axis + 1 < rank(0) {
                all()
            } else {
                None
            }
        }

        // A matrix of each sample: the result has the axes before those of the matrix.
        Op::LogDet => all(),
        Op::Patchify { .. } | Op::Unpatchify { .. } => {
            if axis == 0 {
                all()
            } else {
                None
            }
        }
        // Tokens of each sample by its own ids; or some of the ids, of tokens that all samples share.
        Op::GatherTokens => match axis {
            0 => all(),
            1 => Some(vec![None, Some(1)]),
            _ => None,
        },
        Op::OneHot { .. } => {
            if axis < rank(0) {
                all()
            } else {
                None
            }
        }

        // A graph is cut before it is spread over ranks, and before it is differentiated.
        Op::AllGather { .. }
        | Op::Replicate { .. }
        | Op::OwnRows { .. }
        | Op::AllReduce { .. }
        | Op::TransposedMatmul
        | Op::GeluGrad
        | Op::SoftmaxGrad
        | Op::LogSoftmaxGrad
        | Op::CrossEntropyGrad
        | Op::L2NormalizeGrad { .. }
        | Op::LogDetGrad
        | Op::LayerNormGrad { .. }
        | Op::BatchNormGrad { .. }
        | Op::AttentionGrad { .. }
        | Op::Conv2dInputGrad { .. }
        | Op::Conv2dWeightGrad { .. }
        | Op::ScatterTokens { .. } => None,
    }
}

/// The axis of `from` whose blocks are those of `axis` in `to`, a reshape of it: as much lies before both, and both hold a like
/// number of rows for each sample.
fn same_rows(from: &[usize], to: &[usize], axis: usize, samples: usize) -> Option<usize> {
    let before: usize = to[..axis].iter().product();
    (0..from.len())
        .find(|a| from[..*a].iter().product::<usize>() == before && from[*a] > 1 && from[*a].is_multiple_of(samples))
}
