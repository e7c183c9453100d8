//! Layer norm and batch norm, forward and backward.
//!
//! The backward pass finds means and deviations again: for a row they are one pass over what lies in the cache, and keeping
//! them would cost a second value of the graph.

use rayon::prelude::*;

use super::real::Real;
use super::reduce::{fold, sum};
use super::share;
use super::stored::{Numbers, NumbersMut, Stored};
use crate::wide::wide;

/// Weight and bias, or neither.
type Affine<'a, E> = Option<(&'a [E], &'a [E])>;

pub(super) fn layer_norm<E: Real>(x: &[E], affine: Affine<E>, out: NumbersMut<E>, width: usize, eps: f64) {
    match out {
        NumbersMut::Full(out) => layer_norm_to(x, affine, out, width, eps),
        NumbersMut::Halves(out) => layer_norm_to(x, affine, out, width, eps),
    }
}

fn layer_norm_to<E: Real, T: Stored<E>>(x: &[E], affine: Affine<E>, out: &mut [T], width: usize, eps: f64) {
    share::pieces(out, width, |start, out| {
        layer_norm_rows::<E, T>(&x[start..start + out.len()], affine, out, width, E::from_f64(eps));
    });
}

/// Rows whose sums of the weight's gradient one task makes. At most 64 tasks, so that adding up their sums stays small.
fn rows_per_sum(rows: usize, width: usize) -> usize {
    share::rows_of(width).max(rows.div_ceil(64))
}

/// Floats that the backward pass with a weight needs.
pub(super) fn layer_norm_grad_scratch(rows: usize, width: usize) -> usize {
    rows.div_ceil(rows_per_sum(rows, width)) * 2 * width
}

/// `out`: the gradients of x and, with a weight, those of weight and bias behind it.
pub(super) fn layer_norm_grad<E: Real>(
    (x, g): (&[E], Numbers<E>),
    weight: Option<&[E]>,
    out: &mut [E],
    scratch: &mut [E],
    width: usize,
    eps: f64,
) {
    match g {
        Numbers::Full(g) => layer_norm_grad_of(x, g, weight, out, scratch, width, eps),
        Numbers::Halves(g) => layer_norm_grad_of(x, g, weight, out, scratch, width, eps),
    }
}

fn layer_norm_grad_of<E: Real, T: Stored<E>>(
    x: &[E],
    g: &[T],
    weight: Option<&[E]>,
    out: &mut [E],
    scratch: &mut [E],
    width: usize,
    eps: f64,
) {
    let (to_x, to_affine) = out.split_at_mut(x.len());
    let eps = E::from_f64(eps);
    let Some(weight) = weight else {
        return share::pieces(to_x, width, |start, out| {
            let end = start + out.len();
            layer_norm_grad_rows::<E, T>(&x[start..end], &g[start..end], None, out, &mut [], width, eps);
        });
    };
    let piece = rows_per_sum(x.len() / width, width) * width;
    let jobs = to_x.par_chunks_mut(piece).zip(scratch.par_chunks_mut(2 * width)).enumerate();
    jobs.for_each(|(i, (out, sums))| {
        let range = i * piece..i * piece + out.len();
        sums.fill(E::ZERO);
        layer_norm_grad_rows::<E, T>(&x[range.clone()], &g[range], Some(weight), out, sums, width, eps);
    });
    to_affine.fill(E::ZERO);
    for sums in scratch.chunks_exact(2 * width) {
        to_affine.iter_mut().zip(sums).for_each(|(total, sum)| *total += *sum);
    }
}

/// Mean and reciprocal deviation of a row.
#[inline(always)]
fn moments<E: Real>(row: &[E], eps: E) -> (E, E) {
    let count = E::from_f64(row.len() as f64);
    let mean = sum(row) / count;
    let variance = fold(row, row, |x, _| (x - mean) * (x - mean)) / count;
    (mean, E::ONE / (variance + eps).sqrt())
}

