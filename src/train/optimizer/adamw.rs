//! AdamW (Loshchilov & Hutter 2019): `p ← p·(1 − lr·wd)`, then Adam's step with bias correction.

use rayon::prelude::*;

use super::Update;
use crate::backend::Element;
use crate::train::CHUNK;

/// `updates`: how many the tensor has had, this one included.
pub fn apply<E: Element>(
    update: Update<'_, E>,
    (first, second): (&mut [E], &mut [E]),
    betas: (f64, f64),
    eps: f64,
    updates: u64,
) {
    let kernel = Kernel::new(&update, betas, eps, updates);
    let moments = first.par_chunks_mut(CHUNK).zip(second.par_chunks_mut(CHUNK));
    update
        .parameters
        .par_chunks_mut(CHUNK)
        .zip(update.gradients.par_chunks(CHUNK))
        .zip(moments)
        .for_each(|((p, g), (m, v))| kernel.apply(p, g, m, v));
}

/// Numbers of one tensor's update, worked out once.
struct Kernel {
    betas: (f64, f64),
    eps: f64,
    scale: f64,
    kept: f64,
    step_size: f64,
    /// 1 / √(1 − β₂ᵗ).
    second_scale: f64,
}

impl Kernel {
    fn new<E>(update: &Update<'_, E>, betas: (f64, f64), eps: f64, updates: u64) -> Self {
        // More than 2³¹ updates change no correction: both powers are 0 long before.
        let power = |beta: f64| beta.powi(i32::try_from(updates).unwrap_or(i32::MAX));
        Kernel {
            betas,
            eps,
            scale: update.scale,
            kept: 1.0 - update.learning_rate * update.weight_decay,
            step_size: update.learning_rate / (1.0 - power(betas.0)),
            second_scale: 1.0 / (1.0 - power(betas.1)).sqrt(),
        }
    }

    fn apply<E: Element>(&self, parameters: &mut [E], gradients: &[E], first: &mut [E], second: &mut [E]) {
        let values = parameters.iter_mut().zip(gradients).zip(first.iter_mut().zip(second));
        for ((p, g), (m, v)) in values {
            let gradient = self.scale * g.to_f64();
            let mean = self.betas.0 * m.to_f64() + (1.0 - self.betas.0) * gradient;
            let square = self.betas.1 * v.to_f64() + (1.0 - self.betas.1) * gradient * gradient;
            let denominator = square.sqrt() * self.second_scale + self.eps;
            *m = E::from_f64(mean);
            *v = E::from_f64(square);
            *p = E::from_f64(p.to_f64() * self.kept - self.step_size * mean / denominator);
        }
    }
}
