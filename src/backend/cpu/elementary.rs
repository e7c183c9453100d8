//! Exponentials and what is made of them in f32, without a branch or a call, so that a loop over them becomes vectors.
//!
//! The ways are the textbook's: an argument is brought near 0 by a multiple of ln 2 held in two parts (Cody & Waite 1980,
//! "Software Manual for the Elementary Functions"), where a polynomial is enough. The coefficients are minimax for the
//! relative error, found by Remez' exchange on values of 40 digits and rounded to f32; the error named with each is that
//! of the exact polynomial. Products and sums are rounded apart, so that every machine gives the same bits; or together, where the
//! machine has an instruction for it, in what is coarse: one without computes the same bits by a call, slowly.
//!
//! | function | greatest error found, in units of the last place |
//! |---|---|
//! | [`exp`] | 1, also where the result is subnormal |
//! | [`coarse_exp2`] | from −126 to 0 it is off by 2⁻¹⁷ of itself at most, and made for what is rounded to bf16, by 2⁻⁹ |
//! | [`ln`] | 1 |
//! | [`sigmoid`] | 3 |
//! | [`tanh`] | 3 |
//! | [`normal`], Φ | 4 from 0 on; 7 + x²/2 below, where the tail takes the rounding of x² with it |
//! | [`normal`], φ | 3 + x²/2 |
//! | [`coarse_normal`] | the tail is off by 2⁻¹⁴ of itself at most, made for the same |
//!
//! **Invariant:** NaN stays NaN.

/// The polynomial with these coefficients, the constant first.
#[inline(always)]
fn polynomial<const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut sum = coefficients[N - 1];
    for i in (0..N - 1).rev() {
        sum = sum * x + coefficients[i];
    }
    sum
}

/// The same, each product rounded together with its sum.
#[inline(always)]
fn fused_polynomial<const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut sum = coefficients[N - 1];
    for i in (0..N - 1).rev() {
        sum = sum.mul_add(x, coefficients[i]);
    }
    sum
}

/// 1.5 · 2²³: a float of this size has no bits behind the point, so that adding it rounds to the nearest whole number, which
/// then stands in its lowest bits.
const ROUNDER: f32 = 12_582_912.0;
/// ln 2 in two parts; the first has so few bits that its product with an exponent is exact.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// x = r + n · ln 2 with |r| ≤ ln 2 / 2, as (eʳ − 1, n).
#[inline(always)]
fn reduced(x: f32) -> (f32, i32) {
    let shifted = x * std::f32::consts::LOG2_E + ROUNDER;
    let n = shifted - ROUNDER;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    // (eʳ − 1 − r) / r², to 3.1e-9 of eʳ.
    let rest = polynomial(r, [0.499_999_94, 0.166_665_21, 0.041_668_39, 0.008_368_717, 0.001_381_459_9]);
    // Of a NaN the bits say nothing, but then the first part is NaN too.
    (r + r * r * rest, (shifted.to_bits() as i32).wrapping_sub(ROUNDER.to_bits() as i32))
}

/// 2ⁿ of a normal number's exponent.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) << 23) as u32)
}

#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Beyond these everything is ∞ or 0, and the exponent of either half of 2ⁿ below is a normal number's.
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -104.0 { -104.0 } else { x };
    let (fraction, n) = reduced(x);
    let half = n >> 1;
    (1.0 + fraction) * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// 2^x of x up to 0, for what is rounded to bf16; below −126, something less than 10⁻³⁷.
#[inline(always)]
pub(super) fn coarse_exp2(x: f32) -> f32 {
    let exponent = if x < -126.0 { -126.0 } else { x };
    let shifted = exponent + ROUNDER;
    let r = exponent - (shifted - ROUNDER);
    // 2ʳ for |r| ≤ ½, to 2.6e-6 of it.
    let fraction = fused_polynomial(r, [0.999_999_3, 0.693_121_8, 0.240_247_44, 0.055_917_86, 0.009_570_102]);
    fraction * power_of_two((shifted.to_bits() as i32).wrapping_sub(ROUNDER.to_bits() as i32))
}

/// 1/x of x from 1 to 2⁶⁰, to 6.6e-6 of it: two steps of Newton's from a guess that negates the exponent, and is off by a twentieth.
#[inline(always)]
fn coarse_reciprocal(x: f32) -> f32 {
    let guess = f32::from_bits(0x7ef3_11c7_u32.wrapping_sub(x.to_bits()));
    let nearer = guess.mul_add((-x).mul_add(guess, 1.0), guess);
    nearer.mul_add((-x).mul_add(nearer, 1.0), nearer)
}

