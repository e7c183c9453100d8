//! LARS (You et al. 2017) as in the code of BYOL and Barlow Twins: SGD with momentum on a gradient, decay included,
//! whose norm is a fixed share of the parameter's. The learning rate stands outside of the momentum.

use super::{Update, clip, sgd};
use crate::backend::Element;

/// How a tensor's gradient is adapted.
#[derive(Debug, Clone, Copy)]
pub struct Trust {
    /// η
    pub coefficient: f64,
    pub eps: f64,
    /// Whether the norms of gradient and decay are added, instead of that of their sum taken.
    pub separate_norms: bool,
}

/// `trust` for a tensor that is adapted.
pub fn apply<E: Element>(update: Update<'_, E>, buffer: &mut [E], momentum: f64, trust: Option<Trust>) {
    let adaptation = trust.map_or(1.0, |Trust { coefficient, eps, separate_norms }| {
        let (scale, decay) = (update.scale, update.weight_decay);
        let parameter_norm = clip::norm(update.parameters, |p| p.to_f64());
        let gradient_norm = if separate_norms {
            scale * clip::norm(update.gradients, |g| g.to_f64()) + decay * parameter_norm
        } else {
            clip::norm_of_pairs(update.gradients, update.parameters, |g, p| scale * g.to_f64() + decay * p.to_f64())
        };
        // A tensor of zeros, such as a bias at the start, would never leave zero.
        if parameter_norm > 0.0 && gradient_norm > 0.0 {
            coefficient * parameter_norm / (gradient_norm + eps)
        } else {
            1.0
        }
    });
    // q·(g + wd·p) is SGD's gradient with both factors scaled.
    let adapted = Update { scale: update.scale * adaptation, weight_decay: update.weight_decay * adaptation, ..update };
    sgd::apply(adapted, buffer, momentum, false);
}
