//! f32 and f64 as the kernels see them.

use std::cell::RefCell;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

use super::product::Products;
use crate::backend::Element;

pub trait Real:
    Element
    + Products
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
{
    const ZERO: Self;
    const ONE: Self;
    fn exp(self) -> Self;
    fn ln(self) -> Self;
    fn sqrt(self) -> Self;
    fn abs(self) -> Self;
    fn tanh(self) -> Self;
    fn sin(self) -> Self;
    fn cos(self) -> Self;
    fn floor(self) -> Self;
    fn erf(self) -> Self;
    fn powf(self, exponent: Self) -> Self;
    fn is_nan(self) -> bool;
    /// Runs `work` on floats that this thread keeps for the purpose; what they hold is left over from before. The greatest
    /// need a thread has had stays allocated, so that a step that was made once allocates nothing.
    fn with_scratch<R>(len: usize, work: impl FnOnce(&mut [Self]) -> R) -> R;
}

macro_rules! real {
    ($element:ident, $erf:path) => {
        impl Real for $element {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            #[inline(always)]
            fn exp(self) -> Self {
                $element::exp(self)
            }
            #[inline(always)]
            fn ln(self) -> Self {
                $element::ln(self)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                $element::sqrt(self)
            }
            #[inline(always)]
            fn abs(self) -> Self {
                $element::abs(self)
            }
            #[inline(always)]
            fn tanh(self) -> Self {
                $element::tanh(self)
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
            fn erf(self) -> Self {
                $erf(self)
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
                // Taken out, not borrowed: rayon may run another task on this thread while `work` waits for one.
                let mut floats = SCRATCH.take();
                if floats.len() < len {
                    floats.resize(len, 0.0);
                }
                let result = work(&mut floats[..len]);
                SCRATCH.set(floats);
                result
            }
        }
    };
}

real!(f32, libm::erff);
real!(f64, libm::erf);
