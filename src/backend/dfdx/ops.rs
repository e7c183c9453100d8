//! One arm for each op: operands at the rank that dfdx needs, the result flat again.

use dfdx::prelude::{
    Axis, BroadcastTo, ChooseFrom, Dtype, SelectTo, SumTo, TryAdd, TryConcatAlong, TryDiv, TryLe, TryMul, TryNe, TrySub,
};

use super::conv::ConvSizes;
use super::layout::{self, RowMap};
use super::{Context, Done, Flat, Float, Kernels, Traced, Value, device_error, host, ids, view};
use crate::graph::{Graph, Node};
use crate::op::{DType, Op, interpolate};
use crate::tensor::Element;

impl<E: Element + Dtype, D: Kernels<E>> Context<E, D> {
    /// Evaluates a node that is no input and no parameter.
    pub(super) fn evaluate(
        &mut self,
        graph: &Graph,
        node: &Node,
        grad: bool,
        values: &[Option<Value<E, D>>],
    ) -> Done<Value<E, D>> {
        let operand = |i: usize| -> Done<&Value<E, D>> {
            let id = node.inputs.get(i).ok_or("an operand is missing")?;
            values[id.index()].as_ref().ok_or_else(|| "an operand was freed too early".to_owned())
        };
        let float = |i: usize| -> Done<Float<E, D>> {
            match operand(i)? {
                Value::Float(float) => Ok(float.clone()),
                Value::Int(_) => Err("ids stand where numbers are wanted".into()),
            }
        };
        let int = |i: usize| -> Done<&[i64]> {
            match operand(i)? {
                Value::Int(ids) => Ok(ids),
                Value::Float(_) => Err("numbers stand where ids are wanted".into()),
            }
        };
        let shape = |i: usize| graph.node(node.inputs[i]).ty.shape.as_slice();
        let constant = |value: f64| <E as Element>::from_f64(value);
        let last = |i: usize| shape(i).last().copied().unwrap_or(1);
        let result = match &node.op {
            Op::Input { .. } | Op::Param { .. } => return Err("a leaf is no operation".into()),
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
            | Op::OwnRows { .. }
            | Op::ScatterTokens { .. } => return Err("dfdx differentiates with a tape of its own".into()),
            Op::Full { value } => self.upload(vec![constant(*value); node.ty.elements()])?,
            Op::Iota => return Ok(Value::Int((0..node.ty.elements() as i64).collect())),
            Op::ResizeWeights { from, to } => {
                self.upload(interpolate::cubic_weights(*from, *to).into_iter().map(constant).collect())?
            }
            Op::Add => self.binary(grad, &float(0)?, &float(1)?, |a, b| a.try_add(b))?,
            Op::Sub => self.binary(grad, &float(0)?, &float(1)?, |a, b| a.try_sub(b))?,
            Op::Mul => self.binary(grad, &float(0)?, &float(1)?, |a, b| a.try_mul(b))?,
            Op::Div => self.binary(grad, &float(0)?, &float(1)?, |a, b| a.try_div(b))?,
            Op::Maximum => self.binary(grad, &float(0)?, &float(1)?, |a, b| a.try_maximum(b))?,
            Op::Minimum => self.binary(grad, &float(0)?, &float(1)?, |a, b| a.try_minimum(b))?,
            Op::Less | Op::Equal => {
                let (a, b) = (ids::numbers(operand(0)?), ids::numbers(operand(1)?));
                let is_less = matches!(node.op, Op::Less);
                let holds = |(x, y): (&f64, &f64)| if is_less { x < y } else { x == y };
                self.upload(a.iter().zip(&b).map(|p| constant(f64::from(u8::from(holds(p))))).collect())?
            }
            Op::Select => {
                let condition = self.upload(ids::numbers(operand(0)?).into_iter().map(constant).collect())?;
                let condition = condition.flat.try_ne(constant(0.0)).map_err(device_error)?;
                // Chosen, not blended by 0 and 1: 0 · ∞ of the side not taken would be NaN.
                self.binary(grad, &float(1)?, &float(2)?, |a, b| condition.try_choose(a, b))?
            }
            Op::AddConst { value } => self.unary(grad, &float(0)?, |x| x.try_add(constant(*value)))?,
            Op::MulConst { value } => self.unary(grad, &float(0)?, |x| x.try_mul(constant(*value)))?,
            // dfdx's slope 0·x⁻¹ is NaN at 0; x⁰ is flat.
            Op::PowConst { value } if *value == 0.0 => self.upload(vec![constant(1.0); node.ty.elements()])?,
            Op::PowConst { value } => self.unary(grad, &float(0)?, |x| x.try_powf(*value))?,
            Op::Neg => self.unary(grad, &float(0)?, Traced::try_negate)?,
            Op::Exp => self.unary(grad, &float(0)?, Traced::try_exp)?,
            Op::Log => self.unary(grad, &float(0)?, Traced::try_ln)?,
            Op::Sqrt => self.unary(grad, &float(0)?, Traced::try_sqrt)?,
            Op::Abs => self.unary(grad, &float(0)?, Traced::try_abs)?,
            Op::Relu => {
                // dfdx's own, max(x, 0), turns NaN into 0 and hides that a run has failed.
                let (x, zeros) = (float(0)?, self.upload(vec![constant(0.0); node.ty.elements()])?);
                let off = x.flat.try_le(constant(0.0)).map_err(device_error)?;
                self.binary(grad, &zeros, &x, |zeros, x| off.try_choose(zeros, x))?
            }
            Op::Gelu => {
                let x = float(0)?.flat;
                self.traced(grad, |tape| D::gelu(x, tape))?
            }
            Op::Tanh => self.unary(grad, &float(0)?, Traced::try_tanh)?,
            Op::Sigmoid => self.unary(grad, &float(0)?, Traced::try_sigmoid)?,
            Op::Sin => self.unary(grad, &float(0)?, Traced::try_sin)?,
            Op::Cos => self.unary(grad, &float(0)?, Traced::try_cos)?,
            Op::Floor => {
                let values = ids::numbers(operand(0)?);
                self.upload(values.into_iter().map(|v| constant(v.floor())).collect())?
            }
            Op::Atan2 => {
                let (y, x) = (ids::numbers(operand(0)?), ids::numbers(operand(1)?));
                self.upload(y.iter().zip(&x).map(|(y, x)| constant(libm::atan2(*y, *x))).collect())?
            }
            // What is no number or too large for an id becomes one that is out of every range.
            Op::ToInt => return Ok(Value::Int(ids::numbers(operand(0)?).into_iter().map(ids::to_id).collect())),
            Op::ToFloat => self.upload(ids::numbers(operand(0)?).into_iter().map(constant).collect())?,
            Op::Sum { axes, .. } => self.sum(grad, &float(0)?, shape(0), axes)?,
            Op::Mean { axes, .. } => {
                let count: usize = axes.iter().map(|a| shape(0)[*a]).product();
                let sum = self.sum(grad, &float(0)?, shape(0), axes)?;
                self.unary(grad, &sum, |x| x.try_mul(constant(1.0 / count as f64)))?
            }
            Op::AllGather { ranks: 2.., .. } | Op::AllReduce { ranks: 2.. } => {
                return Err("dfdx is one rank by itself".into());
            }
            Op::Reshape | Op::Replicate { .. } | Op::AllGather { .. } | Op::AllReduce { .. } => {
                return Ok(operand(0)?.clone());
            }
            Op::StopGradient => match operand(0)? {
                Value::Int(ids) => return Ok(Value::Int(ids.clone())),
                // A copy off the tape: its id is its own, so no gradient finds the way back.
                Value::Float(float) => self.upload(host(&float.flat))?,
            },
            Op::Permute { axes } => return self.structural(grad, operand(0)?, layout::permute(shape(0), axes)),
            Op::Broadcast => return self.structural(grad, operand(0)?, layout::broadcast(shape(0), &node.ty.shape)),
            Op::Slice { axis, start, end } => {
                return self.structural(grad, operand(0)?, layout::slice(shape(0), *axis, *start, *end));
            }
            Op::Patchify { patch, order } => {
                self.moved(grad, &float(0)?, layout::patchify(shape(0), *patch, *order, false))?
            }
            Op::Unpatchify { patch, order } => {
                self.moved(grad, &float(0)?, layout::patchify(&node.ty.shape, *patch, *order, true))?
            }
            Op::Concat { axis } if node.ty.dtype == DType::Int => {
                let parts: Vec<(&[i64], &[usize])> =
                    (0..node.inputs.len()).map(|i| Ok((int(i)?, shape(i)))).collect::<Done<_>>()?;
                return Ok(Value::Int(ids::concat(&parts, *axis)));
            }
            Op::Concat { axis } => {
                let mut joined = float(0)?;
                let mut size = shape(0)[*axis];
                let outer: usize = shape(0)[..*axis].iter().product();
                let inner: usize = shape(0)[*axis + 1..].iter().product();
                for i in 1..node.inputs.len() {
                    let right = self.distinct(grad, &float(i)?, &joined)?;
                    let more = shape(i)[*axis];
                    let right = view(right.flat, (outer, more, inner)).map_err(device_error)?;
                    let out = self.on_tape(grad, joined.flat, |left| {
                        let left = view(left, (outer, size, inner))?;
                        let both = (left, right).try_concat_along(Axis::<1>)?;
                        view(both, (outer * (size + more) * inner,))
                    })?;
                    size += more;
                    joined = self.fresh(out);
                }
                joined
            }
            Op::Matmul { transpose_b } => {
                let (a, rank) = (shape(0), shape(0).len());
                let batch: usize = a[..rank - 2].iter().product();
                let dims = (batch, a[rank - 2], a[rank - 1], node.ty.shape[rank - 1]);
                self.matmul(grad, &float(0)?, &float(1)?, dims, *transpose_b)?
            }
            Op::Linear => {
                let bias = if node.inputs.len() > 2 { Some(float(2)?) } else { None };
                self.linear(grad, &float(0)?, &float(1)?, bias.as_ref(), (shape(1)[1], shape(1)[0]))?
            }
            Op::Attention { scale } => {
                let (q, k, v) = (float(0)?, float(1)?, float(2)?);
                let bias = if node.inputs.len() > 3 { Some(float(3)?) } else { None };
                let dims = (shape(0)[0], shape(0)[1], shape(0)[2], shape(1)[2], shape(0)[3]);
                self.attention(grad, [&q, &k, &v], bias.as_ref(), dims, *scale)?
            }
            Op::Conv2d { stride, padding, groups } => {
                let bias = if node.inputs.len() > 2 { Some(float(2)?) } else { None };
                let sizes = ConvSizes::new(shape(0), shape(1), &node.ty.shape, (*stride, *padding, *groups));
                self.conv2d(grad, &float(0)?, &float(1)?, bias.as_ref(), &sizes)?
            }
            Op::LayerNorm { eps } => {
                let width = last(0);
                let rows = float(0)?.len() / width;
                let eps = *eps;
                let normal = self.unary(grad, &float(0)?, |x| {
                    view(view(x, (rows, width))?.try_normalize::<Axis<1>>(eps)?, (rows * width,))
                })?;
                self.affine(grad, normal, node, &float, (rows, width))?
            }
            Op::BatchNorm { eps } => {
                let width = last(0);
                let rows = float(0)?.len() / width;
                let eps = *eps;
                let normal = self.unary(grad, &float(0)?, |x| {
                    view(view(x, (rows, width))?.try_normalize::<Axis<0>>(eps)?, (rows * width,))
                })?;
                self.affine(grad, normal, node, &float, (rows, width))?
            }
            Op::Softmax => self.rows(grad, &float(0)?, last(0), |x| x.try_softmax::<Axis<1>>())?,
            Op::LogSoftmax => self.rows(grad, &float(0)?, last(0), |x| x.try_log_softmax::<Axis<1>>())?,
            Op::CrossEntropy => {
                let (logits, classes) = (float(0)?, last(0));
                let rows = logits.len() / classes;
                let ids = ids::in_range(int(1)?, classes, node)?;
                let ids = self.device.try_tensor_from_vec(ids, (rows,)).map_err(device_error)?;
                self.unary(grad, &logits, |x| {
                    let log = view(x, (rows, classes))?.try_log_softmax::<Axis<1>>()?;
                    log.try_select::<(usize,), _>(ids)?.try_negate()
                })?
            }
            Op::L2Normalize { eps } => {
                let (x, width) = (float(0)?, last(0));
                let rows = x.len() / width;
                // Clamped before the root, whose slope at 0 is infinite: the clamp's 0 after it would give NaN for a row
                // of zeros. The least normal number keeps the square of a tiny eps from vanishing in f32.
                let least = (eps * eps).max(f64::from(f32::MIN_POSITIVE));
                let norm = self.unary(grad, &x, |x| {
                    let squares = view(x.try_square()?, (rows, width))?;
                    squares.try_sum::<(usize,), Axis<1>>()?.try_clamp(least, f64::INFINITY)?.try_sqrt()
                })?;
                let norm =
                    norm.flat.try_broadcast_like::<(usize, usize), Axis<1>>(&(rows, width)).map_err(device_error)?;
                self.unary(grad, &x, |x| view(view(x, (rows, width))?.try_div(norm)?, (rows * width,)))?
            }
            Op::LogDet => self.log_det(grad, &float(0)?, last(0))?,
            Op::GatherTokens => {
                let (tokens, width) = (shape(0)[1], shape(0)[2]);
                let per_sample = shape(1)[1];
                let ids = ids::in_range(int(1)?, tokens, node)?;
                let rows = ids.iter().enumerate().map(|(i, id)| i / per_sample * tokens + id).collect();
                self.moved(grad, &float(0)?, RowMap { rows, inner: width })?
            }
            Op::OneHot { classes } => {
                let ids = ids::in_range(int(0)?, *classes, node)?;
                let mut data = vec![constant(0.0); ids.len() * classes];
                ids.iter().enumerate().for_each(|(row, id)| data[row * classes + id] = constant(1.0));
                self.upload(data)?
            }
            Op::Argmax => return Ok(Value::Int(ids::argmax(&ids::numbers(operand(0)?), last(0)))),
            Op::Argsort => return Ok(Value::Int(ids::argsort(&ids::numbers(operand(0)?), last(0)))),
        };
        Ok(Value::Float(result))
    }

