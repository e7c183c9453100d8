//! Products by the `gemm` crate: of the oracle's precision, and on machines that no kernel of ours is written for.
#![allow(unsafe_code, reason = "gemm takes pointers and strides")]

use super::{How, Job, Matrix, Products, Right, Sizes, Threads};

/// By the `gemm` crate, bias and finish in passes of their own.
pub(super) fn finished_by_gemm<E: Products>(job: Job<'_, E>) {
    let Job { out, sizes, a, b, how, threads, .. } = job;
    let (out, Right::AsItIs(b)) = (out.full(), b) else { unreachable!("nothing is packed for gemm") };
    by_gemm(out, sizes, a, b, how, threads);
    let (m, _, n) = sizes;
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

/// `out = a · b · scale`, or `out += …`, by the `gemm` crate; of operands that [`multiply`] would take.
fn by_gemm<E: Products>(out: &mut [E], (m, k, n): Sizes, a: Matrix<E>, b: Matrix<E>, how: &How<E>, threads: Threads) {
    let parallelism = match threads {
        Threads::One => gemm::Parallelism::None,
        Threads::All => gemm::Parallelism::Rayon(0),
    };
    let (left, right) = (a.data.full(), b.data.full());
    // SAFETY: the last element of each matrix lies within its slice; `out` is borrowed mutably, so no other slice overlaps
    // it. gemm computes `alpha · dst + beta · lhs · rhs`.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            how.out_row as isize,
            how.add,
            left.as_ptr(),
            a.column as isize,
            a.row as isize,
            right.as_ptr(),
            b.column as isize,
            b.row as isize,
            E::ONE,
            how.scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// A square product of `size` by the `gemm` crate: what our own kernels are held against.
pub(in super::super) fn square_by_gemm<E: Products>(out: &mut [E], size: usize, a: &[E], b: &[E]) {
    assert!([out.len(), a.len(), b.len()] == [size * size; 3], "the operands are no squares");
    let (a, b) = (Matrix::rows(a, size), Matrix::rows(b, size));
    by_gemm(out, (size, size, size), a, b, &How::plain(size), Threads::All);
}
