//! The innermost kernel of matrix products in f32: tiles of the result that stay in registers while k runs through.
//!
//! A tile has as many rows and vectors of columns as leave two registers for operands: 14 × 32 with AVX-512, 6 × 16 with AVX2,
//! 4 × 8 elsewhere. The left operand is read where it lies, an element of each row at a time; the right one is packed in panels
//! of a tile's width ([`super::pack`]), so that each step of k is one or two whole vectors.
//!
//! In bf16 a lane of an operand holds two numbers, of k and k + 1, where the machine multiplies such pairs (AVX512-BF16); elsewhere
//! operands are rounded to bf16 as they are packed and multiplied as f32.
//!
//! **Invariant:** an element is one chain of `a·b + c` over k in ascending order, whatever tile it lies in and whichever thread
//! computes it.
#![allow(unsafe_code, reason = "vector instructions take pointers")]

use super::kernel::{Block, DEPTH, Kernel, Left, Operands, Panels, WIDEST};
use super::squares;
use super::vector::{self, Vector};
#[cfg(target_arch = "x86_64")]
use crate::wide::Level;

/// One step of k: a column of the left operand times a row of the right one. A function that is always inlined and loops over
/// numbers, so that the sums stay in registers in builds that optimize little, tests' among them.
///
/// # Safety
/// The machine has `V`; `MR` floats, `row` apart, can be read from `a` on, and `NV` vectors from `b` on.
#[inline(always)]
unsafe fn step<V: Vector, const MR: usize, const NV: usize>(
    acc: &mut [[V; NV]; MR],
    a: *const f32,
    row: usize,
    b: *const f32,
) {
    // SAFETY: the caller's block lies within its slices.
    unsafe {
        let mut columns = [V::zero(); NV];
        let mut j = 0;
        while j < NV {
            columns[j] = V::load(b.wrapping_add(j * V::LANES));
            j += 1;
        }
        let mut i = 0;
        while i < MR {
            let value = V::splat(a.wrapping_add(i * row));
            let mut j = 0;
            while j < NV {
                acc[i][j] = value.times_plus(columns[j], acc[i][j]);
                j += 1;
            }
            i += 1;
        }
    }
}

/// A tile's sums over all of k.
///
/// # Safety
/// As of [`step`], for `depth` steps: `stride` apart from `a` on, and one behind the other from `b` on.
#[inline(always)]
unsafe fn sums<V: Vector, const MR: usize, const NV: usize>(
    depth: usize,
    mut a: *const f32,
    (row, stride): (usize, usize),
    mut b: *const f32,
) -> [[V; NV]; MR] {
    // SAFETY: the caller's block lies within its slices.
    unsafe {
        let mut acc = [[V::zero(); NV]; MR];
        // `wrapping_add`: in builds with debug assertions `add` is checked each time, in the innermost loop.
        let width = NV * V::LANES;
        let mut left = depth;
        while left >= 4 {
            step::<V, MR, NV>(&mut acc, a, row, b);
            step::<V, MR, NV>(&mut acc, a.wrapping_add(stride), row, b.wrapping_add(width));
            step::<V, MR, NV>(&mut acc, a.wrapping_add(2 * stride), row, b.wrapping_add(2 * width));
            step::<V, MR, NV>(&mut acc, a.wrapping_add(3 * stride), row, b.wrapping_add(3 * width));
            a = a.wrapping_add(4 * stride);
            b = b.wrapping_add(4 * width);
            left -= 4;
        }
        while left > 0 {
            step::<V, MR, NV>(&mut acc, a, row, b);
            a = a.wrapping_add(stride);
            b = b.wrapping_add(width);
            left -= 1;
        }
        acc
    }
}

/// Writes the first `rows` and `columns` of a tile whose first element is element (`at.0`, `at.1`) of the block.
///
/// # Safety
/// The machine has `V`, and the block's result can be written for so many rows and columns from `at` on.
#[inline(always)]
unsafe fn write<V: Vector, const MR: usize, const NV: usize>(
    block: &Block,
    tile: &[[V; NV]; MR],
    at: (usize, usize),
    (rows, columns): (usize, usize),
) {
    let out = block.out.full();
    let to = |i: usize, j: usize| out.wrapping_add((at.0 + i) * block.out_row + at.1 + j * V::LANES);
    // SAFETY: as in `sums`; vectors that reach past the block's last column are put together in `whole`.
    unsafe {
        if columns == NV * V::LANES {
            for (j, vectors) in (0..NV).map(|j| (j, tile.iter().map(move |row| row[j]))) {
                let bias = match block.bias {
                    Some(bias) => V::load(bias[at.1 + j * V::LANES..][..V::LANES].as_ptr()),
                    None => V::zero(),
                };
                for (i, vector) in vectors.enumerate().take(rows) {
                    let value = vector.scale(block.scale).add(bias);
                    let value = if block.add { value.add(V::load(to(i, j))) } else { value };
                    value.store(to(i, j));
                }
            }
            return;
        }
        for (i, vectors) in tile.iter().enumerate().take(rows) {
            for (j, vector) in vectors.iter().enumerate() {
                let mut whole = [0.0; WIDEST];
                vector.scale(block.scale).store(whole.as_mut_ptr());
                let first = j * V::LANES;
                for (lane, value) in whole.iter().enumerate().take(columns.saturating_sub(first).min(V::LANES)) {
                    let bias = block.bias.map_or(0.0, |bias| bias[at.1 + first + lane]);
                    let to = to(i, j).add(lane);
                    *to = *value + bias + if block.add { *to } else { 0.0 };
                }
            }
        }
    }
}

