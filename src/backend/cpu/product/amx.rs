//! AMX, whose registers are tiles: sixteen rows of 64 bytes.
//!
//! One instruction adds the product of two tiles to a tile of the result. Two by two are computed together, for which two and two are
//! loaded: [`super::squares`] makes products of them.
#![allow(unsafe_code, reason = "tiles are loaded from pointers, by instructions that some machines have")]

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod unit {
    use std::arch::asm;
    use std::arch::x86_64::__cpuid_count;
    use std::sync::OnceLock;

    use super::super::tiles::{SQUARE, Start, Sums, TILE, Tiles, Unit};
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

    /// Makes the tiles of this thread ready.
    ///
    /// # Safety
    /// The machine has them, and nothing else in this thread uses them until [`release`].
    pub unsafe fn configure() {
        // SAFETY: the caller's.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &SHAPE, options(nostack, readonly)) };
    }

    /// The system need not save them any longer.
    ///
    /// # Safety
    /// The machine has them.
    pub unsafe fn release() {
        // SAFETY: the caller's.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }

    /// The machine's own.
    pub struct Amx;

    impl Unit for Amx {
        #[inline(always)]
        unsafe fn sums(&self, tiles: &Tiles, to: &mut Sums) {
            // SAFETY: the caller's.
            unsafe { sums(tiles, to) }
        }
        #[inline(always)]
        unsafe fn sums_onto(&self, tiles: &Tiles, start: Start, to: *mut f32, to_row: usize) {
            // SAFETY: the caller's.
            unsafe { sums_onto(tiles, start, to, to_row) }
        }
    }

    /// The instructions that sum up to two by two tiles: those before k, for each tile along it, and after.
    macro_rules! sum {
        ($tiles:expr, $to:expr, [$($before:literal),*], [$($step:literal),*], [$($after:literal),*]) => {
            asm!(
                $($before,)*
                "2:",
                $($step,)*
                "add {left}, {left_step}",
                "add {below}, {left_step}",
                "add {right}, {right_step}",
                "dec {along}",
                "jnz 2b",
                $($after,)*
                left = inout(reg) $tiles.left => _,
                below = inout(reg) $tiles.left.wrapping_add(TILE * $tiles.left_row) => _,
                left_row = in(reg) 4 * $tiles.left_row,
                left_step = in(reg) 4 * $tiles.left_step,
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

    /// The instructions that sum two by two tiles onto what is given, and write the sums where they belong.
    macro_rules! sum_onto {
        ($tiles:expr, ($to:expr, $to_row:expr), ($first:expr, $row:expr), [$($before:literal),*]) => {
            asm!(
                $($before,)*
                "2:",
                "tileloadd tmm4, [{left} + {left_row}]",
                "tileloadd tmm6, [{right} + {right_row}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{right} + {right_row} + 64]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{below} + {left_row}]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {left}, {left_step}",
                "add {below}, {left_step}",
                "add {right}, 2048",
                "dec {along}",
                "jnz 2b",
                "tilestored [{to} + {to_row}], tmm0",
                "tilestored [{to} + {to_row} + 64], tmm1",
                // Sixteen rows on.
                "lea {left}, [{to_row} * 8]",
                "lea {to}, [{to} + {left} * 2]",
                "tilestored [{to} + {to_row}], tmm2",
                "tilestored [{to} + {to_row} + 64], tmm3",
                left = inout(reg) $tiles.left => _,
                below = inout(reg) $tiles.left.wrapping_add(TILE * $tiles.left_row) => _,
                left_row = in(reg) 4 * $tiles.left_row,
                left_step = in(reg) 4 * $tiles.left_step,
                right = inout(reg) $tiles.right => _,
                right_row = in(reg) 4 * SQUARE,
                along = inout(reg) $tiles.along => _,
                to = inout(reg) $to => _,
                to_row = in(reg) 4 * $to_row,
                first = in(reg) $first,
                middle = in(reg) $first.wrapping_add(TILE * $row),
                row = in(reg) 4 * $row,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            )
        };
    }

    /// Writes the sums of two by two tiles from `to` on, in rows `to_row` floats apart; what they begin with may lie there too.
    ///
    /// # Safety
    /// The tiles are ready, there are two by two of them, and as many of both operands and of the start can be read, and of the sums
    /// written.
    unsafe fn sums_onto(tiles: &Tiles, start: Start, to: *mut f32, to_row: usize) {
        assert!(tiles.along > 0 && tiles.two_down && tiles.two_across, "whole squares, and k in whole tiles");
        // SAFETY: the caller's.
        unsafe {
            match start {
                Start::Zero => sum_onto!(
                    tiles,
                    (to, to_row),
                    (to.cast_const(), 0_usize),
                    [
                        // Nothing is read of a start: its registers are named, so that both are one text.
                        "/* {first} {middle} {row} */",
                        "tilezero tmm0",
                        "tilezero tmm1",
                        "tilezero tmm2",
                        "tilezero tmm3"
                    ]
                ),
                Start::At { first, row } => sum_onto!(
                    tiles,
                    (to, to_row),
                    (first, row),
                    [
                        "tileloadd tmm0, [{first} + {row}]",
                        "tileloadd tmm1, [{first} + {row} + 64]",
                        "tileloadd tmm2, [{middle} + {row}]",
                        "tileloadd tmm3, [{middle} + {row} + 64]"
                    ]
                ),
            }
        }
    }

    /// Writes the sums of up to two by two tiles, in rows of [`SQUARE`].
    ///
    /// # Safety
    /// The tiles are ready, and as many of both operands can be read.
    unsafe fn sums(tiles: &Tiles, to: &mut Sums) {
        assert!(tiles.along > 0, "k is packed in whole tiles");
        // SAFETY: the caller's; `to` has room for all four.
        unsafe {
            match (tiles.two_down, tiles.two_across) {
                (true, true) => sums_onto(tiles, Start::Zero, to.as_mut_ptr(), SQUARE),
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
pub(super) use unit::{Amx, configure, is_there, release};

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub(super) fn is_there() -> bool {
    false
}

/// What the tiles' instructions compute, in Rust.
#[cfg(test)]
pub(super) struct Imitation;

#[cfg(test)]
mod imitation {
    use super::super::tiles::{SQUARE, Start, Sums, TILE, Tiles, Unit};
    use super::Imitation;

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

    impl Unit for Imitation {
        unsafe fn sums(&self, tiles: &Tiles, to: &mut Sums) {
            for i in 0..if tiles.two_down { SQUARE } else { TILE } {
                for j in 0..if tiles.two_across { SQUARE } else { TILE } {
                    // SAFETY: the caller's.
                    to[i * SQUARE + j] = unsafe { sum(tiles, (i, j), 0.0) };
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
                    *to.wrapping_add(i * to_row + j) = sum(tiles, (i, j), start);
                }
            }
        }
    }
}
