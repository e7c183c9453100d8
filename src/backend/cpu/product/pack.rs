//! Operands of a product laid out as the kernel walks them.
#![allow(unsafe_code, reason = "tasks write disjoint parts of panels, which slices cannot say")]

use rayon::prelude::*;

use super::super::stored::{Numbers, Stored};
use super::kernel::{Kernel, Left, Operands, TALLEST, WIDEST};
use super::pairs::{self, Number, Part, rounded};
use super::{Matrix, Threads, tiles};

/// Rows of pairs that one task packs of all panels: rows of an operand are read whole, and what is written of a panel is 2 KiB at once.
const CHUNK: usize = tiles::TILE;

/// Floats of a packed right operand, whatever the kernel.
pub(super) fn panels_len(slots: usize, columns: usize) -> usize {
    slots * columns.next_multiple_of(WIDEST)
}

/// Floats of `rows` packed rows of a left operand, whatever the kernel.
pub(super) fn strips_len(rows: usize, slots: usize) -> usize {
    (rows + TALLEST - 1) * slots
}

/// Where tasks write parts of their own.
#[derive(Clone, Copy)]
struct Target(*mut f32, usize);

// SAFETY: each task writes parts of its own.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

impl Target {
    /// # Safety
    /// Nobody else reads or writes this part while it lives, and what the target was made of is borrowed for as long.
    unsafe fn part<'a>(self, start: usize, len: usize) -> &'a mut [f32] {
        assert!(start + len <= self.1, "a part lies outside what is packed");
        // SAFETY: within the slice, and the caller's alone.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), len) }
    }
}

/// Calls `work` on each of `count` numbers.
fn each(count: usize, threads: Threads, work: impl Fn(usize) + Send + Sync) {
    match threads {
        Threads::One => (0..count).for_each(work),
        Threads::All => (0..count).into_par_iter().with_max_len(4).for_each(work),
    }
}

/// Packs all `columns` columns of `b`, rows `first..first + depth`, in panels of a tile's width.
pub(super) fn panels(
    kernel: Kernel,
    out: &mut [f32],
    b: Matrix<f32>,
    rows: (usize, usize),
    columns: usize,
    threads: Threads,
) {
    match b.data {
        Numbers::Full(data) => {
            panels_of(kernel, out, Part { data, row: b.row, column: b.column }, rows, columns, threads)
        }
        Numbers::Halves(data) => {
            panels_of(kernel, out, Part { data, row: b.row, column: b.column }, rows, columns, threads);
        }
    }
}

fn panels_of<T: Number + Stored<f32>>(
    kernel: Kernel,
    out: &mut [f32],
    b: Part<T>,
    (first, depth): (usize, usize),
    columns: usize,
    threads: Threads,
) {
    let (width, slots) = (kernel.width(), kernel.slots(depth));
    let (out, count) = (Target(out.as_mut_ptr(), out.len()), columns.div_ceil(width));
    let of = |row: usize, column: usize| Part { data: &b.data[row * b.row + column * b.column..], ..b };
    // Of a panel, from column `at` on: how many there are, and how many it has room for.
    let across = |at: usize| (width.min(columns - at), width.min((columns - at).next_multiple_of(kernel.lanes())));
    let of_pairs = matches!(kernel.operands, Operands::Pairs | Operands::Tiles);
    if of_pairs && b.column == 1 {
        return each(slots.div_ceil(CHUNK), threads, |chunk| {
            let (at, some) = (chunk * CHUNK, CHUNK.min(slots - chunk * CHUNK));
            let deep = depth.saturating_sub(2 * at).min(2 * CHUNK);
            for column in (0..columns).step_by(width) {
                let (columns, room) = across(column);
                // SAFETY: rows of pairs of each panel that this task alone writes.
                let part = unsafe { out.part(column * slots + at * room, some * room) };
                pairs::panel(part, of(first + 2 * at, column), (deep, columns), some);
            }
        });
    }
    each(count, threads, |i| {
        let (columns, room) = across(i * width);
        // SAFETY: a panel that this task alone writes.
        let panel = unsafe { out.part(i * width * slots, room * slots) };
        let b = of(first, i * width);
        match kernel.operands {
            Operands::F32 => whole_panel(panel, b, (depth, columns)),
            Operands::Rounded => {
                whole_panel(panel, b, (depth, columns));
                panel.iter_mut().for_each(|x| *x = rounded(*x));
            }
            Operands::Pairs | Operands::Tiles => pairs::panel(panel, b, (depth, columns), slots),
        }
    });
}

