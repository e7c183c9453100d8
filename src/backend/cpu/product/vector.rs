//! Vectors of f32 that tiles are computed in: of AVX-512, of AVX2, and of four lanes for machines that have neither.
#![allow(unsafe_code, reason = "vector instructions take pointers, and are there on some machines only")]

/// The vectors of one kind of machine.
pub(super) trait Vector: Copy {
    const LANES: usize;

    /// # Safety
    /// The machine has such vectors.
    unsafe fn zero() -> Self;

    /// # Safety
    /// The machine has such vectors, and `value` can be read.
    unsafe fn splat(value: *const f32) -> Self;

    /// # Safety
    /// The machine has such vectors, and [`Vector::LANES`] floats from `from` on can be read.
    unsafe fn load(from: *const f32) -> Self;

    /// # Safety
    /// The machine has such vectors, and [`Vector::LANES`] floats from `to` on can be written.
    unsafe fn store(self, to: *mut f32);

    /// # Safety
    /// The machine has such vectors.
    unsafe fn add(self, other: Self) -> Self;

    /// # Safety
    /// The machine has such vectors.
    unsafe fn scale(self, by: f32) -> Self;

    /// self · b + c; rounded once where the machine can.
    ///
    /// # Safety
    /// The machine has such vectors.
    unsafe fn times_plus(self, b: Self, c: Self) -> Self;
}

/// Four lanes, for machines without a kernel of their own: compilers make vectors of them.
#[derive(Clone, Copy)]
pub(super) struct Four([f32; 4]);

impl Vector for Four {
    const LANES: usize = 4;
    #[inline(always)]
    unsafe fn zero() -> Self {
        Four([0.0; 4])
    }
    #[inline(always)]
    unsafe fn splat(value: *const f32) -> Self {
        // SAFETY: the caller's.
        Four([unsafe { *value }; 4])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's.
        Four(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Four(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }
    #[inline(always)]
    unsafe fn scale(self, by: f32) -> Self {
        Four(self.0.map(|x| x * by))
    }
    // Two roundings: `mul_add` is a call where the machine has no such instruction.
    #[inline(always)]
    unsafe fn times_plus(self, b: Self, c: Self) -> Self {
        Four(std::array::from_fn(|i| self.0[i] * b.0[i] + c.0[i]))
    }
}

/// Four lanes of pairs: what AVX512-BF16 computes, so that packing is tested on every machine.
#[cfg(test)]
#[derive(Clone, Copy)]
pub(super) struct FourPairs(Four);

#[cfg(test)]
impl Vector for FourPairs {
    const LANES: usize = 4;
    unsafe fn zero() -> Self {
        // SAFETY: nothing is asked for.
        FourPairs(unsafe { Four::zero() })
    }
    unsafe fn splat(value: *const f32) -> Self {
        // SAFETY: the caller's.
        FourPairs(unsafe { Four::splat(value) })
    }
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's.
        FourPairs(unsafe { Four::load(from) })
    }
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { self.0.store(to) }
    }
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: nothing is asked for.
        FourPairs(unsafe { self.0.add(other.0) })
    }
    unsafe fn scale(self, by: f32) -> Self {
        // SAFETY: nothing is asked for.
        FourPairs(unsafe { self.0.scale(by) })
    }
    unsafe fn times_plus(self, b: Self, c: Self) -> Self {
        let high = |x: f32| f32::from_bits(x.to_bits() & 0xffff_0000);
        let low = |x: f32| f32::from_bits(x.to_bits() << 16);
        let (a, b, c) = (self.0.0, b.0.0, c.0.0);
        FourPairs(Four(std::array::from_fn(|i| c[i] + high(a[i]) * high(b[i]) + low(a[i]) * low(b[i]))))
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512, Avx512Pairs};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Vector;

    macro_rules! vector {
        ($name:ident, $inner:ty, $lanes:expr, $zero:ident, $splat:ident, $load:ident, $store:ident, $add:ident, $mul:ident, $times_plus:expr) => {
            #[derive(Clone, Copy)]
            pub struct $name($inner);

            impl Vector for $name {
                const LANES: usize = $lanes;
                #[inline(always)]
                unsafe fn zero() -> Self {
                    // SAFETY: the caller's, who has found the features.
                    Self(unsafe { $zero() })
                }
                #[inline(always)]
                unsafe fn splat(value: *const f32) -> Self {
                    // SAFETY: the caller's, who has found the features.
                    Self(unsafe { $splat(*value) })
                }
                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    // SAFETY: the caller's, who has found the features.
                    Self(unsafe { $load(from) })
                }
                #[inline(always)]
                unsafe fn store(self, to: *mut f32) {
                    // SAFETY: the caller's, who has found the features.
                    unsafe { $store(to, self.0) }
                }
                #[inline(always)]
                unsafe fn add(self, other: Self) -> Self {
                    // SAFETY: the caller's, who has found the features.
                    Self(unsafe { $add(self.0, other.0) })
                }
                #[inline(always)]
                unsafe fn scale(self, by: f32) -> Self {
                    // SAFETY: the caller's, who has found the features.
                    Self(unsafe { $mul(self.0, $splat(by)) })
                }
                #[inline(always)]
                unsafe fn times_plus(self, b: Self, c: Self) -> Self {
                    // SAFETY: the caller's, who has found the features.
                    Self(unsafe { $times_plus(self.0, b.0, c.0) })
                }
            }
        };
    }

    vector!(
        Avx2,
        __m256,
        8,
        _mm256_setzero_ps,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_add_ps,
        _mm256_mul_ps,
        _mm256_fmadd_ps
    );
    vector!(
        Avx512,
        __m512,
        16,
        _mm512_setzero_ps,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_add_ps,
        _mm512_mul_ps,
        _mm512_fmadd_ps
    );
    vector!(
        Avx512Pairs,
        __m512,
        16,
        _mm512_setzero_ps,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_add_ps,
        _mm512_mul_ps,
        pairs_times_plus
    );

    /// c + the products of both halves of each lane.
    ///
    /// # Safety
    /// The machine has AVX-512 with bf16.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn pairs_times_plus(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: vectors of the same bits, under another name.
        unsafe {
            _mm512_dpbf16_ps(c, std::mem::transmute::<__m512, __m512bh>(a), std::mem::transmute::<__m512, __m512bh>(b))
        }
    }
}
