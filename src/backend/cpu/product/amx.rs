//! The kernel of products in bf16 for machines with AMX, whose registers are tiles: sixteen rows of 64 bytes.
//!
//! A tile of the left operand holds 16 rows of 16 pairs along k, one of the right operand 16 pairs along k of 16 columns, and one
//! instruction adds their product to a tile of the result. Two by two tiles are computed together, for which two and two are loaded.
//!
//! **Invariant:** an element is one chain of sums over k in ascending order, whatever tile it lies in and whichever thread computes it.
#![allow(unsafe_code, reason = "tiles are loaded from pointers, by instructions that some machines have")]

use super::kernel::{Block, Left, Panels};

/// Rows and columns of a tile of the result, and pairs along k of those of operands.
pub(super) const TILE: usize = 16;
/// Rows and columns that are computed together.
pub(super) const SQUARE: usize = 2 * TILE;

/// Sums of up to two by two tiles.
type Sums = [f32; SQUARE * SQUARE];

/// Two operands from the first pair on, and how many tiles there are along k, down and across.
#[derive(Clone, Copy)]
struct Tiles {
    /// Rows of pairs, `left_row` floats apart.
    left: *const f32,
    left_row: usize,
    /// Rows of as many pairs as there are columns, one behind the other.
    right: *const f32,
    along: usize,
    two_down: bool,
    two_across: bool,
}

/// Computes a block whose operands are packed in whole tiles along k.
///
/// # Safety
/// `sums` is one of those below, and the machine has what it needs; every element that the block names lies within memory that is
/// borrowed for the call, that of `out` mutably. Rows of the left operand can be read up to a whole number of tiles.
#[inline(always)]
unsafe fn block(job: &Block, sums: impl Fn(&Tiles, &mut Sums)) {
    let (Left { data, tile, row, .. }, Panels { data: panels, depth, columns }) = (job.a, job.b);
    let mut found: Sums = [0.0; SQUARE * SQUARE];
    for column in (0..columns).step_by(SQUARE) {
        let across = SQUARE.min(columns - column);
        for first in (0..job.rows).step_by(SQUARE) {
            let down = SQUARE.min(job.rows - first);
            let tiles = Tiles {
                left: data.wrapping_add(first / SQUARE * tile),
                left_row: row,
                right: panels[column * depth..].as_ptr(),
                along: depth / TILE,
                two_down: down > TILE,
                two_across: across > TILE,
            };
            sums(&tiles, &mut found);
            for (i, sums) in found.chunks_exact(SQUARE).enumerate().take(down) {
                let at = (first + i) * job.out_row + column;
                // SAFETY: a part of a row of the result, which the caller's task alone writes.
                let out = unsafe { std::slice::from_raw_parts_mut(job.out.wrapping_add(at), across) };
                write(out, &sums[..across], job, column);
            }
        }
    }
}

