//! Masks made of rectangles of patches: drawn by the loader, since each block hangs on those before it.
//!
//! **Invariant:** a mask hangs on its declaration and the numbers drawn; counts that the graph relies on are always met.

use super::view::{Draw, aspect_between, between};
use crate::decl::{BlockMask, MultiBlock};

/// Tries for one rectangle.
const BLOCK_TRIES: usize = 10;
/// Rectangles tried for an exact count before single patches fill it up.
const EXACT_ROUNDS: usize = 100;
/// Draws of all blocks for enough context, before targets may be part of it.
const CONTEXT_TRIES: usize = 20;

/// 1.0 where removed, row by row.
pub fn block_mask(spec: &BlockMask, draw: &mut dyn Draw) -> Vec<f32> {
    let mut mask = vec![false; spec.rows * spec.columns];
    let (low, high) = match spec.removed.as_slice() {
        [only] => *only,
        ranges => ranges[draw.below(ranges.len() as u64) as usize],
    };
    // A count is given as a range of one; drawing from it would cost a number for nothing.
    let wanted = if low == high { low } else { low + (high - low) * draw.uniform() } as usize;
    let mut removed = 0;
    let mut rounds = 0;
    while removed < wanted {
        let added = remove_block(spec, &mut mask, wanted - removed, draw);
        removed += added;
        rounds += 1;
        if added == 0 && (!spec.exact || rounds >= EXACT_ROUNDS) {
            break;
        }
    }
    if spec.exact {
        let mut left: Vec<usize> = (0..mask.len()).filter(|i| !mask[*i]).collect();
        while removed < wanted {
            mask[left.swap_remove(draw.below(left.len() as u64) as usize)] = true;
            removed += 1;
        }
    }
    mask.into_iter().map(|m| f32::from(u8::from(m))).collect()
}

/// Removes one rectangle of at most `left` new patches; gives how many.
fn remove_block(spec: &BlockMask, mask: &mut [bool], left: usize, draw: &mut dyn Draw) -> usize {
    let largest = left.min(spec.max_patches) as f64;
    for _ in 0..BLOCK_TRIES {
        let area = between((spec.min_patches as f64, largest), draw);
        let aspect = aspect_between(spec.aspect, draw);
        let height = (area * aspect).sqrt().round_ties_even() as usize;
        let width = (area / aspect).sqrt().round_ties_even() as usize;
        if height >= spec.rows || width >= spec.columns {
            continue;
        }
        let top = draw.below((spec.rows - height) as u64 + 1) as usize;
        let first = draw.below((spec.columns - width) as u64 + 1) as usize;
        let cells = || (top..top + height).flat_map(|row| (first..first + width).map(move |c| row * spec.columns + c));
        let new = cells().filter(|cell| !mask[*cell]).count();
        if (1..=left).contains(&new) {
            cells().for_each(|cell| mask[cell] = true);
            return new;
        }
    }
    0
}

/// Ids of the context's patches, then those of each target.
pub fn multi_block(spec: &MultiBlock, draw: &mut dyn Draw) -> Vec<f32> {
    let patches = spec.rows * spec.columns;
    let mut best: (Vec<usize>, Vec<Vec<usize>>) = (Vec::new(), Vec::new());
    for _ in 0..CONTEXT_TRIES {
        // As in the source, one number sets both a target's scale and its aspect; all targets of a sample are of one size.
        let number = draw.uniform();
        let scale = |range: (f64, f64)| range.0 + (range.1 - range.0) * number;
        let area = scale(spec.target_scale) * patches as f64;
        let size = sides(spec, area, scale(spec.target_aspect), spec.target_patches);
        let targets: Vec<Vec<usize>> = (0..spec.targets).map(|_| place(spec, size, draw)).collect();
        let area = between(spec.context_scale, draw) * patches as f64;
        let block = place(spec, sides(spec, area, 1.0, spec.context_patches), draw);
        let mut taken = vec![false; patches];
        targets.iter().flatten().for_each(|id| taken[*id] = true);
        let context: Vec<usize> = block.into_iter().filter(|id| !taken[*id]).collect();
        let better = context.len() > best.0.len() || best.1.is_empty();
        if better {
            best = (context, targets);
        }
        if best.0.len() >= spec.context_patches {
            break;
        }
    }
    let (mut context, targets) = best;
    // Where targets leave too little, other patches of the grid make up for it: first those that are in no target.
    for allow_targets in [false, true] {
        for id in 0..patches {
            let in_target = targets.iter().any(|t| t[..spec.target_patches].contains(&id));
            if context.len() < spec.context_patches && !context.contains(&id) && (allow_targets || !in_target) {
                context.push(id);
            }
        }
    }
    context.truncate(spec.context_patches);
    context.sort_unstable();
    let targets = targets.iter().flat_map(|t| &t[..spec.target_patches]);
    context.iter().chain(targets).map(|id| *id as f32).collect()
}

/// Height and width of a block of `area` patches, made larger where it holds less than `least`.
fn sides(spec: &MultiBlock, area: f64, aspect: f64, least: usize) -> (usize, usize) {
    let side = |v: f64, limit: usize| (v.round_ties_even() as usize).clamp(1, limit);
    let mut height = side((area * aspect).sqrt(), spec.rows);
    let mut width = side((area / aspect).sqrt(), spec.columns);
    while height * width < least {
        // The shorter side grows, if it can; the grid holds `least`, so one of them can.
        let taller = (height <= width && height < spec.rows) || width == spec.columns;
        if taller { height += 1 } else { width += 1 }
    }
    (height, width)
}

/// Ids of a block at a random place, in the order of the image.
fn place(spec: &MultiBlock, (height, width): (usize, usize), draw: &mut dyn Draw) -> Vec<usize> {
    let top = draw.below((spec.rows - height) as u64 + 1) as usize;
    let first = draw.below((spec.columns - width) as u64 + 1) as usize;
    (top..top + height).flat_map(|row| (first..first + width).map(move |c| row * spec.columns + c)).collect()
}
