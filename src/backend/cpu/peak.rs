//! How fast the machine multiplies matrices at its best: what a step's rate is held against.

use std::time::{Duration, Instant};

use super::product;
use super::real::Real;

/// Rows and columns: 3 × 16 MiB in f32, beyond caches, where packing costs next to nothing.
const SIZE: usize = 2048;
/// The best of so many: others on the machine only ever take time away.
const TIMES: usize = 6;
/// Of them all. One core takes a second for two.
const TIME: Duration = Duration::from_secs(2);

/// FLOP a second of one square product on all threads of the pool: by our own kernels, in bf16 or not, or by the `gemm` crate,
/// whichever is faster.
pub(super) fn product_rate<E: Real>(bf16: bool) -> f64 {
    let values = |step: usize| (0..SIZE * SIZE).map(|i| E::from_f64((i * step % 17) as f64 / 17.0)).collect::<Vec<E>>();
    let (a, b, mut out) = (values(3), values(5), vec![E::ZERO; SIZE * SIZE]);
    let sizes = (SIZE, SIZE, SIZE);
    let mut room = vec![E::ZERO; product::scratch(sizes, bf16, false)];
    let (mut best, begun) = (f64::INFINITY, Instant::now());
    for time in 0..TIMES {
        if time >= 2 && begun.elapsed() > TIME {
            break;
        }
        let start = Instant::now();
        let operands = ((a[..].into(), false), (b[..].into(), false));
        product::batched((&mut out[..]).into(), 1, sizes, operands.0, operands.1, (None, bf16), &mut room);
        best = best.min(start.elapsed().as_secs_f64());
        // Our own kernels are no measure of themselves.
        let start = Instant::now();
        product::square_by_gemm(&mut out, SIZE, &a, &b);
        best = best.min(start.elapsed().as_secs_f64());
    }
    2.0 * (SIZE as f64).powi(3) / best
}