/// Room for the rows of the last tile, which lacks some.
const SPARE: usize = 14 * DEPTH;

/// Calls [`sums`] and [`write`] for all tiles of one panel.
///
/// # Safety
/// As of [`block`]; `panel` is one of the block's, from `column` on, and `spare` holds the rows of the last tile, which lacks
/// some, column by column.
#[inline(always)]
unsafe fn panel<V: Vector, const MR: usize, const NV: usize>(
    block: &Block,
    spare: *const f32,
    panel: *const f32,
    column: usize,
    columns: usize,
) {
    let (Left { data, tile, row, step }, depth) = (block.a, block.b.depth);
    let (whole, rest) = (block.rows / MR, block.rows % MR);
    // SAFETY: the caller's block lies within its slices, and `spare` holds the rows of the last tile.
    unsafe {
        for i in 0..whole {
            let found = sums::<V, MR, NV>(depth, data.add(i * tile), (row, step), panel);
            write(block, &found, (i * MR, column), (MR, columns));
        }
        if rest > 0 {
            let found = sums::<V, MR, NV>(depth, spare, (1, MR), panel);
            write(block, &found, (whole * MR, column), (rest, columns));
        }
    }
}

/// All panels of a block.
///
/// # Safety
/// The machine has `V`; the block's operands are packed for its lanes and for tiles of `MR` rows, and every element that it names
/// lies within memory that is borrowed for the call, that of `out` mutably.
#[inline(always)]
unsafe fn block<V: Vector, const MR: usize>(block: &Block) {
    let (Left { data, tile, row, step }, Panels { data: b, depth, columns }) = (block.a, block.b);
    assert!(depth <= DEPTH, "the walk cuts k");
    let (whole, rest) = (block.rows / MR, block.rows % MR);
    // SAFETY: the caller's block lies within its slices.
    unsafe {
        let mut spare = [0.0; SPARE];
        for k in 0..if rest > 0 { depth } else { 0 } {
            for i in 0..rest {
                spare[k * MR + i] = *data.add(whole * tile + i * row + k * step);
            }
        }
        let spare = spare.as_ptr();
        let mut column = 0;
        while column < columns {
            let (left, at) = (columns - column, b.as_ptr().add(column * depth));
            // One vector is enough for the last few columns.
            if left > V::LANES {
                panel::<V, MR, 2>(block, spare, at, column, left.min(2 * V::LANES));
            } else {
                panel::<V, MR, 1>(block, spare, at, column, left);
            }
            column += 2 * V::LANES;
        }
    }
}

impl Kernel {
    /// Computes a block whose operands are packed for this kernel.
    ///
    /// # Safety
    /// Every element that the block names lies within memory that is borrowed for the call, that of `out` mutably.
    pub unsafe fn run(self, job: &Block) {
        #[cfg(target_arch = "x86_64")]
        {
            /// # Safety
            /// As of [`block`], and the machine has the features.
            #[target_feature(enable = "avx512f,avx2,fma")]
            unsafe fn avx512(job: &Block) {
                // SAFETY: the caller's.
                unsafe { block::<vector::Avx512, 14>(job) }
            }
            /// # Safety
            /// As of [`block`], and the machine has the features.
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2(job: &Block) {
                // SAFETY: the caller's.
                unsafe { block::<vector::Avx2, 6>(job) }
            }
            /// # Safety
            /// As of [`block`], and the machine has the features.
            #[target_feature(enable = "avx512f,avx512bf16,avx2,fma")]
            unsafe fn avx512_pairs(job: &Block) {
                // SAFETY: the caller's.
                unsafe { block::<vector::Avx512Pairs, 14>(job) }
            }
            match (self.level, self.operands) {
                #[cfg(target_os = "linux")]
                // SAFETY: the caller's, and the machine has the tiles: there is no kernel of more.
                (Level::Avx512, Operands::Tiles) => return unsafe { squares::by_amx(job) },
                // SAFETY: the caller's, and the machine has the features: there is no kernel of more.
                (Level::Avx512, Operands::Pairs) => return unsafe { avx512_pairs(job) },
                // SAFETY: as above.
                (Level::Avx512, _) => return unsafe { avx512(job) },
                // SAFETY: as above.
                (Level::Avx2, _) => return unsafe { avx2(job) },
                (Level::Portable, _) => {}
            }
        }
        #[cfg(all(target_arch = "aarch64", not(miri)))]
        if self.operands == Operands::Tiles && super::kernel::multiplies_rows() {
            // SAFETY: the caller's, and the machine has the instruction.
            return unsafe { squares::by_mmla(job) };
        }
        #[cfg(test)]
        if self.operands == Operands::Tiles {
            // SAFETY: the caller's.
            return unsafe { squares::imitated(job) };
        }
        #[cfg(test)]
        if self.operands == Operands::Pairs {
            // SAFETY: the caller's.
            return unsafe { block::<vector::FourPairs, 4>(job) };
        }
        // SAFETY: the caller's.
        unsafe { block::<vector::Four, 4>(job) }
    }
}
