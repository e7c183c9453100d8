//! Masks made of rectangles of patches: drawn by the loader, since each block hangs on those before it.
//!
//! **Invariant:** a mask hangs on its declaration and the numbers drawn; counts that the graph relies on are always met.
//! What is cut to a count is cut by chance, so that no place in the picture is seen or asked for less often.

use super::view::{Draw, between};
use crate::decl::{BlockMask, MultiBlock};

/// Rectangles tried for an exact count before single patches fill it up.
const EXACT_ROUNDS: usize = 100;
/// Draws of the context's block, before patches outside of it make up for what targets take away.
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
    for _ in 0..BlockMask::TRIES {
        let (area, aspect) = (draw.uniform(), draw.uniform());
        let Some((height, width)) = spec.sides(left, area, aspect) else { continue };
        let top = draw.below((spec.rows - height) as u64 + 1) as usize;
        let first = draw.below((spec.columns - width) as u64 + 1) as usize;
        let block = || cells((top, first), (height, width), spec.columns);
        let new = block().filter(|cell| !mask[*cell]).count();
        if (1..=left).contains(&new) {
            block().for_each(|cell| mask[cell] = true);
            return new;
        }
    }
    0
}

/// Ids of the context's patches, then those of each target; within a block in the order of the image.
pub fn multi_block(spec: &MultiBlock, draw: &mut dyn Draw) -> Vec<f32> {
    let patches = spec.rows * spec.columns;
    // As in the source, one number sets both a target's scale and its aspect; all targets of a sample are of one size.
    let number = draw.uniform();
    let scale = |range: (f64, f64)| range.0 + (range.1 - range.0) * number;
    let area = scale(spec.target_scale) * patches as f64;
    let size = sides(spec, area, scale(spec.target_aspect), spec.target_patches);
    let blocks: Vec<Vec<usize>> = (0..spec.targets).map(|_| place(spec, size, draw)).collect();
    let mut near = vec![Standing::Beyond; patches];
    let (rows, columns) = spec.reach();
    cells((0, 0), (rows, columns), spec.columns).for_each(|id| near[id] = Standing::Free);
    blocks.iter().flatten().for_each(|id| near[*id] = Standing::InBlock);
    let targets: Vec<Vec<usize>> = blocks.into_iter().map(|block| some_of(block, spec.target_patches, draw)).collect();
    targets.iter().flatten().for_each(|id| near[*id] = Standing::InTarget);

    let mut context: Vec<usize> = Vec::new();
    for _ in 0..CONTEXT_TRIES {
        let area = between(spec.context_scale, draw) * patches as f64;
        let block = place(spec, sides(spec, area, 1.0, spec.context_patches), draw);
        let free: Vec<usize> = block.into_iter().filter(|id| near[*id] == Standing::Free).collect();
        if free.len() > context.len() {
            context = free;
        }
        if context.len() >= spec.context_patches {
            break;
        }
    }
    let mut context = some_of(context, spec.context_patches, draw);
    // Where targets leave too little, other patches of the grid make up for it, those in targets last.
    if context.len() < spec.context_patches {
        let others = (0..patches).filter(|id| !context.contains(id)).collect();
        let mut others = shuffled(others, draw);
        others.sort_by_key(|id| near[*id]);
        context.extend(others.into_iter().take(spec.context_patches - context.len()));
        context.sort_unstable();
    }
    context.iter().chain(targets.iter().flatten()).map(|id| *id as f32).collect()
}

/// What a patch is to the targets, in the order in which the context takes patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Free,
    /// In a target's block, and not among the target's patches.
    InBlock,
    /// Where no block reaches.
    Beyond,
    InTarget,
}

/// `count` of `ids`, or all if they are fewer, each as likely as any other: the first ones would all lie in the upper rows.
fn some_of(ids: Vec<usize>, count: usize, draw: &mut dyn Draw) -> Vec<usize> {
    if ids.len() <= count {
        return ids;
    }
    let mut ids = shuffled(ids, draw);
    ids.truncate(count);
    ids.sort_unstable();
    ids
}

fn shuffled(mut ids: Vec<usize>, draw: &mut dyn Draw) -> Vec<usize> {
    for last in (1..ids.len()).rev() {
        ids.swap(last, draw.below(last as u64 + 1) as usize);
    }
    ids
}

/// Height and width of a block of `area` patches, made larger where it holds less than `least`.
fn sides(spec: &MultiBlock, area: f64, aspect: f64, least: usize) -> (usize, usize) {
    let (rows, columns) = spec.reach();
    let side = |v: f64, limit: usize| (v.round_ties_even() as usize).clamp(1, limit);
    // The source cuts the area to whole patches first.
    let mut height = side((area.floor() * aspect).sqrt(), rows);
    let mut width = side((area.floor() / aspect).sqrt(), columns);
    while height * width < least {
        // The shorter side grows, if it can; `least` patches are within reach, so one of them can.
        let taller = (height <= width && height < rows) || width == columns;
        if taller { height += 1 } else { width += 1 }
    }
    (height, width)
}

/// Ids of a block at a random place, in the order of the image.
fn place(spec: &MultiBlock, (height, width): (usize, usize), draw: &mut dyn Draw) -> Vec<usize> {
    let (rows, columns) = spec.reach();
    let top = draw.below((rows - height) as u64 + 1) as usize;
    let first = draw.below((columns - width) as u64 + 1) as usize;
    cells((top, first), (height, width), spec.columns).collect()
}

/// Ids of a rectangle in a grid of `columns`, in the order of the image.
fn cells(at: (usize, usize), size: (usize, usize), columns: usize) -> impl Iterator<Item = usize> {
    (at.0..at.0 + size.0).flat_map(move |row| (at.1..at.1 + size.1).map(move |column| row * columns + column))
}
