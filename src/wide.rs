//! Kernels compiled three times: for AVX-512, for AVX2, and as the target is; the machine chooses when it runs.
//!
//! The body is plain loops, which the compiler turns into vectors of the width it may use. Rust never contracts a product and
//! a sum into one rounding by itself, so all three give the same bits, on whatever machine.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

/// Defines kernels: `fn name<E: Trait>(…) { … }`, of more types, or of none. What a body calls must be `#[inline(always)]`, or it
/// is compiled for the least machine.
macro_rules! wide {
    ($(
        $(#[$meta:meta])*
        $vis:vis fn $name:ident$(<$($real:ident: $bound:path),+>)?($($arg:ident: $ty:ty),* $(,)?) $body:block
    )*) => {$(
        $(#[$meta])*
        #[allow(unsafe_code, clippy::too_many_arguments, reason = "a call that needs the features just found")]
        $vis fn $name$(<$($real: $bound),+>)?($($arg: $ty),*) {
            #[inline(always)]
            fn body$(<$($real: $bound),+>)?($($arg: $ty),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
                fn avx512$(<$($real: $bound),+>)?($($arg: $ty),*) {
                    body$(::<$($real),+>)?($($arg),*);
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2$(<$($real: $bound),+>)?($($arg: $ty),*) {
                    body$(::<$($real),+>)?($($arg),*);
                }
                use $crate::wide::{Level, level};
                match level() {
                    // SAFETY: `level` answers with no level whose features the machine lacks.
                    Level::Avx512 => return unsafe { avx512$(::<$($real),+>)?($($arg),*) },
                    // SAFETY: as above.
                    Level::Avx2 => return unsafe { avx2$(::<$($real),+>)?($($arg),*) },
                    Level::Portable => {}
                }
            }
            body$(::<$($real),+>)?($($arg),*);
        }
    )*};
}

pub(crate) use wide;

/// What a kernel may use, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// What every machine of the target has.
    Portable = 1,
    /// AVX2 and FMA.
    Avx2 = 2,
    /// Also AVX-512 F, VL, DQ and BW.
    Avx512 = 3,
}

impl Level {
    pub(crate) const ALL: [Level; 3] = [Level::Portable, Level::Avx2, Level::Avx512];

    /// The greatest that this machine has.
    #[cfg(target_arch = "x86_64")]
    pub fn of_the_machine() -> Level {
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

    #[cfg(not(target_arch = "x86_64"))]
    pub fn of_the_machine() -> Level {
        Level::Portable
    }
}

/// The level in force, as a number; 0 before anybody has asked.
static IN_FORCE: AtomicU8 = AtomicU8::new(0);

/// The level that kernels run at: the machine's greatest, but within [`at_each_level`].
pub fn level() -> Level {
    match IN_FORCE.load(Ordering::Relaxed) {
        1 => Level::Portable,
        2 => Level::Avx2,
        3 => Level::Avx512,
        _ => {
            let level = Level::of_the_machine();
            IN_FORCE.store(level as u8, Ordering::Relaxed);
            level
        }
    }
}

/// Calls `work` once at every level that this machine has, the least first: how tests see that all give the same bits.
///
/// The level is the whole process's, and one caller changes it at a time. Work beside it goes on at whatever level, which
/// changes none of its results.
pub fn at_each_level(mut work: impl FnMut(Level)) {
    /// Puts the machine's level back, also where `work` panics.
    struct Back;
    impl Drop for Back {
        fn drop(&mut self) {
            IN_FORCE.store(Level::of_the_machine() as u8, Ordering::Relaxed);
        }
    }
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    // A panic of another caller has left nothing behind.
    let _only_one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let _back = Back;
    for level in Level::ALL.into_iter().filter(|level| *level <= Level::of_the_machine()) {
        IN_FORCE.store(level as u8, Ordering::Relaxed);
        work(level);
    }
}
