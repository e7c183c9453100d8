//! Matrix products, linear layers and attention.
//!
//! Where a layer's products are rounded, their operands are bf16 and the sum is in f32: the type of a product's result says in
//! what it adds up. All between products stays as it is, but where a compiler's kernels round results ([`super::Kernels`]): with the
//! bias, which is rounded too and added in bf16.

use super::build::Contraction;
use super::rows;
use super::text::{Function, Scalar, Value};

/// Σ of products of the operands, rounded before or not.
fn dot(f: &mut Function, a: &Value, b: &Value, how: Contraction<'_>, bf16: bool) -> Value {
    let sum = a.scalar();
    if !bf16 {
        return f.dot(a, b, how, sum);
    }
    let (a, b) = (f.convert(a, Scalar::Bf16), f.convert(b, Scalar::Bf16));
    f.dot(&a, &b, how, sum)
}

/// [`dot`] of which an activation or its gradient comes: where the compiler's kernels round results, it is stored as bf16, which
/// is half of the bytes that the next kernel reads. The sum is in f32 all the same.
fn activation(f: &mut Function, a: &Value, b: &Value, how: Contraction<'_>, bf16: bool) -> Value {
    if !(bf16 && f.kernels.rounds_results) {
        return dot(f, a, b, how, bf16);
    }
    let product = rounded(f, a, b, how);
    f.convert(&product, a.scalar())
}

/// [`dot`] of rounded operands, whose result is bf16.
fn rounded(f: &mut Function, a: &Value, b: &Value, how: Contraction<'_>) -> Value {
    let (a, b) = (f.convert(a, Scalar::Bf16), f.convert(b, Scalar::Bf16));
    f.dot(&a, &b, how, Scalar::Bf16)
}

/// `[.., m, k] · [.., k, n]`, the first read as `[.., k, m]` or the second as `[.., n, k]`.
pub(super) fn matmul(f: &mut Function, (a, a_t): (&Value, bool), (b, b_t): (&Value, bool), bf16: bool) -> Value {
    let rank = a.rank();
    let batch: Vec<usize> = (0..rank - 2).collect();
    let over = [if a_t { rank - 2 } else { rank - 1 }, if b_t { rank - 1 } else { rank - 2 }];
    let how = Contraction { batch: [&batch, &batch], over };
    // A first operand that is turned is a layer's gradient or input: the product is its weight's gradient.
    if a_t { dot(f, a, b, how, bf16) } else { activation(f, a, b, how, bf16) }
}

/// x · weightᵀ + bias over all rows as one matrix, which compilers for accelerators make better code of.
pub(super) fn linear(f: &mut Function, x: &Value, weight: &Value, bias: Option<&Value>, bf16: bool) -> Value {
    let [out, into] = [weight.shape()[0], weight.shape()[1]];
    let mut shape = x.shape().to_vec();
    let rows = f.reshape(x, &[x.ty.elements() / into, into]);
    let how = Contraction { batch: [&[], &[]], over: [1, 1] };
    let rounds = bf16 && f.kernels.rounds_results;
    let mut product = if rounds { rounded(f, &rows, weight, how) } else { dot(f, &rows, weight, how, bf16) };
    if let Some(bias) = bias {
        // In the type of the result: so libraries add it within the product's kernel.
        let bias = f.convert(bias, product.scalar());
        let bias = f.along_last(&bias, &product);
        product = f.add(&product, &bias);
    }
    if rounds {
        product = f.stored(&product);
    }
    shape.pop();
    shape.push(out);
    f.reshape(&product, &shape)
}

/// Operands of attention: q `[B, h, N, d]`, k and v `[B, h, M, d]`, bias `[h, N, M]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attention<'a> {
    pub q: &'a Value,
    pub k: &'a Value,
    pub v: &'a Value,
    pub bias: Option<&'a Value>,
    pub scale: f64,
    pub bf16: bool,
}

/// Of one head of one sample, over these axes.
fn of_heads(over: [usize; 2]) -> Contraction<'static> {
    Contraction { batch: [&[0, 1], &[0, 1]], over }
}

impl Attention<'_> {
    /// softmax(q·kᵀ·scale + bias): `[B, h, N, M]`.
    fn weights(&self, f: &mut Function) -> Value {
        let product = dot(f, self.q, self.k, of_heads([3, 3]), self.bf16);
        let mut scores = f.times(&product, self.scale);
        if let Some(bias) = self.bias {
            let bias = f.broadcast(bias, scores.shape(), &[1, 2, 3]);
            scores = f.add(&scores, &bias);
        }
        rows::softmax(f, &scores)
    }

    pub fn forward(&self, f: &mut Function) -> Value {
        let weights = self.weights(f);
        dot(f, &weights, self.v, of_heads([3, 2]), self.bf16)
    }

    /// The gradients of q, k, v and, where there is one, the bias, from that of the result. The weights are made again.
    pub fn backward(&self, f: &mut Function, g: &Value) -> Vec<Value> {
        let weights = self.weights(f);
        let to_v = dot(f, &weights, g, of_heads([2, 2]), self.bf16);
        let to_weights = dot(f, g, self.v, of_heads([3, 3]), self.bf16);
        let slopes = rows::softmax_grad(f, &weights, &to_weights);
        let to_q = dot(f, &slopes, self.k, of_heads([3, 2]), self.bf16);
        let to_k = dot(f, &slopes, self.q, of_heads([2, 2]), self.bf16);
        let mut gradients = vec![f.times(&to_q, self.scale), f.times(&to_k, self.scale), to_v];
        if self.bias.is_some() {
            gradients.push(f.sum(&slopes, &[0]));
        }
        gradients
    }
}
