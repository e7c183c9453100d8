//! The logarithm of the determinant of symmetric positive definite matrices, and its gradient, by Cholesky's factor.
//!
//! A matrix is one thread's work. What is read is (x + xᵀ) / 2, so that each element of x has its own share of the gradient.
//!
//! **Invariant:** a matrix that is not positive definite, or holds NaN, gives NaN throughout.

use rayon::prelude::*;

use super::real::Real;
use super::reduce::dot;
use crate::wide::wide;

/// A value for each matrix. `scratch`: as much as `x`.
pub(super) fn log_det<E: Real>(x: &[E], out: &mut [E], scratch: &mut [E], n: usize) {
    let matrices = x.par_chunks_exact(n * n).zip(scratch.par_chunks_exact_mut(n * n));
    out.par_iter_mut().zip(matrices).for_each(|(out, (x, lower))| {
        factor(x, lower, n);
        let log = (0..n).fold(E::ZERO, |sum, i| sum + lower[i * n + i].ln());
        *out = log + log;
    });
}

/// `g` times the inverse of each matrix. `scratch`: as much as `x`.
pub(super) fn log_det_grad<E: Real>(x: &[E], g: &[E], out: &mut [E], scratch: &mut [E], n: usize) {
    let matrices = x.par_chunks_exact(n * n).zip(scratch.par_chunks_exact_mut(n * n));
    let results = out.par_chunks_exact_mut(n * n).zip(g.par_iter());
    results.zip(matrices).for_each(|((out, g), (x, lower))| {
        factor(x, lower, n);
        invert(lower, out, n);
        multiply_with_itself(lower, out, n, *g);
    });
}

wide! {
    /// The lower factor, row by row; what stands above the diagonal is left. NaN where there is none.
    fn factor<E: Real>(x: &[E], lower: &mut [E], n: usize) {
        let half = E::ONE / (E::ONE + E::ONE);
        let mut is_positive = true;
        for i in 0..n {
            let (above, row) = lower.split_at_mut(i * n);
            for j in 0..i {
                let known = dot(&row[..j], &above[j * n..j * n + j]);
                row[j] = ((x[i * n + j] + x[j * n + i]) * half - known) / above[j * n + j];
            }
            let square = x[i * n + i] - dot(&row[..i], &row[..i]);
            is_positive &= square > E::ZERO;
            row[i] = square.sqrt();
        }
        if !is_positive {
            lower.fill(E::from_f64(f64::NAN));
        }
    }

    /// The inverse of a lower factor in its place: row i of it comes of the rows before. `made` holds a row or more.
    fn invert<E: Real>(lower: &mut [E], made: &mut [E], n: usize) {
        for i in 0..n {
            let (above, row) = lower.split_at_mut(i * n);
            let made = &mut made[..i];
            made.fill(E::ZERO);
            for (k, above) in above.chunks_exact(n).enumerate() {
                let factor = row[k];
                made.iter_mut().zip(&above[..=k]).for_each(|(sum, value)| *sum += factor * *value);
            }
            let share = E::ONE / row[i];
            row.iter_mut().zip(&*made).for_each(|(value, sum)| *value = -(*sum * share));
            row[i] = share;
        }
    }

    /// `scale` · mᵀ·m of the lower triangle m.
    fn multiply_with_itself<E: Real>(m: &[E], out: &mut [E], n: usize, scale: E) {
        out.fill(E::ZERO);
        for (k, row) in m.chunks_exact(n).enumerate() {
            for a in 0..=k {
                let factor = row[a] * scale;
                let out = &mut out[a * n..a * n + a + 1];
                out.iter_mut().zip(row).for_each(|(sum, value)| *sum += factor * *value);
            }
        }
        for a in 0..n {
            for b in 0..a {
                out[b * n + a] = out[a * n + b];
            }
        }
    }
}
