//! Whether all values of an arena are finite: read once, by all threads, before a step writes anything.

use rayon::prelude::*;

use super::CHUNK;
use crate::tensor::Element;
use crate::wide::wide;

pub(super) fn all_finite<E: Element>(values: &[E]) -> bool {
    values.par_chunks(CHUNK).all(|chunk| {
        let mut lanes = [E::ZERO; LANES];
        add_nothings(chunk, &mut lanes);
        lanes.iter().all(|lane| *lane == E::ZERO)
    })
}

const LANES: usize = 16;

wide! {
    /// Adds 0 · x: 0 of a finite x, else NaN, which stays. Tests of each value would be branches.
    fn add_nothings<E: Element>(values: &[E], lanes: &mut [E; LANES]) {
        let mut sums = *lanes;
        let chunks = values.chunks_exact(LANES);
        sums.iter_mut().zip(chunks.remainder()).for_each(|(sum, x)| *sum += *x * E::ZERO);
        for chunk in chunks {
            sums.iter_mut().zip(chunk).for_each(|(sum, x)| *sum += *x * E::ZERO);
        }
        *lanes = sums;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_is_found_wherever_it_stands() {
        let mut values = vec![f32::MAX; CHUNK + LANES + 3];
        assert!(all_finite(&values) && all_finite::<f64>(&[]));
        for at in [0, LANES - 1, CHUNK - 1, CHUNK, CHUNK + LANES + 2] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let good = std::mem::replace(&mut values[at], bad);
                assert!(!all_finite(&values), "{bad} at {at}");
                values[at] = good;
            }
        }
    }
}
