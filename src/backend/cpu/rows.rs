//! Ops over the last axis: softmax, its logarithm, cross entropy and l2 normalisation, and their gradients.

use rayon::prelude::*;

use super::real::Real;
use super::reduce::{LANES, dot, sum, total};
use super::share;
use crate::wide::wide;

/// Calls `work` on pieces of whole rows: (index of the piece's first row, the piece).
fn by_rows<E: Send>(out: &mut [E], width: usize, work: impl Fn(usize, &mut [E]) + Sync) {
    share::pieces(out, width, |start, out| work(start / width, out));
}

/// The rows of `x` that belong to a piece of `out`, both of rows of one width.
fn beside<'a, E>(x: &'a [E], width: usize, first: usize, out: &[E]) -> &'a [E] {
    &x[first * width..first * width + out.len()]
}

pub(super) fn softmax<E: Real>(x: &[E], out: &mut [E], width: usize) {
    by_rows(out, width, |first, out| {
        out.copy_from_slice(beside(x, width, first, out));
        softmax_rows(out, width);
    });
}

pub(super) fn log_softmax<E: Real>(x: &[E], out: &mut [E], width: usize) {
    by_rows(out, width, |first, out| log_softmax_rows(beside(x, width, first, out), out, width));
}

pub(super) fn softmax_grad<E: Real>(y: &[E], g: &[E], out: &mut [E], width: usize) {
    by_rows(out, width, |first, out| {
        out.copy_from_slice(beside(g, width, first, out));
        softmax_grad_rows(beside(y, width, first, out), out, width, E::ONE);
    });
}

pub(super) fn log_softmax_grad<E: Real>(y: &[E], g: &[E], out: &mut [E], width: usize) {
    by_rows(out, width, |first, out| {
        log_softmax_grad_rows(beside(y, width, first, out), beside(g, width, first, out), out, width);
    });
}

/// One value a row of logits.
pub(super) fn cross_entropy<E: Real>(logits: &[E], ids: &[i64], out: &mut [E], width: usize) {
    let unit = share::rows_of(width);
    out.par_chunks_mut(unit).enumerate().for_each(|(i, out)| {
        let (first, rows) = (i * unit, out.len());
        cross_entropy_rows(&logits[first * width..(first + rows) * width], &ids[first..first + rows], out, width);
    });
}

pub(super) fn cross_entropy_grad<E: Real>(logits: &[E], ids: &[i64], g: &[E], out: &mut [E], width: usize) {
    by_rows(out, width, |first, out| {
        let rows = first..first + out.len() / width;
        out.copy_from_slice(beside(logits, width, first, out));
        softmax_rows(out, width);
        cross_entropy_grad_rows(&ids[rows.clone()], &g[rows], out, width);
    });
}

/// The least square of a norm: that of eps. The least normal number keeps the square of a tiny eps from vanishing in f32.
fn least_square<E: Real>(eps: f64) -> E {
    E::from_f64((eps * eps).max(f64::from(f32::MIN_POSITIVE)))
}

pub(super) fn l2_normalize<E: Real>(x: &[E], out: &mut [E], width: usize, eps: f64) {
    by_rows(out, width, |first, out| l2_rows(beside(x, width, first, out), out, width, least_square(eps)));
}

pub(super) fn l2_normalize_grad<E: Real>(x: &[E], g: &[E], out: &mut [E], width: usize, eps: f64) {
    by_rows(out, width, |first, out| {
        let (x, g) = (beside(x, width, first, out), beside(g, width, first, out));
        l2_grad_rows(x, g, out, width, least_square(eps));
    });
}

#[inline(always)]
fn greatest<E: Real>(row: &[E]) -> E {
    let (chunks, rest) = row.as_chunks::<LANES>();
    let more = |a: E, b: E| if b > a { b } else { a };
    // The last of a row are looked at once more, where they fill no vector.
    let mut lanes = row.last_chunk::<LANES>().copied().unwrap_or([row[0]; LANES]);
    for chunk in chunks {
        lanes = std::array::from_fn(|i| more(lanes[i], chunk[i]));
    }
    if chunks.is_empty() {
        lanes.iter_mut().zip(rest).for_each(|(lane, x)| *lane = more(*lane, *x));
    }
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for i in 0..width {
            lanes[i] = more(lanes[i], lanes[i + width]);
        }
    }
    lanes[0]
}

/// e^(x − top), by `exp`, of up to a vector's values, as one vector: of a row of 50 tokens the last two would else cost as much as all
/// others. Those beyond are 0.
#[inline(always)]
fn exponentials<E: Real>(x: &[E], top: E, exp: impl Fn(E) -> E) -> [E; LANES] {
    let mut values = [E::ZERO; LANES];
    let mut padded = [top; LANES];
    padded[..x.len()].copy_from_slice(x);
    values.iter_mut().zip(padded).for_each(|(value, x)| *value = exp(x - top));
    values[x.len()..].fill(E::ZERO);
    values
}

/// Σ e^(x − top).
#[inline(always)]
fn exponential_sum<E: Real>(row: &[E], top: E) -> E {
    let mut lanes = [E::ZERO; LANES];
    let chunks = row.chunks_exact(LANES);
    let rest = exponentials(chunks.remainder(), top, E::exp);
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, x)| *lane += (*x - top).exp());
    }
    lanes.iter_mut().zip(rest).for_each(|(lane, value)| *lane += value);
    total(lanes)
}

