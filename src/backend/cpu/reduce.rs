//! Sums over axes.

use super::real::Real;
use super::share;
use super::stored::{Numbers, Stored};
use crate::wide::wide;

/// Partial sums of a long sum, as many as f32 fit into a vector of AVX-512; added up as a tree.
pub(super) const LANES: usize = 16;

#[inline(always)]
pub(super) fn sum<E: Real>(x: &[E]) -> E {
    fold(x, x, |x, _| x)
}

#[inline(always)]
pub(super) fn dot<E: Real>(a: &[E], b: &[E]) -> E {
    fold(a, b, |a, b| a * b)
}

/// Σ term(aᵢ, bᵢ).
#[inline(always)]
pub(super) fn fold<E: Real, A: Copy, B: Copy>(a: &[A], b: &[B], term: impl Fn(A, B) -> E) -> E {
    let mut lanes = [E::ZERO; LANES];
    let (whole_a, whole_b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let (rest_a, rest_b) = (whole_a.remainder(), whole_b.remainder());
    for (a, b) in whole_a.zip(whole_b) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += term(*a, *b);
        }
    }
    for (lane, (a, b)) in lanes.iter_mut().zip(rest_a.iter().zip(rest_b)) {
        *lane += term(*a, *b);
    }
    total(lanes)
}

/// The sum of partial sums.
#[inline(always)]
pub(super) fn total<E: Real>(mut lanes: [E; LANES]) -> E {
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
    }
    lanes[0]
}

/// Axes that lie side by side and are summed together: `[outer, count, inner]` becomes `[outer, inner]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    outer: usize,
    count: usize,
    inner: usize,
}

/// A sum over axes as one run after the other, from the last.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sum {
    runs: Vec<Run>,
    /// What the sum is multiplied with: 1 / count for a mean.
    factor: f64,
}

impl Sum {
    pub fn new(shape: &[usize], axes: &[usize], mean: bool) -> Self {
        let mut shape = shape.to_vec();
        let factor = if mean { 1.0 / axes.iter().map(|a| shape[*a]).product::<usize>() as f64 } else { 1.0 };
        // An axis of one value lies between others as if it were not there.
        let summed: Vec<bool> = (0..shape.len()).map(|axis| axes.contains(&axis)).collect();
        let mut runs: Vec<Run> = Vec::new();
        let mut end = shape.len();
        while end > 0 {
            if !summed[end - 1] || shape[end - 1] == 1 {
                end -= 1;
                continue;
            }
            let mut start = end - 1;
            while start > 0 && (summed[start - 1] || shape[start - 1] == 1) {
                start -= 1;
            }
            let product = |range: std::ops::Range<usize>, shape: &[usize]| shape[range].iter().product();
            runs.push(Run {
                outer: product(0..start, &shape),
                count: product(start..end, &shape),
                inner: product(end..shape.len(), &shape),
            });
            shape[start..end].fill(1);
            end = start;
        }
        if runs.is_empty() {
            runs.push(Run { outer: shape.iter().product(), count: 1, inner: 1 });
        }
        Sum { runs, factor }
    }

    /// Floats for what lies between the runs: two places, used in turn.
    pub fn scratch(&self) -> usize {
        match self.runs.as_slice() {
            [first, second, _, ..] => first.outer * first.inner + second.outer * second.inner,
            [first, _] => first.outer * first.inner,
            _ => 0,
        }
    }

    pub fn run<E: Real>(&self, x: Numbers<E>, out: &mut [E], scratch: &mut [E]) {
        match x {
            Numbers::Full(x) => self.run_on(x, out, scratch),
            Numbers::Halves(x) => self.run_on(x, out, scratch),
        }
    }

