//! How a product in f32 walks through its operands: k in blocks that keep a panel in the first-level cache, and for each block
//! tasks of some rows and columns. Where the result is stored in bf16, a task goes through all blocks of k, since sums that go on are
//! rounded once, at their end.
//!
//! **Invariant:** blocks of k are cut by k alone, and tasks do not cut k: see [`super::tile`].
#![allow(unsafe_code, reason = "tasks write disjoint parts of rows, which slices cannot say")]

use rayon::prelude::*;

use super::super::scratch::Scratch;
use super::super::stored::{NumbersMut, narrow};
use super::kernel::{Block, Kernel, Left, Operands, Panels, Target, slots_at_most};
use super::{Job, Matrix, Right, Sizes, Threads, amx, pack};

/// Tasks for each thread, at least: the last one to end keeps the others waiting for an eighth of its work at most.
const TASKS: usize = 8;

/// Floats that a product works in. `packed`: whether the left operand is; `narrowed`: whether the result is stored in bf16.
pub(super) fn scratch((m, k, n): Sizes, packed: bool, narrowed: bool) -> usize {
    let slots = slots_at_most(k, narrowed);
    let left = if packed { pack::strips_len(m, slots) } else { 0 };
    pack::panels_len(slots, n) + left
}

/// Floats of a right operand that [`lay_out`] packs.
pub(super) fn packed_len(k: usize, n: usize) -> usize {
    pack::panels_len(slots_at_most(k, true), n)
}

/// Floats that a product with one works in.
pub(super) fn packed_scratch(m: usize, k: usize) -> usize {
    pack::strips_len(m, slots_at_most(k, false))
}

/// Floats of the rows that a task computes before they are stored in bf16, at most.
pub(super) fn room(m: usize, n: usize) -> usize {
    m.next_multiple_of(amx::SQUARE).min(Kernel::ROWS) * n.min(Kernel::COLUMNS)
}

/// Packs `b`, of `k` rows and `n` columns, for several products of this thread.
pub(super) fn lay_out(kernel: Kernel, b: Matrix<f32>, (k, n): (usize, usize), panels: &mut [f32]) {
    let most = kernel.depth(k);
    let (across, per_block) = (n.next_multiple_of(kernel.lanes()), kernel.slots(most));
    for (i, first) in (0..k).step_by(most).enumerate() {
        let depth = most.min(k - first);
        let panels = &mut panels[i * per_block * across..][..kernel.slots(depth) * across];
        pack::panels(kernel, panels, b, (first, depth), n, Threads::One);
    }
}

