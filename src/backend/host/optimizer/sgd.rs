//! SGD with momentum as PyTorch's, without dampening: `g ← g + wd·p`, `b ← μ·b + g`, `p ← p − lr·b`; with Nesterov's
//! momentum `p ← p − lr·(g + μ·b)`.
//!
//! A buffer that starts at zero makes the first step PyTorch's, which takes the gradient itself.

use super::Update;
use crate::tensor::Element;
use crate::wide::wide;

/// Numbers of one tensor's update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Factors {
    pub update: Update,
    pub momentum: f64,
    pub nesterov: bool,
}

wide! {
    pub fn apply<E: Element>(factors: &Factors, parameters: &mut [E], gradients: &[E], buffer: &mut [E]) {
        let Factors { update, momentum, nesterov } = *factors;
        let (scale, decay) = (E::from_f64(update.scale), E::from_f64(update.weight_decay));
        let (rate, momentum) = (E::from_f64(update.learning_rate), E::from_f64(momentum));
        // What the direction takes of the gradient beside the buffer: p − lr·(g + μ·b), or p − lr·(0·g + 1·b).
        let (of_gradient, of_buffer) = if nesterov { (E::ONE, momentum) } else { (E::ZERO, E::ONE) };
        for ((p, g), b) in parameters.iter_mut().zip(gradients).zip(buffer) {
            let gradient = scale * *g + decay * *p;
            *b = momentum * *b + gradient;
            *p = *p - rate * (of_gradient * gradient + of_buffer * *b);
        }
    }
}
