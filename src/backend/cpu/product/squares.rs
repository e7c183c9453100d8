//! The kernel of products in bf16 by tiles: a square of two by two of them after the other.
//!
//! **Invariant:** an element is one chain of sums over k in ascending order, whatever tile it lies in and whichever thread computes it.
#![allow(unsafe_code, reason = "tiles are loaded from pointers, by instructions that some machines have")]

use super::super::stored::{Stored, nearest};
use super::kernel::{Block, Left, Panels, Target};
use super::tiles::{SQUARE, Start, Sums, TILE, Tiles, Unit};

/// Computes a block whose operands are packed in whole tiles along k.
///
/// # Safety
/// The machine has what `unit` needs; every element that the block names lies within memory that is borrowed for the call, that of
/// `out` mutably. Rows of the left operand can be read up to a whole number of tiles.
#[inline(always)]
unsafe fn block(job: &Block, unit: impl Unit) {
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
            let out = job.out.from(first * job.out_row + column);
            // Sums that begin with what they are added to, and need nothing more.
            let start = match (job.bias, job.add, out) {
                (None, false, _) => Some(Start::Zero),
                (Some(bias), false, _) => {
                    bias.get(column..column + SQUARE).map(|bias| Start::At { first: bias.as_ptr(), row: 0 })
                }
                (None, true, Target::Full(out)) => Some(Start::At { first: out.cast_const(), row: job.out_row }),
                _ => None,
            };
            let start = start.filter(|_| down == SQUARE && across == SQUARE && job.scale == 1.0);
            match (out, start) {
                // SAFETY: a whole square of the block; the rest is the caller's.
                (Target::Full(out), Some(start)) => unsafe { unit.sums_onto(&tiles, start, out, job.out_row) },
                (Target::Full(out), None) => {
                    // SAFETY: the caller's.
                    unsafe { unit.sums(&tiles, &mut found) };
                    for (i, sums) in found.chunks_exact(SQUARE).enumerate().take(down) {
                        // SAFETY: a part of a row of the result, which the caller's task alone writes.
                        let out = unsafe { std::slice::from_raw_parts_mut(out.wrapping_add(i * job.out_row), across) };
                        write(out, &sums[..across], job, column);
                    }
                }
                (Target::Halves(out), start) => {
                    match start {
                        // SAFETY: `found` has room for a square; the rest is the caller's.
                        Some(start) => unsafe { unit.sums_onto(&tiles, start, found.as_mut_ptr(), SQUARE) },
                        // SAFETY: the caller's.
                        None => unsafe { unit.sums(&tiles, &mut found) },
                    }
                    for (i, sums) in found.chunks_exact(SQUARE).enumerate().take(down) {
                        // SAFETY: as above.
                        let out = unsafe { std::slice::from_raw_parts_mut(out.wrapping_add(i * job.out_row), across) };
                        match start {
                            Some(_) => out.iter_mut().zip(sums).for_each(|(out, sum)| *out = nearest(*sum)),
                            None => write(out, &sums[..across], job, column),
                        }
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

/// By AMX.
///
/// # Safety
/// As of [`block`]; the machine has the tiles and AVX-512.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
pub(super) unsafe fn by_amx(job: &Block) {
    use super::amx;

    // SAFETY: the machine has the tiles, which nothing else in this thread uses.
    unsafe { amx::configure() };
    // SAFETY: the tiles are ready, and the caller's block holds as many as are read.
    unsafe { block(job, amx::Amx) };
    // SAFETY: as above.
    unsafe { amx::release() };
}

/// By `bfmmla`.
///
/// # Safety
/// As of [`block`]; the machine has the instruction.
#[cfg(all(target_arch = "aarch64", not(miri)))]
#[target_feature(enable = "neon,bf16")]
pub(super) unsafe fn by_mmla(job: &Block) {
    // SAFETY: the machine has it, and the caller's block holds as many tiles as are read.
    unsafe { block(job, super::mmla::Mmla) };
}

/// What AMX computes, for machines that have none: how packing and walking are tested everywhere.
///
/// # Safety
/// As of [`block`].
#[cfg(test)]
pub(super) unsafe fn imitated(job: &Block) {
    // SAFETY: the caller's.
    unsafe { block(job, super::amx::Imitation) }
}
