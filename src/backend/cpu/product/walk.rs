//! How a product in f32 walks through its operands: k in blocks that keep a panel in the first-level cache, and for each block
//! tasks of some rows and columns. Where the result is stored in bf16, a task goes through all blocks of k, since sums that go on are
//! rounded once, at their end.
//!
//! **Invariant:** blocks of k are cut by k alone, and tasks do not cut k: see [`super::tile`].
#![allow(unsafe_code, reason = "tasks write disjoint parts of rows, which slices cannot say")]

use rayon::prelude::*;

use super::super::scratch::Scratch;
use super::super::stored::{NumbersMut, bf16, store};
use super::kernel::{Block, Kernel, Left, Operands, Panels, Target, slots_at_most};
use super::{How, Job, Matrix, Right, Sizes, Threads, pack, tiles};

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
    m.next_multiple_of(tiles::SQUARE).min(Kernel::ROWS) * n.min(Kernel::COLUMNS)
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
    let Job { mut out, sizes, a, b, how, threads, scratch } = job;
    let target = match &mut out {
        NumbersMut::Full(out) => Target::Full(out.as_mut_ptr()),
        NumbersMut::Halves(out) => Target::Halves(out.as_mut_ptr()),
    };
    let walk = Walk::new(kernel, sizes, (a, how, target), threads);
    let (m, k, n) = sizes;
    let own = match b {
        Right::AsItIs(_) => pack::panels_len(slots_at_most(k, walk.narrows()), n),
        Right::Packed(_) => 0,
    };
    let (own, strips) = scratch.split_at_mut(own);
    for start in (0..k).step_by(walk.together) {
        let whole = walk.rows_in_place(start);
        walk.pack(start, whole, b, own, strips);
        let panels = match b {
            Right::AsItIs(_) => &*own,
            Right::Packed(panels) => &panels[start / walk.depth * walk.panels_of_a_block()..],
        };
        let group = Group { start, whole, panels, strips };
        let across = n.div_ceil(walk.columns);
        match threads {
            Threads::One => walk.task(&group, 0, 0),
            Threads::All => (0..m.div_ceil(walk.rows) * across)
                .into_par_iter()
                .with_max_len(1)
                .for_each(|task| walk.task(&group, task / across * walk.rows, task % across * walk.columns)),
        }
    }
}

/// A product and how it is cut.
struct Walk<'j> {
    kernel: Kernel,
    sizes: Sizes,
    a: Matrix<'j, f32>,
    how: &'j How<'j, f32>,
    target: Target,
    threads: Threads,
    /// Rows of k in a block, and in the blocks that a task goes through.
    depth: usize,
    together: usize,
    /// Of a task.
    rows: usize,
    columns: usize,
    /// Of a task's rows, those that are computed before the next.
    strip: usize,
}

/// A block of k: the how many it is of its group, its first row, and how many it has.
#[derive(Clone, Copy)]
struct Cut {
    index: usize,
    first: usize,
    depth: usize,
}

/// Blocks of k that tasks go through, from row `start` on.
struct Group<'g> {
    start: usize,
    /// Rows of the left operand that are read where they lie; the rest is packed in `strips`.
    whole: usize,
    panels: &'g [f32],
    strips: &'g [f32],
}

