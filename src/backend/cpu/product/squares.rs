//! The kernel of products in bf16 by tiles of AMX: a square of two by two of them after the other.
//!
//! **Invariant:** an element is one chain of sums over k in ascending order, whatever tile it lies in and whichever thread computes it.
#![allow(unsafe_code, reason = "tiles are loaded from pointers, by instructions that some machines have")]

use super::super::stored::Stored;
use super::amx::{SQUARE, Sums, TILE, Tiles};
use super::kernel::{Block, Left, Panels, Target};

/// Computes a block whose operands are packed in whole tiles along k.
///
/// # Safety
/// `sums` is one of those below, and the machine has what it needs; every element that the block names lies within memory that is
/// borrowed for the call, that of `out` mutably. Rows of the left operand can be read up to a whole number of tiles.
#[inline(always)]
unsafe fn block(job: &Block, sums: impl Fn(&Tiles, &mut Sums)) {
    let (Left { data, tile, row, step }, Panels { data: panels, depth, columns }) = (job.a, job.b);
    let mut found: Sums = [0.0; SQUARE * SQUARE];
    for column in (0..columns).step_by(SQUARE) {
        let across = SQUARE.min(columns - column);
        for first in (0..job.rows).step_by(SQUARE) {
            let down = SQUARE.min(job.rows - first);
            let tiles = Tiles {
                left: data.wrapping_add(first / SQUARE * tile),
                left_row: row,
                left_step: step,
                right: panels[column * depth..].as_ptr(),
                along: depth / TILE,
                two_down: down > TILE,
                two_across: across > TILE,
            };
            sums(&tiles, &mut found);
            for (i, sums) in found.chunks_exact(SQUARE).enumerate().take(down) {
                let at = (first + i) * job.out_row + column;
                // SAFETY: a part of a row of the result, which the caller's task alone writes.
                match job.out {
                    Target::Full(out) => {
                        let out = unsafe { std::slice::from_raw_parts_mut(out.wrapping_add(at), across) };
                        write(out, &sums[..across], job, column);
                    }
                    // SAFETY: as above.
                    Target::Halves(out) => {
                        let out = unsafe { std::slice::from_raw_parts_mut(out.wrapping_add(at), across) };
                        write(out, &sums[..across], job, column);
                    }
                }
            }
        }
    }
}

/// What becomes of sums of one row, from `column` on.
#[inline(always)]
fn write<T: Stored<f32>>(out: &mut [T], sums: &[f32], job: &Block, column: usize) {
    let scale = job.scale;
    match (job.add, job.bias) {
        (false, None) => out.iter_mut().zip(sums).for_each(|(out, sum)| *out = T::narrow(sum * scale)),
        (true, None) => out.iter_mut().zip(sums).for_each(|(out, sum)| *out = T::narrow(out.widen() + sum * scale)),
        (add, Some(bias)) => {
            for ((out, sum), bias) in out.iter_mut().zip(sums).zip(&bias[column..]) {
                *out = T::narrow(sum * scale + bias + if add { out.widen() } else { 0.0 });
            }
        }
    }
}

/// By the machine's unit.
///
/// # Safety
/// As of [`block`]; the machine has the tiles and AVX-512.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
pub(super) unsafe fn by_unit(job: &Block) {
    use super::amx::{configure, release, sums};
    // SAFETY: the machine has the tiles, which nothing else in this thread uses.
    unsafe { configure() };
    // SAFETY: the tiles are ready, and the caller's block holds as many as are read.
    unsafe { block(job, |tiles, to| sums(tiles, to)) };
    // SAFETY: as above.
    unsafe { release() };
}

/// What the tiles' instructions compute, for machines that have none: how packing and walking are tested everywhere.
///
/// # Safety
/// As of [`block`].
#[cfg(test)]
pub(super) unsafe fn imitated(job: &Block) {
    let half =
        |pair: f32, high: bool| f32::from_bits(if high { pair.to_bits() & 0xffff_0000 } else { pair.to_bits() << 16 });
    let sums = |tiles: &Tiles, to: &mut Sums| {
        let across = if tiles.two_across { SQUARE } else { TILE };
        for i in 0..if tiles.two_down { SQUARE } else { TILE } {
            for j in 0..across {
                let mut sum = 0.0;
                for k in 0..tiles.along * TILE {
                    // SAFETY: the block's operands hold so many tiles.
                    let (a, b) = unsafe {
                        let left = k / TILE * tiles.left_step + i * tiles.left_row + k % TILE;
                        (*tiles.left.wrapping_add(left), *tiles.right.wrapping_add(k * across + j))
                    };
                    // The manual has it so: odd numbers after even ones, without rounding between product and sum.
                    sum = half(a, false).mul_add(half(b, false), sum);
                    sum = half(a, true).mul_add(half(b, true), sum);
                }
                to[i * SQUARE + j] = sum;
            }
        }
    };
    // SAFETY: the caller's.
    unsafe { block(job, sums) }
}
