//! Convolution as matrix products: of each sample and group of channels, the windows laid out as columns.

use rayon::prelude::*;

use super::product::{self, How, Matrix, Threads, multiply};
use super::real::Real;

/// Sizes of one convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    batch: usize,
    channels: usize,
    height: usize,
    width: usize,
    out_channels: usize,
    out_height: usize,
    out_width: usize,
    kernel: (usize, usize),
    stride: usize,
    padding: usize,
    groups: usize,
    /// Products round their operands.
    bf16: bool,
}

impl Sizes {
    /// From `[B, C, H, W]`, `[O, C / groups, kh, kw]` and `[B, O, H', W']`.
    pub fn new(
        x: &[usize],
        weight: &[usize],
        out: &[usize],
        (stride, padding, groups): (usize, usize, usize),
        bf16: bool,
    ) -> Self {
        Sizes {
            batch: x[0],
            channels: x[1],
            height: x[2],
            width: x[3],
            out_channels: out[1],
            out_height: out[2],
            out_width: out[3],
            kernel: (weight[2], weight[3]),
            stride,
            padding,
            groups,
            bf16,
        }
    }

    fn area(&self) -> usize {
        self.out_height * self.out_width
    }

    /// Values of a window within a group.
    fn window(&self) -> usize {
        self.channels / self.groups * self.kernel.0 * self.kernel.1
    }

    fn out_per_group(&self) -> usize {
        self.out_channels / self.groups
    }

    /// Floats that a thread needs: windows of one sample and group, and what products work in.
    pub fn room(&self) -> usize {
        let (window, area, channels) = (self.window(), self.area(), self.out_per_group());
        let products =
            [((channels, window, area), false), ((window, channels, area), true), ((channels, area, window), false)];
        let room = products.map(|(sizes, transposed)| product::scratch(sizes, transposed || self.bf16, false));
        window * area + room.into_iter().max().unwrap_or(0)
    }

    /// A product with rows of `n`, as it is.
    fn how<E: Real>(&self, n: usize) -> How<'static, E> {
        How { bf16: self.bf16, ..How::plain(n) }
    }

    /// Of one sample.
    fn image(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Calls `visit` with (place in the windows, place in the image of a group) of all that lie within the image.
    fn each(&self, mut visit: impl FnMut(usize, usize)) {
        let inside = |at: usize, step: usize, limit: usize| {
            (at * self.stride + step).checked_sub(self.padding).filter(|i| *i < limit)
        };
        let mut row = 0;
        for channel in 0..self.channels / self.groups {
            for ky in 0..self.kernel.0 {
                for kx in 0..self.kernel.1 {
                    for y in 0..self.out_height {
                        let Some(line) = inside(y, ky, self.height) else { continue };
                        let from = (channel * self.height + line) * self.width;
                        let to = row * self.area() + y * self.out_width;
                        for x in 0..self.out_width {
                            if let Some(column) = inside(x, kx, self.width) {
                                visit(to + x, from + column);
                            }
                        }
                    }
                    row += 1;
                }
            }
        }
    }

    /// Windows of a group of one image as columns, `[window, area]`; what lies outside is 0.
    fn windows<E: Real>(&self, image: &[E], out: &mut [E]) {
        out.fill(E::ZERO);
        self.each(|to, from| out[to] = image[from]);
    }
}

pub(super) fn forward<E: Real>(x: &[E], weight: &[E], bias: Option<&[E]>, out: &mut [E], sizes: Sizes) {
    let (area, window, per_group) = (sizes.area(), sizes.window(), sizes.out_per_group());
    let plane = sizes.image() / sizes.groups;
    out.par_chunks_exact_mut(per_group * area).enumerate().for_each(|(i, out)| {
        let group = i % sizes.groups;
        E::with_scratch(sizes.room(), |room| {
            let (windows, room) = room.split_at_mut(window * area);
            sizes.windows(&x[i * plane..(i + 1) * plane], windows);
            let weight = Matrix::rows(&weight[group * per_group * window..], window);
            let windows = Matrix::rows(&*windows, area);
            multiply(
                (&mut *out).into(),
                (per_group, window, area),
                weight,
                windows,
                &sizes.how(area),
                Threads::One,
                room,
            );
        });
        if let Some(bias) = bias {
            for (out, bias) in out.chunks_exact_mut(area).zip(&bias[group * per_group..]) {
                out.iter_mut().for_each(|value| *value += *bias);
            }
        }
    });
}

pub(super) fn input_grad<E: Real>(g: &[E], weight: &[E], out: &mut [E], sizes: Sizes) {
    let (area, window, per_group) = (sizes.area(), sizes.window(), sizes.out_per_group());
    let plane = sizes.image() / sizes.groups;
    out.par_chunks_exact_mut(plane).enumerate().for_each(|(i, out)| {
        E::with_scratch(sizes.room(), |room| {
            let (windows, room) = room.split_at_mut(window * area);
            let weight = Matrix::rows(&weight[i % sizes.groups * per_group * window..], window).transposed();
            let g = Matrix::rows(&g[i * per_group * area..(i + 1) * per_group * area], area);
            multiply(
                (&mut *windows).into(),
                (window, per_group, area),
                weight,
                g,
                &sizes.how(area),
                Threads::One,
                room,
            );
            out.fill(E::ZERO);
            sizes.each(|from, to| out[to] += windows[from]);
        });
    });
}

/// The samples' gradients are added up one after the other, so that their order is always the same.
pub(super) fn weight_grad<E: Real>(g: &[E], x: &[E], out: &mut [E], sizes: Sizes) {
    let (area, window, per_group) = (sizes.area(), sizes.window(), sizes.out_per_group());
    let plane = sizes.image() / sizes.groups;
    out.par_chunks_exact_mut(per_group * window).enumerate().for_each(|(group, out)| {
        E::with_scratch(sizes.room(), |room| {
            let (windows, room) = room.split_at_mut(window * area);
            for sample in 0..sizes.batch {
                let i = sample * sizes.groups + group;
                sizes.windows(&x[i * plane..(i + 1) * plane], windows);
                let g = Matrix::rows(&g[i * per_group * area..(i + 1) * per_group * area], area);
                let windows = Matrix::rows(&*windows, area).transposed();
                let how = How { add: sample > 0, ..sizes.how(window) };
                multiply((&mut *out).into(), (per_group, area, window), g, windows, &how, Threads::One, room);
            }
        });
    });
}
