//! Ops that only move values: strided copies, concatenation, and tokens by their ids.

use super::share;
use super::stored::{Stored, bf16, store};
use crate::op::PatchOrder;
use crate::tensor::Element;

/// Axes that a move may have once those of one value are left out: each doubles the values at least, and their count is a `usize`.
const MAX_AXES: usize = usize::BITS as usize;

/// A copy out of a strided view: axis i of the result steps by `strides[i]` through the operand.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Strided {
    sizes: Vec<usize>,
    strides: Vec<usize>,
    offset: usize,
}

/// Strides of a contiguous tensor.
fn contiguous(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i];
    }
    strides
}

impl Strided {
    fn new(shape: &[usize], strides: &[usize], offset: usize) -> Self {
        let (mut sizes, mut steps): (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
        for (size, stride) in shape.iter().zip(strides).filter(|(size, _)| **size != 1) {
            match (sizes.last_mut(), steps.last_mut()) {
                // This axis goes on where the one before it stops.
                (Some(last), Some(step)) if *step == size * stride => {
                    *last *= size;
                    *step = *stride;
                }
                _ => {
                    sizes.push(*size);
                    steps.push(*stride);
                }
            }
        }
        if sizes.is_empty() {
            (sizes, steps) = (vec![1], vec![1]);
        }
        debug_assert!(sizes.len() < MAX_AXES, "a move of {} axes", sizes.len());
        Strided { sizes, strides: steps, offset }
    }

    pub fn permute(shape: &[usize], axes: &[usize]) -> Self {
        let from = contiguous(shape);
        let out: Vec<usize> = axes.iter().map(|a| shape[*a]).collect();
        Strided::new(&out, &axes.iter().map(|a| from[*a]).collect::<Vec<_>>(), 0)
    }

    pub fn broadcast(shape: &[usize], to: &[usize]) -> Self {
        let from = contiguous(shape);
        let skipped = to.len() - shape.len();
        let repeated = |i: usize| i < skipped || shape[i - skipped] == 1;
        let steps: Vec<usize> = (0..to.len()).map(|i| if repeated(i) { 0 } else { from[i - skipped] }).collect();
        Strided::new(to, &steps, 0)
    }

    pub fn slice(shape: &[usize], axis: usize, start: usize, end: usize) -> Self {
        let from = contiguous(shape);
        let mut out = shape.to_vec();
        out[axis] = end - start;
        Strided::new(&out, &from, start * from[axis])
    }

    /// Images `[B, C, H, W]` to patches; with `inverse` patches to images.
    pub fn patchify(images: &[usize], (ph, pw): (usize, usize), order: PatchOrder, inverse: bool) -> Self {
        let [b, c, h, w] = [images[0], images[1], images[2], images[3]];
        // Axes of an image: batch, channel, grid row, row, grid column, column.
        let image = [c * h * w, h * w, ph * w, w, pw, 1];
        let sizes = [b, c, h / ph, ph, w / pw, pw];
        let patch_axes = match order {
            PatchOrder::RowColumnChannel => [0, 2, 4, 3, 5, 1],
            PatchOrder::ChannelRowColumn => [0, 2, 4, 1, 3, 5],
        };
        if !inverse {
            return Strided::new(&patch_axes.map(|a| sizes[a]), &patch_axes.map(|a| image[a]), 0);
        }
        let packed = contiguous(&patch_axes.map(|a| sizes[a]));
        let mut from = [0; 6];
        for (position, axis) in patch_axes.iter().enumerate() {
            from[*axis] = packed[position];
        }
        Strided::new(&sizes, &from, 0)
    }

    pub fn run<T: Copy + Send + Sync>(&self, x: &[T], out: &mut [T]) {
        self.run_by(x, out, <[T]>::copy_from_slice, |x| x);
    }

    /// The same, rounded.
    pub fn run_rounded<E: Element>(&self, x: &[E], out: &mut [bf16]) {
        self.run_by(x, out, |out, x| store(x, out), bf16::narrow);
    }

    /// `copy` makes what is stored of a row of operands, and `one` of one of them.
    fn run_by<T, S>(&self, x: &[T], out: &mut [S], copy: impl Fn(&mut [S], &[T]) + Sync, one: impl Fn(T) -> S + Sync)
    where
        T: Copy + Sync,
        S: Copy + Send,
    {
        let last = self.sizes.len() - 1;
        let (width, step) = (self.sizes[last], self.strides[last]);
        share::pieces(out, width, |start, out| {
            let mut place = [0; MAX_AXES];
            let (mut row, mut at) = (start / width, self.offset);
            for axis in (0..last).rev() {
                place[axis] = row % self.sizes[axis];
                at += place[axis] * self.strides[axis];
                row /= self.sizes[axis];
            }
            for out in out.chunks_exact_mut(width) {
                match step {
                    1 => copy(out, &x[at..at + width]),
                    0 => out.fill(one(x[at])),
                    _ => out.iter_mut().zip(x[at..].iter().step_by(step)).for_each(|(out, x)| *out = one(*x)),
                }
                // The next row, with a carry to the axis before where one is through.
                for axis in (0..last).rev() {
                    place[axis] += 1;
                    at += self.strides[axis];
                    if place[axis] < self.sizes[axis] {
                        break;
                    }
                    at -= place[axis] * self.strides[axis];
                    place[axis] = 0;
                }
            }
        });
    }
}

/// One operand of a concatenation: `run` elements, from place `at` on, of each row of `row`.
pub(super) fn concat<T: Copy + Send + Sync>(out: &mut [T], row: usize, at: usize, x: &[T], run: usize) {
    share::pieces(out, row, |start, out| {
        let first = start / row;
        let rows = x[first * run..].chunks_exact(run);
        out.chunks_exact_mut(row).zip(rows).for_each(|(out, x)| out[at..at + run].copy_from_slice(x));
    });
}

/// Token `ids[b, k]` of sample b; ids are in range.
pub(super) fn gather_tokens<T: Copy + Send + Sync>(
    out: &mut [T],
    x: &[T],
    ids: &[i64],
    tokens: usize,
    picked: usize,
    width: usize,
) {
    share::pieces(out, width, |start, out| {
        for (i, out) in out.chunks_exact_mut(width).enumerate() {
            let row = start / width + i;
            let from = (row / picked * tokens + ids[row] as usize) * width;
            out.copy_from_slice(&x[from..from + width]);
        }
    });
}

/// The sums of the rows of `g` by their ids, sample by sample; ids are in range.
pub(super) fn scatter_tokens<T: Copy + Default + std::ops::AddAssign + Send + Sync>(
    out: &mut [T],
    g: &[T],
    ids: &[i64],
    tokens: usize,
    picked: usize,
    width: usize,
) {
    share::pieces(out, tokens * width, |start, out| {
        for (i, out) in out.chunks_exact_mut(tokens * width).enumerate() {
            let sample = start / (tokens * width) + i;
            out.fill(T::default());
            for row in sample * picked..(sample + 1) * picked {
                let to = ids[row] as usize * width;
                let values = &g[row * width..(row + 1) * width];
                out[to..to + width].iter_mut().zip(values).for_each(|(sum, value)| *sum += *value);
            }
        }
    });
}

/// Checks ids against the range that they index.
pub(super) fn in_range(ids: &[i64], limit: usize, what: &str) -> Result<(), String> {
    match ids.iter().find(|id| usize::try_from(**id).map_or(true, |id| id >= limit)) {
        Some(id) => Err(format!("id {id} is no {what}: there are {limit}")),
        None => Ok(()),
    }
}
