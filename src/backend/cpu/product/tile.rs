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

use super::pack::Panels;
use crate::backend::wide::Level;

/// The vectors of one kind of machine. All methods are safe to call only where it has them.
pub(super) trait Vector: Copy {
    const LANES: usize;
    unsafe fn zero() -> Self;
    unsafe fn splat(value: *const f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn scale(self, by: f32) -> Self;
    /// self · b + c; rounded once where the machine can.
    unsafe fn times_plus(self, b: Self, c: Self) -> Self;
}

/// The left operand: element (i, k) lies at `data + i / MR · tile + i % MR · row + k · step`, MR being the rows of a tile.
#[derive(Clone, Copy)]
pub(super) struct Left {
    pub data: *const f32,
    pub tile: usize,
    pub row: usize,
    pub step: usize,
}

/// One product of a block of rows with a packed matrix.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    pub rows: usize,
    pub a: Left,
    pub b: Panels<'a>,
    pub out: *mut f32,
    /// From a row of the result to the next.
    pub out_row: usize,
    pub scale: f32,
    /// The product is added to what `out` holds.
    pub add: bool,
    /// Added to every row.
    pub bias: Option<&'a [f32]>,
}

/// One step of k: a column of the left operand times a row of the right one. A function that is always inlined and loops over
/// numbers, so that the sums stay in registers in builds that optimize little, tests' among them.
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
#[inline(always)]
unsafe fn write<V: Vector, const MR: usize, const NV: usize>(
    block: &Block,
    tile: &[[V; NV]; MR],
    at: (usize, usize),
    (rows, columns): (usize, usize),
) {
    let to = |i: usize, j: usize| block.out.wrapping_add((at.0 + i) * block.out_row + at.1 + j * V::LANES);
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
const SPARE: usize = TALLEST * super::DEPTH;

/// Calls [`sums`] and [`write`] for all tiles of one panel.
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

#[inline(always)]
unsafe fn block<V: Vector, const MR: usize>(block: &Block) {
    let (Left { data, tile, row, step }, Panels { data: b, depth, columns }) = (block.a, block.b);
    assert!(depth <= super::DEPTH, "the walk cuts k");
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

/// The kernel for one kind of machine and of operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kernel {
    level: Level,
    pub operands: Operands,
}

/// What a packed operand holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operands {
    F32,
    /// bf16, each in a float of its own.
    Rounded,
    /// Two of bf16 in a float's bits, that of the lower k in the lower half.
    Pairs,
}

/// Rows of the tallest tile, and lanes of the widest vector: all kernels work in what is enough for these.
pub(super) const TALLEST: usize = 14;
pub(super) const WIDEST: usize = 16;

impl Kernel {
    /// This machine's fastest. Not what [`crate::backend::wide::level`] says, which tests change while others run: kernels differ
    /// in the rounding of products where a machine has no fused multiply-add.
    pub fn best(bf16: bool) -> Self {
        let operands = match bf16 {
            false => Operands::F32,
            true if multiplies_pairs() => Operands::Pairs,
            true => Operands::Rounded,
        };
        Kernel { level: Level::of_the_machine(), operands }
    }

    /// All that this machine can run; of those on pairs also the one that imitates the machines that have them.
    #[cfg(test)]
    pub fn all() -> impl Iterator<Item = Self> {
        let levels = Level::ALL.into_iter().filter(|level| *level <= Level::of_the_machine());
        let on = |operands| levels.clone().map(move |level| Kernel { level, operands });
        let pairs = on(Operands::Pairs).filter(|kernel| kernel.level == Level::Portable || multiplies_pairs());
        let pairs = pairs.filter(|kernel| kernel.level != Level::Avx2);
        let all: Vec<Kernel> = on(Operands::F32).chain(on(Operands::Rounded)).chain(pairs).collect();
        all.into_iter()
    }

    /// Floats that a column of `depth` numbers takes when it is packed.
    pub fn slots(self, depth: usize) -> usize {
        match self.operands {
            Operands::F32 | Operands::Rounded => depth,
            Operands::Pairs => depth.div_ceil(2),
        }
    }

    /// Rows of a tile.
    pub fn height(self) -> usize {
        match self.level {
            Level::Avx512 => 14,
            Level::Avx2 => 6,
            Level::Portable => 4,
        }
    }

    /// Lanes of a vector, of which a tile has two.
    pub fn lanes(self) -> usize {
        match self.level {
            Level::Avx512 => 16,
            Level::Avx2 => 8,
            Level::Portable => 4,
        }
    }

    /// Columns of a whole panel.
    pub fn width(self) -> usize {
        2 * self.lanes()
    }

    /// Computes a block whose operands are packed for this kernel.
    ///
    /// # Safety
    /// Every element that the block names lies within memory that is borrowed for the call, that of `out` mutably.
    pub unsafe fn run(self, job: &Block) {
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx512f,avx2,fma")]
            unsafe fn avx512(job: &Block) {
                // SAFETY: the caller's.
                unsafe { block::<wide::Avx512, 14>(job) }
            }
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2(job: &Block) {
                // SAFETY: the caller's.
                unsafe { block::<wide::Avx2, 6>(job) }
            }
            #[target_feature(enable = "avx512f,avx512bf16,avx2,fma")]
            unsafe fn avx512_pairs(job: &Block) {
                // SAFETY: the caller's.
                unsafe { block::<wide::Avx512Pairs, 14>(job) }
            }
            match (self.level, self.operands) {
                // SAFETY: the caller's, and the machine has the features: there is no kernel of more.
                (Level::Avx512, Operands::Pairs) => return unsafe { avx512_pairs(job) },
                // SAFETY: as above.
                (Level::Avx512, _) => return unsafe { avx512(job) },
                // SAFETY: as above.
                (Level::Avx2, _) => return unsafe { avx2(job) },
                (Level::Portable, _) => {}
            }
        }
        #[cfg(test)]
        if self.operands == Operands::Pairs {
            // SAFETY: the caller's.
            return unsafe { block::<FourPairs, 4>(job) };
        }
        // SAFETY: the caller's.
        unsafe { block::<Four, 4>(job) }
    }
}

