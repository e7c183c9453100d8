//! Norms and clipping, as PyTorch's `clip_grad_norm_`.

use std::ops::Range;

use rayon::prelude::*;

use crate::backend::Element;
use crate::spec::Clip;
use crate::train::CHUNK;

/// What clipping makes of one step's gradients.
pub struct Clipped {
    /// What each trained tensor's gradient is multiplied by.
    pub factors: Vec<f64>,
    /// Of all gradients, before clipping.
    pub norm: f64,
}

/// `tensors`: the range of each trained tensor, `None` where no gradient arrives.
pub fn factors<E: Element>(clip: Clip, gradients: &[E], tensors: &[Option<Range<usize>>]) -> Clipped {
    let norms: Vec<f64> = tensors
        .iter()
        .map(|range| range.clone().map_or(0.0, |range| norm(&gradients[range], |g| g.to_f64())))
        .collect();
    let global = norms.iter().map(|norm| norm * norm).sum::<f64>().sqrt();
    let factors = match clip {
        Clip::GlobalNorm(max) => vec![factor(max, global); norms.len()],
        Clip::EachNorm(max) => norms.iter().map(|norm| factor(max, *norm)).collect(),
    };
    Clipped { factors, norm: global }
}

fn factor(max: f64, norm: f64) -> f64 {
    (max / (norm + 1e-6)).min(1.0)
}

/// The Euclidean norm of `value` of each.
pub fn norm<E: Element>(values: &[E], value: impl Fn(&E) -> f64 + Sync) -> f64 {
    let squares = |chunk: &[E]| chunk.iter().map(|x| value(x).powi(2)).sum::<f64>();
    // Collected before they are summed: the order of the sum must not hang on which thread is first.
    let sums: Vec<f64> = values.par_chunks(CHUNK).map(squares).collect();
    sums.iter().sum::<f64>().sqrt()
}

/// The Euclidean norm of `value` of each two.
pub fn norm_of_pairs<E: Element>(left: &[E], right: &[E], value: impl Fn(&E, &E) -> f64 + Sync) -> f64 {
    let squares = |(left, right): (&[E], &[E])| left.iter().zip(right).map(|(l, r)| value(l, r).powi(2)).sum::<f64>();
    let sums: Vec<f64> = left.par_chunks(CHUNK).zip(right.par_chunks(CHUNK)).map(squares).collect();
    sums.iter().sum::<f64>().sqrt()
}
