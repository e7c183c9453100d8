//! Element-wise ops that are more than one op of StableHLO, most of them to keep NaN: a run that has failed must not go on.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use super::build::Order;
use super::text::{Function, Scalar, TensorType, Value};

/// Ids are below it: [`to_int`].
const FIRST_PAST_IDS: f64 = 9e15;

/// a where it lies beyond b in `order` or is NaN, else b. Plugins' own maximum and minimum drop a NaN on the right.
pub(super) fn extreme(f: &mut Function, a: &Value, order: Order, b: &Value) -> Value {
    let beyond = f.compare(a, order, b);
    let is_nan = f.compare(a, Order::Ne, a);
    let takes_a = f.binary("or", &beyond, &is_nan);
    f.select(&takes_a, a, b)
}

/// x where it is above 0 or NaN, else 0.
pub(super) fn relu(f: &mut Function, x: &Value) -> Value {
    let zero = f.constant(0.0, &x.ty);
    let is_off = f.compare(x, Order::Le, &zero);
    f.select(&is_off, &zero, x)
}

/// Exponents whose power is a product or a quotient are computed as that.
pub(super) fn power(f: &mut Function, x: &Value, exponent: f64) -> Value {
    let constant = |f: &mut Function, value: f64| f.constant(value, &x.ty);
    match exponent {
        0.0 => constant(f, 1.0),
        1.0 => x.clone(),
        2.0 => f.mul(x, x),
        -1.0 => {
            let one = constant(f, 1.0);
            f.div(&one, x)
        }
        _ => {
            let exponent = constant(f, exponent);
            f.binary("power", x, &exponent)
        }
    }
}

/// Φ of the standard normal distribution. By erfc of −x: as 1 + erf the tail below 0 would lose its digits, with errors of 7e-5
/// of the value in f32.
fn below(f: &mut Function, x: &Value) -> Value {
    let scaled = f.times(x, -FRAC_1_SQRT_2);
    let twice = f.one("chlo.erfc", &[&scaled], "", x.ty.clone());
    f.times(&twice, 0.5)
}

/// [`below`] within 1e-7: all that what is rounded to bf16 needs, and so few ops that a compiler joins it with a sum over rows.
fn nearly_below(f: &mut Function, x: &Value) -> Value {
    let scaled = f.times(x, FRAC_1_SQRT_2);
    let erf = f.one("chlo.erf", &[&scaled], "", x.ty.clone());
    let half = f.times(&erf, 0.5);
    f.plus(&half, 0.5)
}

/// Φ(−z) of z ≥ 0 within 5e-7, in a third of erfc's instructions.
///
/// Φ(−z) = e^(−z²/2) · (a₁t + … + a₅t⁵) / 2 with t = 1 / (1 + pz/√2): 7.1.26 of Abramowitz and Stegun's Handbook of Mathematical
/// Functions (1964), whose erfc is within 1.5e-7; f32 rounds by the rest. An infinite z makes NaN.
fn nearly_above(f: &mut Function, z: &Value) -> Value {
    const P: f64 = 0.327_591_1;
    const A: [f64; 5] = [0.254_829_592, -0.284_496_736, 1.421_413_741, -1.453_152_027, 1.061_405_429];
    let scaled = f.times(z, P * FRAC_1_SQRT_2);
    let denominator = f.plus(&scaled, 1.0);
    // The inverse of a root is one instruction on a GPU, a division ten.
    let root = f.unary("rsqrt", &denominator);
    let t = f.mul(&root, &root);
    let mut sum = f.constant(0.5 * A[4], &z.ty);
    for a in A[..4].iter().rev() {
        sum = f.mul(&sum, &t);
        sum = f.plus(&sum, 0.5 * a);
    }
    let square = f.mul(z, z);
    let exponent = f.times(&square, -0.5);
    let bell = f.unary("exponential", &exponent);
    let factor = f.mul(&t, &sum);
    f.mul(&factor, &bell)
}

/// x·Φ(x); `near`: it will be rounded to bf16. On an H200 erfc takes three times as long as reading and writing the values.
pub(super) fn gelu(f: &mut Function, x: &Value, near: bool) -> Value {
    if !near {
        let below = below(f, x);
        return f.mul(x, &below);
    }
    // Φ(x) = 1 − Φ(−x): what lies above 0, less |x|·Φ(−|x|).
    let size = f.unary("abs", x);
    let rest = nearly_above(f, &size);
    let (above, off) = (relu(f, x), f.mul(&size, &rest));
    f.sub(&above, &off)
}

/// g·(Φ(x) + x·φ(x)); `near`: it will be rounded to bf16.
pub(super) fn gelu_grad(f: &mut Function, x: &Value, g: &Value, near: bool) -> Value {
    let below = if near { nearly_below(f, x) } else { below(f, x) };
    let square = f.mul(x, x);
    let exponent = f.times(&square, -0.5);
    let bell = f.unary("exponential", &exponent);
    // 1/√(2π) = (2/√π)/(2·√2).
    let density = f.times(&bell, 0.5 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2);
    let along = f.mul(x, &density);
    let slope = f.add(&below, &along);
    f.mul(g, &slope)
}

/// Cut towards zero; NaN and what no id holds become −1, which is out of every range.
pub(super) fn to_int(f: &mut Function, x: &Value) -> Value {
    // The least number of this precision that is no id: rounded up, so that all below it are.
    let first = match x.scalar() {
        Scalar::F32 if f64::from(FIRST_PAST_IDS as f32) < FIRST_PAST_IDS => {
            f64::from((FIRST_PAST_IDS as f32).next_up())
        }
        _ => FIRST_PAST_IDS,
    };
    let size = f.unary("abs", x);
    let fits = f.compare_to(&size, Order::Lt, first);
    // A conversion of what does not fit gives other ids on other devices.
    let zero = f.constant(0.0, &x.ty);
    let cut = f.select(&fits, x, &zero);
    let cut = f.convert(&cut, Scalar::I64);
    let none = f.constant(-1.0, &TensorType::new(x.shape(), Scalar::I64));
    f.select(&fits, &cut, &none)
}
