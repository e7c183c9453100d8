//! Where the heads of attention lie: values `[B, h, N, d]` whose rows of d are whole, in another value's place or apart.
//!
//! Queries, keys and values come out of one projection as `[B, N, 3, h, d]`, and their result goes on as `[B, N, h, d]`; permuted
//! copies of them would be read and written once each for nothing.

use super::base::Base;
use crate::graph::{Graph, ValueId};
use crate::op::Op;

/// Row n of head h of sample b begins at element `start + b · batch + h · head + n · row` of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    pub start: usize,
    pub batch: usize,
    pub head: usize,
    pub row: usize,
}

impl Heads {
    /// Of a value `[B, h, N, d]` as it is, from element `start` on.
    pub fn contiguous(shape: &[usize], start: usize) -> Self {
        Heads { start, batch: shape[1] * shape[2] * shape[3], head: shape[2] * shape[3], row: shape[3] }
    }

    /// Past the last element of a value `[B, h, N, d]`.
    pub fn end(&self, shape: &[usize]) -> usize {
        let steps = [self.batch, self.head, self.row, 1];
        self.start + steps.iter().zip(shape).map(|(step, size)| step * (size - 1)).sum::<usize>() + 1
    }

    /// The same rows where `map` puts their elements; `None` where it tears a row apart, or puts rows at places that no strides
    /// tell.
    fn mapped(self, shape: &[usize], map: impl Fn(usize) -> usize) -> Option<Self> {
        let steps = [self.batch, self.head, self.row, 1];
        let at = |place: [usize; 4]| map(self.start + place.iter().zip(steps).map(|(i, step)| i * step).sum::<usize>());
        let start = at([0; 4]);
        let mut found = [0; 4];
        for axis in 0..4 {
            let along = |i: usize| {
                let mut place = [0; 4];
                place[axis] = i;
                at(place)
            };
            if shape[axis] > 1 {
                found[axis] = along(1).checked_sub(start)?;
            }
            // Along each axis evenly, to its end.
            if (0..shape[axis]).any(|i| along(i) != start + i * found[axis]) {
                return None;
            }
        }
        // Evenly along each axis and at every corner: no axis carries over into another.
        let corners = (0..16).all(|corner| {
            let place: [usize; 4] =
                std::array::from_fn(|axis| if corner >> axis & 1 == 1 { shape[axis] - 1 } else { 0 });
            at(place) == start + place.iter().zip(found).map(|(i, step)| i * step).sum::<usize>()
        });
        let whole = shape[3] == 1 || found[3] == 1;
        (corners && whole).then_some(Heads { start, batch: found[0], head: found[1], row: found[2] })
    }
}

/// From an element of the result of permuting a value of `shape` to the element of that value, or back with `inverse`.
fn permuted(shape: &[usize], axes: &[usize], inverse: bool) -> impl Fn(usize) -> usize + use<> {
    let strides = |shape: &[usize]| {
        let mut strides = vec![1; shape.len()];
        for i in (1..shape.len()).rev() {
            strides[i - 1] = strides[i] * shape[i];
        }
        strides
    };
    let result: Vec<usize> = axes.iter().map(|a| shape[*a]).collect();
    let (of_value, of_result) = (strides(shape), strides(&result));
    let digits: Vec<(usize, usize, usize)> = axes
        .iter()
        .enumerate()
        .map(|(to, from)| match inverse {
            false => (of_result[to], shape[*from], of_value[*from]),
            true => (of_value[*from], shape[*from], of_result[to]),
        })
        .collect();
    move |at| digits.iter().map(|(from, size, to)| at / from % size * to).sum()
}

/// What a value `[B, h, N, d]` is read from: the value whose place holds it, and how. Through one permutation at most.
pub(super) fn read(graph: &Graph, bases: &[Base], id: ValueId) -> (ValueId, Heads) {
    let shape = &graph.node(id).ty.shape;
    let base = bases[id.index()];
    let plain = (id, Heads::contiguous(shape, 0));
    let node = graph.node(base.node);
    let Op::Permute { axes } = &node.op else { return plain };
    let from = node.inputs[0];
    let map = permuted(&graph.node(from).ty.shape, axes, false);
    match Heads::contiguous(shape, base.start).mapped(shape, map) {
        Some(heads) => (from, heads),
        None => plain,
    }
}

/// Whether no two elements of values `[B, h, N, d]` in one place are the same, as their strides tell.
pub(super) fn are_apart(parts: &[(Heads, &[usize])]) -> bool {
    // Axes of which each steps over all that those within it reach: as digits of a number, they share no element.
    let nested = |mut axes: Vec<(usize, usize)>| {
        axes.retain(|(_, size)| *size > 1);
        axes.sort_unstable();
        axes.iter().try_fold(1, |reach, (step, size)| (*step >= reach).then(|| reach + step * (size - 1))).is_some()
    };
    let axes = |(heads, shape): &(Heads, &[usize])| -> Vec<(usize, usize)> {
        [heads.batch, heads.head, heads.row, 1].into_iter().zip(shape.iter().copied()).collect()
    };
    let pairs = parts.iter().enumerate().flat_map(|(i, a)| parts[i + 1..].iter().map(move |b| (a, b)));
    parts.iter().all(|part| nested(axes(part)))
        && pairs.into_iter().all(|(a, b)| {
            let (first, second) = if a.0.start <= b.0.start { (a, b) } else { (b, a) };
            let between = (second.0.start - first.0.start, 2);
            // One behind the other, or woven into each other: two rows of one more axis.
            first.0.end(first.1) <= second.0.start
                || axes(a) == axes(b) && nested(axes(a).into_iter().chain([between]).collect())
        })
}

/// Where parts `[B, h, N, d]` of a value, at `starts` of it, lie in the value that the permutation `to` makes of it. `None` also
/// where their strides do not tell that they lie apart.
pub(super) fn written(graph: &Graph, to: ValueId, parts: &[(usize, &[usize])]) -> Option<Vec<Heads>> {
    let node = graph.node(to);
    let Op::Permute { axes } = &node.op else { return None };
    let map = permuted(&graph.node(node.inputs[0]).ty.shape, axes, true);
    let heads = parts.iter().map(|(start, shape)| Heads::contiguous(shape, *start).mapped(shape, &map));
    let heads = heads.collect::<Option<Vec<Heads>>>()?;
    let placed: Vec<(Heads, &[usize])> = heads.iter().zip(parts).map(|(heads, (_, shape))| (*heads, *shape)).collect();
    are_apart(&placed).then_some(heads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_of_a_joint_projection() {
        // [B, N, 3, h, d] → [3, B, h, N, d], and the keys of it.
        let [b, n, h, d] = [2, 5, 3, 4];
        let map = permuted(&[b, n, 3, h, d], &[2, 0, 3, 1, 4], false);
        let keys = Heads::contiguous(&[b, h, n, d], b * h * n * d).mapped(&[b, h, n, d], map);
        assert_eq!(keys, Some(Heads { start: h * d, batch: n * 3 * h * d, head: d, row: 3 * h * d }));
        let back = permuted(&[b, h, n, d], &[0, 2, 1, 3], true);
        let out = Heads::contiguous(&[b, h, n, d], 0).mapped(&[b, h, n, d], back);
        assert_eq!(out, Some(Heads { start: 0, batch: n * h * d, head: d, row: h * d }));
        let torn = permuted(&[b, h, d, n], &[0, 1, 3, 2], false);
        assert_eq!(Heads::contiguous(&[b, h, n, d], 0).mapped(&[b, h, n, d], torn), None);
    }
}
