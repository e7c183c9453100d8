//! Ops as plain loops over indexes: slow, obvious, and sharing no line with any backend.

use cmae::op::PatchOrder;

/// All indexes of a shape, in row-major order.
pub fn indexes(shape: &[usize]) -> Vec<Vec<usize>> {
    shape.iter().fold(vec![Vec::new()], |found, size| {
        found.iter().flat_map(|head| (0..*size).map(move |i| [head.as_slice(), &[i]].concat())).collect()
    })
}

/// Position of an index in memory.
fn at(shape: &[usize], index: &[usize]) -> usize {
    shape.iter().zip(index).fold(0, |flat, (size, i)| flat * size + i)
}

/// Result values taken from one operand: `source` gives the operand's index for one of the result.
fn taken(x: &[f64], from: &[usize], to: &[usize], source: impl Fn(&[usize]) -> Vec<usize>) -> Vec<f64> {
    indexes(to).iter().map(|index| x[at(from, &source(index))]).collect()
}

pub fn sum(x: &[f64], shape: &[usize], axes: &[usize]) -> Vec<f64> {
    let kept: Vec<usize> = (0..shape.len()).filter(|a| !axes.contains(a)).collect();
    let sizes: Vec<usize> = kept.iter().map(|a| shape[*a]).collect();
    let mut out = vec![0.0; sizes.iter().product()];
    for index in indexes(shape) {
        let place: Vec<usize> = kept.iter().map(|a| index[*a]).collect();
        out[at(&sizes, &place)] += x[at(shape, &index)];
    }
    out
}

pub fn permute(x: &[f64], shape: &[usize], axes: &[usize]) -> Vec<f64> {
    let to: Vec<usize> = axes.iter().map(|a| shape[*a]).collect();
    taken(x, shape, &to, |index| (0..axes.len()).map(|a| index[position(axes, a)]).collect())
}

fn position(axes: &[usize], axis: usize) -> usize {
    axes.iter().position(|a| *a == axis).expect("the axes are an order")
}

pub fn broadcast(x: &[f64], shape: &[usize], to: &[usize]) -> Vec<f64> {
    let skipped = to.len() - shape.len();
    taken(x, shape, to, |index| shape.iter().zip(&index[skipped..]).map(|(size, i)| i % size).collect())
}

pub fn slice(x: &[f64], shape: &[usize], axis: usize, range: std::ops::Range<usize>) -> Vec<f64> {
    let mut to = shape.to_vec();
    to[axis] = range.len();
    taken(x, shape, &to, |index| {
        let mut index = index.to_vec();
        index[axis] += range.start;
        index
    })
}

pub fn concat(parts: &[(Vec<f64>, Vec<usize>)], axis: usize) -> Vec<f64> {
    let mut to = parts[0].1.clone();
    to[axis] = parts.iter().map(|(_, shape)| shape[axis]).sum();
    let pick = |index: &Vec<usize>| {
        let mut index = index.clone();
        for (values, shape) in parts {
            if index[axis] < shape[axis] {
                return values[at(shape, &index)];
            }
            index[axis] -= shape[axis];
        }
        f64::NAN
    };
    indexes(&to).iter().map(pick).collect()
}

/// `[.., m, k] · [.., k, n]`, the second read as `[.., n, k]` where `transposed`.
pub fn matmul(a: &[f64], b: &[f64], a_shape: &[usize], n: usize, transposed: bool) -> Vec<f64> {
    let (lead, k) = (&a_shape[..a_shape.len() - 2], a_shape[a_shape.len() - 1]);
    let b_shape = [lead, &(if transposed { [n, k] } else { [k, n] })].concat();
    let to = [&a_shape[..a_shape.len() - 1], &[n]].concat();
    let cell = |index: &Vec<usize>| {
        let (lead, row, column) = (&index[..lead.len()], index[lead.len()], index[lead.len() + 1]);
        let product = |i: usize| {
            let b_index = if transposed { [column, i] } else { [i, column] };
            a[at(a_shape, &[lead, &[row, i]].concat())] * b[at(&b_shape, &[lead, &b_index].concat())]
        };
        (0..k).map(product).sum()
    };
    indexes(&to).iter().map(cell).collect()
}

/// Patches of images `[B, C, H, W]`; the value of each stands at the place that the op's description gives.
pub fn patchify(images: &[f64], shape: [usize; 4], (ph, pw): (usize, usize), order: PatchOrder) -> Vec<f64> {
    let [b, c, h, w] = shape;
    let to = [b, (h / ph) * (w / pw), ph * pw * c];
    let mut out = vec![f64::NAN; images.len()];
    for index in indexes(&shape) {
        let [sample, channel, y, x] = [index[0], index[1], index[2], index[3]];
        let patch = (y / ph) * (w / pw) + x / pw;
        let within = match order {
            PatchOrder::RowColumnChannel => at(&[ph, pw, c], &[y % ph, x % pw, channel]),
            PatchOrder::ChannelRowColumn => at(&[c, ph, pw], &[channel, y % ph, x % pw]),
        };
        out[at(&to, &[sample, patch, within])] = images[at(&shape, &index)];
    }
    out
}

/// y[b, o, i, j] as the definition has it; values outside are 0.
pub fn conv2d(
    (x, [batch, channels, height, width]): (&[f64], [usize; 4]),
    (weight, [out, per_group, kh, kw]): (&[f64], [usize; 4]),
    bias: &[f64],
    (stride, padding, groups): (usize, usize, usize),
) -> Vec<f64> {
    let at = |b: usize, c: usize, row: isize, column: isize| -> f64 {
        if (0..height as isize).contains(&row) && (0..width as isize).contains(&column) {
            x[((b * channels + c) * height + row as usize) * width + column as usize]
        } else {
            0.0
        }
    };
    let side = |size: usize, kernel: usize| (size + 2 * padding - kernel) / stride + 1;
    let mut y = Vec::new();
    for b in 0..batch {
        for o in 0..out {
            let first = o / (out / groups) * per_group;
            for i in 0..side(height, kh) {
                for j in 0..side(width, kw) {
                    let mut sum = bias[o];
                    for c in 0..per_group {
                        for u in 0..kh {
                            for v in 0..kw {
                                let row = (i * stride + u) as isize - padding as isize;
                                let column = (j * stride + v) as isize - padding as isize;
                                sum += weight[((o * per_group + c) * kh + u) * kw + v] * at(b, first + c, row, column);
                            }
                        }
                    }
                    y.push(sum);
                }
            }
        }
    }
    y
}
