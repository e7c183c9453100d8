//! Attention, a head of a sample at a time, read and written where the plan says ([`Heads`]). Scores live in a thread's scratch
//! and are never stored: the backward pass makes them again from q and k, a product of N·M·d where storing them would cost N·M
//! of memory for each head of each layer.
#![allow(unsafe_code, reason = "heads are rows that lie between those of others, which slices cannot say")]

use std::marker::PhantomData;

use rayon::prelude::*;

use super::product::{self, How, Matrix, Threads, multiply};
use super::real::Real;
use super::rows::{softmax_grad_rows, softmax_rows};
use crate::plan::Heads;

/// Sizes of one op: `batch · heads` pairs of `n` queries and `m` keys of width `d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    pub batch: usize,
    pub heads: usize,
    pub n: usize,
    pub m: usize,
    pub d: usize,
    /// Products round their operands.
    pub bf16: bool,
}

/// A value `[B, h, N, d]` and where its rows lie.
#[derive(Clone, Copy)]
pub(super) struct Operand<'a, E> {
    pub data: &'a [E],
    pub heads: Heads,
}

impl<'a, E: Real> Operand<'a, E> {
    /// Head `i`, counted through samples.
    fn head(&self, i: usize, sizes: Sizes) -> Matrix<'a, E> {
        let Heads { start, batch, head, row } = self.heads;
        Matrix { data: &self.data[start + i / sizes.heads * batch + i % sizes.heads * head..], row, column: 1 }
    }
}

/// A result `[B, h, N, d]`, whose heads several threads write.
struct Target<'a, E> {
    first: *mut E,
    len: usize,
    heads: Heads,
    borrowed: PhantomData<&'a mut [E]>,
}

// SAFETY: a head is written by one task, and no two heads share an element: the plan found distinct places for all.
unsafe impl<E: Send> Sync for Target<'_, E> {}

impl<'a, E: Real> Target<'a, E> {
    fn new(out: &'a mut [E], heads: Heads) -> Self {
        Target { first: out.as_mut_ptr(), len: out.len(), heads, borrowed: PhantomData }
    }

    /// Copies head `i`, rows of `d` one after the other, to its place.
    fn write(&self, i: usize, sizes: Sizes, rows: &[E]) {
        let Heads { start, batch, head, row } = self.heads;
        let first = start + i / sizes.heads * batch + i % sizes.heads * head;
        for (n, values) in rows.chunks_exact(sizes.d).enumerate() {
            let at = first + n * row;
            assert!(at + values.len() <= self.len, "a head lies outside its value");
            // SAFETY: within the borrowed slice, and this task's alone.
            unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), self.first.add(at), values.len()) }
        }
    }
}

impl Sizes {
    /// From `[B, h, N, d]` and `[B, h, M, d]`.
    pub fn new(q: &[usize], k: &[usize]) -> Self {
        Sizes { batch: q[0], heads: q[1], n: q[2], m: k[2], d: q[3], bf16: false }
    }

    /// Floats of the backward pass where there is a bias, whose gradient is summed over the batch.
    pub fn bias_scratch(&self) -> usize {
        self.batch * self.heads * self.n * self.m
    }

    /// Floats that a thread needs: weights and their slopes, a head of a result, and what products work in.
    pub fn room(&self) -> usize {
        2 * self.n * self.m + self.n.max(self.m) * self.d + self.product_room()
    }

    fn product_room(&self) -> usize {
        let Sizes { n, m, d, .. } = *self;
        let products = [((n, d, m), false), ((n, m, d), false), ((m, n, d), true)];
        products
            .map(|(sizes, transposed)| product::scratch(sizes, transposed || self.bf16))
            .into_iter()
            .max()
            .unwrap_or(0)
    }

    /// softmax(q·kᵀ·scale + bias) of one head.
    fn weights<E: Real>(
        &self,
        q: Matrix<E>,
        k: Matrix<E>,
        bias: Option<&[E]>,
        scale: E,
        out: &mut [E],
        room: &mut [E],
    ) {
        let Sizes { n, m, d, .. } = *self;
        multiply(out, (n, d, m), q, k.transposed(), &How { scale, ..self.how(m) }, Threads::One, room);
        if let Some(bias) = bias {
            out.iter_mut().zip(bias).for_each(|(score, bias)| *score += *bias);
        }
        softmax_rows(out, m);
    }

