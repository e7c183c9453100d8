//! Patches, tokens by their ids, and ids by values.

use super::build::{Order, Reduction};
use super::text::{Function, Scalar, TensorType, Value};
use crate::op::PatchOrder;

/// Images `[B, C, H, W]` to patches `[B, N, P·P·C]`.
pub(super) fn patchify(f: &mut Function, images: &Value, (ph, pw): (usize, usize), order: PatchOrder) -> Value {
    let [b, c, h, w] = dims(images.shape());
    let apart = f.reshape(images, &[b, c, h / ph, ph, w / pw, pw]);
    let patches = f.transpose(&apart, &patch_axes(order));
    f.reshape(&patches, &[b, (h / ph) * (w / pw), ph * pw * c])
}

/// The inverse, to `shape`.
pub(super) fn unpatchify(
    f: &mut Function,
    patches: &Value,
    (ph, pw): (usize, usize),
    order: PatchOrder,
    shape: &[usize],
) -> Value {
    let [b, c, h, w] = dims(shape);
    let sizes = [b, c, h / ph, ph, w / pw, pw];
    let axes = patch_axes(order);
    let apart = f.reshape(patches, &axes.map(|axis| sizes[axis]));
    let mut inverse = [0; 6];
    axes.iter().enumerate().for_each(|(to, from)| inverse[*from] = to);
    let images = f.transpose(&apart, &inverse);
    f.reshape(&images, shape)
}

/// Of an image's axes (batch, channel, grid row, row, grid column, column) the order that patches have them in.
fn patch_axes(order: PatchOrder) -> [usize; 6] {
    match order {
        PatchOrder::RowColumnChannel => [0, 2, 4, 3, 5, 1],
        PatchOrder::ChannelRowColumn => [0, 2, 4, 1, 3, 5],
    }
}

fn dims(shape: &[usize]) -> [usize; 4] {
    shape.try_into().expect("the op's shape rule wants four axes")
}

/// Token `ids[b, k]` of sample b: x `[B, N, D]`, ids `[B, K]` → `[B, K, D]`. An id out of range is brought into it: who wants an
/// error looks at the ids.
pub(super) fn gather_tokens(f: &mut Function, x: &Value, ids: &Value) -> Value {
    let (ids, [b, k]) = columns(f, ids);
    let width = x.shape()[2];
    let attributes = format!(
        "dimension_numbers = #stablehlo.gather<offset_dims = [2], collapsed_slice_dims = [1], operand_batching_dims = [0], \
         start_indices_batching_dims = [0], start_index_map = [1], index_vector_dim = 2>, \
         slice_sizes = array<i64: 1, 1, {width}>, indices_are_sorted = false"
    );
    f.one("stablehlo.gather", &[x, &ids], &attributes, TensorType::new([b, k, width], x.scalar()))
}

/// The sums of the rows of g `[B, K, D]` by their ids `[B, K]`: `[B, tokens, D]`. Rows of ids out of range are dropped.
///
/// `distinct`: no sample has an id twice. Else devices may add equal ids' rows in whatever order they come.
pub(super) fn scatter_tokens(f: &mut Function, g: &Value, ids: &Value, tokens: usize, distinct: bool) -> Value {
    let (ids, [b, _]) = columns(f, ids);
    let ty = TensorType::new([b, tokens, g.shape()[2]], g.scalar());
    let zeros = f.constant(0.0, &ty);
    let body = f.fold(Reduction::Sum, &TensorType::new([], g.scalar()));
    let attributes = format!(
        "scatter_dimension_numbers = #stablehlo.scatter<update_window_dims = [2], inserted_window_dims = [1], \
         input_batching_dims = [0], scatter_indices_batching_dims = [0], scatter_dims_to_operand_dims = [1], \
         index_vector_dim = 2>, indices_are_sorted = false, unique_indices = {distinct}"
    );
    f.op("stablehlo.scatter", &[&zeros, &ids, g], &attributes, &[body], &[ty]).remove(0)
}

/// Ids `[B, K]` as indexes of one number each.
fn columns(f: &mut Function, ids: &Value) -> (Value, [usize; 2]) {
    let [b, k] = [ids.shape()[0], ids.shape()[1]];
    (f.reshape(ids, &[b, k, 1]), [b, k])
}

/// The place of the greatest value of each row, the first of equals; NaN is never greater, and nothing is greater than a NaN
/// that comes first.
pub(super) fn argmax(f: &mut Function, x: &Value) -> Value {
    let axis = x.rank() - 1;
    let places = f.iota(x.shape(), axis);
    let (lowest, highest) = (f.constant(f64::NEG_INFINITY, &x.ty), f.constant(f64::INFINITY, &x.ty));
    let is_first = f.compare_to(&places, Order::Eq, 0.0);
    let instead = f.select(&is_first, &highest, &lowest);
    let is_nan = f.compare(x, Order::Ne, x);
    let x = f.select(&is_nan, &instead, x);
    let greatest = f.reduce(&x, &[axis], Reduction::Greatest);
    let greatest = f.spread(&greatest, &x, &[axis]);
    let is_greatest = f.compare(&x, Order::Eq, &greatest);
    let beyond = f.constant(x.shape()[axis] as f64, &places.ty);
    let candidates = f.select(&is_greatest, &places, &beyond);
    f.reduce(&candidates, &[axis], Reduction::Least)
}

/// The first id that is not in `0..limit`, else 0: a scalar. Of rank 0 on.
pub(super) fn first_bad_id(f: &mut Function, ids: &Value, limit: usize) -> Value {
    let count = ids.ty.elements();
    let ids = f.reshape(ids, &[count]);
    let below = f.compare_to(&ids, Order::Lt, 0.0);
    let above = f.compare_to(&ids, Order::Ge, limit as f64);
    let is_bad = f.binary("or", &below, &above);
    let places = f.iota(&[count], 0);
    let beyond = f.constant(count as f64, &places.ty);
    let bad_places = f.select(&is_bad, &places, &beyond);
    let first = f.reduce(&bad_places, &[0], Reduction::Least);
    let first = f.broadcast(&first, &[count], &[]);
    let is_first = f.compare(&places, Order::Eq, &first);
    let zero = f.constant(0.0, &TensorType::new([count], Scalar::I64));
    let chosen = f.select(&is_first, &ids, &zero);
    f.sum(&chosen, &[0])
}
