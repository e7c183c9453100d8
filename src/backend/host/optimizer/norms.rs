//! Sums of squares over pieces: what clipping and LARS know of a tensor.

use crate::tensor::Element;
use crate::wide::wide;

/// Partial sums, which the compiler keeps in vectors.
const LANES: usize = 8;

/// Σ x².
pub fn square<E: Element>(x: &[E]) -> f64 {
    square_of_sum(0.0, x, 1.0, x)
}

/// Σ (a·x + b·y)², summed in f64.
pub fn square_of_sum<E: Element>(a: f64, x: &[E], b: f64, y: &[E]) -> f64 {
    let mut lanes = [0.0; LANES];
    add_squares(a, x, b, y, &mut lanes);
    lanes.iter().sum()
}

wide! {
    fn add_squares<E: Element>(a: f64, x: &[E], b: f64, y: &[E], lanes: &mut [f64; LANES]) {
        let term = |x: &E, y: &E| {
            let value = a * x.to_f64() + b * y.to_f64();
            value * value
        };
        let mut sums = [0.0; LANES];
        let (x, y) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
        let rest = x.remainder().iter().zip(y.remainder());
        for (sum, (x, y)) in sums.iter_mut().zip(rest) {
            *sum += term(x, y);
        }
        for (x, y) in x.zip(y) {
            for (sum, (x, y)) in sums.iter_mut().zip(x.iter().zip(y)) {
                *sum += term(x, y);
            }
        }
        *lanes = sums;
    }
}
