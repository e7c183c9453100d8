//! Which kernel computes a product, and how its operands lie: what packing, walking and the tiles themselves agree on.
#![allow(unsafe_code, reason = "tasks write disjoint parts of rows, which slices cannot say")]

use super::super::stored::bf16;
use super::{amx, tiles};
use crate::wide::Level;

/// The kernel for one kind of machine and of operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kernel {
    pub level: Level,
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
    /// The same, as many along k as fill whole tiles.
    Tiles,
}

/// Rows of the tallest tile, lanes of the widest vector, and numbers along k of the deepest tile: all kernels work in what is enough for
/// these.
pub(super) const TALLEST: usize = tiles::SQUARE;
pub(super) const WIDEST: usize = 16;
pub(super) const DEEPEST: usize = 2 * tiles::TILE;

/// Rows of k that a kernel works through before it writes: a panel of 16 columns is 24 KiB, three quarters of a first-level
/// cache.
pub(super) const DEPTH: usize = 384;
/// The same of tiles, whose sums take as long to write as some three hundred numbers along k to multiply: a strip of 32 rows of pairs is
/// 96 KiB, which comes from the second-level cache at half the speed of tiles that lie in the first.
const DEPTH_OF_TILES: usize = 1536;
/// Bytes of a task's panels of tiles: half of the second-level cache of machines that have them.
const PANELS_OF_TILES: usize = 1 << 20;

impl Kernel {
    /// Rows and columns of a task whose result is staged, at most, whatever the kernel.
    pub const ROWS: usize = 128;
    pub const COLUMNS: usize = 512;

    /// This machine's fastest. Not what [`crate::wide::level`] says, which tests change while others run: kernels differ
    /// in the rounding of products where a machine has no fused multiply-add.
    pub fn best(bf16: bool) -> Self {
        let operands = match bf16 {
            false => Operands::F32,
            true if amx::is_there() || multiplies_rows() => Operands::Tiles,
            true if multiplies_pairs() => Operands::Pairs,
            true => Operands::Rounded,
        };
        Kernel { level: Level::of_the_machine(), operands }
    }

    /// All that this machine can run; of those on pairs and tiles also the ones that imitate the machines that have them.
    #[cfg(test)]
    pub fn all() -> impl Iterator<Item = Self> {
        let levels = Level::ALL.into_iter().filter(|level| *level <= Level::of_the_machine());
        let on = |operands| levels.clone().map(move |level| Kernel { level, operands });
        let pairs = on(Operands::Pairs).filter(|kernel| kernel.level == Level::Portable || multiplies_pairs());
        let pairs = pairs.filter(|kernel| kernel.level != Level::Avx2);
        let tiles = on(Operands::Tiles).filter(|kernel| kernel.level == Level::Portable || amx::is_there());
        let tiles = tiles.filter(|kernel| kernel.level != Level::Avx2);
        let all: Vec<Kernel> = on(Operands::F32).chain(on(Operands::Rounded)).chain(pairs).chain(tiles).collect();
        all.into_iter()
    }

    /// Whether the `gemm` crate has kernels for this machine, and here is only one for every machine: aarch64, whose NEON it knows.
    pub fn is_slower_than_gemm(self) -> bool {
        // Miri runs what is written in Rust.
        cfg!(all(not(target_arch = "x86_64"), not(miri))) && self.operands == Operands::F32
    }

    /// Floats that a column of `depth` numbers takes when it is packed.
    pub fn slots(self, depth: usize) -> usize {
        match self.operands {
            Operands::F32 | Operands::Rounded => depth,
            Operands::Pairs => depth.div_ceil(2),
            Operands::Tiles => depth.div_ceil(DEEPEST) * tiles::TILE,
        }
    }

    /// Rows of a tile.
    pub fn height(self) -> usize {
        match (self.operands, self.level) {
            (Operands::Tiles, _) => tiles::SQUARE,
            (_, Level::Avx512) => 14,
            (_, Level::Avx2) => 6,
            (_, Level::Portable) => 4,
        }
    }

    /// Lanes of a vector, of which a tile has two.
    pub fn lanes(self) -> usize {
        match (self.operands, self.level) {
            (Operands::Tiles, _) => tiles::TILE,
            (_, Level::Avx512) => 16,
            (_, Level::Avx2) => 8,
            (_, Level::Portable) => 4,
        }
    }