    /// A product with rows of `n`, as it is.
    fn how<E: Real>(&self, n: usize) -> How<'static, E> {
        How { bf16: self.bf16, ..How::plain(n) }
    }

    /// The bias of head `i`.
    fn bias_of<'a, E>(&self, bias: Option<&'a [E]>, i: usize) -> Option<&'a [E]> {
        let len = self.n * self.m;
        bias.map(|bias| &bias[i % self.heads * len..][..len])
    }
}

pub(super) fn forward<E: Real>(
    [q, k, v]: [Operand<E>; 3],
    bias: Option<&[E]>,
    (out, to): (&mut [E], Heads),
    sizes: Sizes,
    scale: f64,
) {
    let Sizes { batch, heads, n, m, d, .. } = sizes;
    let target = Target::new(out, to);
    (0..batch * heads).into_par_iter().with_max_len(4).for_each(|i| {
        E::with_scratch(sizes.room(), |room| {
            let (weights, room) = room.split_at_mut(n * m);
            let (result, room) = room.split_at_mut(n * d);
            let [q, k, v] = [q, k, v].map(|x| x.head(i, sizes));
            sizes.weights(q, k, sizes.bias_of(bias, i), E::from_f64(scale), weights, room);
            multiply(result, (n, m, d), Matrix::rows(weights, m), v, &sizes.how(d), Threads::One, room);
            target.write(i, sizes, result);
        });
    });
}

/// `out`: the gradients of q, k and v at `to`, and behind all that of the bias where there is one.
pub(super) fn backward<E: Real>(
    [q, k, v, g]: [Operand<E>; 4],
    bias: Option<&[E]>,
    (out, to): (&mut [E], [Heads; 3]),
    scratch: &mut [E],
    sizes: Sizes,
    scale: f64,
) {
    let Sizes { batch, heads, n, m, d, .. } = sizes;
    let (out, to_bias) = out.split_at_mut(batch * heads * (n + 2 * m) * d);
    let whole = out.len();
    let first = out.as_mut_ptr();
    let targets = to.map(|heads| Target { first, len: whole, heads, borrowed: PhantomData::<&mut [E]> });
    let scale = E::from_f64(scale);
    let one = |i: usize, to_scores: Option<&mut [E]>| {
        let [q, k, v, g] = [q, k, v, g].map(|x| x.head(i, sizes));
        E::with_scratch(sizes.room(), |room| {
            let (weights, room) = room.split_at_mut(n * m);
            let (slopes, room) = room.split_at_mut(n * m);
            let (result, room) = room.split_at_mut(n.max(m) * d);
            sizes.weights(q, k, sizes.bias_of(bias, i), scale, weights, room);
            let (plain, scaled) = (sizes.how(d), How { scale, ..sizes.how(d) });
            let along = Matrix::rows(&*weights, m).transposed();
            multiply(&mut result[..m * d], (m, n, d), along, g, &plain, Threads::One, room);
            targets[2].write(i, sizes, &result[..m * d]);
            multiply(slopes, (n, d, m), g, v.transposed(), &sizes.how(m), Threads::One, room);
            softmax_grad_rows(weights, slopes, m, E::ONE);
            if let Some(to_scores) = to_scores {
                to_scores.copy_from_slice(slopes);
            }
            let slopes = Matrix::rows(&*slopes, m);
            multiply(&mut result[..n * d], (n, m, d), slopes, k, &scaled, Threads::One, room);
            targets[0].write(i, sizes, &result[..n * d]);
            multiply(&mut result[..m * d], (m, n, d), slopes.transposed(), q, &scaled, Threads::One, room);
            targets[1].write(i, sizes, &result[..m * d]);
        });
    };
    if bias.is_none() {
        return (0..batch * heads).into_par_iter().with_max_len(4).for_each(|i| one(i, None));
    }
    scratch.par_chunks_exact_mut(n * m).enumerate().for_each(|(i, scores)| one(i, Some(scores)));
    let size = heads * n * m;
    to_bias.par_chunks_mut(super::share::PIECE).enumerate().for_each(|(i, out)| {
        out.fill(E::ZERO);
        for sample in scratch.chunks_exact(size) {
            let at = i * super::share::PIECE;
            out.iter_mut().zip(&sample[at..]).for_each(|(sum, slope)| *sum += *slope);
        }
    });
}
