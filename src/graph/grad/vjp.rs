//! The vector-Jacobian product of each op: from the gradient of its result to those of its operands.
//!
//! **Invariant:** one arm for each op, no `_`: a new op stops the build here. Ops that pass no gradient
//! ([`Op::is_differentiable`]) give an empty list.

use super::{Part, Pass};
use crate::graph::{Node, ValueId};
use crate::op::{Op, Type};

/// (operand, what it gets).
type Gradients = Vec<(usize, Part)>;

fn whole(operand: usize, value: ValueId) -> (usize, Part) {
    (operand, Part::Whole(value))
}

impl Pass {
    /// What `node`, whose value is `y` and whose gradient is `g`, gives to its operands.
    pub(super) fn vjp(&mut self, node: &Node, y: ValueId, g: ValueId) -> Gradients {
        let x = |i: usize| node.inputs[i];
        match &node.op {
            Op::Input { .. }
            | Op::Param { .. }
            | Op::Full { .. }
            | Op::Iota
            | Op::ResizeWeights { .. }
            | Op::Less
            | Op::Equal
            | Op::Floor
            | Op::Atan2
            | Op::ToFloat
            | Op::ToInt
            | Op::OneHot { .. }
            | Op::Argmax
            | Op::Argsort
            | Op::StopGradient
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
            | Op::OwnRows { .. }
            | Op::ScatterTokens { .. } => Vec::new(),

            Op::Add => vec![whole(0, g), whole(1, g)],
            Op::Sub => vec![whole(0, g), whole(1, self.op(Op::Neg, &[g]))],
            Op::Mul => vec![whole(0, self.op(Op::Mul, &[g, x(1)])), whole(1, self.op(Op::Mul, &[g, x(0)]))],
            Op::Div => {
                let over = self.op(Op::Div, &[g, x(1)]);
                let product = self.op(Op::Mul, &[over, y]);
                vec![whole(0, over), whole(1, self.op(Op::Neg, &[product]))]
            }
            Op::Maximum => {
                let (above, below) = (self.op(Op::Less, &[x(1), x(0)]), self.op(Op::Less, &[x(0), x(1)]));
                self.of_chosen(g, node, [above, below])
            }
            Op::Minimum => {
                let (above, below) = (self.op(Op::Less, &[x(1), x(0)]), self.op(Op::Less, &[x(0), x(1)]));
                self.of_chosen(g, node, [below, above])
            }
            Op::Select => {
                let zero = self.full(0.0, &node.ty);
                let (a, b) = (self.op(Op::Select, &[x(0), g, zero]), self.op(Op::Select, &[x(0), zero, g]));
                vec![whole(1, a), whole(2, b)]
            }
            Op::AddConst { .. } => vec![whole(0, g)],
            Op::AllGather { axis, ranks } => {
                vec![whole(0, self.op(Op::OwnRows { axis: *axis, ranks: *ranks }, &[g]))]
            }
            Op::Replicate { ranks } => vec![whole(0, self.op(Op::AllReduce { ranks: *ranks }, &[g]))],
            Op::AllReduce { .. } => vec![whole(0, g)],
            Op::MulConst { value } => vec![whole(0, self.op(Op::MulConst { value: *value }, &[g]))],
            // x⁰ is flat; 0·x⁻¹ would be NaN at 0.
            Op::PowConst { value } if *value == 0.0 => vec![whole(0, self.full(0.0, &node.ty))],
            Op::PowConst { value } => {
                let power = self.op(Op::PowConst { value: value - 1.0 }, &[x(0)]);
                let slope = self.op(Op::MulConst { value: *value }, &[power]);
                vec![whole(0, self.op(Op::Mul, &[g, slope]))]
            }
            Op::Neg => vec![whole(0, self.op(Op::Neg, &[g]))],
            Op::Exp => vec![whole(0, self.op(Op::Mul, &[g, y]))],
            Op::Log => vec![whole(0, self.op(Op::Div, &[g, x(0)]))],
            Op::Sqrt => {
                let half = self.op(Op::MulConst { value: 0.5 }, &[g]);
                vec![whole(0, self.op(Op::Div, &[half, y]))]
            }
            Op::Abs => {
                let zero = self.full(0.0, &node.ty);
                let (above, below) = (self.op(Op::Less, &[zero, x(0)]), self.op(Op::Less, &[x(0), zero]));
                let negated = self.op(Op::Neg, &[g]);
                let rest = self.op(Op::Select, &[below, negated, zero]);
                vec![whole(0, self.op(Op::Select, &[above, g, rest]))]
            }
            // The result itself tells where it is on, NaN included.
            Op::Relu => {
                let zero = self.full(0.0, &node.ty);
                vec![whole(0, self.op(Op::Select, &[y, g, zero]))]
            }
            Op::Gelu => vec![whole(0, self.op(Op::GeluGrad, &[x(0), g]))],
            Op::Tanh => {
                let square = self.op(Op::Mul, &[y, y]);
                let product = self.op(Op::Mul, &[g, square]);
                vec![whole(0, self.op(Op::Sub, &[g, product]))]
            }
            Op::Sigmoid => {
                let negated = self.op(Op::Neg, &[y]);
                let rest = self.op(Op::AddConst { value: 1.0 }, &[negated]);
                let slope = self.op(Op::Mul, &[y, rest]);
                vec![whole(0, self.op(Op::Mul, &[g, slope]))]
            }
            Op::Sin => {
                let slope = self.op(Op::Cos, &[x(0)]);
                vec![whole(0, self.op(Op::Mul, &[g, slope]))]
            }
            Op::Cos => {
                let sine = self.op(Op::Sin, &[x(0)]);
                let product = self.op(Op::Mul, &[g, sine]);
                vec![whole(0, self.op(Op::Neg, &[product]))]
            }

            Op::Sum { axes, .. } => vec![whole(0, self.spread(g, x(0), axes))],
            Op::Mean { axes, .. } => {
                let count: usize = axes.iter().map(|a| self.shape(x(0))[*a]).product();
                let share = self.op(Op::MulConst { value: 1.0 / count as f64 }, &[g]);
                vec![whole(0, self.spread(share, x(0), axes))]
            }
            Op::Reshape => {
                let shape = self.shape(x(0)).to_vec();
                vec![whole(0, self.reshape(g, &shape))]
            }
            Op::Permute { axes } => {
                let mut inverse = vec![0; axes.len()];
                axes.iter().enumerate().for_each(|(to, from)| inverse[*from] = to);
                vec![whole(0, self.op(Op::Permute { axes: inverse }, &[g]))]
            }
            Op::Broadcast => {
                let from = self.shape(x(0)).to_vec();
                let skipped = node.ty.shape.len() - from.len();
                let repeated = |i: &usize| *i < skipped || (from[i - skipped] == 1 && node.ty.shape[*i] != 1);
                let axes = (0..node.ty.shape.len()).filter(repeated).collect();
                let sum = self.op(Op::Sum { axes, keep: false }, &[g]);
                vec![whole(0, self.reshape(sum, &from))]
            }
            Op::Slice { axis, start, end } => {
                vec![(0, Part::Slice { axis: *axis, start: *start, end: *end, value: g })]
            }
            Op::Concat { axis } => {
                let mut start = 0;
                let mut gradients = Vec::new();
                for (operand, id) in node.inputs.iter().enumerate() {
                    let end = start + self.shape(*id)[*axis];
                    gradients.push(whole(operand, self.op(Op::Slice { axis: *axis, start, end }, &[g])));
                    start = end;
                }
                gradients
            }

            Op::Matmul { transpose_b } => {
                let a = self.op(Op::Matmul { transpose_b: !transpose_b }, &[g, x(1)]);
                let b = if *transpose_b { [g, x(0)] } else { [x(0), g] };
                vec![whole(0, a), whole(1, self.op(Op::TransposedMatmul, &b))]
            }
            Op::Linear => self.linear(node, g),
            Op::Attention { scale } => {
                let mut operands = vec![x(0), x(1), x(2), g];
                operands.extend(node.inputs.get(3));
                let packed = self.op(Op::AttentionGrad { scale: *scale }, &operands);
                let types = node.inputs.iter().map(|id| self.ty(*id).clone()).collect();
                self.unpacked(packed, types)
            }
            Op::Conv2d { stride, padding, groups } => {
                let (stride, padding, groups) = (*stride, *padding, *groups);
                let (x_ty, w_ty) = (self.ty(x(0)).clone(), self.ty(x(1)).clone());
                let input = self.push(Op::Conv2dInputGrad { stride, padding, groups }, &[g, x(1)], Some(x_ty));
                let weight = self.push(Op::Conv2dWeightGrad { stride, padding, groups }, &[g, x(0)], Some(w_ty));
                let mut gradients = vec![whole(0, input), whole(1, weight)];
                if node.inputs.len() > 2 {
                    gradients.push(whole(2, self.op(Op::Sum { axes: vec![0, 2, 3], keep: false }, &[g])));
                }
                gradients
            }

            Op::LayerNorm { eps } => self.norm(Op::LayerNormGrad { eps: *eps }, node, g),
            Op::BatchNorm { eps } => self.norm(Op::BatchNormGrad { eps: *eps }, node, g),
            Op::Softmax => vec![whole(0, self.op(Op::SoftmaxGrad, &[y, g]))],
            Op::LogSoftmax => vec![whole(0, self.op(Op::LogSoftmaxGrad, &[y, g]))],
            Op::CrossEntropy => vec![whole(0, self.op(Op::CrossEntropyGrad, &[x(0), x(1), g]))],
            Op::L2Normalize { eps } => vec![whole(0, self.op(Op::L2NormalizeGrad { eps: *eps }, &[x(0), g]))],
            Op::LogDet => vec![whole(0, self.op(Op::LogDetGrad, &[x(0), g]))],

            Op::Patchify { patch, order } => {
                let images = self.ty(x(0)).clone();
                vec![whole(0, self.push(Op::Unpatchify { patch: *patch, order: *order }, &[g], Some(images)))]
            }
            Op::Unpatchify { patch, order } => {
                vec![whole(0, self.op(Op::Patchify { patch: *patch, order: *order }, &[g]))]
            }
            Op::GatherTokens => {
                let tokens = self.shape(x(0))[1];
                vec![whole(0, self.op(Op::ScatterTokens { tokens }, &[g, x(1)]))]
            }
        }
    }

