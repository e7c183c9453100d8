//! Work shared among threads.
//!
//! **Invariant:** pieces are cut by the size of the work, never by the number of threads, so that no sum is grouped
//! otherwise on another machine or with `--threads`.

use rayon::prelude::*;

/// Elements of a piece: 64 KiB of f32, a few microseconds of work, some ten times what handing it over costs.
pub(super) const PIECE: usize = 1 << 14;

/// Rows of `width` in a piece.
pub(super) fn rows_of(width: usize) -> usize {
    (PIECE / width.max(1)).max(1)
}

/// Calls `work` on each piece of `out`, which is cut between runs of `unit` elements, with the index of the piece's first
/// element.
pub(super) fn pieces<T: Send>(out: &mut [T], unit: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    let piece = rows_of(unit) * unit.max(1);
    if out.len() <= piece {
        if !out.is_empty() {
            work(0, out);
        }
        return;
    }
    out.par_chunks_mut(piece).enumerate().for_each(|(i, out)| work(i * piece, out));
}
