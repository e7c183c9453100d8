//! Matrix products and attention.

use dfdx::prelude::{Axes2, Axes3, Axis, BroadcastTo, Dtype, PermuteTo, TryAdd, TryMatMul, TryMul};

use super::{Context, Done, Float, Kernels, device_error, view};
use crate::tensor::Element;

impl<E: Element + Dtype, D: Kernels<E>> Context<E, D> {
    /// x `(rows, in)` · weightᵀ `(in, out)` + bias `(out)`.
    pub(super) fn linear(
        &mut self,
        grad: bool,
        x: &Float<E, D>,
        weight: &Float<E, D>,
        bias: Option<&Float<E, D>>,
        (inputs, outputs): (usize, usize),
    ) -> Done<Float<E, D>> {
        let rows = x.len() / inputs;
        let weight = self.distinct(grad, weight, x)?;
        let w = view(weight.flat, (outputs, inputs)).map_err(device_error)?;
        let w = w.try_permute::<(usize, usize), Axes2<1, 0>>().map_err(device_error)?;
        let bias = bias.map(|b| b.flat.clone());
        let out = self.on_tape(grad, x.flat.clone(), |x| {
            let product = view(x, (rows, inputs))?.try_matmul(w)?;
            let product = match bias {
                Some(bias) => {
                    let bias = bias.try_broadcast_like::<(usize, usize), Axis<0>>(&(rows, outputs))?;
                    product.try_add(bias)?
                }
                None => product,
            };
            view(product, (rows * outputs,))
        })?;
        Ok(self.fresh(out))
    }

    /// `(batch, m, k)` · `(batch, k, n)`, the second read as `(batch, n, k)` where `transposed`.
    pub(super) fn matmul(
        &mut self,
        grad: bool,
        a: &Float<E, D>,
        b: &Float<E, D>,
        (batch, m, k, n): (usize, usize, usize, usize),
        transposed: bool,
    ) -> Done<Float<E, D>> {
        let b = self.distinct(grad, b, a)?;
        let right = if transposed {
            let b = view(b.flat, (batch, n, k)).map_err(device_error)?;
            b.try_permute::<(usize, usize, usize), Axes3<0, 2, 1>>().map_err(device_error)?
        } else {
            view(b.flat, (batch, k, n)).map_err(device_error)?
        };
        let out =
            self.on_tape(grad, a.flat.clone(), |a| view(view(a, (batch, m, k))?.try_matmul(right)?, (batch * m * n,)))?;
        Ok(self.fresh(out))
    }

    /// softmax(q·kᵀ·scale + bias)·v over `batch · heads` matrices.
    pub(super) fn attention(
        &mut self,
        grad: bool,
        [q, k, v]: [&Float<E, D>; 3],
        bias: Option<&Float<E, D>>,
        (batch, heads, n, m, d): (usize, usize, usize, usize, usize),
        scale: f64,
    ) -> Done<Float<E, D>> {
        let count = batch * heads;
        let scores = self.matmul(grad, q, k, (count, n, d, m), true)?;
        let scale = <E as Element>::from_f64(scale);
        let bias = bias.map(|b| b.flat.clone());
        let weights = self.on_tape(grad, scores.flat, |scores| {
            let scaled = scores.try_mul(scale)?;
            let biased = match bias {
                Some(bias) => {
                    let size = heads * n * m;
                    let bias = bias.try_broadcast_like::<(usize, usize), Axis<0>>(&(batch, size))?;
                    view(view(scaled, (batch, size))?.try_add(bias)?, (count * n * m,))?
                }
                None => scaled,
            };
            let weights = view(biased, (count * n, m))?.try_softmax::<Axis<1>>()?;
            view(weights, (count * n * m,))
        })?;
        let weights = self.fresh(weights);
        self.matmul(grad, &weights, v, (count, n, m, d), false)
    }
}
