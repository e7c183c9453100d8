//! How fast the machine multiplies matrices at its best: what a step's rate is held against.

use std::time::{Duration, Instant};

use super::aligned::Aligned;
use super::product;
use super::real::Real;
use super::stored::{Numbers, Stored, bf16};

/// Rows and columns: 3 × 16 MiB in f32, beyond caches, where packing costs next to nothing.
const SIZE: usize = 2048;
/// The best of so many: others on the machine only ever take time away.
const TIMES: usize = 6;
/// Of them all. One core takes a second for two.
const TIME: Duration = Duration::from_secs(2);

/// FLOP a second of one square product on all threads of the pool: by our own kernels, in bf16 or not, or by the `gemm` crate,
/// whichever is faster.
pub(super) fn product_rate<E: Real>(bf16: bool) -> f64 {
    let value = |step: usize, i: usize| E::from_f64((i * step % 17) as f64 / 17.0);
    let (a, b) = (filled(|i| value(3, i)), filled(|i| value(5, i)));
    let mut out = filled(|_| E::ZERO);
    // Operands lie as those of a step do.
    let narrowed = [3, 5].map(|step| if bf16 { filled(|i| bf16::narrow(value(step, i))) } else { Aligned::default() });
    let stored = |full, halves| if bf16 && E::ROUNDS { Numbers::Halves(halves) } else { Numbers::Full(full) };
    let operands = (stored(&*a, &*narrowed[0]), stored(&*b, &*narrowed[1]));
    let sizes = (SIZE, SIZE, SIZE);
    let mut room = Aligned::new(E::ZERO, product::scratch(sizes, bf16, false));
    let (mut best, begun) = (f64::INFINITY, Instant::now());
    for time in 0..TIMES {
        if time >= 2 && begun.elapsed() > TIME {
            break;
        }
        let start = Instant::now();
        let to = (&mut out[..]).into();
        product::batched(to, 1, sizes, (operands.0, false), (operands.1, false), (None, bf16), &mut room);
        best = best.min(start.elapsed().as_secs_f64());
        // Our own kernels are no measure of themselves.
        let start = Instant::now();
        product::square_by_gemm(&mut out, SIZE, &a, &b);
        best = best.min(start.elapsed().as_secs_f64());
    }
    2.0 * (SIZE as f64).powi(3) / best
}

/// A square of values by their index.
fn filled<T: Copy + Default>(value: impl Fn(usize) -> T) -> Aligned<T> {
    let mut values = Aligned::new(T::default(), SIZE * SIZE);
    values.iter_mut().enumerate().for_each(|(i, to)| *to = value(i));
    values
}
