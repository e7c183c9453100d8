//! The kernel of products in bf16 by tiles of AMX: a square of two by two of them after the other.
//!
//! **Invariant:** an element is one chain of sums over k in ascending order, whatever tile it lies in and whichever thread computes it.
#![allow(unsafe_code, reason = "tiles are loaded from pointers, by instructions that some machines have")]

use super::super::stored::{Stored, nearest};
use super::amx::{SQUARE, Start, Sums, TILE, Tiles};
use super::kernel::{Block, Left, Panels, Target};

/// What computes tiles: the machine's unit, or what imitates it.
trait Unit {
    /// Sums of up to two by two tiles, in rows of [`SQUARE`].
    ///
    /// # Safety
    /// The machine has what it needs, made ready; as many tiles of both operands can be read.
    unsafe fn sums(&self, tiles: &Tiles, to: &mut Sums);

    /// Sums of two by two tiles onto what they begin with, from `to` on in rows `to_row` floats apart.
    ///
    /// # Safety
    /// As of `sums`; so many rows of the start can be read, and of the sums written.
    unsafe fn sums_onto(&self, tiles: &Tiles, start: Start, to: *mut f32, to_row: usize);
}

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

/// By the machine's unit.
///
/// # Safety
/// As of [`block`]; the machine has the tiles and AVX-512.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
pub(super) unsafe fn by_unit(job: &Block) {
    use super::amx;

    struct Amx;
    impl Unit for Amx {
        #[inline(always)]
        unsafe fn sums(&self, tiles: &Tiles, to: &mut Sums) {
            // SAFETY: the caller's.
            unsafe { amx::sums(tiles, to) }
        }
        #[inline(always)]
        unsafe fn sums_onto(&self, tiles: &Tiles, start: Start, to: *mut f32, to_row: usize) {
            // SAFETY: the caller's.
            unsafe { amx::sums_onto(tiles, start, to, to_row) }
        }
    }
    // SAFETY: the machine has the tiles, which nothing else in this thread uses.
    unsafe { amx::configure() };
    // SAFETY: the tiles are ready, and the caller's block holds as many as are read.
    unsafe { block(job, Amx) };
    // SAFETY: as above.
    unsafe { amx::release() };
}

/// What the tiles' instructions compute, for machines that have none: how packing and walking are tested everywhere.
///
/// # Safety
/// As of [`block`].
#[cfg(test)]
pub(super) unsafe fn imitated(job: &Block) {
    struct Imitation;
    impl Imitation {
        /// Element (i, j) of the sums, from `sum` on.
        unsafe fn sum(tiles: &Tiles, (i, j): (usize, usize), mut sum: f32) -> f32 {
            let half = |pair: f32, high: bool| {
                f32::from_bits(if high { pair.to_bits() & 0xffff_0000 } else { pair.to_bits() << 16 })
            };
            let across = if tiles.two_across { SQUARE } else { TILE };
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
            sum
        }
    }
    impl Unit for Imitation {
        unsafe fn sums(&self, tiles: &Tiles, to: &mut Sums) {
            for i in 0..if tiles.two_down { SQUARE } else { TILE } {
                for j in 0..if tiles.two_across { SQUARE } else { TILE } {
                    // SAFETY: the caller's.
                    to[i * SQUARE + j] = unsafe { Imitation::sum(tiles, (i, j), 0.0) };
                }
            }
        }
        unsafe fn sums_onto(&self, tiles: &Tiles, start: Start, to: *mut f32, to_row: usize) {
            for (i, j) in (0..SQUARE * SQUARE).map(|at| (at / SQUARE, at % SQUARE)) {
                // SAFETY: the caller's.
                unsafe {
                    let start = match start {
                        Start::Zero => 0.0,
                        Start::At { first, row } => *first.wrapping_add(i * row + j),
                    };
                    *to.wrapping_add(i * to_row + j) = Imitation::sum(tiles, (i, j), start);
                }
            }
        }
    }
    // SAFETY: the caller's.
    unsafe { block(job, Imitation) }
}