/// By all threads, or by this one alone, for products that run beside others.
pub(super) fn multiply(kernel: Kernel, job: Job<f32>) {
    let Job { mut out, sizes: (m, k, n), a, b, how, threads, scratch } = job;
    let packed = match b {
        Right::Packed(panels) => Some(panels),
        Right::AsItIs(_) => None,
    };
    let target = match &mut out {
        NumbersMut::Full(out) => Target::Full(out.as_mut_ptr()),
        NumbersMut::Halves(out) => Target::Halves(out.as_mut_ptr()),
    };
    let narrows = matches!(target, Target::Halves(_));
    let most = kernel.depth(k);
    let together = if narrows { k } else { most };
    let own = if packed.is_some() { 0 } else { pack::panels_len(slots_at_most(k, narrows), n) };
    let (own, strips) = scratch.split_at_mut(own);
    let height = kernel.height();
    let (across, down) = (n.next_multiple_of(kernel.lanes()), m.next_multiple_of(height));
    let per_block = kernel.slots(most);
    // Rows and columns of a task are cut evenly, in whole tiles.
    let even = |all: usize, most: usize, unit: usize| all.div_ceil(all.div_ceil(most)).next_multiple_of(unit);
    let (rows, columns) = match threads {
        Threads::One => (m, n),
        Threads::All => {
            let columns = even(n, kernel.columns(most), kernel.width());
            // How rows are shared out changes no bit, so that it may hang on the number of threads.
            let share = (m * n.div_ceil(columns)).div_ceil(TASKS * rayon::current_num_threads());
            (even(m, kernel.rows().min(share).max(2 * height), height), columns)
        }
    };
    let tasks = n.div_ceil(columns);
    let strip = if threads == Threads::One { m } else { kernel.strip(rows) };
    for start in (0..k).step_by(together) {
        let end = (start + together).min(k);
        // Whole tiles of rows that are read where they lie; the rest is packed.
        let lies = (start..end).step_by(most).all(|at| pack::in_place(kernel, a, at, most.min(end - at)).is_some());
        let whole = match (lies, kernel.operands) {
            (false, _) => 0,
            (true, Operands::Tiles) => m / height * height,
            (true, _) => m,
        };
        for (i, first) in (start..end).step_by(most).enumerate() {
            let depth = most.min(end - first);
            let slots = kernel.slots(depth);
            let mut to_right = || {
                if let Right::AsItIs(b) = b {
                    let panels = &mut own[i * per_block * across..][..slots * across];
                    pack::panels(kernel, panels, b, (first, depth), n, threads);
                }
            };
            let mut to_left = || {
                if whole < m {
                    let rest = down - whole;
                    let strips = &mut strips[i * per_block * rest..][..slots * rest];
                    pack::strips(kernel, strips, a, (whole, m - whole), (first, depth), threads);
                }
            };
            match threads {
                Threads::One => {
                    to_right();
                    to_left();
                }
                Threads::All => {
                    rayon::join(to_right, to_left);
                }
            }
        }
        let (panels, strips) = (packed.map_or(&*own, |panels| &panels[start / most * per_block * across..]), &*strips);
        // Of the rows from `row` on, which are whole tiles.
        let left = |i: usize, (first, depth): (usize, usize), row: usize| {
            let slots = kernel.slots(depth);
            let at = |left: Left, row: usize| Left { data: left.data.wrapping_add(row / height * left.tile), ..left };
            match pack::in_place(kernel, a, first, depth).filter(|_| row < whole) {
                Some(left) => at(left, row),
                None => at(pack::left(kernel, &strips[i * per_block * (down - whole)..], slots), row - whole),
            }
        };
        let (is_first, is_last) = (start == 0, end == k);
        let task = |row: usize, column: usize| {
            let (end_row, columns) = ((row + rows).min(m), columns.min(n - column));
            let mut row = row;
            while row < end_row {
                let limit = if row < whole { whole.min(end_row) } else { end_row };
                let rows = strip.min(limit - row);
                let at = row * how.out_row + column;
                let sums = |to: Target, to_row: usize| {
                    for (i, first) in (start..end).step_by(most).enumerate() {
                        let depth = most.min(end - first);
                        let slots = kernel.slots(depth);
                        let begins = first == 0;
                        let job = Block {
                            rows,
                            a: left(i, (first, depth), row),
                            b: Panels {
                                data: &panels[i * per_block * across + column * slots..],
                                depth: slots,
                                columns,
                            },
                            out: to,
                            out_row: to_row,
                            scale: how.scale,
                            add: how.add || !begins,
                            bias: if begins { how.bias.map(|bias| &bias[column..]) } else { None },
                        };
                        // SAFETY: `super::multiply` has checked all three operands against their sizes, and what `to` points
                        // to is this task's own.
                        unsafe { kernel.run(&job) };
                    }
                };
                let finish = |i: usize, part: &mut [f32]| {
                    if let (Some(finish), true) = (how.finish, is_last) {
                        finish((row + i) * n + column, part);
                    }
                };
                match target {
                    Target::Full(to) => {
                        sums(target.from(at), how.out_row);
                        let to = to.wrapping_add(at);
                        for i in 0..rows {
                            // SAFETY: a part of a row that this task alone writes.
                            finish(i, unsafe {
                                std::slice::from_raw_parts_mut(to.wrapping_add(i * how.out_row), columns)
                            });
                        }
                    }
                    // Sums that are final as soon as they are there.
                    Target::Halves(_) if kernel.narrows() && k <= most && how.finish.is_none() => {
                        sums(target.from(at), how.out_row);
                    }
                    Target::Halves(to) => f32::with_scratch(rows * columns, |staged| {
                        sums(Target::Full(staged.as_mut_ptr()), columns);
                        for (i, part) in staged.chunks_exact_mut(columns).enumerate() {
                            finish(i, part);
                            let to = to.wrapping_add(at + i * how.out_row);
                            // SAFETY: as above.
                            narrow(part, unsafe { std::slice::from_raw_parts_mut(to, columns) });
                        }
                    }),
                }
                row += rows;
            }
        };
        debug_assert!(is_first || !narrows, "all of k at once");
        match threads {
            Threads::One => task(0, 0),
            Threads::All => (0..m.div_ceil(rows) * tasks)
                .into_par_iter()
                .with_max_len(1)
                .for_each(|i| task(i / tasks * rows, i % tasks * columns)),
        }
    }
}