    /// Rows of k that it works through before it writes.
    pub fn depth(self, k: usize) -> usize {
        match self.operands {
            // Whole tiles, so that all blocks of an operand that lies in place begin with one.
            Operands::Tiles => cut(k, DEPTH_OF_TILES).next_multiple_of(DEEPEST),
            _ => cut(k, DEPTH),
        }
    }

    /// Rows of a task, at most: with 384 columns of the left operand some 200 KiB, that stay in the second-level cache. Of tiles, as many
    /// as make the time little in which a task's panels come from the third level.
    pub fn rows(self) -> usize {
        if self.operands == Operands::Tiles { 512 } else { 126 }
    }

    /// Of a task's `rows`, those that are computed for all of its columns before the next: all, whose panels stay in the first-level cache
    /// one after the other; of tiles a strip, so that what becomes of its sums is computed while they are near.
    pub fn strip(self, rows: usize) -> usize {
        if self.operands == Operands::Tiles { self.height() } else { rows }
    }

    /// Columns of a task, about, where it works through `depth` rows of k.
    pub fn columns(self, depth: usize) -> usize {
        match self.operands {
            Operands::Tiles => (PANELS_OF_TILES / (2 * depth)).clamp(128, 512),
            _ => 384,
        }
    }

    /// Whether a block's result can be rounded as it is written.
    pub fn narrows(self) -> bool {
        self.operands == Operands::Tiles
    }

    /// Columns of a whole panel.
    pub fn width(self) -> usize {
        2 * self.lanes()
    }
}

/// `k` cut evenly, in parts of `most` at most.
fn cut(k: usize, most: usize) -> usize {
    k.div_ceil(k.div_ceil(most)).max(1)
}

/// Floats along k that a packed column takes, whatever the kernel: of one block of k, or of all.
pub(super) fn slots_at_most(k: usize, of_all: bool) -> usize {
    let blocks = |depth: usize| if of_all { k.div_ceil(depth) } else { 1 };
    let (short, deep) = (cut(k, DEPTH), cut(k, DEPTH_OF_TILES).next_multiple_of(DEEPEST));
    (blocks(short) * short).max(blocks(deep) * deep / 2)
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

/// Whether the machine has Arm's `bfmmla`.
#[cfg(all(target_arch = "aarch64", not(miri)))]
pub(super) fn multiplies_rows() -> bool {
    std::arch::is_aarch64_feature_detected!("bf16")
}

#[cfg(not(all(target_arch = "aarch64", not(miri))))]
fn multiplies_rows() -> bool {
    false
}

/// The left operand: element (i, k) lies at `data + i / MR · tile + i % MR · row + k · step`, MR being the rows of a tile. Of
/// [`Operands::Tiles`], k counts tiles, in whose rows pairs lie one behind the other.
#[derive(Clone, Copy)]
pub(super) struct Left {
    pub data: *const f32,
    pub tile: usize,
    pub row: usize,
    pub step: usize,
}

/// A packed right operand of `depth` rows: panels of two vectors of columns, in each one row after the other. A last panel of
/// one vector or less is one vector wide; columns that lack are zero.
#[derive(Clone, Copy)]
pub(super) struct Panels<'a> {
    pub data: &'a [f32],
    pub depth: usize,
    pub columns: usize,
}

/// Where a result is written.
#[derive(Clone, Copy)]
pub(super) enum Target {
    Full(*mut f32),
    /// Not by a block that adds.
    Halves(*mut bf16),
}

// SAFETY: each task writes rows and columns of its own.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

impl Target {
    /// Of a kernel that rounds no result.
    pub fn full(self) -> *mut f32 {
        match self {
            Target::Full(out) => out,
            Target::Halves(_) => unreachable!("the walk asks whether a kernel rounds its result"),
        }
    }

    /// From the result's element `at` on.
    pub fn from(self, at: usize) -> Self {
        match self {
            Target::Full(out) => Target::Full(out.wrapping_add(at)),
            Target::Halves(out) => Target::Halves(out.wrapping_add(at)),
        }
    }
}

/// One product of a block of rows with a packed matrix.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    pub rows: usize,
    pub a: Left,
    pub b: Panels<'a>,
    pub out: Target,
    /// From a row of the result to the next.
    pub out_row: usize,
    pub scale: f32,
    /// The product is added to what `out` holds.
    pub add: bool,
    /// Added to every row.
    pub bias: Option<&'a [f32]>,
}
