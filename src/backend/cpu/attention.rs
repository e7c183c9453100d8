//! Attention, a head of a sample at a time. Scores live in a thread's scratch and are never stored: the backward pass makes
//! them again from q and k, a product of N·M·d where storing them would cost N·M of memory for each head of each layer.

use rayon::prelude::*;

use super::product::{Matrix, Threads, multiply};
use super::real::Real;
use super::rows::{softmax_grad_rows, softmax_rows};

/// Sizes of one op: `batch · heads` pairs of `n` queries and `m` keys of width `d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    pub batch: usize,
    pub heads: usize,
    pub n: usize,
    pub m: usize,
    pub d: usize,
}

impl Sizes {
    /// From `[B, h, N, d]` and `[B, h, M, d]`.
    pub fn new(q: &[usize], k: &[usize]) -> Self {
        Sizes { batch: q[0], heads: q[1], n: q[2], m: k[2], d: q[3] }
    }

    /// Floats of the backward pass where there is a bias, whose gradient is summed over the batch.
    pub fn bias_scratch(&self) -> usize {
        self.batch * self.heads * self.n * self.m
    }

    /// softmax(q·kᵀ·scale + bias) of one head.
    fn weights<E: Real>(&self, q: &[E], k: &[E], bias: Option<&[E]>, scale: E, out: &mut [E]) {
        let Sizes { n, m, d, .. } = *self;
        let (q, k) = (Matrix::rows(q, d), Matrix::rows(k, d).transposed());
        multiply(out, (n, d, m), q, k, scale, false, Threads::One);
        if let Some(bias) = bias {
            out.iter_mut().zip(bias).for_each(|(score, bias)| *score += *bias);
        }
        softmax_rows(out, m);
    }
}

/// Head `i` of operand `x`, of `len` values a head.
fn head<E>(x: &[E], i: usize, len: usize) -> &[E] {
    &x[i * len..(i + 1) * len]
}

pub(super) fn forward<E: Real>([q, k, v]: [&[E]; 3], bias: Option<&[E]>, out: &mut [E], sizes: Sizes, scale: f64) {
    let Sizes { heads, n, m, d, .. } = sizes;
    out.par_chunks_exact_mut(n * d).enumerate().for_each(|(i, out)| {
        let bias = bias.map(|bias| head(bias, i % heads, n * m));
        E::with_scratch(n * m, |weights| {
            sizes.weights(head(q, i, n * d), head(k, i, m * d), bias, E::from_f64(scale), weights);
            let v = Matrix::rows(head(v, i, m * d), d);
            multiply(out, (n, m, d), Matrix::rows(weights, m), v, E::ONE, false, Threads::One);
        });
    });
}

/// `out`: the gradients of q, k and v, and behind them that of the bias where there is one.
pub(super) fn backward<E: Real>(
    [q, k, v, g]: [&[E]; 4],
    bias: Option<&[E]>,
    out: &mut [E],
    scratch: &mut [E],
    sizes: Sizes,
    scale: f64,
) {
    let Sizes { heads, n, m, d, .. } = sizes;
    let (to_q, rest) = out.split_at_mut(q.len());
    let (to_k, rest) = rest.split_at_mut(k.len());
    let (to_v, to_bias) = rest.split_at_mut(v.len());
    let scale = E::from_f64(scale);
    let jobs = to_q.par_chunks_exact_mut(n * d).zip(to_k.par_chunks_exact_mut(m * d));
    let jobs = jobs.zip(to_v.par_chunks_exact_mut(m * d)).enumerate();
    let one = |i: usize, to_q: &mut [E], to_k: &mut [E], to_v: &mut [E], to_scores: Option<&mut [E]>| {
        let (q, k, v, g) = (head(q, i, n * d), head(k, i, m * d), head(v, i, m * d), head(g, i, n * d));
        E::with_scratch(2 * n * m, |both| {
            let (weights, slopes) = both.split_at_mut(n * m);
            sizes.weights(q, k, bias.map(|bias| head(bias, i % heads, n * m)), scale, weights);
            let of_rows = |data, width| Matrix::rows(data, width);
            multiply(to_v, (m, n, d), of_rows(weights, m).transposed(), of_rows(g, d), E::ONE, false, Threads::One);
            multiply(slopes, (n, d, m), of_rows(g, d), of_rows(v, d).transposed(), E::ONE, false, Threads::One);
            softmax_grad_rows(weights, slopes, m, E::ONE);
            if let Some(to_scores) = to_scores {
                to_scores.copy_from_slice(slopes);
            }
            multiply(to_q, (n, m, d), of_rows(slopes, m), of_rows(k, d), scale, false, Threads::One);
            multiply(to_k, (m, n, d), of_rows(slopes, m).transposed(), of_rows(q, d), scale, false, Threads::One);
        });
    };
    if bias.is_none() {
        return jobs.for_each(|(i, ((to_q, to_k), to_v))| one(i, to_q, to_k, to_v, None));
    }
    let jobs = jobs.zip(scratch.par_chunks_exact_mut(n * m));
    jobs.for_each(|((i, ((to_q, to_k), to_v)), scores)| one(i, to_q, to_k, to_v, Some(scores)));
    let size = heads * n * m;
    to_bias.par_chunks_mut(super::share::PIECE).enumerate().for_each(|(i, out)| {
        out.fill(E::ZERO);
        for sample in scratch.chunks_exact(size) {
            let at = i * super::share::PIECE;
            out.iter_mut().zip(&sample[at..]).for_each(|(sum, slope)| *sum += *slope);
        }
    });
}
