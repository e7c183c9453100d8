//! Operands of bf16 in tiles, as units that multiply matrices read them: AMX ([`super::amx`]) and `bfmmla` ([`super::mmla`]).
//!
//! A tile of the left operand holds 16 rows of 16 pairs along k, one of the right operand 16 pairs along k of 16 columns; two by two
//! tiles of the result are computed together.
#![allow(unsafe_code, reason = "tiles are loaded from pointers")]

/// Rows and columns of a tile of the result, and pairs along k of those of operands.
pub(super) const TILE: usize = 16;
/// Rows and columns that are computed together.
pub(super) const SQUARE: usize = 2 * TILE;

/// Sums of up to two by two tiles.
pub(super) type Sums = [f32; SQUARE * SQUARE];

/// What sums of two by two tiles begin with.
#[derive(Clone, Copy)]
pub(super) enum Start {
    Zero,
    /// Rows of [`SQUARE`] floats, `row` floats apart: a row that is added to each where that is 0.
    At {
        first: *const f32,
        row: usize,
    },
}

/// Two operands from the first pair on, and how many tiles there are along k, down and across.
#[derive(Clone, Copy)]
pub(super) struct Tiles {
    /// Rows of pairs, `left_row` floats apart, and the next tile along k `left_step` floats on.
    pub left: *const f32,
    pub left_row: usize,
    pub left_step: usize,
    /// Rows of as many pairs as there are columns, one behind the other.
    pub right: *const f32,
    pub along: usize,
    pub two_down: bool,
    pub two_across: bool,
}

/// What computes tiles.
pub(super) trait Unit {
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
