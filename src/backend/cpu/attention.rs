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
    /// Whether it and `out` lie apart, as what is written and what is read beside it must.
    fn is_apart(&self, out: &[E]) -> bool {
        let (read, written) = (self.data.as_ptr_range(), out.as_ptr_range());
        read.end <= written.start || written.end <= read.start
    }

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

// SAFETY: what it points to is borrowed mutably, and written by `write` alone, whose callers keep tasks apart.
unsafe impl<E: Send> Sync for Target<'_, E> {}

impl<'a, E: Real> Target<'a, E> {
    fn new(out: &'a mut [E], heads: Heads) -> Self {
        Target { first: out.as_mut_ptr(), len: out.len(), heads, borrowed: PhantomData }
    }

    /// Copies head `i`, rows of `d` one after the other, to its place.
    ///
    /// # Safety
    /// Nobody else reads or writes head `i` of this result meanwhile, and it shares no element with another head, of this result
    /// or of one in the same place: `plan::verify` finds them apart.
    unsafe fn write(&self, i: usize, sizes: Sizes, rows: &[E]) {
        let Heads { start, batch, head, row } = self.heads;
        let first = start + i / sizes.heads * batch + i % sizes.heads * head;
        for (n, values) in rows.chunks_exact(sizes.d).enumerate() {
            let at = first + n * row;
            assert!(at + values.len() <= self.len, "a head lies outside its value");
            // SAFETY: within the borrowed slice, as was just found, and the caller's alone; `rows` is borrowed, so it lies apart.
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
    debug_assert!([q, k, v].iter().all(|operand| operand.is_apart(out)), "attention writes over what it reads");
    let target = Target::new(out, to);
    (0..batch * heads).into_par_iter().with_max_len(4).for_each(|i| {
        E::with_scratch(sizes.room(), |room| {
            let (weights, room) = room.split_at_mut(n * m);
            let (result, room) = room.split_at_mut(n * d);
            let [q, k, v] = [q, k, v].map(|x| x.head(i, sizes));
            sizes.weights(q, k, sizes.bias_of(bias, i), E::from_f64(scale), weights, room);
            multiply(result, (n, m, d), Matrix::rows(weights, m), v, &sizes.how(d), Threads::One, room);
            // SAFETY: each task has a head of its own.
            unsafe { target.write(i, sizes, result) };
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
    debug_assert!([q, k, v, g].iter().all(|operand| operand.is_apart(out)), "attention writes over what it reads");
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
            // SAFETY: each task has a head of its own in each of the three results, which share no element.
            unsafe { targets[2].write(i, sizes, &result[..m * d]) };
            multiply(slopes, (n, d, m), g, v.transposed(), &sizes.how(m), Threads::One, room);
            softmax_grad_rows(weights, slopes, m, E::ONE);
            if let Some(to_scores) = to_scores {
                to_scores.copy_from_slice(slopes);
            }
            let slopes = Matrix::rows(&*slopes, m);
            multiply(&mut result[..n * d], (n, m, d), slopes, k, &scaled, Threads::One, room);
            // SAFETY: as above.
            unsafe { targets[0].write(i, sizes, &result[..n * d]) };
            multiply(&mut result[..m * d], (m, n, d), slopes.transposed(), q, &scaled, Threads::One, room);
            // SAFETY: as above.
            unsafe { targets[1].write(i, sizes, &result[..m * d]) };
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

/// Run by Miri too: see `.ci/miri`.
#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers from -1 to 1 that no product makes look alike.
    fn numbers(count: usize, seed: u32) -> Vec<f64> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(state >> 8) / f64::from(1 << 23) - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// `[B, h, N, d]` out of where it lies.
    fn apart(data: &[f64], heads: Heads, [b, h, n, d]: [usize; 4]) -> Vec<f64> {
        let mut values = Vec::new();
        for row in 0..b * h * n {
            let (sample, head, token) = (row / (h * n), row / n % h, row % n);
            let at = heads.start + sample * heads.batch + head * heads.head + token * heads.row;
            values.extend_from_slice(&data[at..at + d]);
        }
        values
    }

    /// Attention by its definition, on contiguous values: the result and, of `g`, the gradients of q, k, v and the bias.
    fn by_definition([q, k, v, g]: [&[f64]; 4], bias: &[f64], sizes: Sizes, scale: f64) -> [Vec<f64>; 5] {
        let Sizes { batch, heads, n, m, d, .. } = sizes;
        let mut results = [q, q, k, v, bias].map(|x| vec![0.0; x.len()]);
        for i in 0..batch * heads {
            let (q_of, k_of) = (|x: usize| i * n * d + x * d, |y: usize| i * m * d + y * d);
            for x in 0..n {
                let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
                let row = |data: &'_ [f64], at: usize| data[at..at + d].to_vec();
                let bias_at = |y: usize| i % heads * n * m + x * m + y;
                let score = |y: usize| dot(&row(q, q_of(x)), &row(k, k_of(y))) * scale + bias[bias_at(y)];
                let all: f64 = (0..m).map(|y| score(y).exp()).sum();
                let weight: Vec<f64> = (0..m).map(|y| score(y).exp() / all).collect();
                let to_weight: Vec<f64> = (0..m).map(|y| dot(&row(g, q_of(x)), &row(v, k_of(y)))).collect();
                let mean = dot(&weight, &to_weight);
                for y in 0..m {
                    let slope = weight[y] * (to_weight[y] - mean);
                    results[4][bias_at(y)] += slope;
                    for c in 0..d {
                        results[0][q_of(x) + c] += weight[y] * v[k_of(y) + c];
                        results[1][q_of(x) + c] += slope * scale * k[k_of(y) + c];
                        results[2][k_of(y) + c] += slope * scale * q[q_of(x) + c];
                        results[3][k_of(y) + c] += weight[y] * g[q_of(x) + c];
                    }
                }
            }
        }
        results
    }

    fn assert_close(found: &[f64], expected: &[f64], what: &str) {
        assert_eq!(found.len(), expected.len(), "{what}");
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{what}: {found} for {expected}");
        }
    }

    fn single(values: &[f64]) -> Vec<f32> {
        values.iter().map(|x| *x as f32).collect()
    }

    fn double(values: &[f32]) -> Vec<f64> {
        values.iter().map(|x| f64::from(*x)).collect()
    }

    /// Query, key and value out of one projection `[B, N, 3, h, d]`, and their gradients into one, as the plan has them.
    #[test]
    fn heads_of_one_projection() {
        let [b, h, n, d] = [2, 3, 5, 4];
        let sizes = Sizes { batch: b, heads: h, n, m: n, d, bf16: false };
        let of = |part: usize| Heads { start: part * h * d, batch: n * 3 * h * d, head: d, row: 3 * h * d };
        let rows = Heads { start: 0, batch: n * h * d, head: d, row: h * d };
        let (joint, g) = (numbers(b * n * 3 * h * d, 1), numbers(b * n * h * d, 2));
        let (joint32, g32) = (single(&joint), single(&g));
        let operand = |part: usize| Operand { data: &joint32[..], heads: of(part) };
        let mut out = vec![f32::NAN; b * n * h * d];
        forward([operand(0), operand(1), operand(2)], None, (&mut out, rows), sizes, 0.5);
        let mut slopes = vec![f32::NAN; b * n * 3 * h * d];
        let gradient = Operand { data: &g32[..], heads: rows };
        let to = (&mut slopes[..], [of(0), of(1), of(2)]);
        backward([operand(0), operand(1), operand(2), gradient], None, to, &mut [], sizes, 0.5);
        let shape = [b, h, n, d];
        let operands = [0, 1, 2].map(|part| apart(&joint, of(part), shape));
        let [q, k, v] = operands.each_ref().map(Vec::as_slice);
        let expected = by_definition([q, k, v, &apart(&g, rows, shape)], &vec![0.0; h * n * n], sizes, 0.5);
        assert_close(&apart(&double(&out), rows, shape), &expected[0], "result");
        for part in 0..3 {
            assert_close(&apart(&double(&slopes), of(part), shape), &expected[1 + part], "a gradient");
        }
    }

    /// More keys than queries, a bias for each head, and its gradient behind the others.
    #[test]
    fn a_bias_and_its_gradient() {
        let [b, h, n, m, d] = [2, 2, 3, 7, 2];
        let sizes = Sizes { batch: b, heads: h, n, m, d, bf16: false };
        let (short, long) = ([b, h, n, d], [b, h, m, d]);
        let (of_q, of_k) = (Heads::contiguous(&short, 0), Heads::contiguous(&long, 0));
        let values = [(b * h * n * d, 1), (b * h * m * d, 2), (b * h * m * d, 3), (b * h * n * d, 4), (h * n * m, 5)];
        let values = values.map(|(count, seed)| numbers(count, seed));
        let [q, k, v, g, bias] = values.each_ref().map(|values| single(values));
        let operands = [(&q, of_q), (&k, of_k), (&v, of_k)].map(|(data, heads)| Operand { data: &data[..], heads });
        let mut out = vec![f32::NAN; q.len()];
        forward(operands, Some(&bias), (&mut out, of_q), sizes, 0.7);
        let ends = [0, q.len(), q.len() + k.len(), q.len() + 2 * k.len()];
        let mut slopes = vec![f32::NAN; ends[3] + bias.len()];
        let to = [Heads { start: ends[0], ..of_q }, Heads { start: ends[1], ..of_k }, Heads { start: ends[2], ..of_k }];
        let [of_q, of_k, of_v] = operands;
        let gradient = Operand { data: &g[..], heads: of_q.heads };
        let mut room = vec![f32::NAN; sizes.bias_scratch()];
        backward([of_q, of_k, of_v, gradient], Some(&bias), (&mut slopes, to), &mut room, sizes, 0.7);
        let [q, k, v, g, bias] = values.each_ref().map(Vec::as_slice);
        let expected = by_definition([q, k, v, g], bias, sizes, 0.7);
        assert_close(&double(&out), &expected[0], "result");
        assert_close(&double(&slopes), &expected[1..].concat(), "gradients");
    }

    #[test]
    fn what_is_written_lies_apart_from_operands() {
        let values = [0.0_f32; 6];
        let operand = Operand { data: &values[1..4], heads: Heads::contiguous(&[1, 1, 1, 3], 0) };
        assert!(operand.is_apart(&values[..1]) && operand.is_apart(&values[4..]));
        assert!(!operand.is_apart(&values[..2]) && !operand.is_apart(&values[3..]) && !operand.is_apart(&values[2..3]));
    }
}
