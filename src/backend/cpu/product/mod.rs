//! Matrix products. In f32 by kernels of our own ([`tile`], fed by [`pack`] and [`walk`]), in f64 by the `gemm` crate.
//!
//! Own kernels since an operand can be read where it lies, bias, scale and what follows are applied while the result is in the
//! cache, rows of the result may lie apart, and nothing is allocated.
//!
//! Results do not depend on the number of threads: see [`tile`]; in `gemm`, threads share out tiles whose sizes follow from those
//! of the matrices, and each element is one sum over k in the same order.
#![allow(unsafe_code, reason = "gemm takes pointers and strides")]

mod pack;
mod tile;
mod walk;

use rayon::prelude::*;

use super::real::Real;

/// Rows of k that a kernel works through before it writes: a panel of 16 columns is 24 KiB, three quarters of a first-level
/// cache.
const DEPTH: usize = 384;

/// (m, k, n) of `[m, k] · [k, n]`.
pub type Sizes = (usize, usize, usize);

/// A matrix in a slice: element (i, j) at `i · row + j · column`.
#[derive(Clone, Copy)]
pub struct Matrix<'a, E> {
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

/// What is done to a part of a row of a result while it is in the cache: (index of its first element, the part).
pub type Finish<'a, E> = &'a (dyn Fn(usize, &mut [E]) + Sync);

/// What becomes of a product: `out = finish(a · b · scale + bias)`, or `out += …` where `add`.
#[derive(Clone, Copy)]
pub struct How<'a, E> {
    /// From a row of the result to the next.
    pub out_row: usize,
    pub scale: E,
    pub add: bool,
    pub bias: Option<&'a [E]>,
    pub finish: Option<Finish<'a, E>>,
}

impl<E: Real> How<'_, E> {
    /// The product as it is, its rows one after the other.
    pub fn plain(n: usize) -> Self {
        How { out_row: n, scale: E::ONE, add: false, bias: None, finish: None }
    }
}

/// Whether a product may use several threads; one that runs beside others may not.
#[derive(Clone, Copy, PartialEq)]
pub enum Threads {
    One,
    All,
}

/// Floats that [`multiply`] works in. `transposed`: whether the left operand is.
pub(super) fn scratch(sizes: Sizes, transposed: bool) -> usize {
    walk::scratch(sizes, transposed)
}

/// `out = how(a · b)`.
pub(super) fn multiply<E: Real>(
    out: &mut [E],
    sizes: Sizes,
    a: Matrix<E>,
    b: Matrix<E>,
    how: &How<E>,
    threads: Threads,
    scratch: &mut [E],
) {
    let (m, k, n) = sizes;
    if m == 0 || n == 0 {
        return;
    }
    let end = |rows: usize, row: usize, columns: usize, column: usize| (rows - 1) * row + (columns - 1) * column + 1;
    assert!(out.len() >= end(m, how.out_row, n, 1) && how.out_row >= n, "the result is cut");
    assert!(k > 0 && a.data.len() >= end(m, a.row, k, a.column), "the left operand is cut");
    assert!(b.data.len() >= end(k, b.row, n, b.column), "the right operand is cut");
    assert!(how.bias.is_none_or(|bias| bias.len() >= n), "the bias is cut");
    E::product(Job { out, sizes, a, b, how, threads, scratch });
}

/// The kernels of a precision; `multiply` has checked the operands.
pub trait Products: Sized {
    #[doc(hidden)]
    fn product(job: Job<'_, Self>);
}

/// The operands of [`multiply`].
pub struct Job<'a, E> {
    out: &'a mut [E],
    sizes: Sizes,
    a: Matrix<'a, E>,
    b: Matrix<'a, E>,
    how: &'a How<'a, E>,
    threads: Threads,
    scratch: &'a mut [E],
}

impl Products for f32 {
    fn product(job: Job<'_, f32>) {
        match job.threads {
            Threads::All => walk::multiply(job),
            Threads::One => walk::alone(job),
        }
    }
}

/// The oracle's precision: by the `gemm` crate, bias and finish in passes of their own.
impl Products for f64 {
    fn product(job: Job<'_, f64>) {
        let Job { out, sizes: (m, k, n), a, b, how, threads, .. } = job;
        let parallelism = match threads {
            Threads::One => gemm::Parallelism::None,
            Threads::All => gemm::Parallelism::Rayon(0),
        };
        // SAFETY: `multiply` has checked that the last element of each matrix lies within its slice; `out` is borrowed mutably,
        // so no other slice overlaps it. gemm computes `alpha · dst + beta · lhs · rhs`.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                out.as_mut_ptr(),
                1,
                how.out_row as isize,
                how.add,
                a.data.as_ptr(),
                a.column as isize,
                a.row as isize,
                b.data.as_ptr(),
                b.column as isize,
                b.row as isize,
                1.0,
                how.scale,
                false,
                false,
                false,
                parallelism,
            );
        }
        for (i, row) in out.chunks_mut(how.out_row).take(m).enumerate() {
            let row = &mut row[..n];
            if let Some(bias) = how.bias {
                row.iter_mut().zip(bias).for_each(|(out, bias)| *out += *bias);
            }
            if let Some(finish) = how.finish {
                finish(i * n, row);
            }
        }
    }
}

/// Products of `batch` pairs of matrices; `a_t` and `b_t` say which are read transposed. `scratch` serves a batch of one.
pub(super) fn batched<E: Real>(
    out: &mut [E],
    batch: usize,
    (m, k, n): Sizes,
    (a, a_t): (&[E], bool),
    (b, b_t): (&[E], bool),
    finish: Option<Finish<E>>,
    room: &mut [E],
) {
    if out.is_empty() {
        return;
    }
    let left = |data| if a_t { Matrix::rows(data, m).transposed() } else { Matrix::rows(data, k) };
    let right = |data| if b_t { Matrix::rows(data, k).transposed() } else { Matrix::rows(data, n) };
    if batch == 1 {
        let how = How { finish, ..How::plain(n) };
        return multiply(out, (m, k, n), left(a), right(b), &how, Threads::All, room);
    }
    out.par_chunks_mut(m * n).enumerate().for_each(|(i, out)| {
        let (a, b) = (&a[i * m * k..(i + 1) * m * k], &b[i * k * n..(i + 1) * k * n]);
        E::with_scratch(scratch((m, k, n), a_t), |room| {
            multiply(out, (m, k, n), left(a), right(b), &How::plain(n), Threads::One, room);
        });
        if let Some(finish) = finish {
            finish(i * m * n, out);
        }
    });
}

/// x · weightᵀ + bias over rows.
pub(super) fn linear<E: Real>(
    out: &mut [E],
    (x, weight, bias): (&[E], &[E], Option<&[E]>),
    sizes: Sizes,
    finish: Option<Finish<E>>,
    scratch: &mut [E],
) {
    let (_, k, n) = sizes;
    let how = How { bias, finish, ..How::plain(n) };
    multiply(out, sizes, Matrix::rows(x, k), Matrix::rows(weight, k).transposed(), &how, Threads::All, scratch);
}
