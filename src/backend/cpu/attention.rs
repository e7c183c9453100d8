//! Attention, a head of a sample at a time, read and written where the plan says ([`Heads`]). Keys and values are laid out for products
//! once a head; then come some queries at a time, whose scores stay in the first-level cache from product to softmax to product. Scores
//! live in a thread's scratch and are never stored: the backward pass makes them again from q and k, a product of N·M·d where
//! storing them would cost N·M of memory for each head of each layer.
#![allow(unsafe_code, reason = "heads are rows that lie between those of others, which slices cannot say")]

use std::marker::PhantomData;

use rayon::prelude::*;

use super::product::{self, How, Matrix, Right, Threads, multiply, multiply_packed};
use super::real::Real;
use super::rows::{exponential_rows, scale_rows, softmax_grad_rows};
use super::stored::{Numbers, NumbersMut, bf16, halves_in, store};
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
    pub data: Numbers<'a, E>,
    pub heads: Heads,
}

impl<'a, E: Real> Operand<'a, E> {
    /// Whether it and `out` lie apart, as what is written and what is read beside it must.
    fn is_apart(&self, out: Numbers<E>) -> bool {
        let (read, written) = (self.data.bytes(), out.bytes());
        read.end <= written.start || written.end <= read.start
    }

    /// Head `i`, counted through samples.
    fn head(&self, i: usize, sizes: Sizes) -> Matrix<'a, E> {
        let Heads { start, batch, head, row } = self.heads;
        Matrix { data: self.data.from(start + i / sizes.heads * batch + i % sizes.heads * head), row, column: 1 }
    }
}

/// A result `[B, h, N, d]`, whose heads several threads write.
struct Target<'a, E> {
    first: First<E>,
    len: usize,
    heads: Heads,
    borrowed: PhantomData<(&'a mut [E], &'a mut [bf16])>,
}

/// Of a result, its first element.
#[derive(Clone, Copy)]
enum First<E> {
    Full(*mut E),
    Halves(*mut bf16),
}

// SAFETY: what it points to is borrowed mutably, and written by `write` alone, whose callers keep tasks apart.
unsafe impl<E: Send> Sync for Target<'_, E> {}

impl<'a, E: Real> Target<'a, E> {
    fn new<const N: usize>(mut out: NumbersMut<'a, E>, heads: [Heads; N]) -> [Self; N] {
        let len = out.len();
        let first = match &mut out {
            NumbersMut::Full(out) => First::Full(out.as_mut_ptr()),
            NumbersMut::Halves(out) => First::Halves(out.as_mut_ptr()),
        };
        heads.map(|heads| Target { first, len, heads, borrowed: PhantomData })
    }

