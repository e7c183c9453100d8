//! Clipping by norms, as PyTorch's `clip_grad_norm_`.

use crate::spec::Clip;

/// Turns the norm of each trained tensor's gradient into what the gradient is multiplied by; gives the norm of all, before
/// clipping.
pub fn factors(clip: Clip, norms: &mut [f64]) -> f64 {
    let global = norms.iter().map(|norm| norm * norm).sum::<f64>().sqrt();
    match clip {
        Clip::GlobalNorm(max) => norms.fill(factor(max, global)),
        Clip::EachNorm(max) => norms.iter_mut().for_each(|norm| *norm = factor(max, *norm)),
    }
    global
}

fn factor(max: f64, norm: f64) -> f64 {
    (max / (norm + 1e-6)).min(1.0)
}
