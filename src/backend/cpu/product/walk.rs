//! How a product in f32 walks through its operands: k in blocks that keep a panel in the first-level cache, and for each block
//! tasks of some rows and columns.
//!
//! **Invariant:** blocks of k are cut by k alone, and tasks do not cut k: see [`super::tile`].
#![allow(unsafe_code, reason = "tasks write disjoint parts of rows, which slices cannot say")]

use rayon::prelude::*;

use super::kernel::{Block, Kernel, Left, Operands, Panels, slots_at_most};
use super::{Job, Matrix, Sizes, pack};

/// Tasks for each thread, at least: the last one to end keeps the others waiting for an eighth of its work at most.
const TASKS: usize = 8;

/// Whether the left operand is packed: where its elements along k do not lie together, or are not as the kernel wants them.
fn packs_left(kernel: Kernel, a: Matrix<f32>) -> bool {
    a.column != 1 || kernel.operands != Operands::F32
}

/// Floats that a product works in. `packed`: whether the left operand is.
pub(super) fn scratch((m, k, n): Sizes, packed: bool) -> usize {
    let left = if packed { pack::strips_len(m, slots_at_most(k)) } else { 0 };
    pack::panels_len(slots_at_most(k), n) + left
}

/// Where tasks write.
#[derive(Clone, Copy)]
struct Target(*mut f32);

// SAFETY: each task writes rows and columns of its own.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

/// By all threads.
pub(super) fn multiply(kernel: Kernel, job: Job<f32>) {
    let Job { out, sizes: (m, k, n), a, b, how, scratch, .. } = job;
    let depth_at_most = kernel.depth(k);
    let (panels, strips) = scratch.split_at_mut(pack::panels_len(slots_at_most(k), n));
    let (height, width) = (kernel.height(), kernel.width());
    // Rows and columns are cut evenly, in whole tiles.
    let even = |all: usize, most: usize, unit: usize| all.div_ceil(all.div_ceil(most)).next_multiple_of(unit);
    let columns = even(n, kernel.columns(depth_at_most), width);
    let across = n.div_ceil(columns);
    // How rows are shared out changes no bit, so that it may hang on the number of threads.
    let share = (m * across).div_ceil(TASKS * rayon::current_num_threads());
    let rows = even(m, kernel.rows().min(share).max(2 * height), height);
    let target = Target(out.as_mut_ptr());
    for first in (0..k).step_by(depth_at_most) {
        let depth = depth_at_most.min(k - first);
        let slots = kernel.slots(depth);
        let panels = &mut panels[..slots * n.next_multiple_of(kernel.lanes())];
        panels.par_chunks_mut(width * slots).with_max_len(4).enumerate().for_each(|(i, out)| {
            pack::panel(kernel, out, b, (first, depth), (i * width, width.min(n - i * width)));
        });
        let left = if packs_left(kernel, a) {
            let strips = &mut strips[..slots * m.next_multiple_of(height)];
            let some = rows.min(2 * height);
            strips.par_chunks_mut(some * slots).with_max_len(4).enumerate().for_each(|(i, out)| {
                pack::strips(kernel, out, a, (i * some, some.min(m - i * some)), (first, depth));
            });
            pack::left(kernel, strips, slots)
        } else {
            Left { data: a.data[first..].as_ptr(), tile: height * a.row, row: a.row, step: 1 }
        };
        let (panels, left) = (&*panels, Source(left));
        let (is_first, is_last) = (first == 0, first + depth == k);
        (0..m.div_ceil(rows) * across).into_par_iter().with_max_len(1).for_each(|task| {
            let (target, left) = (target, left);
            let (row, column) = (task / across * rows, task % across * columns);
            let (rows, columns) = (rows.min(m - row), columns.min(n - column));
            let Source(Left { data, tile, row: to_row, step }) = left;
            let (end, strip) = (row + rows, kernel.strip(rows));
            for row in (row..end).step_by(strip) {
                let rows = strip.min(end - row);
                // SAFETY: `row` is a whole number of tiles within the operand, and the task's part of `out` is its own.
                let (data, to) = unsafe { (data.add(row / height * tile), target.0.add(row * how.out_row + column)) };
                let job = Block {
                    rows,
                    a: Left { data, tile, row: to_row, step },
                    b: Panels { data: &panels[column * slots..], depth: slots, columns },
                    out: to,
                    out_row: how.out_row,
                    scale: how.scale,
                    add: how.add || !is_first,
                    bias: if is_first { how.bias.map(|bias| &bias[column..]) } else { None },
                };
                // SAFETY: `super::multiply` has checked all three operands against their sizes.
                unsafe { kernel.run(&job) };
                if let (Some(finish), true) = (how.finish, is_last) {
                    for i in 0..rows {
                        // SAFETY: a part of a row that this task alone writes.
                        let part = unsafe { std::slice::from_raw_parts_mut(to.add(i * how.out_row), columns) };
                        finish((row + i) * n + column, part);
                    }
                }
            }
        });
    }
}

/// A left operand that tasks share.
#[derive(Clone, Copy)]
struct Source(Left);

// SAFETY: it is only read.
unsafe impl Send for Source {}
// SAFETY: as above.
unsafe impl Sync for Source {}

/// The same by this thread alone, for products that run beside others.
pub(super) fn alone(kernel: Kernel, job: Job<f32>) {
    let Job { out, sizes: (m, k, n), a, b, how, scratch, .. } = job;
    let depth_at_most = kernel.depth(k);
    let (panels, strips) = scratch.split_at_mut(pack::panels_len(slots_at_most(k), n));
    let (height, width) = (kernel.height(), kernel.width());
    for first in (0..k).step_by(depth_at_most) {
        let depth = depth_at_most.min(k - first);
        let slots = kernel.slots(depth);
        let panels = &mut panels[..slots * n.next_multiple_of(kernel.lanes())];
        panels.chunks_mut(width * slots).enumerate().for_each(|(i, out)| {
            pack::panel(kernel, out, b, (first, depth), (i * width, width.min(n - i * width)));
        });
        let left = if packs_left(kernel, a) {
            let strips = &mut strips[..slots * m.next_multiple_of(height)];
            pack::strips(kernel, strips, a, (0, m), (first, depth));
            pack::left(kernel, strips, slots)
        } else {
            Left { data: a.data[first..].as_ptr(), tile: height * a.row, row: a.row, step: 1 }
        };
        let job = Block {
            rows: m,
            a: left,
            b: Panels { data: panels, depth: slots, columns: n },
            out: out.as_mut_ptr(),
            out_row: how.out_row,
            scale: how.scale,
            add: how.add || first > 0,
            bias: how.bias.filter(|_| first == 0),
        };
        // SAFETY: `super::multiply` has checked all three operands against their sizes.
        unsafe { kernel.run(&job) };
    }
    if let Some(finish) = how.finish {
        out.chunks_mut(how.out_row).take(m).enumerate().for_each(|(i, row)| finish(i * n, &mut row[..n]));
    }
}
