//! Matrix products. In f32 by kernels of our own ([`tile`], fed by [`pack`] and [`walk`]), in f64, and on machines that none of them is
//! written for, by the `gemm` crate.
//!
//! Own kernels since an operand can be read where it lies, bias, scale and what follows are applied while the result is in the
//! cache, rows of the result may lie apart, and nothing is allocated.
//!
//! Results do not depend on the number of threads: see [`tile`]; in `gemm`, threads share out tiles whose sizes follow from those
//! of the matrices, and each element is one sum over k in the same order.

mod amx;
mod by_gemm;
mod kernel;
#[cfg(any(test, target_arch = "aarch64"))]
mod mmla;
mod pack;
mod pairs;
mod squares;
mod tile;
mod tiles;
mod vector;
mod walk;

use rayon::prelude::*;

use super::scratch::Scratch;
use super::stored::{Numbers, NumbersMut};
use by_gemm::finished_by_gemm;
pub(super) use by_gemm::square_by_gemm;
use kernel::Kernel;

/// (m, k, n) of `[m, k] · [k, n]`.
pub type Sizes = (usize, usize, usize);

/// A matrix: element (i, j) at `i · row + j · column`.
#[derive(Clone, Copy)]
pub struct Matrix<'a, E> {
    pub data: Numbers<'a, E>,
    pub row: usize,
    pub column: usize,
}

impl<'a, E> Matrix<'a, E> {
    /// Rows of `width` one after the other.
    pub fn rows(data: impl Into<Numbers<'a, E>>, width: usize) -> Self {
        Matrix { data: data.into(), row: width, column: 1 }
    }

    pub fn transposed(self) -> Self {
        Matrix { data: self.data, row: self.column, column: self.row }
    }
}

/// The right operand of a product.
#[derive(Clone, Copy)]
pub enum Right<'a, E> {
    AsItIs(Matrix<'a, E>),
    /// By [`packed`].
    Packed(&'a [E]),
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
    /// Operands are rounded to bf16, and products added up in f32. Nothing to f64.
    pub bf16: bool,
    pub finish: Option<Finish<'a, E>>,
}

impl<E: Products> How<'_, E> {
    /// The product as it is, its rows one after the other.
    pub fn plain(n: usize) -> Self {
        How { out_row: n, scale: E::ONE, add: false, bias: None, bf16: false, finish: None }
    }
}

/// Whether a product may use several threads; one that runs beside others may not.
#[derive(Clone, Copy, PartialEq)]
pub enum Threads {
    One,
    All,
}

/// Whether this machine has instructions on bf16.
pub(super) fn multiplies_bf16() -> bool {
    Kernel::best(true).operands != kernel::Operands::Rounded
}

/// Floats that [`multiply`] works in. `packed`: whether the left operand is transposed or rounded; `narrowed`: whether the result is
/// stored in bf16.
pub(super) fn scratch(sizes: Sizes, packed: bool, narrowed: bool) -> usize {
    walk::scratch(sizes, packed, narrowed)
}

/// Floats that each thread works in beside, where a result is stored in bf16.
pub(super) fn room((m, _, n): Sizes) -> usize {
    walk::room(m, n)
}

/// `out = how(a · b)`.
pub(super) fn multiply<E: Products>(
    out: NumbersMut<E>,
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
    // Sums that go on would be rounded in between.
    let goes_on = how.add || threads == Threads::One;
    assert!(!goes_on || matches!(out, NumbersMut::Full(_)), "the result is stored in bf16");
    assert!(how.bias.is_none_or(|bias| bias.len() >= n), "the bias is cut");
    E::product(Job { out, sizes, a, b: Right::AsItIs(b), how, threads, scratch });
}

/// Floats of a packed right operand of `k` rows and `n` columns.
pub(super) fn packed_len(k: usize, n: usize) -> usize {
    walk::packed_len(k, n)
}

