//! `bfmmla`, Arm's instruction on matrices of bf16 (Armv8.6): two rows of four numbers along k times two columns of four, added to two
//! by two floats.
//!
//! Eight by eight elements of a square are computed together, in sixteen registers of two by two. Operands lie in tiles
//! ([`super::tiles`]): of two rows the halves of their registers that are one behind the other along k make a left operand, of two rows
//! of pairs the floats of one column after the other make a right one.
#![allow(unsafe_code, reason = "tiles are loaded from pointers, by instructions that some machines have")]

use super::tiles::{SQUARE, Start, Sums, TILE, Tiles, Unit};

/// Rows and columns that are computed together, and how many registers of two rows or two columns these are.
const SIDE: usize = 8;
const REGISTERS: usize = SIDE / 2;

/// A register of four floats, each of which may be a pair of bf16.
trait Register: Copy {
    fn zero() -> Self;
    /// # Safety
    /// Four floats can be read.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// Four floats can be written.
    unsafe fn store(self, to: *mut f32);
    /// The first two floats of both.
    fn first_halves(self, other: Self) -> Self;
    /// The last two.
    fn last_halves(self, other: Self) -> Self;
    /// The first two floats of both, in turn.
    fn first_woven(self, other: Self) -> Self;
    /// The last two.
    fn last_woven(self, other: Self) -> Self;
    /// Two by two floats, the first row before the second, and the products added of both rows of `a` with both of `b`.
    ///
    /// # Safety
    /// The machine has the instruction.
    unsafe fn plus_products(self, a: Self, b: Self) -> Self;
}

/// Sums of the eight rows and columns from `row` and `column` of a square on, onto `start`, to `to` in rows `to_row` floats apart.
///
/// # Safety
/// The machine has the instruction; so many tiles can be read, rows of the start too, and sums can be written.
#[inline(always)]
unsafe fn part<R: Register>(tiles: &Tiles, (row, column): (usize, usize), start: Start, to: *mut f32, to_row: usize) {
    let across = if tiles.two_across { SQUARE } else { TILE };
    let mut sums = [[R::zero(); REGISTERS]; REGISTERS];
    // SAFETY: the caller's.
    unsafe {
        if let Start::At { first, row: between } = start {
            for (i, sums) in sums.iter_mut().enumerate() {
                for j in 0..REGISTERS / 2 {
                    let at = |i: usize| R::load(first.wrapping_add((row + i) * between + column + 4 * j));
                    let (above, below) = (at(2 * i), at(2 * i + 1));
                    (sums[2 * j], sums[2 * j + 1]) = (above.first_halves(below), above.last_halves(below));
                }
            }
        }
        let left = tiles.left.wrapping_add(row * tiles.left_row);
        let right = tiles.right.wrapping_add(column);
        for quarter in 0..tiles.along * TILE / 4 {
            // Four pairs of each row: two operands along k.
            let left = left.wrapping_add(quarter / 4 * tiles.left_step + quarter % 4 * 4);
            let rows: [(R, R); REGISTERS] = std::array::from_fn(|i| {
                let row = |i: usize| R::load(left.wrapping_add(i * tiles.left_row));
                (row(2 * i), row(2 * i + 1))
            });
            let a = [
                rows.map(|(above, below)| above.first_halves(below)),
                rows.map(|(above, below)| above.last_halves(below)),
            ];
            for (half, a) in a.iter().enumerate() {
                let right = right.wrapping_add((4 * quarter + 2 * half) * across);
                let mut b = [R::zero(); REGISTERS];
                for j in 0..REGISTERS / 2 {
                    let first = R::load(right.wrapping_add(4 * j));
                    let second = R::load(right.wrapping_add(across + 4 * j));
                    (b[2 * j], b[2 * j + 1]) = (first.first_woven(second), first.last_woven(second));
                }
                for (sums, a) in sums.iter_mut().zip(a) {
                    for (sum, b) in sums.iter_mut().zip(b) {
                        *sum = sum.plus_products(*a, b);
                    }
                }
            }
        }
        for (i, sums) in sums.iter().enumerate() {
            for j in 0..REGISTERS / 2 {
                let to = to.wrapping_add((row + 2 * i) * to_row + column + 4 * j);
                sums[2 * j].first_halves(sums[2 * j + 1]).store(to);
                sums[2 * j].last_halves(sums[2 * j + 1]).store(to.wrapping_add(to_row));
            }
        }
    }
}

