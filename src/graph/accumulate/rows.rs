//! Which operations keep samples apart.
//!
//! A value lies row by row: if its first axis that is longer than 1 is the samples', or a multiple of them, the values of a
//! sample are one block, and those of a micro-batch are one too.
//!
//! **Invariant:** one arm for each op, no `_`: a new op must say here whether it joins samples.

use std::ops::Range;

use crate::op::{Op, Type};

/// The axis along which a value of that shape would hold samples: its first that is longer than 1.
pub fn sample_axis(shape: &[usize]) -> Option<usize> {
    shape.iter().position(|size| *size != 1)
}

/// The operands of `op` that are read by rows where its result, of type `ty`, is made sample by sample; all others are read
/// whole, and may hang on no sample. `None` where the result of one sample needs others, or is not made of blocks.
pub fn reads(op: &Op, operands: &[&Type], ty: &Type, samples: usize) -> Option<Range<usize>> {
    let axis = sample_axis(&ty.shape).filter(|axis| ty.shape[*axis].is_multiple_of(samples))?;
    let rank = |i: usize| operands[i].shape.len();
    // Operands and result hold samples along one and the same axis.
    let along = |i: usize| sample_axis(&operands[i].shape) == Some(axis);
    let all = 0..operands.len();
    match op {
        // What hangs on samples among the leaves is an input, and known by its kind.
        Op::Input { .. } | Op::Param { .. } | Op::Iota | Op::ResizeWeights { .. } => None,
        Op::Full { .. } => Some(0..0),

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
        | Op::StopGradient => Some(all),

        Op::Sum { axes, keep } | Op::Mean { axes, keep } => {
            let from = sample_axis(&operands[0].shape)?;
            let dropped = if *keep { 0 } else { axes.iter().filter(|a| **a < from).count() };
            (!axes.contains(&from) && from - dropped == axis).then_some(all)
        }
        // The order of the values stays as it is.
        Op::Reshape => Some(all),
        Op::Permute { axes } => (sample_axis(&operands[0].shape) == Some(axes[axis])).then_some(all),
        Op::Broadcast => {
            let missing = ty.shape.len() - rank(0);
            match axis.checked_sub(missing).map(|own| operands[0].shape[own]) {
                // The same for each row.
                None | Some(1) => Some(0..0),
                Some(_) => Some(all),
            }
        }
        Op::Slice { axis: cut, .. } => (along(0) && *cut != axis).then_some(all),
        Op::Concat { axis: joined } => (*joined > axis).then_some(all),

        // Rows of the one matrix, or a matrix of each sample.
        Op::Matmul { .. } if along(0) && axis + 2 == rank(0) => Some(0..1),
        Op::Matmul { .. } => (along(0) && axis + 2 < rank(0)).then_some(all),
        Op::Linear => (along(0) && axis + 1 < rank(0)).then_some(0..1),
        Op::Attention { .. } => (axis == 0).then_some(0..3),
        Op::Conv2d { .. } => (axis == 0 && along(0)).then_some(0..1),

        Op::LayerNorm { .. } | Op::Softmax | Op::LogSoftmax | Op::L2Normalize { .. } => {
            (axis + 1 < rank(0)).then_some(0..1)
        }
        Op::BatchNorm { .. } => None,
        Op::CrossEntropy | Op::Argmax | Op::Argsort => (along(0) && axis + 1 < rank(0)).then_some(all),

        Op::Patchify { .. } | Op::Unpatchify { .. } => (axis == 0 && along(0)).then_some(all),
        // Tokens of each sample by its own ids; or all ids in one row, of tokens that all samples share.
        Op::GatherTokens if axis == 0 => (along(0) && along(1)).then_some(all),
        Op::GatherTokens => (axis == 1 && along(1)).then_some(1..2),
        Op::OneHot { .. } => along(0).then_some(all),

        // With several processes, the samples of all of them.
        Op::AllGather => None,

        // Micro-batches are differentiated after they are cut.
        Op::TransposedMatmul
        | Op::GeluGrad
        | Op::SoftmaxGrad
        | Op::LogSoftmaxGrad
        | Op::CrossEntropyGrad
        | Op::L2NormalizeGrad { .. }
        | Op::LayerNormGrad { .. }
        | Op::BatchNormGrad { .. }
        | Op::AttentionGrad { .. }
        | Op::Conv2dInputGrad { .. }
        | Op::Conv2dWeightGrad { .. }
        | Op::ScatterTokens { .. } => None,
    }
}
