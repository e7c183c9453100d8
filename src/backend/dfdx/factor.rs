//! The logarithm of the determinant of symmetric positive definite matrices: dfdx has no factorisation.
//!
//! Value and inverse are worked out on the host by elimination in f64, another way than the `cpu` backend's; the gradient goes through
//! dfdx's tape as that of Σ x · x⁻¹.

use dfdx::prelude::{Axis, Dtype, SumTo, TryAdd, TryMul, TrySub};

use super::{Context, Done, Float, Kernels, host, view};
use crate::tensor::Element;

impl<E: Element + Dtype, D: Kernels<E>> Context<E, D> {
    /// One value for each matrix of `n` rows.
    pub(super) fn log_det(&mut self, grad: bool, x: &Float<E, D>, n: usize) -> Done<Float<E, D>> {
        let values: Vec<f64> = host(&x.flat).into_iter().map(Element::to_f64).collect();
        let rows = values.len() / (n * n);
        let (mut logs, mut inverses) = (Vec::with_capacity(rows), Vec::with_capacity(values.len()));
        for matrix in values.chunks_exact(n * n) {
            let (log, inverse) = eliminate(matrix, n);
            logs.push(<E as Element>::from_f64(log));
            inverses.extend(inverse.into_iter().map(<E as Element>::from_f64));
        }
        let (logs, inverses) = (self.upload(logs)?.flat, self.upload(inverses)?.flat);
        let sums = self.on_tape(grad, x.flat.clone(), |x| {
            let products = x.try_mul(inverses)?;
            view(products, (rows, n * n))?.try_sum::<(usize,), Axis<1>>()
        })?;
        // s − s is 0 exactly, and only the first s is on the tape.
        let off_tape = self.upload(host(&sums))?.flat;
        let out = self.on_tape(grad, sums, |s| s.try_sub(off_tape)?.try_add(logs))?;
        Ok(self.fresh(out))
    }
}

/// ln det and the inverse of (x + xᵀ) / 2; NaN where a pivot is not above 0.
fn eliminate(x: &[f64], n: usize) -> (f64, Vec<f64>) {
    let mut a: Vec<f64> = (0..n * n).map(|at| 0.5 * (x[at] + x[at % n * n + at / n])).collect();
    let mut log = 0.0;
    for k in 0..n {
        let pivot = a[k * n + k];
        if pivot.is_nan() || pivot <= 0.0 {
            return (f64::NAN, vec![f64::NAN; n * n]);
        }
        log += pivot.ln();
        a[k * n + k] = 1.0;
        a[k * n..(k + 1) * n].iter_mut().for_each(|value| *value /= pivot);
        let row = a[k * n..(k + 1) * n].to_vec();
        for (_, other) in a.chunks_exact_mut(n).enumerate().filter(|(i, _)| *i != k) {
            let factor = std::mem::replace(&mut other[k], 0.0);
            other.iter_mut().zip(&row).for_each(|(value, of_pivot)| *value -= factor * of_pivot);
        }
    }
    (log, a)
}
