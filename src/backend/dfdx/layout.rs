//! Ops that only move values: each is a map from rows of the result to rows of the operand.
//!
//! **Invariant:** the map is total: every row of the result has its source; a source may serve many rows, whose gradients
//! add up.

use std::sync::Arc;

use dfdx::prelude::{Cpu, Device, Dtype, GatherTo, HasShape, OwnedTape, PutTape, SplitTape, Tape, TensorFromVec};

use super::{Context, Done, Flat, Float, Kernels, Taped, host, view};
use crate::op::PatchOrder;
use crate::tensor::Element;

/// Result row r is operand row `rows[r]`; a row is `inner` consecutive values.
pub(super) struct RowMap {
    pub rows: Vec<usize>,
    pub inner: usize,
}

impl RowMap {
    /// The map of a strided view: axis i of the result steps by `strides[i]` through the operand, from `offset`.
    pub fn strided(shape: &[usize], strides: &[usize], offset: usize) -> RowMap {
        // Trailing axes that lie together in the operand form the row.
        let mut inner = 1;
        let mut outer = shape.len();
        while outer > 0 && strides[outer - 1] == inner {
            inner *= shape[outer - 1];
            outer -= 1;
        }
        let aligned = |n: usize| n.is_multiple_of(inner);
        if !aligned(offset) || !strides[..outer].iter().all(|s| aligned(*s)) {
            // Rows would start within rows: go by single values.
            inner = 1;
            outer = shape.len();
        }
        let mut rows = vec![offset / inner];
        for (size, stride) in shape[..outer].iter().zip(strides) {
            let step = stride / inner;
            rows = rows.iter().flat_map(|row| (0..*size).map(move |i| row + i * step)).collect();
        }
        RowMap { rows, inner }
    }
}

/// Strides of a contiguous tensor.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i];
    }
    strides
}

pub(super) fn permute(shape: &[usize], axes: &[usize]) -> RowMap {
    let from = strides(shape);
    let out: Vec<usize> = axes.iter().map(|a| shape[*a]).collect();
    RowMap::strided(&out, &axes.iter().map(|a| from[*a]).collect::<Vec<_>>(), 0)
}

pub(super) fn broadcast(shape: &[usize], to: &[usize]) -> RowMap {
    let from = strides(shape);
    let skipped = to.len() - shape.len();
    let steps: Vec<usize> =
        (0..to.len()).map(|i| if i < skipped || shape[i - skipped] == 1 { 0 } else { from[i - skipped] }).collect();
    RowMap::strided(to, &steps, 0)
}

pub(super) fn slice(shape: &[usize], axis: usize, start: usize, end: usize) -> RowMap {
    let from = strides(shape);
    let mut out = shape.to_vec();
    out[axis] = end - start;
    RowMap::strided(&out, &from, start * from[axis])
}

/// Images `[B, C, H, W]` to patches; with `inverse` patches to images.
pub(super) fn patchify(images: &[usize], patch: (usize, usize), order: PatchOrder, inverse: bool) -> RowMap {
    let [b, c, h, w] = [images[0], images[1], images[2], images[3]];
    let (ph, pw) = patch;
    let (gh, gw) = (h / ph, w / pw);
    // Axes of an image: batch, channel, grid row, row, grid column, column.
    let image = [c * h * w, h * w, ph * w, w, pw, 1];
    let sizes = [b, c, gh, ph, gw, pw];
    let patch_axes = match order {
        PatchOrder::RowColumnChannel => [0, 2, 4, 3, 5, 1],
        PatchOrder::ChannelRowColumn => [0, 2, 4, 1, 3, 5],
    };
    if !inverse {
        return RowMap::strided(&patch_axes.map(|a| sizes[a]), &patch_axes.map(|a| image[a]), 0);
    }
    let packed = strides(&patch_axes.map(|a| sizes[a]));
    let mut from = [0; 6];
    for (position, axis) in patch_axes.iter().enumerate() {
        from[*axis] = packed[position];
    }
    RowMap::strided(&sizes, &from, 0)
}

/// Gathers rows and scatters their gradients.
pub trait Rows<E: Dtype>: Device<E> {
    /// Result row r is row `rows[r]` of `x`, rows of `inner` values.
    fn gather_rows(x: Flat<E, Self>, rows: Arc<Vec<usize>>, inner: usize, tape: OwnedTape<E, Self>) -> Taped<E, Self>;
}

macro_rules! rows_on_cpu {
    ($($element:ty),*) => {$(
        impl Rows<$element> for Cpu {
            // dfdx's own gather walks an index per value; whole rows are copied here, forward and back.
            fn gather_rows(
                x: Flat<$element, Cpu>,
                rows: Arc<Vec<usize>>,
                inner: usize,
                mut tape: OwnedTape<$element, Cpu>,
            ) -> Taped<$element, Cpu> {
                let source = host(&x);
                let mut data = Vec::with_capacity(rows.len() * inner);
                for row in rows.iter() {
                    data.extend_from_slice(&source[row * inner..(row + 1) * inner]);
                }
                let length = data.len();
                let device: Cpu = x.device().clone();
                let out = device.try_tensor_from_vec(data, (length,))?;
                let result = out.clone();
                tape.add_backward_op(move |gradients| {
                    gradients.try_alloc_for(&out)?;
                    let above = host(&gradients.get(&out));
                    let below = gradients.get_or_alloc_mut(&x)?;
                    for (row, values) in rows.iter().zip(above.chunks_exact(inner)) {
                        let target = &mut below[row * inner..(row + 1) * inner];
                        for (sum, value) in target.iter_mut().zip(values) {
                            *sum += *value;
                        }
                    }
                    Ok(())
                });
                Ok((result, tape))
            }
        }
    )*};
}

rows_on_cpu!(f32, f64);

#[cfg(feature = "dfdx-cuda")]
impl<E: Element + Dtype> Rows<E> for dfdx::prelude::Cuda
where
    dfdx::prelude::Cuda: Device<E>,
{
    fn gather_rows(x: Flat<E, Self>, rows: Arc<Vec<usize>>, inner: usize, tape: OwnedTape<E, Self>) -> Taped<E, Self> {
        gather_by_dfdx(x, &rows, inner, tape)
    }
}

/// The same through dfdx's `gather`, for devices whose memory the host cannot reach.
#[cfg_attr(not(feature = "dfdx-cuda"), allow(dead_code, reason = "only CUDA needs it; it must compile everywhere"))]
fn gather_by_dfdx<E: Dtype, D: Device<E>>(
    x: Flat<E, D>,
    rows: &[usize],
    inner: usize,
    tape: OwnedTape<E, D>,
) -> Taped<E, D> {
    let (length, count) = (x.shape().0 / inner, rows.len());
    let ids = x.device().try_tensor_from_vec(rows.to_vec(), (count,))?;
    let table = view(x.put_tape(tape), (length, inner))?;
    let out = table.try_gather::<(usize, usize), (usize,)>(ids)?;
    let out = view(out, (count * inner,))?;
    Ok(out.split_tape())
}

impl<E: Element + Dtype, D: Kernels<E>> Context<E, D> {
    /// Moves values by a map.
    pub(super) fn moved(&mut self, grad: bool, x: &Float<E, D>, map: RowMap) -> Done<Float<E, D>> {
        let (x, rows) = (x.flat.clone(), Arc::new(map.rows));
        self.traced(grad, |tape| D::gather_rows(x, rows, map.inner, tape))
    }
}