/// Floats that [`multiply_packed`] works in.
pub(super) fn packed_scratch((m, k, _): Sizes) -> usize {
    walk::packed_scratch(m, k)
}

/// Rows that are computed at once at most, so that a step after the other finds them in the first-level cache.
pub(super) const ROWS: usize = tiles::SQUARE;

/// `b`, of `k` rows and `n` columns, as several products of this thread read it; `room` holds [`packed_len`].
pub(super) fn packed<'a, E: Products>(
    b: Matrix<'a, E>,
    (k, n): (usize, usize),
    bf16: bool,
    room: &'a mut [E],
) -> Right<'a, E> {
    E::pack(b, (k, n), bf16, room)
}

/// `out = how(a · b)` on the thread that asks, for a `b` that [`packed`] has given for the same `k` and `n`, and for `how.bf16`.
pub(super) fn multiply_packed<E: Products>(
    out: &mut [E],
    (m, k, n): Sizes,
    a: Matrix<E>,
    b: Right<E>,
    how: &How<E>,
    scratch: &mut [E],
) {
    let end = |rows: usize, row: usize, columns: usize, column: usize| (rows - 1) * row + (columns - 1) * column + 1;
    assert!(m > 0 && n > 0 && how.out_row >= n && out.len() >= end(m, how.out_row, n, 1), "the result is cut");
    assert!(k > 0 && a.data.len() >= end(m, a.row, k, a.column), "the left operand is cut");
    assert!(how.bias.is_none_or(|bias| bias.len() >= n), "the bias is cut");
    E::product(Job { out: out.into(), sizes: (m, k, n), a, b, how, threads: Threads::One, scratch });
}

/// The kernels of a precision; `multiply` has checked the operands.
pub trait Products: Scratch {
    /// Whether products round to bf16 where that is asked for.
    const ROUNDS: bool;

    #[doc(hidden)]
    fn product(job: Job<'_, Self>);
    #[doc(hidden)]
    fn pack<'a>(b: Matrix<'a, Self>, sizes: (usize, usize), bf16: bool, room: &'a mut [Self]) -> Right<'a, Self>;
    /// Rows that products which follow one another are computed for at once: whole tiles, [`ROWS`] at most.
    fn rows(bf16: bool) -> usize;
}

/// The operands of [`multiply`].
pub struct Job<'a, E> {
    out: NumbersMut<'a, E>,
    sizes: Sizes,
    a: Matrix<'a, E>,
    b: Right<'a, E>,
    how: &'a How<'a, E>,
    threads: Threads,
    scratch: &'a mut [E],
}

impl Products for f32 {
    const ROUNDS: bool = true;

    fn product(job: Job<'_, f32>) {
        let kernel = Kernel::best(job.how.bf16);
        if kernel.is_slower_than_gemm() { finished_by_gemm(job) } else { walk::multiply(kernel, job) }
    }

    fn pack<'a>(b: Matrix<'a, f32>, (k, n): (usize, usize), bf16: bool, room: &'a mut [f32]) -> Right<'a, f32> {
        let kernel = Kernel::best(bf16);
        if kernel.is_slower_than_gemm() {
            return Right::AsItIs(b);
        }
        walk::lay_out(kernel, b, (k, n), room);
        Right::Packed(room)
    }

    fn rows(bf16: bool) -> usize {
        let height = Kernel::best(bf16).height();
        ROWS / height * height
    }
}

/// The oracle's precision.
impl Products for f64 {
    const ROUNDS: bool = false;

    fn product(job: Job<'_, f64>) {
        finished_by_gemm(job);
    }

    fn pack<'a>(b: Matrix<'a, f64>, _: (usize, usize), _: bool, _: &'a mut [f64]) -> Right<'a, f64> {
        Right::AsItIs(b)
    }

    fn rows(_: bool) -> usize {
        ROWS
    }
}