/// All parts of up to two by two tiles: those of the same columns one after the other, whose right operand stays in the first-level cache.
///
/// # Safety
/// As of [`part`].
#[inline(always)]
unsafe fn parts<R: Register>(tiles: &Tiles, start: Start, to: *mut f32, to_row: usize) {
    let side = |two: bool| if two { SQUARE } else { TILE };
    for column in (0..side(tiles.two_across)).step_by(SIDE) {
        for row in (0..side(tiles.two_down)).step_by(SIDE) {
            // SAFETY: the caller's.
            unsafe { part::<R>(tiles, (row, column), start, to, to_row) };
        }
    }
}

#[cfg(all(target_arch = "aarch64", not(miri)))]
pub(super) use unit::Mmla;

#[cfg(all(target_arch = "aarch64", not(miri)))]
mod unit {
    use std::arch::aarch64::*;
    use std::arch::asm;

    use super::{Register, SQUARE, Start, Sums, Tiles, Unit, parts};

    #[derive(Clone, Copy)]
    struct Neon(float32x4_t);

    impl Register for Neon {
        #[inline(always)]
        fn zero() -> Self {
            // SAFETY: every machine of the target has NEON.
            Neon(unsafe { vdupq_n_f32(0.0) })
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller's.
            Neon(unsafe { vld1q_f32(from) })
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller's.
            unsafe { vst1q_f32(to, self.0) }
        }
        #[inline(always)]
        fn first_halves(self, other: Self) -> Self {
            // SAFETY: every machine of the target has NEON.
            Neon(unsafe {
                vreinterpretq_f32_f64(vzip1q_f64(vreinterpretq_f64_f32(self.0), vreinterpretq_f64_f32(other.0)))
            })
        }
        #[inline(always)]
        fn last_halves(self, other: Self) -> Self {
            // SAFETY: every machine of the target has NEON.
            Neon(unsafe {
                vreinterpretq_f32_f64(vzip2q_f64(vreinterpretq_f64_f32(self.0), vreinterpretq_f64_f32(other.0)))
            })
        }
        #[inline(always)]
        fn first_woven(self, other: Self) -> Self {
            // SAFETY: every machine of the target has NEON.
            Neon(unsafe { vzip1q_f32(self.0, other.0) })
        }
        #[inline(always)]
        fn last_woven(self, other: Self) -> Self {
            // SAFETY: every machine of the target has NEON.
            Neon(unsafe { vzip2q_f32(self.0, other.0) })
        }
        // The compiler's own name for it is not stable.
        #[inline(always)]
        unsafe fn plus_products(mut self, a: Self, b: Self) -> Self {
            // SAFETY: the caller's; three registers, and nothing else.
            unsafe {
                asm!(
                    "bfmmla {sum:v}.4s, {a:v}.8h, {b:v}.8h",
                    sum = inout(vreg) self.0,
                    a = in(vreg) a.0,
                    b = in(vreg) b.0,
                    options(pure, nomem, nostack, preserves_flags)
                );
            }
            self
        }
    }

    /// The machine's own.
    pub struct Mmla;

