//! LARS (You et al. 2017) as in the code of BYOL and Barlow Twins: SGD with momentum on a gradient, decay included,
//! whose norm is a fixed share of the parameter's. The learning rate stands outside of the momentum.

use super::Update;

/// How a tensor's gradient is adapted.
#[derive(Debug, Clone, Copy)]
pub struct Trust {
    /// η
    pub coefficient: f64,
    pub eps: f64,
    /// Whether the norms of gradient and decay are added, instead of that of their sum taken.
    pub separate_norms: bool,
}

impl Trust {
    /// The update with its gradient adapted. `parameter`: the parameter's norm; `gradient`: that of its gradient, or where
    /// norms are not separate, of scaled gradient and decay together.
    pub fn adapt(self, update: Update, parameter: f64, gradient: f64) -> Update {
        let Trust { coefficient, eps, separate_norms } = self;
        let gradient =
            if separate_norms { update.scale * gradient + update.weight_decay * parameter } else { gradient };
        // A tensor of zeros, such as a bias at the start, would never leave zero.
        let adaptation =
            if parameter > 0.0 && gradient > 0.0 { coefficient * parameter / (gradient + eps) } else { 1.0 };
        // q·(g + wd·p) is SGD's gradient with both factors scaled.
        Update { scale: update.scale * adaptation, weight_decay: update.weight_decay * adaptation, ..update }
    }
}