/// Products of `batch` pairs of matrices; `a_t` and `b_t` say which are read transposed. `scratch` serves a batch of one.
pub(super) fn batched<E: Products>(
    out: NumbersMut<E>,
    batch: usize,
    (m, k, n): Sizes,
    (a, a_t): (Numbers<E>, bool),
    (b, b_t): (Numbers<E>, bool),
    (finish, bf16): (Option<Finish<E>>, bool),
    room: &mut [E],
) {
    if out.len() == 0 {
        return;
    }
    let left = |data| if a_t { Matrix::rows(data, m).transposed() } else { Matrix::rows(data, k) };
    let right = |data| if b_t { Matrix::rows(data, k).transposed() } else { Matrix::rows(data, n) };
    if batch == 1 {
        let how = How { finish, bf16, ..How::plain(n) };
        return multiply(out, (m, k, n), left(a), right(b), &how, Threads::All, room);
    }
    // Batches are no layer's.
    let (out, a, b) = (out.full(), a.full(), b.full());
    out.par_chunks_mut(m * n).enumerate().for_each(|(i, out)| {
        let (a, b) = (&a[i * m * k..(i + 1) * m * k], &b[i * k * n..(i + 1) * k * n]);
        E::with_scratch(scratch((m, k, n), a_t || bf16, false), |room| {
            multiply(
                (&mut *out).into(),
                (m, k, n),
                left(a.into()),
                right(b.into()),
                &How { bf16, ..How::plain(n) },
                Threads::One,
                room,
            );
        });
        if let Some(finish) = finish {
            finish(i * m * n, out);
        }
    });
}

/// Inner products of the rows of `a: [m, k]` with those of `b: [n, k]`, on the thread that asks: `out: [m, n]`.
///
/// What an element is hangs on its two rows and on the sizes alone.
pub fn inner_products(out: &mut [f64], a: &[f64], b: &[f64], k: usize) {
    if k == 0 {
        return out.fill(0.0);
    }
    let (m, n) = (a.len() / k, b.len() / k);
    let (a, b) = (Matrix::rows(a, k), Matrix::rows(b, k).transposed());
    multiply(out.into(), (m, k, n), a, b, &How::plain(n), Threads::One, &mut []);
}

/// `out: [m, n] = a · b` for `a: [m, k]` and `b: [k, n]`, each stored transposed where it says so, on the thread that asks.
///
/// What an element is hangs on its row, its column and the sizes alone.
pub fn product(out: &mut [f32], (m, k, n): Sizes, (a, a_t): (&[f32], bool), (b, b_t): (&[f32], bool)) {
    let a = if a_t { Matrix::rows(a, m).transposed() } else { Matrix::rows(a, k) };
    let b = if b_t { Matrix::rows(b, k).transposed() } else { Matrix::rows(b, n) };
    f32::with_scratch(scratch((m, k, n), a_t, false), |room| {
        multiply(out.into(), (m, k, n), a, b, &How::plain(n), Threads::One, room);
    });
}

/// x · weightᵀ + bias over rows.
pub(super) fn linear<E: Products>(
    out: NumbersMut<E>,
    (x, weight, bias): (Numbers<E>, Numbers<E>, Option<&[E]>),
    sizes: Sizes,
    (finish, bf16): (Option<Finish<E>>, bool),
    scratch: &mut [E],
) {
    let (_, k, n) = sizes;
    let how = How { bias, bf16, finish, ..How::plain(n) };
    multiply(out, sizes, Matrix::rows(x, k), Matrix::rows(weight, k).transposed(), &how, Threads::All, scratch);
}

#[cfg(test)]
mod tests {
    use super::super::stored::{bf16, nearest};
    use super::*;