/// What becomes of sums of one row, from `column` on.
#[inline(always)]
fn write(out: &mut [f32], sums: &[f32], job: &Block, column: usize) {
    let scale = job.scale;
    match (job.add, job.bias) {
        (false, None) => out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum * scale),
        (true, None) => out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum * scale),
        (add, Some(bias)) => {
            for ((out, sum), bias) in out.iter_mut().zip(sums).zip(&bias[column..]) {
                *out = sum * scale + bias + if add { *out } else { 0.0 };
            }
        }
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod unit {
    use std::arch::asm;
    use std::arch::x86_64::__cpuid_count;
    use std::sync::OnceLock;

    use super::{Block, SQUARE, Sums, TILE, Tiles};
    use crate::wide::Level;

    /// Whether the machine has the tiles, and the system lets this process use them.
    pub fn is_there() -> bool {
        static THERE: OnceLock<bool> = OnceLock::new();
        *THERE.get_or_init(|| {
            // Intel's manual, volume 2, CPUID leaf 7: bit 22 is products of bf16, bit 24 the tiles.
            const BF16_AND_TILES: u32 = 1 << 22 | 1 << 24;
            let has = Level::of_the_machine() == Level::Avx512
                && is_x86_feature_detected!("avx512bf16")
                && __cpuid_count(0, 0).eax >= 7
                && __cpuid_count(7, 0).edx & BF16_AND_TILES == BF16_AND_TILES;
            has && permitted()
        })
    }

    /// Linux keeps the tiles' eight KiB for a process that asks: `arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA)`, "Using XSTATE features
    /// in user space applications" in its documentation.
    fn permitted() -> bool {
        const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
        const XTILEDATA: libc::c_long = 18;
        // SAFETY: it changes nothing but what the system saves of this process's registers.
        unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) == 0 }
    }

    /// Eight tiles of sixteen rows of 64 bytes.
    #[repr(C, align(64))]
    struct Shape {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        bytes: [u16; 16],
        rows: [u8; 16],
    }

    const SHAPE: Shape = Shape {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
        rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
    };

    /// # Safety
    /// As of [`super::block`]; the machine has the tiles and AVX-512.
    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
    pub unsafe fn block(job: &Block) {
        // SAFETY: the machine has the tiles, which nothing else in this thread uses.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &SHAPE, options(nostack, readonly)) };
        // SAFETY: the caller's.
        unsafe { super::block(job, sums) };
        // SAFETY: as above; the system need not save them any longer.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }

    /// The instructions that sum up to two by two tiles: those before k, for each tile along it, and after.
    macro_rules! sum {
        ($tiles:expr, $to:expr, [$($before:literal),*], [$($step:literal),*], [$($after:literal),*]) => {
            asm!(
                $($before,)*
                "2:",
                $($step,)*
                "add {left}, 64",
                "add {below}, 64",
                "add {right}, {right_step}",
                "dec {along}",
                "jnz 2b",
                $($after,)*
                left = inout(reg) $tiles.left => _,
                below = inout(reg) $tiles.left.wrapping_add(TILE * $tiles.left_row) => _,
                left_row = in(reg) 4 * $tiles.left_row,
                right = inout(reg) $tiles.right => _,
                right_row = in(reg) if $tiles.two_across { 4 * SQUARE } else { 4 * TILE },
                right_step = in(reg) if $tiles.two_across { 4 * SQUARE * TILE } else { 4 * TILE * TILE },
                along = inout(reg) $tiles.along => _,
                to = in(reg) $to.as_mut_ptr(),
                to_row = in(reg) 4 * SQUARE,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            )
        };
    }

    fn sums(tiles: &Tiles, to: &mut Sums) {
        assert!(tiles.along > 0, "k is packed in whole tiles");
        // SAFETY: `super::block` has it that so many tiles can be read; `to` has room for all four.
        unsafe {
            match (tiles.two_down, tiles.two_across) {
                (true, true) => sum!(
                    tiles,
                    to,
                    ["tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3"],
                    [
                        "tileloadd tmm4, [{left} + {left_row}]",
                        "tileloadd tmm6, [{right} + {right_row}]",
                        "tdpbf16ps tmm0, tmm4, tmm6",
                        "tileloadd tmm7, [{right} + {right_row} + 64]",
                        "tdpbf16ps tmm1, tmm4, tmm7",
                        "tileloadd tmm5, [{below} + {left_row}]",
                        "tdpbf16ps tmm2, tmm5, tmm6",
                        "tdpbf16ps tmm3, tmm5, tmm7"
                    ],
                    [
                        "tilestored [{to} + {to_row}], tmm0",
                        "tilestored [{to} + {to_row} + 64], tmm1",
                        "tilestored [{to} + {to_row} + 2048], tmm2",
                        "tilestored [{to} + {to_row} + 2112], tmm3"
                    ]
                ),
                (true, false) => sum!(
                    tiles,
                    to,
                    ["tilezero tmm0", "tilezero tmm2"],
                    [
                        "tileloadd tmm4, [{left} + {left_row}]",
                        "tileloadd tmm6, [{right} + {right_row}]",
                        "tdpbf16ps tmm0, tmm4, tmm6",
                        "tileloadd tmm5, [{below} + {left_row}]",
                        "tdpbf16ps tmm2, tmm5, tmm6"
                    ],
                    ["tilestored [{to} + {to_row}], tmm0", "tilestored [{to} + {to_row} + 2048], tmm2"]
                ),
                (false, true) => sum!(
                    tiles,
                    to,
                    ["tilezero tmm0", "tilezero tmm1"],
                    [
                        "tileloadd tmm4, [{left} + {left_row}]",
                        "tileloadd tmm6, [{right} + {right_row}]",
                        "tdpbf16ps tmm0, tmm4, tmm6",
                        "tileloadd tmm7, [{right} + {right_row} + 64]",
                        "tdpbf16ps tmm1, tmm4, tmm7"
                    ],
                    ["tilestored [{to} + {to_row}], tmm0", "tilestored [{to} + {to_row} + 64], tmm1"]
                ),
                (false, false) => sum!(
                    tiles,
                    to,
                    ["tilezero tmm0"],
                    [
                        "tileloadd tmm4, [{left} + {left_row}]",
                        "tileloadd tmm6, [{right} + {right_row}]",
                        "tdpbf16ps tmm0, tmm4, tmm6"
                    ],
                    ["tilestored [{to} + {to_row}], tmm0"]
                ),
            }
        }
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(super) use unit::{block as by_unit, is_there};

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub(super) fn is_there() -> bool {
    false
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
                        (*tiles.left.wrapping_add(i * tiles.left_row + k), *tiles.right.wrapping_add(k * across + j))
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
