//! f32 and f64 as the kernels see them: f32 by [`elementary`], f64, the oracle, by the platform's library, and erf by `libm`.
//! Sines, cosines and powers are the platform's in f32 too: no layer is made of them.

use super::elementary;
use super::product::Products;

pub trait Real: Products {
    fn exp(self) -> Self;
    /// 2ˣ of what is 0 at most, for what is rounded to bf16.
    fn coarse_exp2(self) -> Self;
    fn ln(self) -> Self;
    fn abs(self) -> Self;
    fn tanh(self) -> Self;
    fn sigmoid(self) -> Self;
    /// Φ and φ, cumulative and density of the standard normal distribution.
    fn normal(self) -> (Self, Self);
    /// The same for what is rounded to bf16.
    fn coarse_normal(self) -> (Self, Self);
    fn sin(self) -> Self;
    fn cos(self) -> Self;
    fn floor(self) -> Self;
    fn powf(self, exponent: Self) -> Self;
    fn is_nan(self) -> bool;
}

macro_rules! real {
    ($element:ident, normal: $normal:expr, coarse_normal: $coarse:expr, $($name:ident: $function:expr),*) => {
        impl Real for $element {
            $(
                #[inline(always)]
                fn $name(self) -> Self {
                    $function(self)
                }
            )*
            #[inline(always)]
            fn normal(self) -> (Self, Self) {
                $normal(self)
            }
            #[inline(always)]
            fn coarse_normal(self) -> (Self, Self) {
                $coarse(self)
            }
            #[inline(always)]
            fn abs(self) -> Self {
                $element::abs(self)
            }
            #[inline(always)]
            fn sin(self) -> Self {
                $element::sin(self)
            }
            #[inline(always)]
            fn cos(self) -> Self {
                $element::cos(self)
            }
            #[inline(always)]
            fn floor(self) -> Self {
                $element::floor(self)
            }
            #[inline(always)]
            fn powf(self, exponent: Self) -> Self {
                $element::powf(self, exponent)
            }
            #[inline(always)]
            fn is_nan(self) -> bool {
                $element::is_nan(self)
            }
        }
    };
}

real!(
    f32,
    normal: elementary::normal,
    coarse_normal: elementary::coarse_normal,
    exp: elementary::exp,
    coarse_exp2: elementary::coarse_exp2,
    ln: elementary::ln,
    tanh: elementary::tanh,
    sigmoid: elementary::sigmoid
);
real!(
    f64,
    normal: normal,
    coarse_normal: normal,
    exp: f64::exp,
    coarse_exp2: f64::exp2,
    ln: f64::ln,
    tanh: f64::tanh,
    sigmoid: |x: f64| 1.0 / (1.0 + (-x).exp())
);

/// Φ and φ as their definitions have them.
#[inline(always)]
fn normal(x: f64) -> (f64, f64) {
    use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};
    // 1/√(2π) = (2/√π)/(2·√2).
    let peak = 0.5 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2;
    (0.5 * (1.0 + libm::erf(x * FRAC_1_SQRT_2)), peak * (-0.5 * x * x).exp())
}
