//! Our operations as ONNX's.
//!
//! Before: a graph whose values say where they hold the samples. After: [`super::written`] holds the nodes.
//!
//! **Invariant:** one arm for each op, no `_`: a new op must say here what it is in ONNX, or that it is nothing there. What is made has the
//! value of `docs/ops.md`, for a batch of any size.
//!
//! Source: the operators of ONNX, version 17 of their set (onnx 1.23, docs/Operators.md).

use super::proto::{Attribute, BOOL, FLOAT, INT64, Tensor};
use super::written::{Size, Written};
use crate::graph::Node;
use crate::op::interpolate::cubic_weights;
use crate::op::{DType, Op, PatchOrder};

/// An operand: the name of its value, and what it is made of.
#[derive(Debug, Clone, Copy)]
pub struct Operand<'a> {
    pub name: &'a str,
    pub sizes: &'a [Size],
}

/// Adds what makes the value of `node`, which has these sizes; or tells why there is nothing that does.
pub fn lower(written: &mut Written, node: &Node, operands: &[Operand<'_>], sizes: &[Size]) -> Result<(), String> {
    let names: Vec<&str> = operands.iter().map(|operand| operand.name).collect();
    let rank = |at: usize| operands[at].sizes.len() as i64;
    let none = Vec::new;
    let axis_last = || vec![Attribute::int("axis", -1)];
    match &node.op {
        Op::Input { .. } | Op::Param { .. } => {
            return Err("it is a value from outside, which has its own name".to_owned());
        }
        Op::Full { value } => {
            let value = match node.ty.dtype {
                DType::Float => written.float(*value),
                DType::Int => written.int(*value as i64),
            };
            let shape = written.shape(sizes);
            written.last("Expand", &[&value, &shape], none());
        }
        Op::Iota => {
            let count = node.ty.elements() as i64;
            let ids = written.ints(&(0..count).collect::<Vec<_>>());
            written.last("Identity", &[&ids], none());
        }
        Op::ResizeWeights { from, to } => {
            let name = format!("cubic/{from},{to}");
            let weights = || cubic_weights(*from, *to).into_iter().map(|weight| weight as f32);
            written.named(&name, |name| Tensor::floats(name, &[*to, *from], weights()));
            written.last("Identity", &[&name], none());
        }

        Op::Add => written.last("Add", &names, none()),
        Op::Sub => written.last("Sub", &names, none()),
        Op::Mul => written.last("Mul", &names, none()),
        Op::Div => written.last("Div", &names, none()),
        Op::Maximum => written.last("Max", &names, none()),
        Op::Minimum => written.last("Min", &names, none()),
        Op::Less | Op::Equal => {
            let op = if node.op == Op::Less { "Less" } else { "Equal" };
            let holds = written.step(op, &names, none());
            written.last("Cast", &[&holds], cast(FLOAT));
        }
        Op::Select => {
            let holds = written.step("Cast", &names[..1], cast(BOOL));
            written.last("Where", &[&holds, names[1], names[2]], none());
        }
        Op::AddConst { value } => with_number(written, "Add", names[0], *value),
        Op::MulConst { value } => with_number(written, "Mul", names[0], *value),
        Op::PowConst { value } => with_number(written, "Pow", names[0], *value),
        Op::Neg => written.last("Neg", &names, none()),
        Op::Exp => written.last("Exp", &names, none()),
        Op::Log => written.last("Log", &names, none()),
        Op::Sqrt => written.last("Sqrt", &names, none()),
        Op::Abs => written.last("Abs", &names, none()),
        Op::Relu => written.last("Relu", &names, none()),
        Op::Tanh => written.last("Tanh", &names, none()),
        Op::Sigmoid => written.last("Sigmoid", &names, none()),
        Op::Sin => written.last("Sin", &names, none()),
        Op::Cos => written.last("Cos", &names, none()),
        Op::Floor => written.last("Floor", &names, none()),
        // x · ½ · (1 + erf(x / √2)); `Gelu` itself came with version 20. The order is the one that runtimes look for.
        Op::Gelu => {
            let root = written.float(std::f64::consts::SQRT_2);
            let (one, half) = (written.float(1.0), written.float(0.5));
            let scaled = written.step("Div", &[names[0], &root], none());
            let erf = written.step("Erf", &[&scaled], none());
            let share = written.step("Add", &[&erf, &one], none());
            let doubled = written.step("Mul", &[names[0], &share], none());
            written.last("Mul", &[&doubled, &half], none());
        }
        Op::ToFloat => written.last("Cast", &names, cast(FLOAT)),
        Op::ToInt => written.last("Cast", &names, cast(INT64)),

        Op::Sum { axes, keep } => {
            let axes = written.ints(&numbers(axes));
            written.last("ReduceSum", &[names[0], &axes], vec![Attribute::int("keepdims", i64::from(*keep))]);
        }
        Op::Mean { axes, keep } => {
            let keep = Attribute::int("keepdims", i64::from(*keep));
            written.last("ReduceMean", &names, vec![Attribute::ints("axes", numbers(axes)), keep]);
        }

        Op::Reshape => {
            let shape = written.reshaped(sizes);
            written.last("Reshape", &[names[0], &shape], none());
        }
        Op::Permute { axes } => written.last("Transpose", &names, vec![Attribute::ints("perm", numbers(axes))]),
        Op::Broadcast => {
            let shape = written.shape(sizes);
            written.last("Expand", &[names[0], &shape], none());
        }
        Op::Slice { axis, start, end } => {
            let bounds = [*start, *end, *axis].map(|number| number as i64);
            let [start, end, axis] = bounds.map(|number| written.ints(&[number]));
            written.last("Slice", &[names[0], &start, &end, &axis], none());
        }
        Op::Concat { axis } => written.last("Concat", &names, vec![Attribute::int("axis", *axis as i64)]),
        Op::StopGradient => written.last("Identity", &names, none()),

        Op::Matmul { transpose_b: false } => written.last("MatMul", &names, none()),
        Op::Matmul { transpose_b: true } => {
            let turned = transposed(written, names[1], rank(1));
            written.last("MatMul", &[names[0], &turned], none());
        }
        Op::Linear => {
            let turned = transposed(written, names[1], 2);
            match names.get(2) {
                Some(bias) => {
                    let product = written.step("MatMul", &[names[0], &turned], none());
                    written.last("Add", &[&product, bias], none());
                }
                None => written.last("MatMul", &[names[0], &turned], none()),
            }
        }
        Op::Attention { scale } => {
            let turned = transposed(written, names[1], 4);
            let products = written.step("MatMul", &[names[0], &turned], none());
            let scale = written.float(*scale);
            let mut logits = written.step("Mul", &[&products, &scale], none());
            if let Some(bias) = names.get(3) {
                logits = written.step("Add", &[&logits, bias], none());
            }
            let shares = written.step("Softmax", &[&logits], axis_last());
            written.last("MatMul", &[&shares, names[2]], none());
        }
        Op::Conv2d { stride, padding, groups } => {
            let (stride, padding) = (*stride as i64, *padding as i64);
            let attributes = vec![
                Attribute::ints("strides", [stride; 2]),
                Attribute::ints("pads", [padding; 4]),
                Attribute::int("group", *groups as i64),
            ];
            written.last("Conv", &names, attributes);
        }

        Op::LayerNorm { eps } => {
            let attributes = vec![Attribute::int("axis", -1), Attribute::float("epsilon", *eps)];
            match names.len() {
                1 => {
                    let ones = written.ones(*node.ty.shape.last().unwrap_or(&1));
                    written.last("LayerNormalization", &[names[0], &ones], attributes);
                }
                _ => written.last("LayerNormalization", &names, attributes),
            }
        }
        Op::Softmax => written.last("Softmax", &names, axis_last()),
        Op::LogSoftmax => written.last("LogSoftmax", &names, axis_last()),
        Op::L2Normalize { eps } => {
            let attributes = vec![Attribute::ints("axes", [-1]), Attribute::int("keepdims", 1)];
            let norm = written.step("ReduceL2", &names, attributes);
            let eps = written.float(*eps);
            let bounded = written.step("Max", &[&norm, &eps], none());
            written.last("Div", &[names[0], &bounded], none());
        }

        Op::Patchify { patch, order } => {
            let &[samples, channels, Size::Fixed(height), Size::Fixed(width)] = operands[0].sizes else {
                return Err("its pictures are of no fixed size".to_owned());
            };
            let split = [
                samples,
                channels,
                Size::Fixed(height / patch.0),
                Size::Fixed(patch.0),
                Size::Fixed(width / patch.1),
                Size::Fixed(patch.1),
            ];
            let split = written.reshaped(&split);
            let cut = written.step("Reshape", &[names[0], &split], none());
            let turned = written.step("Transpose", &[&cut], vec![Attribute::ints("perm", patches_last(*order))]);
            let shape = written.reshaped(sizes);
            written.last("Reshape", &[&turned, &shape], none());
        }
        Op::Unpatchify { patch, order } => {
            let &[samples, Size::Fixed(channels), Size::Fixed(height), Size::Fixed(width)] = sizes else {
                return Err("its pictures are of no fixed size".to_owned());
            };
            // Sizes of the picture's order, then in the order that patches have them.
            let of_picture = [
                samples,
                Size::Fixed(channels),
                Size::Fixed(height / patch.0),
                Size::Fixed(patch.0),
                Size::Fixed(width / patch.1),
                Size::Fixed(patch.1),
            ];
            let order = patches_last(*order);
            let split: Vec<Size> = order.iter().map(|axis| of_picture[*axis as usize]).collect();
            let split = written.reshaped(&split);
            let cut = written.step("Reshape", &[names[0], &split], none());
            let back = (0..6).map(|axis| order.iter().position(|at| *at == axis).unwrap_or_default() as i64);
            let turned = written.step("Transpose", &[&cut], vec![Attribute::ints("perm", back)]);
            let shape = written.reshaped(sizes);
            written.last("Reshape", &[&turned, &shape], none());
        }
        Op::GatherTokens => {
            let last = written.ints(&[2]);
            let ids = written.step("Unsqueeze", &[names[1], &last], none());
            written.last("GatherND", &[names[0], &ids], vec![Attribute::int("batch_dims", 1)]);
        }
        Op::OneHot { classes } => {
            let depth = written.int(*classes as i64);
            written.named("zero_and_one", |name| Tensor::floats(name, &[2], [0.0, 1.0]));
            written.last("OneHot", &[names[0], &depth, "zero_and_one"], axis_last());
        }
        Op::Argmax => {
            let attributes = vec![Attribute::int("axis", -1), Attribute::int("keepdims", 0)];
            written.last("ArgMax", &names, attributes);
        }

        Op::Argsort => return Err("`TopK` does not say which of equals comes first".to_owned()),
        Op::Atan2 => return Err("it has no arc tangent of two numbers".to_owned()),
        Op::LogDet => return Err("its `Det` does not tell whether a matrix is positive definite".to_owned()),
        Op::CrossEntropy => return Err("losses are not written".to_owned()),
        Op::BatchNorm { .. } => return Err("it joins the samples of a batch".to_owned()),
        Op::AllGather { .. } | Op::Replicate { .. } | Op::AllReduce { .. } | Op::OwnRows { .. } => {
            return Err("it joins the ranks of a run".to_owned());
        }
        Op::TransposedMatmul
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
        | Op::ScatterTokens { .. } => return Err("gradients are not written".to_owned()),
    }
    Ok(())
}

fn cast(to: i32) -> Vec<Attribute> {
    vec![Attribute::int("to", i64::from(to))]
}

fn numbers(axes: &[usize]) -> Vec<i64> {
    axes.iter().map(|axis| *axis as i64).collect()
}

fn with_number(written: &mut Written, op: &str, name: &str, value: f64) {
    let value = written.float(value);
    written.last(op, &[name, &value], Vec::new());
}

/// The last two of `rank` axes, the one for the other.
fn transposed(written: &mut Written, name: &str, rank: i64) -> String {
    let order = (0..rank - 2).chain([rank - 1, rank - 2]);
    written.step("Transpose", &[name], vec![Attribute::ints("perm", order)])
}

/// Axes of a picture that is cut along both sides, sample, channel, row of patches, row, column of patches, column, in the order that
/// flattened patches have them.
fn patches_last(order: PatchOrder) -> [i64; 6] {
    match order {
        PatchOrder::RowColumnChannel => [0, 2, 4, 3, 5, 1],
        PatchOrder::ChannelRowColumn => [0, 2, 4, 1, 3, 5],
    }
}