fn whole_panel<T: Stored<f32>>(out: &mut [f32], b: Part<T>, (depth, columns): (usize, usize)) {
    let width = out.len() / depth;
    if columns < width {
        out.fill(0.0);
    }
    if b.column == 1 {
        let rows = (0..depth).map(|k| &b.data[k * b.row..][..columns]);
        // Copies of a length that the compiler knows are a vector or two; others are loops.
        return match width {
            32 if columns == 32 => lines::<T, 32>(out, rows),
            16 if columns == 16 => lines::<T, 16>(out, rows),
            _ => out.chunks_exact_mut(width).zip(rows).for_each(|(to, row)| copy(to.iter_mut(), row)),
        };
    }
    let column_of = |j: usize| &b.data[j * b.column..];
    if b.row != 1 {
        for j in 0..columns {
            let column = column_of(j).iter().step_by(b.row);
            out[j..].iter_mut().step_by(width).zip(column).for_each(|(out, value)| *out = value.widen());
        }
        return;
    }
    let mut j = 0;
    while j + 8 <= columns {
        let from: [&[T]; 8] = std::array::from_fn(|i| &column_of(j + i)[..depth]);
        transpose(from, &mut out[j..], width);
        j += 8;
    }
    for j in j..columns {
        copy(out[j..].iter_mut().step_by(width), &column_of(j)[..depth]);
    }
}

fn copy<'a, T: Stored<f32>>(to: impl Iterator<Item = &'a mut f32>, from: &[T]) {
    to.zip(from).for_each(|(to, value)| *to = value.widen());
}

/// Rows of `W`.
fn lines<'a, T: Stored<f32>, const W: usize>(out: &mut [f32], rows: impl Iterator<Item = &'a [T]>) {
    let (out, _) = out.as_chunks_mut::<W>();
    for (to, row) in out.iter_mut().zip(rows) {
        if let Some(row) = row.first_chunk::<W>() {
            *to = row.map(Stored::widen);
        }
    }
}

/// Eight rows become eight columns of `out`, whose rows are `width` apart.
fn transpose<T: Stored<f32>>(from: [&[T]; 8], out: &mut [f32], width: usize) {
    let depth = from[0].len();
    let whole = depth / 8 * 8;
    for k in (0..whole).step_by(8) {
        // Eight by eight in registers.
        let block: [[f32; 8]; 8] = std::array::from_fn(|i| std::array::from_fn(|lane| from[i][k + lane].widen()));
        for lane in 0..8 {
            let row: [f32; 8] = std::array::from_fn(|i| block[i][lane]);
            out[(k + lane) * width..][..8].copy_from_slice(&row);
        }
    }
    for k in whole..depth {
        for (i, from) in from.iter().enumerate() {
            out[k * width + i] = from[k].widen();
        }
    }
}

/// How [`strips`] have a left operand lie, of which a row takes `slots` floats.
pub(super) fn left(kernel: Kernel, strips: &[f32], slots: usize) -> Left {
    let height = kernel.height();
    let (row, step) = match kernel.operands {
        Operands::F32 | Operands::Rounded => (1, height),
        Operands::Pairs => (slots, 1),
        Operands::Tiles => (tiles::TILE, height * tiles::TILE),
    };
    Left { data: strips.as_ptr(), tile: height * slots, row, step }
}

/// A left operand from column `first` on, where it lies as the kernel reads it. Of [`Operands::Tiles`], only rows that fill a tile: what is
/// read beyond the last row may not be there.
pub(super) fn in_place(kernel: Kernel, a: Matrix<f32>, first: usize, depth: usize) -> Option<Left> {
    let height = kernel.height();
    if a.column != 1 {
        return None;
    }
    match (a.data, kernel.operands) {
        (Numbers::Full(data), Operands::F32) => {
            Some(Left { data: data[first..].as_ptr(), tile: height * a.row, row: a.row, step: 1 })
        }
        (Numbers::Halves(data), Operands::Pairs | Operands::Tiles) => {
            let data = data[first..].as_ptr().cast::<f32>();
            let unit = if kernel.operands == Operands::Tiles { 2 * tiles::TILE } else { 2 };
            let step = if kernel.operands == Operands::Tiles { tiles::TILE } else { 1 };
            let fits = data.is_aligned() && a.row.is_multiple_of(2) && depth.is_multiple_of(unit);
            fits.then_some(Left { data, tile: height * a.row / 2, row: a.row / 2, step })
        }
        _ => None,
    }
}

