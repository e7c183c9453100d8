//! Ops that give ids or compare: no gradient, computed on the host.

use std::cmp::Ordering;

use dfdx::prelude::{Device, Dtype};

use super::{Value, host, layout};
use crate::graph::Node;
use crate::op::Op;
use crate::tensor::Element;

/// Host copy of either kind of value, as f64: ids below 2⁵³ and all floats keep their order and equality.
pub(super) fn numbers<E: Element + Dtype, D: Device<E>>(value: &Value<E, D>) -> Vec<f64> {
    match value {
        Value::Float(float) => host(&float.flat).into_iter().map(Element::to_f64).collect(),
        Value::Int(ids) => ids.iter().map(|i| *i as f64).collect(),
    }
}

/// Stable ascending order within each row; NaN last.
pub(super) fn argsort(values: &[f64], row: usize) -> Vec<i64> {
    values
        .chunks_exact(row)
        .flat_map(|row| {
            let mut order: Vec<i64> = (0..row.len() as i64).collect();
            order.sort_by(|a, b| {
                let (x, y) = (row[*a as usize], row[*b as usize]);
                x.partial_cmp(&y).unwrap_or_else(|| x.is_nan().cmp(&y.is_nan()))
            });
            order
        })
        .collect()
}

/// Index of the largest value of each row, the first of equals.
pub(super) fn argmax(values: &[f64], row: usize) -> Vec<i64> {
    let best = |row: &[f64]| {
        let pick =
            |best: usize, i: usize| if row[i].partial_cmp(&row[best]) == Some(Ordering::Greater) { i } else { best };
        (1..row.len()).fold(0, pick) as i64
    };
    values.chunks_exact(row).map(best).collect()
}

/// A number cut to a whole one; NaN and what no id holds become −1.
pub(super) fn to_id(value: f64) -> i64 {
    if value.is_finite() && value.abs() < 9e15 { value as i64 } else { -1 }
}

/// Ids moved by a map, for structural ops on ids.
pub(super) fn moved(ids: &[i64], map: &layout::RowMap) -> Vec<i64> {
    map.rows.iter().flat_map(|row| ids[row * map.inner..(row + 1) * map.inner].iter().copied()).collect()
}

/// Concatenation of ids along `axis`.
pub(super) fn concat(parts: &[(&[i64], &[usize])], axis: usize) -> Vec<i64> {
    let outer: usize = parts[0].1[..axis].iter().product();
    let mut out = Vec::new();
    for o in 0..outer {
        for (ids, shape) in parts {
            let run: usize = shape[axis..].iter().product();
            out.extend_from_slice(&ids[o * run..(o + 1) * run]);
        }
    }
    out
}

/// Checks ids against the range that they index.
pub(super) fn in_range(ids: &[i64], limit: usize, node: &Node) -> Result<Vec<usize>, String> {
    ids.iter()
        .map(|id| {
            let index = usize::try_from(*id).ok().filter(|i| *i < limit);
            let what = if matches!(node.op, Op::GatherTokens) { "token" } else { "class" };
            index.ok_or_else(|| format!("id {id} is no {what}: there are {limit}"))
        })
        .collect()
}
