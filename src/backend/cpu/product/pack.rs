//! Operands of a product laid out as the kernel walks them.

use super::Matrix;
use super::kernel::{Kernel, Left, Operands, TALLEST, WIDEST};
use super::pairs::{self, rounded};

/// Floats of a packed right operand, whatever the kernel.
pub(super) fn panels_len(depth: usize, columns: usize) -> usize {
    depth * columns.next_multiple_of(WIDEST)
}

/// Packs the panel of `b` that begins at `column` and has `columns` columns, rows `first..first + depth`.
pub(super) fn panel(kernel: Kernel, out: &mut [f32], b: Matrix<f32>, rows: (usize, usize), columns: (usize, usize)) {
    match kernel.operands {
        Operands::F32 => whole_panel(out, b, rows, columns),
        Operands::Rounded => {
            whole_panel(out, b, rows, columns);
            out.iter_mut().for_each(|x| *x = rounded(*x));
        }
        Operands::Pairs | Operands::Tiles => pairs::panel(out, b, rows, columns, kernel.slots(rows.1)),
    }
}

fn whole_panel(out: &mut [f32], b: Matrix<f32>, (first, depth): (usize, usize), (column, columns): (usize, usize)) {
    let width = out.len() / depth;
    if columns < width {
        out.fill(0.0);
    }
    if b.column == 1 {
        let rows = (first..first + depth).map(|k| &b.data[k * b.row + column..][..columns]);
        // Copies of a length that the compiler knows are a vector or two; others are calls.
        return match width {
            32 if columns == 32 => lines::<32>(out, rows),
            16 if columns == 16 => lines::<16>(out, rows),
            _ => out.chunks_exact_mut(width).zip(rows).for_each(|(to, row)| to[..columns].copy_from_slice(row)),
        };
    }
    let column_of = |j: usize| &b.data[first * b.row + (column + j) * b.column..];
    if b.row != 1 {
        for j in 0..columns {
            let column = column_of(j).iter().step_by(b.row);
            out[j..].iter_mut().step_by(width).zip(column).for_each(|(out, value)| *out = *value);
        }
        return;
    }
    let mut j = 0;
    while j + 8 <= columns {
        let from: [&[f32]; 8] = std::array::from_fn(|i| &column_of(j + i)[..depth]);
        transpose(from, &mut out[j..], width);
        j += 8;
    }
    for j in j..columns {
        let column = column_of(j)[..depth].iter();
        out[j..].iter_mut().step_by(width).zip(column).for_each(|(out, value)| *out = *value);
    }
}

/// Rows of `W`.
fn lines<'a, const W: usize>(out: &mut [f32], rows: impl Iterator<Item = &'a [f32]>) {
    let (out, _) = out.as_chunks_mut::<W>();
    for (to, row) in out.iter_mut().zip(rows) {
        if let Some(row) = row.first_chunk::<W>() {
            *to = *row;
        }
    }
}

/// Eight rows become eight columns of `out`, whose rows are `width` apart.
fn transpose(from: [&[f32]; 8], out: &mut [f32], width: usize) {
    let depth = from[0].len();
    let whole = depth / 8 * 8;
    for k in (0..whole).step_by(8) {
        // Eight by eight in registers.
        let block: [[f32; 8]; 8] = std::array::from_fn(|i| std::array::from_fn(|lane| from[i][k + lane]));
        for lane in 0..8 {
            let row: [f32; 8] = std::array::from_fn(|i| block[i][lane]);
            out[(k + lane) * width..][..8].copy_from_slice(&row);
        }
    }
    for k in whole..depth {
        for (i, from) in from.iter().enumerate() {
            out[k * width + i] = from[k];
        }
    }
}

/// Floats of `rows` packed rows of a left operand, whatever the kernel.
pub(super) fn strips_len(rows: usize, depth: usize) -> usize {
    (rows + TALLEST - 1) * depth
}

/// How [`strips`] have a left operand lie, of which a row takes `slots` floats.
pub(super) fn left(kernel: Kernel, strips: &[f32], slots: usize) -> Left {
    let height = kernel.height();
    let (row, step) = match kernel.operands {
        Operands::F32 | Operands::Rounded => (1, height),
        Operands::Pairs | Operands::Tiles => (slots, 1),
    };
    Left { data: strips.as_ptr(), tile: height * slots, row, step }
}

/// Packs rows `row..row + rows` of `a`, columns `first..first + depth`, in strips of a tile's rows: in each one column after the
/// other, or of pairs one row. For an operand that is read transposed, whose columns lie together, and for what is rounded.
pub(super) fn strips(
    kernel: Kernel,
    out: &mut [f32],
    a: Matrix<f32>,
    (row, rows): (usize, usize),
    (first, depth): (usize, usize),
) {
    if let Operands::Pairs | Operands::Tiles = kernel.operands {
        return pairs::rows(out, a, (row, rows), (first, depth), kernel.slots(depth));
    }
    match kernel.height() {
        14 => strips_of::<14>(out, a, (row, rows), (first, depth)),
        6 => strips_of::<6>(out, a, (row, rows), (first, depth)),
        _ => strips_of::<4>(out, a, (row, rows), (first, depth)),
    }
    if kernel.operands == Operands::Rounded {
        out.iter_mut().for_each(|x| *x = rounded(*x));
    }
}

fn strips_of<const H: usize>(
    out: &mut [f32],
    a: Matrix<f32>,
    (row, rows): (usize, usize),
    (first, depth): (usize, usize),
) {
    let (out, _) = out.as_chunks_mut::<H>();
    if a.column == 1 {
        for i in 0..rows {
            let from = &a.data[(row + i) * a.row + first..][..depth];
            out[i / H * depth..][..depth].iter_mut().zip(from).for_each(|(to, value)| to[i % H] = *value);
        }
        return;
    }
    for k in 0..depth {
        let column = &a.data[row * a.row + (first + k) * a.column..];
        if a.row == 1 {
            let (whole, rest) = column[..rows].as_chunks::<H>();
            out[k..].iter_mut().step_by(depth).zip(whole).for_each(|(to, from)| *to = *from);
            if !rest.is_empty() {
                out[whole.len() * depth + k][..rest.len()].copy_from_slice(rest);
            }
        } else {
            for i in 0..rows {
                out[i / H * depth + k][i % H] = column[i * a.row];
            }
        }
    }
}