    /// `g` to the operand that was chosen, half of it to each where they are equal.
    fn of_chosen(&mut self, g: ValueId, node: &Node, chosen: [ValueId; 2]) -> Gradients {
        let (half, zero) = (self.op(Op::MulConst { value: 0.5 }, &[g]), self.full(0.0, &node.ty));
        let equal = self.op(Op::Equal, &node.inputs);
        let tie = self.op(Op::Select, &[equal, half, zero]);
        let mut one = |operand: usize| whole(operand, self.op(Op::Select, &[chosen[operand], g, tie]));
        vec![one(0), one(1)]
    }

    /// The gradient of a sum over `axes`, whether it kept them or not, repeated to the shape of `to`.
    fn spread(&mut self, g: ValueId, to: ValueId, axes: &[usize]) -> ValueId {
        let shape = self.shape(to).to_vec();
        let kept: Vec<usize> = shape.iter().enumerate().map(|(i, d)| if axes.contains(&i) { 1 } else { *d }).collect();
        let g = self.reshape(g, &kept);
        if kept == shape { g } else { self.push(Op::Broadcast, &[g], Some(Type::float(shape))) }
    }

    /// x · weightᵀ + bias: over all rows as one matrix.
    fn linear(&mut self, node: &Node, g: ValueId) -> Gradients {
        let (x, weight) = (node.inputs[0], node.inputs[1]);
        let [out, into] = [self.shape(weight)[0], self.shape(weight)[1]];
        let shape = self.shape(x).to_vec();
        let rows = shape.iter().product::<usize>() / into;
        let (g, flat) = (self.reshape(g, &[rows, out]), self.reshape(x, &[rows, into]));
        let to_x = self.op(Op::Matmul { transpose_b: false }, &[g, weight]);
        let mut gradients =
            vec![whole(0, self.reshape(to_x, &shape)), whole(1, self.op(Op::TransposedMatmul, &[g, flat]))];
        if node.inputs.len() > 2 {
            gradients.push(whole(2, self.op(Op::Sum { axes: vec![0], keep: false }, &[g])));
        }
        gradients
    }

    fn norm(&mut self, op: Op, node: &Node, g: ValueId) -> Gradients {
        let mut operands = vec![node.inputs[0], g];
        operands.extend(node.inputs.get(1));
        let packed = self.op(op, &operands);
        let types = node.inputs.iter().map(|id| self.ty(*id).clone()).collect();
        self.unpacked(packed, types)
    }

    /// The gradients that lie one behind the other in `packed`, of operands of these types.
    fn unpacked(&mut self, packed: ValueId, types: Vec<Type>) -> Gradients {
        let mut start = 0;
        let mut gradients = Vec::new();
        for (operand, ty) in types.into_iter().enumerate() {
            let end = start + ty.elements();
            let flat = self.op(Op::Slice { axis: 0, start, end }, &[packed]);
            gradients.push(whole(operand, self.reshape(flat, &ty.shape)));
            start = end;
        }
        gradients
    }
}