impl<'j> Walk<'j> {
    fn new(
        kernel: Kernel,
        (m, k, n): Sizes,
        (a, how, target): (Matrix<'j, f32>, &'j How<'j, f32>, Target),
        threads: Threads,
    ) -> Self {
        let depth = kernel.depth(k);
        let together = if matches!(target, Target::Halves(_)) { k } else { depth };
        // Rows and columns of a task are cut evenly, in whole tiles.
        let even = |all: usize, most: usize, unit: usize| all.div_ceil(all.div_ceil(most)).next_multiple_of(unit);
        let (rows, columns, strip) = match threads {
            Threads::One => (m, n, m),
            Threads::All => {
                let columns = even(n, kernel.columns(depth), kernel.width());
                // How rows are shared out changes no bit, so that it may hang on the number of threads.
                let share = (m * n.div_ceil(columns)).div_ceil(TASKS * rayon::current_num_threads());
                let rows = even(m, kernel.rows().min(share).max(2 * kernel.height()), kernel.height());
                (rows, columns, kernel.strip(rows))
            }
        };
        Walk { kernel, sizes: (m, k, n), a, how, target, threads, depth, together, rows, columns, strip }
    }

    /// Whether the result is stored in bf16.
    fn narrows(&self) -> bool {
        matches!(self.target, Target::Halves(_))
    }

    /// Floats of the panels of a whole block.
    fn panels_of_a_block(&self) -> usize {
        self.kernel.slots(self.depth) * self.sizes.2.next_multiple_of(self.kernel.lanes())
    }

    /// Blocks of the group that begins with row `start` of k.
    fn blocks(&self, start: usize) -> impl Iterator<Item = Cut> + use<> {
        let (depth, end) = (self.depth, (start + self.together).min(self.sizes.1));
        let firsts = (start..end).step_by(depth).enumerate();
        firsts.map(move |(index, first)| Cut { index, first, depth: depth.min(end - first) })
    }

    /// How many rows of the left operand are read where they lie, in whole tiles where the kernel reads such.
    fn rows_in_place(&self, start: usize) -> usize {
        let (m, height) = (self.sizes.0, self.kernel.height());
        let lies = self.blocks(start).all(|cut| pack::in_place(self.kernel, self.a, cut.first, cut.depth).is_some());
        match (lies, self.kernel.operands) {
            (false, _) => 0,
            (true, Operands::Tiles) => m / height * height,
            (true, _) => m,
        }
    }

    /// Floats of the strips of a whole block, where `whole` rows are read in place.
    fn strips_of_a_block(&self, whole: usize) -> usize {
        self.kernel.slots(self.depth) * (self.sizes.0.next_multiple_of(self.kernel.height()) - whole)
    }

    /// Packs what is not read in place.
    fn pack(&self, start: usize, whole: usize, b: Right<f32>, panels: &mut [f32], strips: &mut [f32]) {
        let (kernel, threads, (m, _, n)) = (self.kernel, self.threads, self.sizes);
        for Cut { index, first, depth } in self.blocks(start) {
            let slots = kernel.slots(depth);
            let mut right = || {
                if let Right::AsItIs(b) = b {
                    let len = slots * n.next_multiple_of(kernel.lanes());
                    let panels = &mut panels[index * self.panels_of_a_block()..][..len];
                    pack::panels(kernel, panels, b, (first, depth), n, threads);
                }
            };
            let mut left = || {
                if whole < m {
                    let len = slots * (m.next_multiple_of(kernel.height()) - whole);
                    let strips = &mut strips[index * self.strips_of_a_block(whole)..][..len];
                    pack::strips(kernel, strips, self.a, (whole, m - whole), (first, depth), threads);
                }
            };
            match threads {
                Threads::One => {
                    right();
                    left();
                }
                Threads::All => {
                    rayon::join(right, left);
                }
            }
        }
    }

    /// The left operand of a block from `row` on, where a tile begins.
    fn left(&self, group: &Group, cut: Cut, row: usize) -> Left {
        let (kernel, whole) = (self.kernel, group.whole);
        let from =
            |left: Left, row: usize| Left { data: left.data.wrapping_add(row / kernel.height() * left.tile), ..left };
        match pack::in_place(kernel, self.a, cut.first, cut.depth).filter(|_| row < whole) {
            Some(left) => from(left, row),
            None => {
                let strips = &group.strips[cut.index * self.strips_of_a_block(whole)..];
                from(pack::left(kernel, strips, kernel.slots(cut.depth)), row - whole)
            }
        }
    }

    /// The rows and columns from these on.
    fn task(&self, group: &Group, row: usize, column: usize) {
        let (m, _, n) = self.sizes;
        let (end, columns) = ((row + self.rows).min(m), self.columns.min(n - column));
        let mut row = row;
        while row < end {
            let limit = if row < group.whole { group.whole.min(end) } else { end };
            let rows = self.strip.min(limit - row);
            self.strip(group, (row, rows), (column, columns));
            row += rows;
        }
    }

    /// Some rows of a task: products, what follows them, and how they are stored.
    fn strip(&self, group: &Group, (row, rows): (usize, usize), (column, columns): (usize, usize)) {
        let (how, (_, k, n)) = (self.how, self.sizes);
        let at = row * how.out_row + column;
        let finish = |i: usize, part: &mut [f32]| {
            if let (Some(finish), true) = (how.finish, group.start + self.together >= k) {
                finish((row + i) * n + column, part);
            }
        };
        match self.target {
            Target::Full(to) => {
                self.sums(group, (row, rows), (column, columns), self.target.from(at), how.out_row);
                for i in 0..rows {
                    let to = to.wrapping_add(at + i * how.out_row);
                    // SAFETY: a part of a row that this task alone writes.
                    finish(i, unsafe { std::slice::from_raw_parts_mut(to, columns) });
                }
            }
            // Sums that are final as soon as they are there.
            Target::Halves(_) if self.kernel.narrows() && k <= self.depth && how.finish.is_none() => {
                self.sums(group, (row, rows), (column, columns), self.target.from(at), how.out_row);
            }
            Target::Halves(to) => f32::with_scratch(rows * columns, |staged| {
                let sums = Target::Full(staged.as_mut_ptr());
                self.sums(group, (row, rows), (column, columns), sums, columns);
                for (i, part) in staged.chunks_exact_mut(columns).enumerate() {
                    finish(i, part);
                    let to = to.wrapping_add(at + i * how.out_row);
                    // SAFETY: as above.
                    store::<f32, bf16>(part, unsafe { std::slice::from_raw_parts_mut(to, columns) });
                }
            }),
        }
    }

    /// Sums over the group's blocks, to `out`, whose rows are `out_row` apart.
    fn sums(
        &self,
        group: &Group,
        (row, rows): (usize, usize),
        (column, columns): (usize, usize),
        out: Target,
        out_row: usize,
    ) {
        for cut in self.blocks(group.start) {
            let slots = self.kernel.slots(cut.depth);
            let begins = cut.first == 0;
            let job = Block {
                rows,
                a: self.left(group, cut, row),
                b: Panels {
                    data: &group.panels[cut.index * self.panels_of_a_block() + column * slots..],
                    depth: slots,
                    columns,
                },
                out,
                out_row,
                scale: self.how.scale,
                add: self.how.add || !begins,
                bias: if begins { self.how.bias.map(|bias| &bias[column..]) } else { None },
            };
            // SAFETY: `super::multiply` has checked all three operands against their sizes, and what `out` points to is this task's
            // own.
            unsafe { self.kernel.run(&job) };
        }
    }
}
