//! Matrix products, through the `gemm` crate: AVX-512 where the machine has it, else AVX2, NEON, or plain code.
//!
//! Its results do not depend on the number of threads: threads share out tiles of the result, whose sizes follow from those
//! of the matrices, and each element is one sum over k in the same order.
#![allow(unsafe_code, reason = "gemm takes pointers and strides")]

use rayon::prelude::*;

use super::real::Real;
use super::share;

/// A matrix in a slice: element (i, j) at `i · row + j · column`.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a, E> {
    pub data: &'a [E],
    pub row: usize,
    pub column: usize,
}

impl<'a, E> Matrix<'a, E> {
    /// Rows of `width` one after the other.
    pub fn rows(data: &'a [E], width: usize) -> Self {
        Matrix { data, row: width, column: 1 }
    }

    pub fn transposed(self) -> Self {
        Matrix { data: self.data, row: self.column, column: self.row }
    }
}

/// Whether a product may use several threads; one that runs beside others may not.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Threads {
    One,
    All,
}

/// `out = a · b · scale`, or `out += …` where `add`; out is `m × n`, row by row.
pub(super) fn multiply<E: Real>(
    out: &mut [E],
    (m, k, n): (usize, usize, usize),
    a: Matrix<E>,
    b: Matrix<E>,
    scale: E,
    add: bool,
    threads: Threads,
) {
    if m == 0 || n == 0 || k == 0 {
        if !add {
            out.fill(E::ZERO);
        }
        return;
    }
    let end = |x: &Matrix<E>, rows: usize, columns: usize| (rows - 1) * x.row + (columns - 1) * x.column + 1;
    assert!(out.len() >= m * n && a.data.len() >= end(&a, m, k) && b.data.len() >= end(&b, k, n));
    let parallelism = match threads {
        Threads::One => gemm::Parallelism::None,
        Threads::All => gemm::Parallelism::Rayon(0),
    };
    // SAFETY: the last element of each matrix lies within its slice, as was checked; `out` is borrowed mutably, so no other
    // slice overlaps it. gemm computes `alpha · dst + beta · lhs · rhs`.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            add,
            a.data.as_ptr(),
            a.column as isize,
            a.row as isize,
            b.data.as_ptr(),
            b.column as isize,
            b.row as isize,
            E::ONE,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Products of `batch` pairs of matrices; `a_t` and `b_t` say which are read transposed.
pub(super) fn batched<E: Real>(
    out: &mut [E],
    (batch, m, k, n): (usize, usize, usize, usize),
    (a, a_t): (&[E], bool),
    (b, b_t): (&[E], bool),
) {
    let left = |data| if a_t { Matrix::rows(data, m).transposed() } else { Matrix::rows(data, k) };
    let right = |data| if b_t { Matrix::rows(data, k).transposed() } else { Matrix::rows(data, n) };
    if batch == 1 {
        return multiply(out, (m, k, n), left(a), right(b), E::ONE, false, Threads::All);
    }
    if out.is_empty() {
        return;
    }
    let jobs = out.par_chunks_mut(m * n).enumerate();
    jobs.for_each(|(i, out)| {
        let (a, b) = (&a[i * m * k..(i + 1) * m * k], &b[i * k * n..(i + 1) * k * n]);
        multiply(out, (m, k, n), left(a), right(b), E::ONE, false, Threads::One);
    });
}

/// x · weightᵀ + bias over rows.
pub(super) fn linear<E: Real>(
    out: &mut [E],
    x: &[E],
    weight: &[E],
    bias: Option<&[E]>,
    (inputs, outputs): (usize, usize),
) {
    if let Some(bias) = bias {
        // The product is added to it: gemm reads the result once where another pass would read and write it.
        share::pieces(out, outputs, |_, out| out.chunks_exact_mut(outputs).for_each(|row| row.copy_from_slice(bias)));
    }
    let (x, weight) = (Matrix::rows(x, inputs), Matrix::rows(weight, inputs).transposed());
    let sizes = (out.len() / outputs, inputs, outputs);
    multiply(out, sizes, x, weight, E::ONE, bias.is_some(), Threads::All);
}