    fn unary(
        &mut self,
        grad: bool,
        x: &Float<E, D>,
        op: impl FnOnce(Traced<(usize,), E, D>) -> Result<Traced<(usize,), E, D>, D::Err>,
    ) -> Done<Float<E, D>> {
        let out = self.on_tape(grad, x.flat.clone(), op)?;
        Ok(self.fresh(out))
    }

    /// An op on rows of `width` values.
    fn rows(
        &mut self,
        grad: bool,
        x: &Float<E, D>,
        width: usize,
        op: impl FnOnce(Traced<(usize, usize), E, D>) -> Result<Traced<(usize, usize), E, D>, D::Err>,
    ) -> Done<Float<E, D>> {
        let length = x.len();
        self.unary(grad, x, |x| view(op(view(x, (length / width, width))?)?, (length,)))
    }

    pub(super) fn binary(
        &mut self,
        grad: bool,
        a: &Float<E, D>,
        b: &Float<E, D>,
        op: impl FnOnce(Traced<(usize,), E, D>, Flat<E, D>) -> Result<Traced<(usize,), E, D>, D::Err>,
    ) -> Done<Float<E, D>> {
        let right = self.distinct(grad, b, a)?.flat;
        let out = self.on_tape(grad, a.flat.clone(), |a| op(a, right))?;
        Ok(self.fresh(out))
    }