    fn run_on<E: Real, T: Stored<E>>(&self, x: &[T], out: &mut [E], scratch: &mut [E]) {
        let (last, before) = self.runs.split_last().expect("a sum has a run");
        let first = before.first().map_or(0, |run| run.outer * run.inner);
        let (mut a, mut b) = scratch.split_at_mut(first);
        let mut from_x = true;
        for run in before {
            let len = run.outer * run.inner;
            // What the run before has written lies in `a`.
            if from_x {
                run.sum(x, &mut a[..len], 1.0);
                from_x = false;
            } else {
                run.sum(&a[..run.outer * run.count * run.inner], &mut b[..len], 1.0);
                std::mem::swap(&mut a, &mut b);
            }
        }
        if from_x {
            last.sum(x, out, self.factor);
        } else {
            last.sum(&a[..last.outer * last.count * last.inner], out, self.factor);
        }
    }
}

/// Columns that one task sums: 1 KiB of f32 of each row.
const COLUMNS: usize = 256;

impl Run {
    fn sum<E: Real, T: Stored<E>>(self, x: &[T], out: &mut [E], factor: f64) {
        let Run { outer, count, inner } = self;
        let factor = E::from_f64(factor);
        if inner == 1 {
            // Pieces of the result by what is read for them.
            let unit = share::rows_of(count);
            let piece = |start: usize, out: &mut [E]| {
                of_rows::<E, T>(&x[start * count..(start + out.len()) * count], out, count, factor);
            };
            if outer <= unit {
                return piece(0, out);
            }
            use rayon::prelude::*;
            return out.par_chunks_mut(unit).enumerate().for_each(|(i, out)| piece(i * unit, out));
        }
        let small = outer * count * inner <= share::PIECE;
        let one = |o: usize, column: usize, out: &mut [E]| {
            of_columns::<E, T>(&x[o * count * inner..], out, column, count, inner, factor)
        };
        if small {
            return out.chunks_exact_mut(inner).enumerate().for_each(|(o, out)| one(o, 0, out));
        }
        use rayon::prelude::*;
        let blocks = inner.div_ceil(COLUMNS);
        if blocks == 1 {
            let unit = share::rows_of(count * inner);
            return out.par_chunks_mut(unit * inner).enumerate().for_each(|(i, out)| {
                out.chunks_exact_mut(inner).enumerate().for_each(|(o, out)| one(i * unit + o, 0, out));
            });
        }
        out.par_chunks_exact_mut(inner).enumerate().for_each(|(o, out)| {
            out.par_chunks_mut(COLUMNS).enumerate().for_each(|(i, out)| one(o, i * COLUMNS, out));
        });
    }
}

wide! {
    /// The sum of each row of `count`.
    fn of_rows<E: Real, T: Stored<E>>(x: &[T], out: &mut [E], count: usize, factor: E) {
        for (x, out) in x.chunks_exact(count).zip(out) {
            *out = fold(x, x, |x, _| x.widen()) * factor;
        }
    }

    /// The sums of some columns of `count` rows of `inner`, from column `first` on.
    fn of_columns<E: Real, T: Stored<E>>(x: &[T], out: &mut [E], first: usize, count: usize, inner: usize, factor: E) {
        out.fill(E::ZERO);
        for row in x.chunks_exact(inner).take(count) {
            for (sum, x) in out.iter_mut().zip(&row[first..]) {
                *sum += x.widen();
            }
        }
        for sum in out {
            *sum = *sum * factor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_axes_apart() {
        let x: Vec<f64> = (0..24).map(f64::from).collect();
        let sum = Sum::new(&[2, 3, 4], &[0, 2], false);
        let (mut out, mut scratch) = (vec![0.0; 3], vec![0.0; sum.scratch()]);
        sum.run(x[..].into(), &mut out, &mut scratch);
        assert_eq!(out, [60.0, 92.0, 124.0]);
        let sum = Sum::new(&[2, 2, 2, 3, 1], &[0, 2, 4], true);
        let (mut out, mut scratch) = (vec![0.0; 6], vec![0.0; sum.scratch()]);
        sum.run(x[..].into(), &mut out, &mut scratch);
        assert_eq!(out, [7.5, 8.5, 9.5, 13.5, 14.5, 15.5]);
    }
}
