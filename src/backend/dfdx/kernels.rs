//! Ops that dfdx does not have, or has slow or wrong: rows moved whole, and GELU with its true derivative.
//!
//! **Invariant:** a kernel adds to the tape what dfdx's own ops would: one backward step that adds to its operand's
//! gradient.

use std::sync::Arc;

use dfdx::prelude::{
    Cpu, Device, Dtype, GatherTo, HasErr, HasShape, OwnedTape, PutTape, SplitTape, Tape, TensorFromVec,
};
use rayon::prelude::*;

use super::{Flat, host, view};
use crate::backend::Element;

/// Values that one task takes.
const CHUNK: usize = 1 << 12;

/// 1 / √(2π): the density of the normal distribution at 0.
const DENSITY_AT_ZERO: f64 = 0.398_942_280_401_432_7;

/// A value and the tape that remembers how it came to be.
pub type Taped<E, D> = Result<(Flat<E, D>, OwnedTape<E, D>), <D as HasErr>::Err>;

/// Kernels of a device.
pub trait Kernels<E: Dtype>: Device<E> {
    /// Result row r is row `rows[r]` of `x`, rows of `inner` values; gradients of rows that are read twice add up.
    fn gather_rows(x: Flat<E, Self>, rows: Arc<Vec<usize>>, inner: usize, tape: OwnedTape<E, Self>) -> Taped<E, Self>;

    /// x·Φ(x), and Φ(x) + x·φ(x) backwards.
    ///
    /// dfdx 0.13's `accurate_gelu` is right forwards; backwards it takes 2/√π for √(2/π), so that its second term is
    /// √2 times too large, on the CPU and on CUDA.
    fn gelu(x: Flat<E, Self>, tape: OwnedTape<E, Self>) -> Taped<E, Self>;
}

macro_rules! kernels_on_cpu {
    ($($element:ty, $erf:path);*) => {$(
        impl Kernels<$element> for Cpu {
            // dfdx's own gather walks an index per value; whole rows are copied here, forward and back.
            fn gather_rows(
                x: Flat<$element, Cpu>,
                rows: Arc<Vec<usize>>,
                inner: usize,
                mut tape: OwnedTape<$element, Cpu>,
            ) -> Taped<$element, Cpu> {
                let source = host(&x);
                let mut data = Vec::with_capacity(rows.len() * inner);
                for row in rows.iter() {
                    data.extend_from_slice(&source[row * inner..(row + 1) * inner]);
                }
                let length = data.len();
                let device: Cpu = x.device().clone();
                let out = device.try_tensor_from_vec(data, (length,))?;
                let result = out.clone();
                tape.add_backward_op(move |gradients| {
                    gradients.try_alloc_for(&out)?;
                    let above = host(&gradients.get(&out));
                    let below = gradients.get_or_alloc_mut(&x)?;
                    for (row, values) in rows.iter().zip(above.chunks_exact(inner)) {
                        let target = &mut below[row * inner..(row + 1) * inner];
                        for (sum, value) in target.iter_mut().zip(values) {
                            *sum += *value;
                        }
                    }
                    Ok(())
                });
                Ok((result, tape))
            }

            fn gelu(
                x: Flat<$element, Cpu>,
                mut tape: OwnedTape<$element, Cpu>,
            ) -> Taped<$element, Cpu> {
                let cdf = |x: $element| 0.5 * (1.0 + $erf(x * std::f64::consts::FRAC_1_SQRT_2 as $element));
                let mut data = host(&x);
                data.par_chunks_mut(CHUNK).for_each(|chunk| chunk.iter_mut().for_each(|v| *v *= cdf(*v)));
                let length = data.len();
                let device: Cpu = x.device().clone();
                let out = device.try_tensor_from_vec(data, (length,))?;
                let result = out.clone();
                tape.add_backward_op(move |gradients| {
                    gradients.try_alloc_for(&out)?;
                    let mut change = host(&gradients.get(&out));
                    let values = host(&x);
                    change.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK)).for_each(|(change, values)| {
                        for (g, v) in change.iter_mut().zip(values) {
                            *g *= cdf(*v) + v * DENSITY_AT_ZERO as $element * (-0.5 * v * v).exp();
                        }
                    });
                    let below = gradients.get_or_alloc_mut(&x)?;
                    below.iter_mut().zip(change).for_each(|(sum, value)| *sum += value);
                    Ok(())
                });
                Ok((result, tape))
            }
        }
    )*};
}

kernels_on_cpu!(f32, libm::erff; f64, libm::erf);

#[cfg(feature = "dfdx-cuda")]
impl<E: Element + Dtype> Kernels<E> for dfdx::prelude::Cuda
where
    dfdx::prelude::Cuda: Device<E>,
{
    fn gather_rows(x: Flat<E, Self>, rows: Arc<Vec<usize>>, inner: usize, tape: OwnedTape<E, Self>) -> Taped<E, Self> {
        gather_by_dfdx(x, &rows, inner, tape)
    }

    fn gelu(x: Flat<E, Self>, tape: OwnedTape<E, Self>) -> Taped<E, Self> {
        gelu_by_dfdx(x, tape)
    }
}

/// The same through dfdx's `gather`, for devices whose memory the host cannot reach.
#[cfg_attr(not(feature = "dfdx-cuda"), allow(dead_code, reason = "only CUDA needs it; it must compile everywhere"))]
fn gather_by_dfdx<E: Dtype, D: Device<E>>(
    x: Flat<E, D>,
    rows: &[usize],
    inner: usize,
    tape: OwnedTape<E, D>,
) -> Taped<E, D> {
    let (length, count) = (x.shape().0 / inner, rows.len());
    let ids = x.device().try_tensor_from_vec(rows.to_vec(), (count,))?;
    let table = view(x.put_tape(tape), (length, inner))?;
    let out = table.try_gather::<(usize, usize), (usize,)>(ids)?;
    let out = view(out, (count * inner,))?;
    Ok(out.split_tape())
}

/// The same through dfdx's ops: its GELU, plus a term h − h of value 0 whose derivative makes up for the error.
///
/// dfdx's derivative is too large by x·e^(−x²/2)·(1/√π − 1/√(2π)); h = (1/√π − 1/√(2π))·e^(−x²/2) has minus that.
#[cfg_attr(not(feature = "dfdx-cuda"), allow(dead_code, reason = "only CUDA needs it; it must compile everywhere"))]
fn gelu_by_dfdx<E: Element + Dtype, D: Device<E>>(x: Flat<E, D>, tape: OwnedTape<E, D>) -> Taped<E, D> {
    use dfdx::prelude::{TryAdd, TryMul, TrySub};
    let constant = |v: f64| <E as Element>::from_f64(v);
    let factor = constant(DENSITY_AT_ZERO * (std::f64::consts::SQRT_2 - 1.0));
    let (gelu, tape) = x.clone().put_tape(tape).try_accurate_gelu()?.split_tape();
    let square = x.put_tape(tape).try_square()?;
    let (h, tape) = square.try_mul(constant(-0.5))?.try_exp()?.try_mul(factor)?.split_tape();
    // A copy off the tape: its gradient goes nowhere.
    let still = h.clone().try_mul(constant(1.0))?;
    let (zero, tape) = h.put_tape(tape).try_sub(still)?.split_tape();
    Ok(gelu.put_tape(tape).try_add(zero)?.split_tape())
}