    /// x · weight + bias over rows of `width`, where the node has them.
    fn affine(
        &mut self,
        grad: bool,
        x: Float<E, D>,
        node: &Node,
        float: &dyn Fn(usize) -> Done<Float<E, D>>,
        shape: (usize, usize),
    ) -> Done<Float<E, D>> {
        if node.inputs.len() < 3 {
            return Ok(x);
        }
        let spread =
            |tensor: Flat<E, D>| tensor.try_broadcast_like::<(usize, usize), Axis<0>>(&shape).map_err(device_error);
        let (weight, bias) = (spread(float(1)?.flat)?, spread(float(2)?.flat)?);
        self.unary(grad, &x, |x| view(view(x, shape)?.try_mul(weight)?.try_add(bias)?, (shape.0 * shape.1,)))
    }

    /// Sum over `axes`, one run of neighbouring axes at a time, from the last.
    fn sum(&mut self, grad: bool, x: &Float<E, D>, shape: &[usize], axes: &[usize]) -> Done<Float<E, D>> {
        let mut shape = shape.to_vec();
        let mut x = x.clone();
        let mut end = axes.len();
        while end > 0 {
            let mut start = end - 1;
            while start > 0 && axes[start - 1] + 1 == axes[start] {
                start -= 1;
            }
            let (first, last) = (axes[start], axes[end - 1]);
            let outer: usize = shape[..first].iter().product();
            let count: usize = shape[first..=last].iter().product();
            let inner: usize = shape[last + 1..].iter().product();
            x = self.unary(grad, &x, |x| {
                let sum = view(x, (outer, count, inner))?.try_sum::<(usize, usize), Axis<1>>()?;
                view(sum, (outer * inner,))
            })?;
            shape[first..=last].fill(1);
            end = start;
        }
        Ok(x)
    }

    fn structural(&mut self, grad: bool, x: &Value<E, D>, map: RowMap) -> Done<Value<E, D>> {
        match x {
            Value::Float(float) => self.moved(grad, float, map).map(Value::Float),
            Value::Int(ids) => Ok(Value::Int(ids::moved(ids, &map))),
        }
    }
}