/// Packs rows `row..row + rows` of `a`, columns `first..first + depth`, in strips of a tile's rows: in each one column after the other,
/// of pairs one row, and of tiles one tile. For an operand that does not lie [`in_place`].
pub(super) fn strips(
    kernel: Kernel,
    out: &mut [f32],
    a: Matrix<f32>,
    (row, rows): (usize, usize),
    (first, depth): (usize, usize),
    threads: Threads,
) {
    let start = row * a.row + first * a.column;
    match a.data {
        Numbers::Full(data) => {
            strips_of(kernel, out, Part { data: &data[start..], row: a.row, column: a.column }, (rows, depth), threads);
        }
        Numbers::Halves(data) => {
            strips_of(kernel, out, Part { data: &data[start..], row: a.row, column: a.column }, (rows, depth), threads);
        }
    }
}

fn strips_of<T: Number + Stored<f32>>(
    kernel: Kernel,
    out: &mut [f32],
    a: Part<T>,
    (rows, depth): (usize, usize),
    threads: Threads,
) {
    let (height, slots) = (kernel.height(), kernel.slots(depth));
    let out = Target(out.as_mut_ptr(), out.len());
    let of = |row: usize, column: usize| Part { data: &a.data[row * a.row + column * a.column..], ..a };
    const ALONG: usize = 2 * tiles::TILE;
    if kernel.operands == Operands::Tiles && a.column != 1 {
        // Columns of the operand lie together, and are read whole.
        let tile = height * tiles::TILE;
        return each(slots / tiles::TILE, threads, |along| {
            for row in (0..rows).step_by(height) {
                let rows = height.min(rows - row);
                // SAFETY: tiles that this task alone writes.
                let part = unsafe { out.part(row * slots + along * tile, rows * tiles::TILE) };
                let deep = ALONG.min(depth - along * ALONG);
                pairs::rows(part, of(row, along * ALONG), (rows, deep), tiles::TILE);
            }
        });
    }
    each(rows.div_ceil(height), threads, |i| {
        let (row, rows) = (i * height, height.min(rows - i * height));
        // SAFETY: a strip that this task alone writes.
        let strip = unsafe { out.part(row * slots, height * slots) };
        let a = of(row, 0);
        match (kernel.operands, height) {
            (Operands::Tiles, _) => pairs::rows_of_tiles(strip, a, (rows, depth), height * tiles::TILE),
            (Operands::Pairs, _) => pairs::rows(&mut strip[..rows * slots], a, (rows, depth), slots),
            (Operands::F32 | Operands::Rounded, 14) => strip_of::<T, 14>(strip, a, (rows, depth)),
            (Operands::F32 | Operands::Rounded, 6) => strip_of::<T, 6>(strip, a, (rows, depth)),
            (Operands::F32 | Operands::Rounded, _) => strip_of::<T, 4>(strip, a, (rows, depth)),
        }
        if kernel.operands == Operands::Rounded {
            strip.iter_mut().for_each(|x| *x = rounded(*x));
        }
    });
}

fn strip_of<T: Stored<f32>, const H: usize>(out: &mut [f32], a: Part<T>, (rows, depth): (usize, usize)) {
    let (out, _) = out.as_chunks_mut::<H>();
    if a.column == 1 {
        for i in 0..rows {
            let from = &a.data[i * a.row..][..depth];
            out.iter_mut().zip(from).for_each(|(to, value)| to[i] = value.widen());
        }
        return;
    }
    for (k, to) in out.iter_mut().enumerate().take(depth) {
        let column = &a.data[k * a.column..];
        if a.row == 1 && rows == H {
            if let Some(whole) = column.first_chunk::<H>() {
                *to = whole.map(Stored::widen);
            }
        } else {
            for i in 0..rows {
                to[i] = column[i * a.row].widen();
            }
        }
    }
}
