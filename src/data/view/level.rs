//! Numbers as levels, in loops that become vectors: a cast of Rust's looks for what lies outside of the type, value by value.
//!
//! **Invariant:** for 0 ≤ v < 2²² the same level, to the bit, as `round_ties_even` and as a truncating cast give.

/// Its neighbours are whole numbers: added to it, a lesser number is rounded half to even, and stands in its lowest bits.
const WHOLES: f32 = (1 << 23) as f32;

/// The nearest level, half to even.
#[inline(always)]
pub fn nearest(v: f32) -> u8 {
    (v + WHOLES).to_bits() as u8
}

/// The level below.
#[inline(always)]
pub fn below(v: f32) -> u8 {
    (floor(v) + WHOLES).to_bits() as u8
}

/// The whole number below.
#[inline(always)]
pub fn floor(v: f32) -> f32 {
    let whole = v + WHOLES - WHOLES;
    if whole > v { whole - 1.0 } else { whole }
}

/// Within 0..=`most`. `f32::clamp` looks for bounds that are no numbers and keeps loops from becoming vectors.
#[inline(always)]
pub fn clamp(v: f32, most: f32) -> f32 {
    let v = if v < 0.0 { 0.0 } else { v };
    if v > most { most } else { v }
}

#[cfg(test)]
mod tests {
    use super::{below, floor, nearest};

    #[test]
    fn levels_are_those_of_casts() {
        // Each level, each half, and what lies beside them.
        let around = |v: f32| [v.next_down().max(0.0), v, v.next_up()];
        let mut values: Vec<f32> = (0..=510).flat_map(|half| around(half as f32 / 2.0)).collect();
        values.extend((0..100_000).map(|i| i as f32 * 0.002_55));
        for v in values {
            assert_eq!(nearest(v), v.round_ties_even() as u8, "{v}");
            assert_eq!(below(v), v as u8, "{v}");
            assert_eq!(floor(v), v.floor(), "{v}");
        }
    }
}