wide! {
    fn layer_norm_rows<E: Real, T: Stored<E>>(x: &[E], affine: Affine<E>, out: &mut [T], width: usize, eps: E) {
        for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            let (mean, inverse) = moments(x, eps);
            match affine {
                Some((weight, bias)) => {
                    for ((out, x), (w, b)) in out.iter_mut().zip(x).zip(weight.iter().zip(bias)) {
                        *out = T::narrow((*x - mean) * inverse * *w + *b);
                    }
                }
                None => out.iter_mut().zip(x).for_each(|(out, x)| *out = T::narrow((*x - mean) * inverse)),
            }
        }
    }

    /// With x̂ the normalised row and h = g·weight: (h − mean(h) − x̂·mean(h·x̂)) / deviation. Adds Σ g·x̂ and Σ g to the halves
    /// of `sums`.
    fn layer_norm_grad_rows<E: Real, T: Stored<E>>(
        x: &[E], g: &[T], weight: Option<&[E]>, out: &mut [E], sums: &mut [E], width: usize, eps: E,
    ) {
        let count = E::from_f64(width as f64);
        let rows = x.chunks_exact(width).zip(g.chunks_exact(width));
        for ((x, g), out) in rows.zip(out.chunks_exact_mut(width)) {
            let (mean, inverse) = moments(x, eps);
            match weight {
                Some(weight) => out.iter_mut().zip(g.iter().zip(weight)).for_each(|(h, (g, w))| *h = g.widen() * *w),
                None => out.iter_mut().zip(g).for_each(|(h, g)| *h = g.widen()),
            }
            let mean_h = sum(out) / count;
            let along = fold(out, x, |h, x| h * ((x - mean) * inverse)) / count;
            for (h, x) in out.iter_mut().zip(x) {
                *h = (*h - mean_h - (*x - mean) * inverse * along) * inverse;
            }
            if weight.is_some() {
                let (to_weight, to_bias) = sums.split_at_mut(width);
                let both = to_weight.iter_mut().zip(to_bias);
                for ((to_weight, to_bias), (g, x)) in both.zip(g.iter().zip(x)) {
                    *to_weight += g.widen() * ((*x - mean) * inverse);
                    *to_bias += g.widen();
                }
            }
        }
    }
}

/// Columns that one task walks down.
const COLUMNS: usize = 64;

/// Floats of [`batch_norm`] and of its gradient: mean and reciprocal deviation, and two sums, of each column.
pub(super) fn batch_norm_scratch(width: usize) -> usize {
    4 * width
}

pub(super) fn batch_norm<E: Real>(
    x: &[E],
    affine: Affine<E>,
    out: &mut [E],
    scratch: &mut [E],
    width: usize,
    eps: f64,
) {
    let (mean, inverse) = scratch.split_at_mut(width);
    column_moments(x, mean, &mut inverse[..width], width, eps);
    let (mean, inverse) = (&*mean, &inverse[..width]);
    share::pieces(out, width, |start, out| {
        batch_norm_rows(&x[start..start + out.len()], mean, inverse, affine, out, width);
    });
}

/// `out`: the gradients of x and, with a weight, those of weight and bias behind it.
pub(super) fn batch_norm_grad<E: Real>(
    (x, g): (&[E], &[E]),
    weight: Option<&[E]>,
    out: &mut [E],
    scratch: &mut [E],
    width: usize,
    eps: f64,
) {
    let (moments, sums) = scratch.split_at_mut(2 * width);
    let (mean, inverse) = moments.split_at_mut(width);
    let (to_weight, to_bias) = sums.split_at_mut(width);
    column_moments(x, mean, inverse, width, eps);
    let (mean, inverse) = (&*mean, &*inverse);
    let jobs = to_weight.par_chunks_mut(COLUMNS).zip(to_bias.par_chunks_mut(COLUMNS)).enumerate();
    jobs.for_each(|(i, (to_weight, to_bias))| {
        column_products(x, g, mean, inverse, to_weight, to_bias, i * COLUMNS, width);
    });
    let (to_weight, to_bias) = (&*to_weight, &*to_bias);
    let (to_x, to_affine) = out.split_at_mut(x.len());
    share::pieces(to_x, width, |start, out| {
        let range = start..start + out.len();
        let rows = E::from_f64((x.len() / width) as f64);
        batch_norm_grad_rows(&x[range.clone()], &g[range], mean, inverse, to_weight, to_bias, weight, out, rows);
    });
    if weight.is_some() {
        let (weight_at, bias_at) = to_affine.split_at_mut(width);
        weight_at.copy_from_slice(to_weight);
        bias_at.copy_from_slice(to_bias);
    }
}