/// The natural logarithm: −∞ at 0, NaN below.
#[inline(always)]
pub(super) fn ln(x: f32) -> f32 {
    let is_small = x < f32::MIN_POSITIVE;
    let normal = if is_small { x * 8_388_608.0 } else { x };
    // Counted from √½, so that what is left lies in [√½, √2).
    let bits = normal.to_bits() as i32;
    let exponent = bits.wrapping_sub(std::f32::consts::FRAC_1_SQRT_2.to_bits() as i32) >> 23;
    let f = f32::from_bits(bits.wrapping_sub(exponent << 23) as u32) - 1.0;
    let exponent = (exponent - if is_small { 23 } else { 0 }) as f32;
    // (ln(1 + f) − f + f²/2) / f³, to 5.8e-9 of ln(1 + f).
    let rest = polynomial(
        f,
        [
            0.333_333_3,
            -0.250_008_23,
            0.200_012_25,
            -0.166_232_93,
            0.142_017_36,
            -0.131_608_43,
            0.127_620_71,
            -0.076_332_755,
        ],
    );
    let square = f * f;
    let low = (square * f) * rest + exponent * LN_2_LOW - 0.5 * square;
    let value = (f + low) + exponent * LN_2_HIGH;
    let value = if x == f32::INFINITY { x } else { value };
    let beyond = if x == 0.0 { f32::NEG_INFINITY } else { f32::NAN };
    if x > 0.0 { value } else { beyond }
}

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    let e = exp(-x.abs());
    let above = 1.0 / (1.0 + e);
    if x < 0.0 { e * above } else { above }
}

#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    // (e²ˣ − 1) / (e²ˣ + 1), which is 1 to the last bit long before 10.
    let double = x.abs() * 2.0;
    let double = if double > 20.0 { 20.0 } else { double };
    let (fraction, n) = reduced(double);
    let scale = power_of_two(n);
    let less_one = scale * fraction + (scale - 1.0);
    (less_one / (less_one + 2.0)).copysign(x)
}

/// Φ(x) and φ(x), cumulative and density of the standard normal distribution: what GELU and its slope are made of. Where they
/// are less than the least normal number they are 0.
#[inline(always)]
pub(super) fn normal(x: f32) -> (f32, f32) {
    let distance = x.abs();
    let exponent = -0.5 * (distance * distance);
    let (fraction, n) = reduced(exponent);
    // Below −87 a part of 2ⁿ would not be a normal number, nor would what is made of it here: 0, where `exp` takes two steps.
    let e = if exponent < -87.0 { 0.0 } else { (1.0 + fraction) * power_of_two(n) };
    // The tail beyond |x| is e^(−x²/2) times a function that falls slowly, here by powers of 1 / (1 + 0.35 |x|) as in Abramowitz
    // & Stegun 1964, 7.1.26; to 3.2e-8 of the tail, down to where it vanishes in f32.
    let t = 1.0 / (1.0 + 0.35 * distance);
    let tail = e
        * t
        * polynomial(
            t,
            [
                0.139_621_3,
                0.139_863_5,
                0.119_821_32,
                0.105_552_375,
                -0.023_212_014,
                0.159_319_13,
                -0.255_838_45,
                0.144_030_63,
                -0.029_157_821,
            ],
        );
    // 1/√(2π)
    (if x < 0.0 { tail } else { 1.0 - tail }, 0.398_942_3 * e)
}