/// Whether the machine multiplies pairs of bf16 in the widest vectors.
#[cfg(target_arch = "x86_64")]
fn multiplies_pairs() -> bool {
    Level::of_the_machine() == Level::Avx512 && is_x86_feature_detected!("avx512bf16")
}

#[cfg(not(target_arch = "x86_64"))]
fn multiplies_pairs() -> bool {
    false
}

/// Four lanes, for machines without a kernel of their own: compilers make vectors of them.
#[derive(Clone, Copy)]
struct Four([f32; 4]);

impl Vector for Four {
    const LANES: usize = 4;
    #[inline(always)]
    unsafe fn zero() -> Self {
        Four([0.0; 4])
    }
    #[inline(always)]
    unsafe fn splat(value: *const f32) -> Self {
        // SAFETY: the caller's.
        Four([unsafe { *value }; 4])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's.
        Four(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Four(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }
    #[inline(always)]
    unsafe fn scale(self, by: f32) -> Self {
        Four(self.0.map(|x| x * by))
    }
    // Two roundings: `mul_add` is a call where the machine has no such instruction.
    #[inline(always)]
    unsafe fn times_plus(self, b: Self, c: Self) -> Self {
        Four(std::array::from_fn(|i| self.0[i] * b.0[i] + c.0[i]))
    }
}

/// Four lanes of pairs: what AVX512-BF16 computes, so that packing is tested on every machine.
#[cfg(test)]
#[derive(Clone, Copy)]
struct FourPairs(Four);

#[cfg(test)]
impl Vector for FourPairs {
    const LANES: usize = 4;
    unsafe fn zero() -> Self {
        // SAFETY: nothing is asked for.
        FourPairs(unsafe { Four::zero() })
    }
    unsafe fn splat(value: *const f32) -> Self {
        // SAFETY: the caller's.
        FourPairs(unsafe { Four::splat(value) })
    }
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's.
        FourPairs(unsafe { Four::load(from) })
    }
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { self.0.store(to) }
    }
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: nothing is asked for.
        FourPairs(unsafe { self.0.add(other.0) })
    }
    unsafe fn scale(self, by: f32) -> Self {
        // SAFETY: nothing is asked for.
        FourPairs(unsafe { self.0.scale(by) })
    }
    unsafe fn times_plus(self, b: Self, c: Self) -> Self {
        let high = |x: f32| f32::from_bits(x.to_bits() & 0xffff_0000);
        let low = |x: f32| f32::from_bits(x.to_bits() << 16);
        let (a, b, c) = (self.0.0, b.0.0, c.0.0);
        FourPairs(Four(std::array::from_fn(|i| c[i] + high(a[i]) * high(b[i]) + low(a[i]) * low(b[i]))))
    }
}

#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::*;

    use super::Vector;

    macro_rules! vector {
        ($name:ident, $inner:ty, $lanes:expr, $zero:ident, $splat:ident, $load:ident, $store:ident, $add:ident, $mul:ident, $times_plus:expr) => {
            #[derive(Clone, Copy)]
            pub struct $name($inner);

            // SAFETY of all: the callers', who have found the features.
            impl Vector for $name {
                const LANES: usize = $lanes;
                #[inline(always)]
                unsafe fn zero() -> Self {
                    Self(unsafe { $zero() })
                }
                #[inline(always)]
                unsafe fn splat(value: *const f32) -> Self {
                    Self(unsafe { $splat(*value) })
                }
                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    Self(unsafe { $load(from) })
                }
                #[inline(always)]
                unsafe fn store(self, to: *mut f32) {
                    unsafe { $store(to, self.0) }
                }
                #[inline(always)]
                unsafe fn add(self, other: Self) -> Self {
                    Self(unsafe { $add(self.0, other.0) })
                }
                #[inline(always)]
                unsafe fn scale(self, by: f32) -> Self {
                    Self(unsafe { $mul(self.0, $splat(by)) })
                }
                #[inline(always)]
                unsafe fn times_plus(self, b: Self, c: Self) -> Self {
                    Self(unsafe { $times_plus(self.0, b.0, c.0) })
                }
            }
        };
    }

    vector!(
        Avx2,
        __m256,
        8,
        _mm256_setzero_ps,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_add_ps,
        _mm256_mul_ps,
        _mm256_fmadd_ps
    );
    vector!(
        Avx512,
        __m512,
        16,
        _mm512_setzero_ps,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_add_ps,
        _mm512_mul_ps,
        _mm512_fmadd_ps
    );
    vector!(
        Avx512Pairs,
        __m512,
        16,
        _mm512_setzero_ps,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_add_ps,
        _mm512_mul_ps,
        pairs_times_plus
    );

    /// c + the products of both halves of each lane.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn pairs_times_plus(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: vectors of the same bits, under another name.
        unsafe {
            _mm512_dpbf16_ps(c, std::mem::transmute::<__m512, __m512bh>(a), std::mem::transmute::<__m512, __m512bh>(b))
        }
    }
}