    /// Ties go to the even one; an error stays one; what is too large becomes infinite.
    #[test]
    fn rounding_is_to_the_nearest_number_of_bf16() {
        let step = 2.0_f32.powi(-7);
        for (x, nearest) in [
            (1.0, 1.0),
            (1.0 + 0.49 * step, 1.0),
            (1.0 + 0.5 * step, 1.0),
            (1.0 + 0.51 * step, 1.0 + step),
            (1.0 + 1.5 * step, 1.0 + 2.0 * step),
            (-1.0 - 1.5 * step, -1.0 - 2.0 * step),
            (0.0, 0.0),
            (f32::MAX, f32::INFINITY),
            (f32::NEG_INFINITY, f32::NEG_INFINITY),
        ] {
            assert_eq!(pairs::rounded(x), nearest, "{x}");
        }
        assert!(
            pairs::rounded(f32::from_bits(0x7fff_ffff)).is_nan()
                && pairs::rounded(f32::from_bits(0x7f80_0001)).is_nan()
        );
    }

    /// Operands that are stored rounded give the bits that those give which are rounded as they are packed, and a result that is stored
    /// rounded is the nearest to the one that is not; `before` is as long as a result at least.
    fn stored_in_bf16(
        kernel: Kernel,
        (m, k, n): Sizes,
        (left, right): (Matrix<f32>, Matrix<f32>),
        how: &How<f32>,
        before: &[f32],
    ) {
        let narrowed = |matrix: Matrix<f32>| matrix.data.full().iter().map(|x| nearest(*x)).collect::<Vec<_>>();
        let (a, b) = (narrowed(left), narrowed(right));
        let stored = (Matrix { data: Numbers::Halves(&a), ..left }, Matrix { data: Numbers::Halves(&b), ..right });
        let product = |out: NumbersMut<f32>, (a, b): (Matrix<f32>, Matrix<f32>), threads: Threads, how: &How<f32>| {
            let narrows = matches!(out, NumbersMut::Halves(_));
            let mut room = vec![f32::NAN; scratch((m, k, n), true, narrows)];
            let b = Right::AsItIs(b);
            walk::multiply(kernel, Job { out, sizes: (m, k, n), a, b, how, threads, scratch: &mut room });
        };
        let full = |operands: (Matrix<f32>, Matrix<f32>), threads: Threads, how: &How<f32>| {
            let mut out = before[..m * n].to_vec();
            product((&mut out[..]).into(), operands, threads, how);
            out
        };
        let as_it_is = full((left, right), Threads::All, how);
        assert_eq!(full(stored, Threads::One, how), as_it_is, "{kernel:?} {m} {k} {n}: stored operands");
        for finish in [how.finish, None] {
            let how = How { add: false, finish, ..*how };
            let mut out = vec![bf16::NAN; m * n];
            product(NumbersMut::Halves(&mut out), stored, Threads::All, &how);
            let nearest: Vec<bf16> = full(stored, Threads::All, &how).into_iter().map(nearest).collect();
            assert_eq!(out, nearest, "{kernel:?} {m} {k} {n}: a stored result");
        }
    }

    /// Numbers from -1 to 1 that no product makes look alike.
    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// Edges of tiles of every kernel, one row, one column, more than one block of k, more than one task.
    const SIZES: [Sizes; 13] = [
        (1, 1, 1),
        (7, 5, 3),
        (14, 385, 32),
        (13, 400, 33),
        (50, 64, 50),
        (17, 3, 129),
        (1, 800, 9),
        (131, 9, 17),
        (127, 1, 400),
        (33, 1030, 48),
        (270, 34, 395),
        (70, 64, 96),
        (40, 1600, 33),
    ];

