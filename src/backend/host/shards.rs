//! What the optimizer keeps, shared out over ranks: each has a run of the trained tensors, updates those, and gives them to all.
//!
//! Before: gradients that are the same on all ranks. After: parameters that are.
//!
//! Source: Rajbhandari et al. 2020, "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models", section 5.1.
//!
//! **Invariant:** a tensor is one rank's as a whole, and its numbers are those that any other number of ranks gives it.

use std::ops::Range;

use super::walk::values_of;
use crate::backend::Backend;
use crate::graph::Layout;
use crate::tensor::Element;

/// Values that are gathered at once: what a rank holds of them beside its own.
const GATHERED: usize = 1 << 22;

/// The trained tensors of each of `count` ranks: runs in the layout's order, each of about as many values.
pub fn shards(layout: &Layout, count: usize) -> Vec<Range<usize>> {
    let trained = layout.trained();
    let ends = (0..trained).map(|tensor| layout.range(tensor).end).collect::<Vec<_>>();
    let end = |rank: usize| match rank + 1 {
        last if last == count => trained,
        // Of a tensor that lies in two parts, the part that has more of it.
        next => (0..trained)
            .take_while(|at| ends[*at] - layout.range(*at).len() / 2 <= layout.trained_len * next / count)
            .count(),
    };
    let mut start = 0;
    (0..count).map(|rank| std::mem::replace(&mut start, end(rank))..start).collect()
}

/// Gives what each rank has updated to all.
pub fn spread<E: Element>(backend: &mut dyn Backend<E>, layout: &Layout, shards: &[Range<usize>], arena: &mut [E]) {
    for (rank, tensors) in shards.iter().enumerate() {
        backend.copy_of_rank(rank, &mut arena[values_of(layout, tensors.clone())]);
    }
}

/// All ranks' parts of each slot on rank 0, `layout.trained_len` values; nothing on the others.
pub fn gathered<E: Element>(
    backend: &mut dyn Backend<E>,
    layout: &Layout,
    shards: &[Range<usize>],
    slots: &[Vec<E>],
) -> Vec<Vec<E>> {
    let own_rank = backend.rank();
    let mut gather = |own: &Vec<E>| {
        let mut all = vec![E::ZERO; if own_rank == 0 { layout.trained_len } else { 0 }];
        let mut sent = Vec::new();
        for (rank, tensors) in shards.iter().enumerate() {
            let values = values_of(layout, tensors.clone());
            for start in values.clone().step_by(GATHERED) {
                let end = values.end.min(start + GATHERED);
                sent.clear();
                match rank == own_rank {
                    true => sent.extend_from_slice(&own[start - values.start..end - values.start]),
                    false => sent.resize(end - start, E::ZERO),
                }
                backend.copy_of_rank(rank, &mut sent);
                if own_rank == 0 {
                    all[start..end].copy_from_slice(&sent);
                }
            }
        }
        all
    };
    slots.iter().map(&mut gather).collect()
}
