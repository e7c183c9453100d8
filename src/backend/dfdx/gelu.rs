//! GELU with the right derivative. dfdx 0.13's backward of `accurate_gelu` lacks a factor 1/√2: it adds x·e^(−x²/2)/√π to
//! Φ(x) where x·e^(−x²/2)/√(2π) is due, on the CPU and on CUDA. Its forward is right.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, PI};

use dfdx::prelude::{
    Cpu, Device, Dtype, HasShape, OwnedTape, PutTape, SplitTape, Tape, TensorFromVec, TryAdd, TryMul, TrySub,
};
use rayon::prelude::*;

use super::{Flat, Taped, host};
use crate::tensor::Element;

/// Values that one task takes.
const CHUNK: usize = 1 << 12;

/// x·Φ(x) and its gradient.
pub trait Gelu<E: Dtype>: Device<E> {
    fn gelu(x: Flat<E, Self>, tape: OwnedTape<E, Self>) -> Taped<E, Self>;
}

macro_rules! gelu_on_cpu {
    ($($element:ty, $erf:path);*) => {$(
        impl Gelu<$element> for Cpu {
            fn gelu(
                x: Flat<$element, Cpu>,
                mut tape: OwnedTape<$element, Cpu>,
            ) -> Taped<$element, Cpu> {
                let mut data = host(&x);
                data.par_chunks_mut(CHUNK).for_each(|values| {
                    for v in values {
                        *v *= 0.5 * (1.0 + $erf(*v * FRAC_1_SQRT_2 as $element));
                    }
                });
                let length = data.len();
                let out = x.device().try_tensor_from_vec(data, (length,))?;
                let result = out.clone();
                tape.add_backward_op(move |gradients| {
                    gradients.try_alloc_for(&out)?;
                    let mut change = host(&gradients.get(&out));
                    let (xs, values) = (host(&x), host(&out));
                    // 1/√(2π) = (2/√π)/(2·√2).
                    let peak = (FRAC_2_SQRT_PI / 8.0_f64.sqrt()) as $element;
                    let chunks = change.par_chunks_mut(CHUNK).zip(xs.par_chunks(CHUNK)).zip(values.par_chunks(CHUNK));
                    chunks.for_each(|((change, xs), values)| {
                        for ((change, x), value) in change.iter_mut().zip(xs).zip(values) {
                            // Φ(x) from x·Φ(x): erf, by far the dearest part, is not computed again.
                            let below_x = if *x == 0.0 { 0.5 } else { value / x };
                            *change *= below_x + x * peak * (-0.5 * x * x).exp();
                        }
                    });
                    let below = gradients.get_or_alloc_mut(&x)?;
                    below.iter_mut().zip(change).for_each(|(sum, change)| *sum += change);
                    Ok(())
                });
                Ok((result, tape))
            }
        }
    )*};
}

gelu_on_cpu!(f32, libm::erff; f64, libm::erf);

#[cfg(feature = "dfdx-cuda")]
impl<E: Element + Dtype> Gelu<E> for dfdx::prelude::Cuda
where
    dfdx::prelude::Cuda: Device<E>,
{
    fn gelu(x: Flat<E, Self>, tape: OwnedTape<E, Self>) -> Taped<E, Self> {
        gelu_by_dfdx(x, tape)
    }
}

/// The same through dfdx's ops, for devices whose memory the host cannot reach: dfdx's GELU plus c − c, where only the first c
/// is on the tape. c = (1/√π − 1/√(2π))·e^(−x²/2), whose slope is what dfdx adds too much, negated. c − c is 0 exactly.
#[cfg_attr(not(feature = "dfdx-cuda"), allow(dead_code, reason = "only CUDA needs it; it is tested on the CPU"))]
fn gelu_by_dfdx<E: Element + Dtype, D: Device<E>>(x: Flat<E, D>, tape: OwnedTape<E, D>) -> Taped<E, D> {
    let constant = |value: f64| <E as Element>::from_f64(value);
    let (value, tape) = x.clone().put_tape(tape).try_accurate_gelu()?.split_tape();
    let excess = 1.0 / PI.sqrt() - 1.0 / (2.0 * PI).sqrt();
    let bell = x.put_tape(tape).try_square()?.try_mul(constant(-0.5))?.try_exp()?.try_mul(constant(excess))?;
    let (bell, tape) = bell.split_tape();
    let off_tape = bell.device().try_tensor_from_vec(host(&bell), (bell.shape().0,))?;
    Ok(bell.put_tape(tape).try_sub(off_tape)?.try_add(value)?.split_tape())
}

#[cfg(test)]
mod tests {
    use dfdx::prelude::{Backward, SumTo};

    use super::*;

    type Way = fn(Flat<f64, Cpu>, OwnedTape<f64, Cpu>) -> Taped<f64, Cpu>;

    /// The CPU's own derivative is held against finite differences by the op's page; this holds the other against it.
    #[test]
    fn both_ways_agree() {
        let device = Cpu::default();
        let x: Flat<f64, Cpu> = device.tensor_from_vec(vec![-40.0, -3.0, -0.5, 0.0, 1e-9, 0.7, 2.0, 30.0], (8,));
        let run = |gelu: Way| {
            let (out, tape) = gelu(x.clone(), OwnedTape::default()).expect("it fits into memory");
            let values = out.as_vec();
            let sum: dfdx::prelude::Tensor<(), f64, Cpu, _> = out.put_tape(tape).sum();
            (values, sum.backward().get(&x).as_vec())
        };
        let (values, slopes) = run(<Cpu as Gelu<f64>>::gelu);
        let (values_by_dfdx, slopes_by_dfdx) = run(gelu_by_dfdx);
        assert_eq!(values, values_by_dfdx);
        for (a, b) in slopes.iter().zip(&slopes_by_dfdx) {
            assert!((a - b).abs() < 1e-15, "{slopes:?}, {slopes_by_dfdx:?}");
        }
    }
}