/// `exp` of x − the greatest, in place, and their sum.
#[inline(always)]
fn exponentiate<E: Real>(row: &mut [E], exp: impl Fn(E) -> E) -> E {
    let top = greatest(row);
    let mut lanes = [E::ZERO; LANES];
    let mut chunks = row.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *x = exp(*x - top);
            *lane += *x;
        }
    }
    let rest = chunks.into_remainder();
    let values = exponentials(rest, top, exp);
    rest.copy_from_slice(&values[..rest.len()]);
    lanes.iter_mut().zip(values).for_each(|(lane, value)| *lane += value);
    total(lanes)
}

wide! {
    /// In place.
    pub(super) fn softmax_rows<E: Real>(rows: &mut [E], width: usize) {
        for row in rows.chunks_exact_mut(width) {
            let share = E::ONE / exponentiate(row, E::exp);
            row.iter_mut().for_each(|x| *x = *x * share);
        }
    }

    /// Softmax of rows times `scale`, which is above 0, in place, but for what each row is to be multiplied with, which `shares`
    /// gets; `coarse` where the values are rounded to bf16.
    pub(super) fn exponential_rows<E: Real>(rows: &mut [E], width: usize, shares: &mut [E], scale: E, coarse: bool) {
        // e^(scale·x) as a power of 2.
        let binary = scale * E::from_f64(std::f64::consts::LOG2_E);
        for (row, share) in rows.chunks_exact_mut(width).zip(shares) {
            *share = E::ONE / match coarse {
                true => exponentiate(row, |x| (x * binary).coarse_exp2()),
                false => exponentiate(row, |x| (x * scale).exp()),
            };
        }
    }

    /// Each row by a number of its own.
    pub(super) fn scale_rows<E: Real>(rows: &mut [E], width: usize, by: &[E]) {
        for (row, by) in rows.chunks_exact_mut(width).zip(by) {
            row.iter_mut().for_each(|x| *x = *x * *by);
        }
    }

    fn log_softmax_rows<E: Real>(x: &[E], out: &mut [E], width: usize) {
        for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            let top = greatest(x);
            let log = exponential_sum(x, top).ln();
            out.iter_mut().zip(x).for_each(|(out, x)| *out = *x - top - log);
        }
    }

    /// `out` holds the gradient of the softmax `y` and gets that of the logits, times `scale`.
    pub(super) fn softmax_grad_rows<E: Real>(y: &[E], out: &mut [E], width: usize, scale: E) {
        for (y, g) in y.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            let mean = dot(y, g);
            g.iter_mut().zip(y).for_each(|(g, y)| *g = *y * (*g - mean) * scale);
        }
    }

    fn log_softmax_grad_rows<E: Real>(y: &[E], g: &[E], out: &mut [E], width: usize) {
        let rows = y.chunks_exact(width).zip(g.chunks_exact(width));
        for ((y, g), out) in rows.zip(out.chunks_exact_mut(width)) {
            let whole = sum(g);
            out.iter_mut().zip(y.iter().zip(g)).for_each(|(out, (y, g))| *out = *g - y.exp() * whole);
        }
    }

    fn cross_entropy_rows<E: Real>(logits: &[E], ids: &[i64], out: &mut [E], width: usize) {
        for ((row, id), out) in logits.chunks_exact(width).zip(ids).zip(out) {
            let top = greatest(row);
            *out = exponential_sum(row, top).ln() - (row[*id as usize] - top);
        }
    }

    /// `out` holds the softmax.
    fn cross_entropy_grad_rows<E: Real>(ids: &[i64], g: &[E], out: &mut [E], width: usize) {
        for ((row, id), g) in out.chunks_exact_mut(width).zip(ids).zip(g) {
            row[*id as usize] = row[*id as usize] - E::ONE;
            row.iter_mut().for_each(|p| *p = *p * *g);
        }
    }

    fn l2_rows<E: Real>(x: &[E], out: &mut [E], width: usize, least: E) {
        for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            let square = dot(x, x);
            // Written so that NaN stays.
            let norm = (if square < least { least } else { square }).sqrt();
            out.iter_mut().zip(x).for_each(|(out, x)| *out = *x / norm);
        }
    }

    /// (g − y·Σ g·y) / ‖x‖; below eps the norm is a constant.
    fn l2_grad_rows<E: Real>(x: &[E], g: &[E], out: &mut [E], width: usize, least: E) {
        let rows = x.chunks_exact(width).zip(g.chunks_exact(width));
        for ((x, g), out) in rows.zip(out.chunks_exact_mut(width)) {
            let square = dot(x, x);
            if square < least {
                let norm = least.sqrt();
                out.iter_mut().zip(g).for_each(|(out, g)| *out = *g / norm);
                continue;
            }
            let norm = square.sqrt();
            let along = dot(g, x) / square;
            out.iter_mut().zip(x.iter().zip(g)).for_each(|(out, (x, g))| *out = (*g - *x * along) / norm);
        }
    }
}