    /// Every kernel of this machine, by one thread and by all, with operands as they are and transposed, beside sums in f64.
    ///
    /// Rounded sums of k products of numbers below 1 are off by k · 2⁻²⁴ · k at most, and by a fraction of it in fact.
    #[test]
    fn every_kernel_agrees_with_sums_in_f64() {
        for (m, k, n) in SIZES {
            let (a, b, bias, before) = (numbers(m * k, 1), numbers(k * n, 2), numbers(n, 3), numbers(m * (n + 3), 4));
            for (a_t, b_t, add) in
                [(false, true, false), (false, false, true), (true, false, false), (true, true, true)]
            {
                let left = if a_t { Matrix::rows(&a[..], m).transposed() } else { Matrix::rows(&a[..], k) };
                let right = if b_t { Matrix::rows(&b[..], k).transposed() } else { Matrix::rows(&b[..], n) };
                let double = |at: usize, part: &mut [f32]| {
                    assert!(at % n + part.len() <= n, "a part lies within a row");
                    part.iter_mut().for_each(|x| *x *= 2.0);
                };
                let plain = How::plain(n + 3);
                // What sums begin with, what they are multiplied with, and what is added to them, in turn.
                let (scale, bias) = (if a_t { 0.5 } else { 1.0 }, (!add || a_t).then_some(&bias[..]));
                let how = How { scale, add, bias, finish: Some(&double), ..plain };
                let (Numbers::Full(a_data), Numbers::Full(b_data)) = (left.data, right.data) else { unreachable!() };
                let sums = |a_data: &[f32], b_data: &[f32]| {
                    let mut sums = vec![0.0; m * n];
                    for (i, value) in sums.iter_mut().enumerate() {
                        let (row, column) = (i / n, i % n);
                        let terms = (0..k).map(|at| {
                            let x = a_data[row * left.row + at * left.column];
                            f64::from(x) * f64::from(b_data[at * right.row + column * right.column])
                        });
                        let start = if add { f64::from(before[row * (n + 3) + column]) } else { 0.0 };
                        let bias = bias.map_or(0.0, |bias| f64::from(bias[column]));
                        *value = 2.0 * (start + f64::from(scale) * terms.sum::<f64>() + bias);
                    }
                    sums
                };
                let round = |data: &[f32]| data.iter().map(|x| pairs::rounded(*x)).collect::<Vec<f32>>();
                let (exact, rounded) = (sums(a_data, b_data), sums(&round(a_data), &round(b_data)));
                let tolerance = (k * k) as f64 * 2.0_f64.powi(-24) + 1e-6;
                // And the `gemm` crate.
                for kernel in Kernel::all().map(Some).chain([None]) {
                    let rounds = kernel.is_some_and(|kernel| kernel.operands != kernel::Operands::F32);
                    let expected = if rounds { &rounded } else { &exact };
                    let mut results = Vec::new();
                    for threads in [Threads::One, Threads::All] {
                        let mut out = before.clone();
                        let mut room = vec![f32::NAN; scratch((m, k, n), a_t || rounds, false)];
                        let job = Job {
                            out: (&mut out[..]).into(),
                            sizes: (m, k, n),
                            a: left,
                            b: Right::AsItIs(right),
                            how: &how,
                            threads,
                            scratch: &mut room,
                        };
                        match kernel {
                            Some(kernel) => walk::multiply(kernel, job),
                            None => finished_by_gemm(job),
                        }
                        for (i, expected) in expected.iter().enumerate() {
                            let found = f64::from(out[i / n * (n + 3) + i % n]);
                            assert!(
                                (found - expected).abs() <= tolerance,
                                "{kernel:?} {m} {k} {n}: {found} for {expected}"
                            );
                        }
                        let beyond =
                            |x: &[f32]| x.chunks(n + 3).flat_map(|row| row[n..].to_vec()).collect::<Vec<f32>>();
                        assert_eq!(beyond(&out), beyond(&before), "what lies between rows is left alone");
                        results.push(out);
                    }
                    assert_eq!(results[0], results[1], "{kernel:?}: threads change no bit");
                    if let Some(kernel) = kernel.filter(|_| rounds && !add) {
                        let how = How { out_row: n, ..how };
                        stored_in_bf16(kernel, (m, k, n), (left, right), &how, &before);
                    }
                }
            }
        }
    }
}