    impl Unit for Mmla {
        #[inline(always)]
        unsafe fn sums(&self, tiles: &Tiles, to: &mut Sums) {
            // SAFETY: the caller's; `to` has room for all four tiles.
            unsafe { parts::<Neon>(tiles, Start::Zero, to.as_mut_ptr(), SQUARE) }
        }
        #[inline(always)]
        unsafe fn sums_onto(&self, tiles: &Tiles, start: Start, to: *mut f32, to_row: usize) {
            // SAFETY: the caller's.
            unsafe { parts::<Neon>(tiles, start, to, to_row) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::stored::bf16;
    use super::super::amx;
    use super::*;

    /// What a register holds and the instruction computes, in Rust.
    #[derive(Clone, Copy)]
    struct Four([f32; 4]);

    impl Register for Four {
        fn zero() -> Self {
            Four([0.0; 4])
        }
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller's.
            Four(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
        }
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller's.
            unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
        }
        fn first_halves(self, other: Self) -> Self {
            Four([self.0[0], self.0[1], other.0[0], other.0[1]])
        }
        fn last_halves(self, other: Self) -> Self {
            Four([self.0[2], self.0[3], other.0[2], other.0[3]])
        }
        fn first_woven(self, other: Self) -> Self {
            Four([self.0[0], other.0[0], self.0[1], other.0[1]])
        }
        fn last_woven(self, other: Self) -> Self {
            Four([self.0[2], other.0[2], self.0[3], other.0[3]])
        }
        unsafe fn plus_products(self, a: Self, b: Self) -> Self {
            let numbers = |pairs: &[f32]| {
                let halves = |pair: &f32| [pair.to_bits() as u16, (pair.to_bits() >> 16) as u16];
                pairs.iter().flat_map(halves).map(|bits| bf16::from_bits(bits).to_f32()).collect::<Vec<_>>()
            };
            let product = |i: usize, j: usize| -> f32 {
                let (row, column) = (numbers(&a.0[2 * i..2 * i + 2]), numbers(&b.0[2 * j..2 * j + 2]));
                row.iter().zip(&column).map(|(x, y)| x * y).sum()
            };
            Four(std::array::from_fn(|at| self.0[at] + product(at / 2, at % 2)))
        }
    }

    /// Small whole numbers, of which every sum is exact, in pairs.
    fn pairs(count: usize, factor: usize) -> Vec<f32> {
        let number = |i: usize| u32::from(bf16::from_f32((i * factor % 17) as f32 - 8.0).to_bits());
        (0..count).map(|i| f32::from_bits(number(2 * i + 1) << 16 | number(2 * i))).collect()
    }

    /// Of one to two by two tiles, whose rows lie apart and behind one another, onto nothing, a row and rows.
    #[test]
    fn parts_are_those_that_tiles_of_amx_give() {
        let (along, apart) = (3, 5);
        let left_row = along * TILE + apart;
        let (left, right) = (pairs(SQUARE * left_row, 7), pairs(SQUARE * TILE * along, 11));
        let begin: Vec<f32> = (0..SQUARE * SQUARE).map(|i| (i % 23) as f32).collect();
        for (two_down, two_across) in [(false, false), (true, false), (false, true), (true, true)] {
            let (left, right) = (left.as_ptr(), right.as_ptr());
            let tiles = Tiles { left, left_row, left_step: TILE, right, along, two_down, two_across };
            let (mut found, mut expected): (Sums, Sums) = ([0.0; SQUARE * SQUARE], [0.0; SQUARE * SQUARE]);
            // SAFETY: the operands hold three times two by two tiles.
            unsafe {
                parts::<Four>(&tiles, Start::Zero, found.as_mut_ptr(), SQUARE);
                amx::Imitation.sums(&tiles, &mut expected);
            }
            assert!(found == expected, "{two_down} {two_across}");
            for row in [0, SQUARE] {
                if !two_down || !two_across {
                    continue;
                }
                let start = Start::At { first: begin.as_ptr(), row };
                // SAFETY: as above, and both have room for a square.
                unsafe {
                    parts::<Four>(&tiles, start, found.as_mut_ptr(), SQUARE);
                    amx::Imitation.sums_onto(&tiles, start, expected.as_mut_ptr(), SQUARE);
                }
                assert!(found == expected, "rows of what they begin with {row} apart");
            }
        }
    }
}