    /// Copies rows of `d` one after the other, from row `from` of head `i` on, to their places.
    ///
    /// # Safety
    /// Nobody else reads or writes head `i` of this result meanwhile, and it shares no element with another head, of this result
    /// or of one in the same place: `plan::verify` finds them apart.
    unsafe fn write(&self, (i, from): (usize, usize), sizes: Sizes, rows: &[E]) {
        let Heads { start, batch, head, row } = self.heads;
        let first = start + i / sizes.heads * batch + i % sizes.heads * head + from * row;
        for (n, values) in rows.chunks_exact(sizes.d).enumerate() {
            let at = first + n * row;
            assert!(at + values.len() <= self.len, "a head lies outside its value");
            match self.first {
                First::Full(first) => {
                    // SAFETY: within the borrowed slice, as was just found, and the caller's alone.
                    let to = unsafe { std::slice::from_raw_parts_mut(first.add(at), values.len()) };
                    store::<E, E>(values, to);
                }
                First::Halves(first) => {
                    // SAFETY: as above.
                    let to = unsafe { std::slice::from_raw_parts_mut(first.add(at), values.len()) };
                    store::<E, bf16>(values, to);
                }
            }
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

    /// Floats that a thread needs for a head, of the backward pass, which needs more: three operands as products read them, scores
    /// and their slopes of all rows and of those at hand, a result, and what products work in.
    pub fn room(&self) -> usize {
        let Sizes { n, m, d, .. } = *self;
        let rows = product::ROWS.min(n);
        let operands = 2 * product::packed_len(d, m) + product::packed_len(m, d);
        let work = [
            product::packed_scratch((rows, d, m)),
            product::packed_scratch((rows, m, d)),
            product::scratch((m, n, d), true, false),
        ];
        operands + 2 * n * m + 2 * rows * m + m.max(rows) * d + work.into_iter().max().unwrap_or(0)
    }

    /// Of the rows that are computed at once, the first and how many, one block after the other.
    fn blocks<E: Real>(&self) -> impl Iterator<Item = (usize, usize)> + use<E> {
        let (n, rows) = (self.n, E::rows(self.bf16));
        (0..n).step_by(rows).map(move |first| (first, rows.min(n - first)))
    }

    /// softmax(q·kᵀ·scale + bias) of some rows, which are still to be multiplied with what is given, each with its own.
    fn weights<E: Real>(
        &self,
        (q, rows): (Matrix<E>, usize),
        k: Right<E>,
        bias: Option<&[E]>,
        scale: E,
        out: &mut [E],
        room: &mut [E],
    ) -> [E; product::ROWS] {
        // Scores that nothing is added to are scaled on their way to the softmax.
        let later = bias.is_none() && scale > E::ZERO;
        let (now, later) = if later { (E::ONE, scale) } else { (scale, E::ONE) };
        multiply_packed(out, (rows, self.d, self.m), q, k, &How { scale: now, ..self.how(self.m) }, room);
        if let Some(bias) = bias {
            out.iter_mut().zip(bias).for_each(|(score, bias)| *score += *bias);
        }
        let mut shares = [E::ONE; product::ROWS];
        exponential_rows(out, self.m, &mut shares, later, self.bf16);
        shares
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

/// Rows of a matrix from `first` on.
fn from_row<'a, E>(matrix: Matrix<'a, E>, first: usize) -> Matrix<'a, E> {
    Matrix { data: matrix.data.from(first * matrix.row), ..matrix }
}

pub(super) fn forward<E: Real>(
    [q, k, v]: [Operand<E>; 3],
    bias: Option<&[E]>,
    (out, to): (NumbersMut<E>, Heads),
    sizes: Sizes,
    scale: f64,
) {
    let Sizes { batch, heads, m, d, bf16, .. } = sizes;
    debug_assert!(
        [q, k, v].iter().all(|operand| operand.is_apart(out.as_read())),
        "attention writes over what it reads"
    );
    let [target] = Target::new(out, [to]);
    (0..batch * heads).into_par_iter().with_max_len(4).for_each(|i| {
        E::with_scratch(sizes.room(), |room| {
            let [q, k, v] = [q, k, v].map(|x| x.head(i, sizes));
            let (for_k, room) = room.split_at_mut(product::packed_len(d, m));
            let (for_v, room) = room.split_at_mut(product::packed_len(m, d));
            let k = product::packed(k.transposed(), (d, m), bf16, for_k);
            let v = product::packed(v, (m, d), bf16, for_v);
            for (first, rows) in sizes.blocks::<E>() {
                let (weights, room) = room.split_at_mut(rows * m);
                let (result, room) = room.split_at_mut(rows * d);
                let bias = sizes.bias_of(bias, i).map(|bias| &bias[first * m..][..rows * m]);
                let shares = sizes.weights((from_row(q, first), rows), k, bias, E::from_f64(scale), weights, room);
                multiply_packed(result, (rows, m, d), Matrix::rows(&*weights, m), v, &sizes.how(d), room);
                scale_rows(result, d, &shares);
                // SAFETY: each task has a head of its own.
                unsafe { target.write((i, first), sizes, result) };
            }
        });
    });
}

/// Scores of all rows of a head, stored as products read them.
fn kept<E: Real>(room: &mut [E], bf16: bool) -> NumbersMut<'_, E> {
    if bf16 { NumbersMut::Halves(halves_in(room)) } else { NumbersMut::Full(room) }
}

/// Stores some rows of scores from element `start` on.
fn keep<E: Real>(to: &mut NumbersMut<E>, start: usize, rows: &[E]) {
    match to {
        NumbersMut::Full(to) => store::<E, _>(rows, &mut to[start..]),
        NumbersMut::Halves(to) => store::<E, _>(rows, &mut to[start..]),
    }
}

/// `out`: the gradients of q, k and v at `to`, and behind all that of the bias where there is one.
pub(super) fn backward<E: Real>(
    [q, k, v, g]: [Operand<E>; 4],
    bias: Option<&[E]>,
    (out, to): (NumbersMut<E>, [Heads; 3]),
    scratch: &mut [E],
    sizes: Sizes,
    scale: f64,
) {
    let Sizes { batch, heads, n, m, d, bf16 } = sizes;
    debug_assert!(
        [q, k, v, g].iter().all(|operand| operand.is_apart(out.as_read())),
        "attention writes over what it reads"
    );
    // A bias's gradient lies behind those of the operands, and is stored in full.
    let (out, to_bias) = match out {
        NumbersMut::Full(out) => {
            let (out, to_bias) = out.split_at_mut(batch * heads * (n + 2 * m) * d);
            (out.into(), to_bias)
        }
        halves => (halves, &mut [][..]),
    };
    let targets = Target::new(out, to);
    let scale = E::from_f64(scale);
    let one = |i: usize, mut to_scores: Option<&mut [E]>| {
        let [q, k, v, g] = [q, k, v, g].map(|x| x.head(i, sizes));
        E::with_scratch(sizes.room(), |room| {
            let (for_scores, room) = room.split_at_mut(product::packed_len(d, m));
            let (for_slopes, room) = room.split_at_mut(product::packed_len(d, m));
            let (for_q, room) = room.split_at_mut(product::packed_len(m, d));
            let along_k = product::packed(k.transposed(), (d, m), bf16, for_scores);
            let along_v = product::packed(v.transposed(), (d, m), bf16, for_slopes);
            let by_k = product::packed(k, (m, d), bf16, for_q);
            let (all_weights, room) = room.split_at_mut(n * m);
            let (all_slopes, room) = room.split_at_mut(n * m);
            let (mut all_weights, mut all_slopes) = (kept(all_weights, bf16), kept(all_slopes, bf16));
            // A bias's gradient is that of scores that are scaled.
            let (now, later) = if to_scores.is_none() { (scale, E::ONE) } else { (E::ONE, scale) };
            let (plain, scaled) = (sizes.how(d), How { scale: later, ..sizes.how(d) });
            for (first, rows) in sizes.blocks::<E>() {
                let (weights, room) = room.split_at_mut(rows * m);
                let (slopes, room) = room.split_at_mut(rows * m);
                let (result, room) = room.split_at_mut(rows * d);
                let bias = sizes.bias_of(bias, i).map(|bias| &bias[first * m..][..rows * m]);
                let shares = sizes.weights((from_row(q, first), rows), along_k, bias, scale, weights, room);
                scale_rows(weights, m, &shares);
                multiply_packed(slopes, (rows, d, m), from_row(g, first), along_v, &sizes.how(m), room);
                keep(&mut all_weights, first * m, weights);
                softmax_grad_rows(weights, slopes, m, now);
                keep(&mut all_slopes, first * m, slopes);
                if let Some(to_scores) = &mut to_scores {
                    to_scores[first * m..][..rows * m].copy_from_slice(slopes);
                }
                multiply_packed(result, (rows, m, d), Matrix::rows(&*slopes, m), by_k, &scaled, room);
                // SAFETY: each task has a head of its own in each of the three results, which share no element.
                unsafe { targets[0].write((i, first), sizes, result) };
            }
            let (result, room) = room.split_at_mut(m * d);
            let weights = Matrix::rows(all_weights.as_read(), m).transposed();
            multiply((&mut *result).into(), (m, n, d), weights, g, &plain, Threads::One, room);
            // SAFETY: as above.
            unsafe { targets[2].write((i, 0), sizes, result) };
            let slopes = Matrix::rows(all_slopes.as_read(), m).transposed();
            multiply((&mut *result).into(), (m, n, d), slopes, q, &scaled, Threads::One, room);
            // SAFETY: as above.
            unsafe { targets[1].write((i, 0), sizes, result) };
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
        let operand = |part: usize| Operand { data: joint32[..].into(), heads: of(part) };
        let mut out = vec![f32::NAN; b * n * h * d];
        forward([operand(0), operand(1), operand(2)], None, ((&mut out[..]).into(), rows), sizes, 0.5);
        let mut slopes = vec![f32::NAN; b * n * 3 * h * d];
        let gradient = Operand { data: g32[..].into(), heads: rows };
        let to = ((&mut slopes[..]).into(), [of(0), of(1), of(2)]);
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
        let operands =
            [(&q, of_q), (&k, of_k), (&v, of_k)].map(|(data, heads)| Operand { data: data[..].into(), heads });
        let mut out = vec![f32::NAN; q.len()];
        forward(operands, Some(&bias), ((&mut out[..]).into(), of_q), sizes, 0.7);
        let ends = [0, q.len(), q.len() + k.len(), q.len() + 2 * k.len()];
        let mut slopes = vec![f32::NAN; ends[3] + bias.len()];
        let to = [Heads { start: ends[0], ..of_q }, Heads { start: ends[1], ..of_k }, Heads { start: ends[2], ..of_k }];
        let [of_q, of_k, of_v] = operands;
        let gradient = Operand { data: g[..].into(), heads: of_q.heads };
        let mut room = vec![f32::NAN; sizes.bias_scratch()];
        backward([of_q, of_k, of_v, gradient], Some(&bias), ((&mut slopes[..]).into(), to), &mut room, sizes, 0.7);
        let [q, k, v, g, bias] = values.each_ref().map(Vec::as_slice);
        let expected = by_definition([q, k, v, g], bias, sizes, 0.7);
        assert_close(&double(&out), &expected[0], "result");
        assert_close(&double(&slopes), &expected[1..].concat(), "gradients");
    }

    #[test]
    fn what_is_written_lies_apart_from_operands() {
        let values = [0.0_f32; 6];
        let operand = Operand { data: values[1..4].into(), heads: Heads::contiguous(&[1, 1, 1, 3], 0) };
        let is_apart = |range: std::ops::Range<usize>| operand.is_apart(values[range].into());
        assert!(is_apart(0..1) && is_apart(4..6));
        assert!(!is_apart(0..2) && !is_apart(3..6) && !is_apart(2..3));
    }
}