fn column_moments<E: Real>(x: &[E], mean: &mut [E], inverse: &mut [E], width: usize, eps: f64) {
    let jobs = mean.par_chunks_mut(COLUMNS).zip(inverse.par_chunks_mut(COLUMNS)).enumerate();
    jobs.for_each(|(i, (mean, inverse))| some_column_moments(x, mean, inverse, i * COLUMNS, width, E::from_f64(eps)));
}

wide! {
    /// Of the columns from `first` on.
    fn some_column_moments<E: Real>(x: &[E], mean: &mut [E], inverse: &mut [E], first: usize, width: usize, eps: E) {
        let count = E::from_f64((x.len() / width) as f64);
        mean.fill(E::ZERO);
        for row in x.chunks_exact(width) {
            mean.iter_mut().zip(&row[first..]).for_each(|(sum, x)| *sum += *x);
        }
        mean.iter_mut().for_each(|sum| *sum = *sum / count);
        inverse.fill(E::ZERO);
        for row in x.chunks_exact(width) {
            for ((sum, x), mean) in inverse.iter_mut().zip(&row[first..]).zip(&*mean) {
                *sum += (*x - *mean) * (*x - *mean);
            }
        }
        inverse.iter_mut().for_each(|sum| *sum = E::ONE / (*sum / count + eps).sqrt());
    }

    /// Σ g·x̂ and Σ g of the columns from `first` on.
    fn column_products<E: Real>(
        x: &[E], g: &[E], mean: &[E], inverse: &[E], to_weight: &mut [E], to_bias: &mut [E], first: usize, width: usize,
    ) {
        to_weight.fill(E::ZERO);
        to_bias.fill(E::ZERO);
        let end = first + to_weight.len();
        let (mean, inverse) = (&mean[first..end], &inverse[first..end]);
        for (x, g) in x.chunks_exact(width).zip(g.chunks_exact(width)) {
            let (x, g) = (&x[first..end], &g[first..end]);
            for ((sum, (x, g)), (mean, inverse)) in to_weight.iter_mut().zip(x.iter().zip(g)).zip(mean.iter().zip(inverse)) {
                *sum += *g * ((*x - *mean) * *inverse);
            }
            to_bias.iter_mut().zip(g).for_each(|(sum, g)| *sum += *g);
        }
    }

    fn batch_norm_rows<E: Real>(x: &[E], mean: &[E], inverse: &[E], affine: Affine<E>, out: &mut [E], width: usize) {
        for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            for ((out, x), (mean, inverse)) in out.iter_mut().zip(x).zip(mean.iter().zip(inverse)) {
                *out = (*x - *mean) * *inverse;
            }
            if let Some((weight, bias)) = affine {
                out.iter_mut().zip(weight.iter().zip(bias)).for_each(|(out, (w, b))| *out = *out * *w + *b);
            }
        }
    }

    fn batch_norm_grad_rows<E: Real>(
        x: &[E], g: &[E], mean: &[E], inverse: &[E], to_weight: &[E], to_bias: &[E], weight: Option<&[E]>,
        out: &mut [E], rows: E,
    ) {
        let width = mean.len();
        for ((x, g), out) in x.chunks_exact(width).zip(g.chunks_exact(width)).zip(out.chunks_exact_mut(width)) {
            for i in 0..width {
                let normal = (x[i] - mean[i]) * inverse[i];
                out[i] = (g[i] - (to_bias[i] + normal * to_weight[i]) / rows) * inverse[i];
            }
            if let Some(weight) = weight {
                out.iter_mut().zip(weight).for_each(|(out, w)| *out = *out * *w);
            }
        }
    }
}
