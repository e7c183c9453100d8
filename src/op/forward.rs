//! Shape rules of single ops that are more than a line.

use super::error::{Inferred, error};
use super::{Type, size};

pub(super) fn concat(inputs: &[&Type], axis: usize) -> Inferred {
    let mut dims = inputs[0].shape.clone();
    if axis >= dims.len() {
        return error(&[0], format!("axis {axis} of a tensor with {} axes", dims.len()));
    }
    for (i, ty) in inputs.iter().enumerate().skip(1) {
        let same_rank = ty.shape.len() == dims.len();
        if !same_rank || (0..dims.len()).any(|a| a != axis && dims[a] != ty.shape[a]) {
            let first = &inputs[0].shape;
            return error(&[0, i], format!("{first:?} and {:?} differ beside axis {axis}", ty.shape));
        }
        dims[axis] += ty.shape[axis];
    }
    Ok(Type { dtype: inputs[0].dtype, shape: dims })
}

pub(super) fn matmul(a: &[usize], b: &[usize], transpose_b: bool) -> Inferred {
    let rank = a.len();
    if rank < 2 || b.len() != rank || a[..rank - 2] != b[..rank - 2] {
        return error(&[0, 1], format!("{a:?} and {b:?} are no matrices with equal leading axes"));
    }
    let (k, n) = if transpose_b { (b[rank - 1], b[rank - 2]) } else { (b[rank - 2], b[rank - 1]) };
    if a[rank - 1] != k {
        return error(&[0, 1], format!("inner sizes {} and {k} differ", a[rank - 1]));
    }
    let mut dims = a.to_vec();
    dims[rank - 1] = n;
    Ok(Type::float(dims))
}

pub(super) fn linear(inputs: &[&Type]) -> Inferred {
    let (x, weight) = (&inputs[0].shape, &inputs[1].shape);
    let ([.., wanted], [out, into]) = (x.as_slice(), weight.as_slice()) else {
        return error(&[0, 1], format!("linear wants [.., in] and a weight [out, in], found {x:?} and {weight:?}"));
    };
    if wanted != into {
        return error(&[0, 1], format!("features of size {wanted} meet a weight for {into}"));
    }
    if let Some(bias) = inputs.get(2)
        && bias.shape != [*out]
    {
        return error(&[1, 2], format!("bias {:?} does not fit {out} outputs", bias.shape));
    }
    let mut dims = x.clone();
    dims.pop();
    dims.push(*out);
    Ok(Type::float(dims))
}

pub(super) fn attention(inputs: &[&Type]) -> Inferred {
    let (q, k, v) = (&inputs[0].shape, &inputs[1].shape, &inputs[2].shape);
    let ([b, h, n, d], [bk, hk, m, dk]) = (q.as_slice(), k.as_slice()) else {
        return error(&[0, 1], format!("attention wants [B, heads, N, d], found {q:?} and {k:?}"));
    };
    if (b, h, d) != (bk, hk, dk) {
        return error(&[0, 1], format!("queries {q:?} and keys {k:?} differ in batch, heads or width"));
    }
    if k != v {
        return error(&[1, 2], format!("keys {k:?} and values {v:?} differ"));
    }
    if let Some(bias) = inputs.get(3)
        && bias.shape != [*h, *n, *m]
    {
        return error(&[0, 3], format!("bias {:?} is not [heads, N, M] = [{h}, {n}, {m}]", bias.shape));
    }
    Ok(inputs[0].clone())
}

pub(super) fn conv2d(inputs: &[&Type], stride: usize, padding: usize, groups: usize) -> Inferred {
    let (x, weight) = (&inputs[0].shape, &inputs[1].shape);
    let ([b, c, h, w], [out, per_group, kh, kw]) = (x.as_slice(), weight.as_slice()) else {
        let message =
            format!("conv2d wants [B, C, H, W] and a weight [O, C / groups, kh, kw], found {x:?} and {weight:?}");
        return error(&[0, 1], message);
    };
    if groups == 0 || c % groups != 0 || out % groups != 0 {
        return error(&[0, 1], format!("{groups} groups do not divide {c} channels into {out}"));
    }
    if c / groups != *per_group {
        return error(&[0, 1], format!("{c} channels in {groups} groups meet a weight for {per_group} each"));
    }
    // No kernel reaches further; sums of sizes stay far below what wraps around.
    if padding > size::MAX_ELEMENTS || stride == 0 || h + 2 * padding < *kh || w + 2 * padding < *kw {
        return error(&[0, 1], format!("a kernel of {kh} × {kw} does not fit {h} × {w} with {padding} around"));
    }
    if let Some(bias) = inputs.get(2)
        && bias.shape != [*out]
    {
        return error(&[1, 2], format!("bias {:?} does not fit {out} outputs", bias.shape));
    }
    let side = |size: usize, kernel: usize| (size + 2 * padding - kernel) / stride + 1;
    Ok(Type::float([*b, *out, side(*h, *kh), side(*w, *kw)]))
}

pub(super) fn patchify(images: &[usize], (height, width): (usize, usize)) -> Inferred {
    let [b, c, h, w] = images else { return error(&[0], format!("patchify wants [B, C, H, W], found {images:?}")) };
    if height == 0 || width == 0 || h % height != 0 || w % width != 0 {
        return error(&[0], format!("a patch of {height} × {width} does not divide a picture of {h} × {w}"));
    }
    Ok(Type::float([*b, (h / height) * (w / width), height * width * c]))
}
