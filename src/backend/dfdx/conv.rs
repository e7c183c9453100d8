//! Convolution as a matrix product: each window laid out as a row, for each group of channels.

use dfdx::prelude::{Axis, Dtype, TryAdd, TryConcatAlong};

use super::layout::{self, RowMap};
use super::{Context, Done, Float, Kernels, view};
use crate::tensor::Element;

/// Sizes of one convolution.
pub(super) struct ConvSizes {
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
}

impl ConvSizes {
    /// From `[B, C, H, W]`, `[O, C / groups, kh, kw]` and `[B, O, H', W']`.
    pub fn new(x: &[usize], weight: &[usize], out: &[usize], (stride, padding, groups): (usize, usize, usize)) -> Self {
        ConvSizes {
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
        }
    }

    fn places(&self) -> usize {
        self.batch * self.out_height * self.out_width
    }

    fn per_group(&self) -> usize {
        self.channels / self.groups
    }

    /// Values of the windows, ordered by group, place of the result, channel and place in the kernel; what lies outside
    /// comes from the value behind the last.
    fn windows(&self) -> RowMap {
        let zero = self.batch * self.channels * self.height * self.width;
        let inside = |at: usize, step: usize, limit: usize| {
            (at * self.stride + step).checked_sub(self.padding).filter(|i| *i < limit)
        };
        let mut rows =
            Vec::with_capacity(self.groups * self.places() * self.per_group() * self.kernel.0 * self.kernel.1);
        for group in 0..self.groups {
            for place in 0..self.places() {
                let (sample, within) =
                    (place / (self.out_height * self.out_width), place % (self.out_height * self.out_width));
                let (row, column) = (within / self.out_width, within % self.out_width);
                for channel in group * self.per_group()..(group + 1) * self.per_group() {
                    let plane = (sample * self.channels + channel) * self.height;
                    for y in 0..self.kernel.0 {
                        let line = inside(row, y, self.height).map(|y| (plane + y) * self.width);
                        for x in 0..self.kernel.1 {
                            let value = line.zip(inside(column, x, self.width)).map(|(line, x)| line + x);
                            rows.push(value.unwrap_or(zero));
                        }
                    }
                }
            }
        }
        RowMap { rows, inner: 1 }
    }
}

impl<E: Element + Dtype, D: Kernels<E>> Context<E, D> {
    pub(super) fn conv2d(
        &mut self,
        grad: bool,
        x: &Float<E, D>,
        weight: &Float<E, D>,
        bias: Option<&Float<E, D>>,
        sizes: &ConvSizes,
    ) -> Done<Float<E, D>> {
        let length = x.len();
        let zero = self.upload(vec![<E as Element>::from_f64(0.0)])?;
        let extended = self.on_tape(grad, x.flat.clone(), |x| {
            let both = (view(x, (1, length, 1))?, view(zero.flat, (1, 1, 1))?).try_concat_along(Axis::<1>)?;
            view(both, (length + 1,))
        })?;
        let extended = self.fresh(extended);
        let windows = self.moved(grad, &extended, sizes.windows())?;
        let values = sizes.per_group() * sizes.kernel.0 * sizes.kernel.1;
        let out_per_group = sizes.out_channels / sizes.groups;
        let dims = (sizes.groups, sizes.places(), values, out_per_group);
        let product = self.matmul(grad, &windows, weight, dims, true)?;
        let area = sizes.out_height * sizes.out_width;
        let map = layout::permute(&[sizes.groups, sizes.batch, area, out_per_group], &[1, 0, 3, 2]);
        let out = self.moved(grad, &product, map)?;
        let Some(bias) = bias else { return Ok(out) };
        let map = layout::broadcast(&[sizes.out_channels, 1], &[sizes.batch, sizes.out_channels, area]);
        let bias = self.moved(grad, bias, map)?;
        self.binary(grad, &out, &bias, |a, b| a.try_add(b))
    }
}
