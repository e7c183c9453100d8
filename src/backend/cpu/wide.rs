//! Kernels compiled three times: for AVX-512, for AVX2, and as the target is; the machine chooses when it runs.
//!
//! The body is plain loops, which the compiler turns into vectors of the width it may use. Rust never contracts a product and
//! a sum into one rounding by itself, so all three give the same bits, on whatever machine.

/// Defines kernels. What a body calls must be `#[inline(always)]`, or it is compiled for the least machine.
macro_rules! wide {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident<$real:ident>($($arg:ident: $ty:ty),* $(,)?) $body:block)*) => {$(
        $(#[$meta])*
        #[allow(unsafe_code, clippy::too_many_arguments, reason = "a call that needs the features just found")]
        $vis fn $name<$real: $crate::backend::cpu::real::Real>($($arg: $ty),*) {
            #[inline(always)]
            fn body<$real: $crate::backend::cpu::real::Real>($($arg: $ty),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
                fn avx512<$real: $crate::backend::cpu::real::Real>($($arg: $ty),*) {
                    body::<$real>($($arg),*);
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2<$real: $crate::backend::cpu::real::Real>($($arg: $ty),*) {
                    body::<$real>($($arg),*);
                }
                use $crate::backend::cpu::wide::{Level, level};
                // SAFETY: `level` has found every feature that the function called is compiled with.
                match level() {
                    Level::Avx512 => return unsafe { avx512::<$real>($($arg),*) },
                    Level::Avx2 => return unsafe { avx2::<$real>($($arg),*) },
                    Level::Portable => {}
                }
            }
            body::<$real>($($arg),*);
        }
    )*};
}

pub(super) use wide;

#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Avx512,
    Avx2,
    Portable,
}

/// What this machine has. The standard library asks it once and remembers.
#[cfg(target_arch = "x86_64")]
pub(super) fn level() -> Level {
    let has_avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let has_avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512bw");
    match (has_avx2, has_avx512) {
        (true, true) => Level::Avx512,
        (true, false) => Level::Avx2,
        (false, _) => Level::Portable,
    }
}
