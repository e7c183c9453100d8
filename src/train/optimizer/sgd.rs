//! SGD with momentum as PyTorch's, without dampening: `g ← g + wd·p`, `b ← μ·b + g`, `p ← p − lr·b`; with Nesterov's
//! momentum `p ← p − lr·(g + μ·b)`.
//!
//! A buffer that starts at zero makes the first step PyTorch's, which takes the gradient itself.

use rayon::prelude::*;

use super::Update;
use crate::backend::Element;
use crate::train::CHUNK;

pub fn apply<E: Element>(update: Update<'_, E>, buffer: &mut [E], momentum: f64, nesterov: bool) {
    let Update { parameters, gradients, scale, learning_rate, weight_decay } = update;
    parameters.par_chunks_mut(CHUNK).zip(gradients.par_chunks(CHUNK)).zip(buffer.par_chunks_mut(CHUNK)).for_each(
        |((parameters, gradients), buffer)| {
            for ((p, g), b) in parameters.iter_mut().zip(gradients).zip(buffer) {
                let gradient = scale * g.to_f64() + weight_decay * p.to_f64();
                let moved = momentum * b.to_f64() + gradient;
                let direction = if nesterov { gradient + momentum * moved } else { moved };
                *b = E::from_f64(moved);
                *p = E::from_f64(p.to_f64() - learning_rate * direction);
            }
        },
    );
}