/// The same for what is rounded to bf16: the tail to 2⁻¹⁴ of itself.
#[inline(always)]
pub(super) fn coarse_normal(x: f32) -> (f32, f32) {
    let distance = x.abs();
    // e^(−x²/2) as a power of 2: ½ log₂ e.
    let e = coarse_exp2(distance * distance * -0.721_347_5);
    // Where the tail is less than any number of f32, its slow factor is no matter.
    let distance = if distance > 16.0 { 16.0 } else { distance };
    let t = coarse_reciprocal(distance.mul_add(0.38, 1.0));
    let tail = e * t * fused_polynomial(t, [0.151_225_13, 0.157_829_45, 0.091_979_81, 0.188_876_39, -0.089_928_314]);
    (if x < 0.0 { tail } else { 1.0 - tail }, 0.398_942_3 * e)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wide::{at_each_level, wide};

    /// Every 997th float: some 8,000 of each power of two, subnormal ones, infinities and NaN among them.
    fn floats() -> impl Iterator<Item = f32> {
        let special = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 0.0, -0.0, f32::MAX, f32::MIN_POSITIVE];
        (0..=u32::MAX / 997).map(|i| f32::from_bits(i * 997)).chain(special)
    }

    /// The greatest error beyond `allowed` at each float, both in units of the last place of `exact`.
    fn check(name: &str, found: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64, allowed: impl Fn(f64) -> f64) {
        for x in floats() {
            let (found, exact) = (found(x), exact(f64::from(x)));
            let rounded = exact as f32;
            if !rounded.is_finite() || exact == 0.0 {
                // The greatest float is a rounding away from ∞.
                let fits =
                    found.to_bits() == rounded.to_bits() || found == f32::MAX || rounded.is_nan() && found.is_nan();
                assert!(fits, "{name}({x:e}) = {found:e}, not {rounded:e}");
                continue;
            }
            let above = f32::from_bits(rounded.abs().max(f32::MIN_POSITIVE).to_bits() + 1);
            let unit = f64::from(above) - f64::from(rounded.abs().max(f32::MIN_POSITIVE));
            let error = (f64::from(found) - exact).abs() / unit;
            assert!(error <= allowed(f64::from(x)), "{name}({x:e}) = {found:e}, not {exact:e}: {error} units");
        }
    }

    #[test]
    fn errors_are_those_of_the_table() {
        check("exp", exp, f64::exp, |_| 1.0);
        check("ln", ln, f64::ln, |_| 1.0);
        check("tanh", tanh, f64::tanh, |_| 3.0);
        // In f64, too, e⁻ˣ would be ∞ where the result is not 0 yet.
        check(
            "sigmoid",
            sigmoid,
            |x| if x < 0.0 { x.exp() / (1.0 + x.exp()) } else { 1.0 / (1.0 + (-x).exp()) },
            |_| 3.0,
        );
        // Beyond 13.1 both are less than the least normal number, 2²³ units, and may be 0.
        let of_square = |x: f64| if x.abs() > 13.1 { 8_388_608.0 } else { x * x / 2.0 };
        let phi = |x: f64| 0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2);
        check("Φ", |x| normal(x).0, phi, |x| if x < 0.0 { 7.0 + of_square(x) } else { 4.0 });
        let density = |x: f64| (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
        check("φ", |x| normal(x).1, density, |x| 3.0 + of_square(x));
    }

    /// As the table says, where it is used; what is not a number stays so.
    #[test]
    fn what_is_coarse_is_nearer_than_bf16() {
        let mut most = 0.0_f64;
        for x in floats().filter(|x| (-126.0..=0.0).contains(x)) {
            let exact = f64::from(x).exp2();
            most = most.max((f64::from(coarse_exp2(x)) - exact).abs() / exact);
        }
        assert!(most <= 2.0_f64.powi(-17), "{most:e}");
        let mut of_tail = 0.0_f64;
        for x in floats().filter(|x| (-13.0..0.0).contains(x)) {
            let exact = 0.5 * libm::erfc(f64::from(-x) * std::f64::consts::FRAC_1_SQRT_2);
            of_tail = of_tail.max((f64::from(coarse_normal(x).0) - exact).abs() / exact);
            assert!((coarse_normal(-x).0 - (1.0 - coarse_normal(x).0)).abs() <= f32::EPSILON);
        }
        assert!(of_tail <= 2.0_f64.powi(-14), "{of_tail:e}");
        assert!(coarse_normal(f32::NAN).0.is_nan() && coarse_normal(f32::INFINITY).0 == 1.0);
        assert!(coarse_exp2(f32::NAN).is_nan() && coarse_exp2(0.0) <= 1.0);
        assert!((0.0..1e-37).contains(&coarse_exp2(-127.0)) && (0.0..1e-37).contains(&coarse_exp2(f32::NEG_INFINITY)));
    }

    wide! {
        fn each(x: &[f32], out: &mut [[f32; 9]]) {
            for (out, x) in out.iter_mut().zip(x) {
                let (below, density) = normal(*x);
                let (roughly_below, rough_density) = coarse_normal(*x);
                let fine = [exp(*x), ln(*x), tanh(*x), sigmoid(*x), below, density];
                out[..6].copy_from_slice(&fine);
                out[6..].copy_from_slice(&[coarse_exp2(*x), roughly_below, rough_density]);
            }
        }
    }

    #[test]
    fn levels_give_the_same_bits() {
        let x: Vec<f32> = floats().step_by(17).collect();
        let mut first = None;
        at_each_level(|level| {
            let mut out = vec![[0.0; 9]; x.len()];
            each(&x, &mut out);
            // Which of its bits a NaN has is the machine's to choose.
            let bits = |value: &f32| if value.is_nan() { f32::NAN.to_bits() } else { value.to_bits() };
            let bits: Vec<u32> = out.iter().flatten().map(bits).collect();
            assert!(first.get_or_insert_with(|| bits.clone()) == &bits, "{level:?}");
        });
    }
}
