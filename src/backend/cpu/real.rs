//! f32 and f64 as the kernels see them: f32 by [`elementary`], f64, the oracle, by the platform's library, and erf by `libm`.
//! Sines, cosines and powers are the platform's in f32 too: no layer is made of them.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::elementary;
use super::product::Products;
use crate::backend::Element;

pub trait Real: Element + Products {
    fn exp(self) -> Self;
    fn ln(self) -> Self;
    fn abs(self) -> Self;
    fn tanh(self) -> Self;
    fn sigmoid(self) -> Self;
    /// Φ and φ, cumulative and density of the standard normal distribution.
    fn normal(self) -> (Self, Self);
    fn sin(self) -> Self;
    fn cos(self) -> Self;
    fn floor(self) -> Self;
    fn powf(self, exponent: Self) -> Self;
    fn is_nan(self) -> bool;
    /// Runs `work` on floats that this thread keeps for the purpose; what they hold is left over from before. The greatest
    /// need a thread has had stays allocated.
    fn with_scratch<R>(len: usize, work: impl FnOnce(&mut [Self]) -> R) -> R;
    /// Gives every thread of rayon's as much scratch as any has needed, so that a step that was made once allocates nothing,
    /// whoever takes which part of it.
    fn share_scratch();
}

/// The greatest scratch that any thread has needed.
static GREATEST_F32: AtomicUsize = AtomicUsize::new(0);
static GREATEST_F64: AtomicUsize = AtomicUsize::new(0);

macro_rules! real {
    ($element:ident, $greatest:ident, normal: $normal:expr, $($name:ident: $function:expr),*) => {
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
            fn with_scratch<R>(len: usize, work: impl FnOnce(&mut [Self]) -> R) -> R {
                thread_local!(static SCRATCH: RefCell<Vec<$element>> = const { RefCell::new(Vec::new()) });
                if len > $greatest.load(Ordering::Relaxed) {
                    $greatest.fetch_max(len, Ordering::Relaxed);
                }
                // Taken out, not borrowed: rayon may run another task on this thread while `work` waits for one.
                let mut floats = SCRATCH.take();
                if floats.len() < len {
                    floats.resize(len, 0.0);
                }
                let result = work(&mut floats[..len]);
                SCRATCH.set(floats);
                result
            }
            fn share_scratch() {
                rayon::broadcast(|_| Self::with_scratch($greatest.load(Ordering::Relaxed), |_| ()));
            }
        }
    };
}

real!(
    f32,
    GREATEST_F32,
    normal: elementary::normal,
    exp: elementary::exp,
    ln: elementary::ln,
    tanh: elementary::tanh,
    sigmoid: elementary::sigmoid
);
real!(
    f64,
    GREATEST_F64,
    normal: normal,
    exp: f64::exp,
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
