//! Numbers as they are stored: in the precision that is computed in, or in bf16, where the plan has a value rounded as it is made.

use crate::tensor::Element;
use crate::wide::wide;
pub(super) use half::bf16;

/// Where an `E` is stored.
pub trait Stored<E>: Copy + Send + Sync + 'static {
    fn widen(self) -> E;
    fn narrow(value: E) -> Self;
}

impl<E: Element> Stored<E> for E {
    #[inline(always)]
    fn widen(self) -> E {
        self
    }
    #[inline(always)]
    fn narrow(value: E) -> E {
        value
    }
}

/// A value that is read.
#[derive(Debug, Clone, Copy)]
pub enum Numbers<'a, E> {
    Full(&'a [E]),
    Halves(&'a [bf16]),
}

/// A value that is written.
#[derive(Debug)]
pub enum NumbersMut<'a, E> {
    Full(&'a mut [E]),
    Halves(&'a mut [bf16]),
}

/// The number of bf16 that is nearest, of two as near the one whose last bit is 0; what is not a number stays so.
#[inline(always)]
pub(super) fn nearest(x: f32) -> bf16 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    // An error's bits could wrap around to a number's.
    bf16::from_bits(if x.is_nan() { bits >> 16 | 0x0040 } else { nearest } as u16)
}

/// The same memory as room for numbers of bf16.
#[allow(unsafe_code, reason = "floats and numbers of bf16 are bits of whichever kind")]
pub(super) fn halves_in<E: Element>(floats: &mut [E]) -> &mut [bf16] {
    let len = size_of_val(floats) / size_of::<bf16>();
    // SAFETY: the same bytes, borrowed as long, which any bits are valid in as either; floats are aligned for what is smaller.
    unsafe { std::slice::from_raw_parts_mut(floats.as_mut_ptr().cast(), len) }
}

wide! {
    /// Some values, as they are stored.
    pub(super) fn store<E: Element, T: Stored<E>>(values: &[E], to: &mut [T]) {
        to.iter_mut().zip(values).for_each(|(to, value)| *to = T::narrow(*value));
    }
}

/// The float of the same value.
#[inline(always)]
pub(super) fn widened(x: bf16) -> f32 {
    f32::from_bits(u32::from(x.to_bits()) << 16)
}

impl<'a, E> NumbersMut<'a, E> {
    /// Of the two slices of a step's result, the one that is not empty.
    pub fn of(full: &'a mut [E], halves: &'a mut [bf16]) -> Self {
        if halves.is_empty() { NumbersMut::Full(full) } else { NumbersMut::Halves(halves) }
    }

    pub fn len(&self) -> usize {
        match self {
            NumbersMut::Full(values) => values.len(),
            NumbersMut::Halves(values) => values.len(),
        }
    }

    pub fn as_read(&self) -> Numbers<'_, E> {
        match self {
            NumbersMut::Full(values) => Numbers::Full(values),
            NumbersMut::Halves(values) => Numbers::Halves(values),
        }
    }

    /// Where nothing rounds, as the oracle's precision has it.
    pub fn full(self) -> &'a mut [E] {
        match self {
            NumbersMut::Full(values) => values,
            NumbersMut::Halves(_) => unreachable!("a plan without products that round stores nothing in bf16"),
        }
    }
}

impl<'a, E> From<&'a mut [E]> for NumbersMut<'a, E> {
    fn from(values: &'a mut [E]) -> Self {
        NumbersMut::Full(values)
    }
}

impl<'a, E> Numbers<'a, E> {
    pub fn len(self) -> usize {
        match self {
            Numbers::Full(values) => values.len(),
            Numbers::Halves(values) => values.len(),
        }
    }

    /// From element `start` on.
    pub fn from(self, start: usize) -> Self {
        match self {
            Numbers::Full(values) => Numbers::Full(&values[start..]),
            Numbers::Halves(values) => Numbers::Halves(&values[start..]),
        }
    }

    /// Where nothing rounds, as the oracle's precision has it.
    pub fn full(self) -> &'a [E] {
        match self {
            Numbers::Full(values) => values,
            Numbers::Halves(_) => unreachable!("a plan without products that round stores nothing in bf16"),
        }
    }

    /// The first number that is none, or infinite.
    pub fn first_not_finite(self) -> Option<f64>
    where
        E: Element,
    {
        match self {
            Numbers::Full(values) => values.iter().find(|value| !value.is_finite()).map(|value| value.to_f64()),
            Numbers::Halves(values) => values.iter().find(|value| !value.is_finite()).map(|value| value.to_f64()),
        }
    }

    /// First byte and the one past the last.
    pub fn bytes(self) -> std::ops::Range<usize> {
        let of = |range: std::ops::Range<*const u8>| range.start as usize..range.end as usize;
        match self {
            Numbers::Full(values) => {
                let range = values.as_ptr_range();
                of(range.start.cast()..range.end.cast())
            }
            Numbers::Halves(values) => {
                let range = values.as_ptr_range();
                of(range.start.cast()..range.end.cast())
            }
        }
    }
}

impl<'a, E> From<&'a [E]> for Numbers<'a, E> {
    fn from(values: &'a [E]) -> Self {
        Numbers::Full(values)
    }
}

impl<E: Element> Stored<E> for bf16 {
    #[inline(always)]
    fn widen(self) -> E {
        E::from_f64(f64::from(widened(self)))
    }
    #[inline(always)]
    fn narrow(value: E) -> bf16 {
        nearest(value.to_f64() as f32)
    }
}
