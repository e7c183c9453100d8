//! AdamW (Loshchilov & Hutter 2019): `p ← p·(1 − lr·wd)`, then Adam's step with bias correction.

use crate::tensor::Element;
use crate::wide::wide;

/// Numbers of one tensor's update, worked out once in f64. Betas and decay stand as what is added, not as what is kept: of
/// 1 − 0.999 or 1 − lr·wd f32 would lose digits, and an update is rounded once where it is added.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Factors {
    scale: f64,
    /// 1 − β₁ and 1 − β₂.
    first_share: f64,
    second_share: f64,
    /// lr · wd.
    pub shrink: f64,
    /// lr / (1 − β₁ᵗ).
    pub step_size: f64,
    /// 1 / √(1 − β₂ᵗ).
    pub second_scale: f64,
    eps: f64,
}

impl Factors {
    /// `updates`: how many the tensor has had, this one included.
    pub fn new(update: super::Update, betas: (f64, f64), eps: f64, updates: u64) -> Self {
        let power = |beta: f64| libm::pow(beta, updates as f64);
        Factors {
            scale: update.scale,
            first_share: 1.0 - betas.0,
            second_share: 1.0 - betas.1,
            shrink: update.learning_rate * update.weight_decay,
            step_size: update.learning_rate / (1.0 - power(betas.0)),
            second_scale: 1.0 / (1.0 - power(betas.1)).sqrt(),
            eps,
        }
    }
}

wide! {
    pub fn apply<E: Element>(
        factors: &Factors, parameters: &mut [E], gradients: &[E], first: &mut [E], second: &mut [E],
    ) {
        let number = E::from_f64;
        let (scale, shrink) = (number(factors.scale), number(factors.shrink));
        let (first_share, second_share) = (number(factors.first_share), number(factors.second_share));
        let (step_size, second_scale, eps) =
            (number(factors.step_size), number(factors.second_scale), number(factors.eps));
        let values = parameters.iter_mut().zip(gradients).zip(first.iter_mut().zip(second));
        for ((p, g), (m, v)) in values {
            let gradient = *g * scale;
            *m += first_share * (gradient - *m);
            *v += second_share * (gradient * gradient - *v);
            *p = *p - (shrink * *p + step_size * *m / (v.sqrt() * second_scale + eps));
        }
    }
}
