//! Layer and batch normalisation and their gradients. Mean and variance in two passes: E[x²] − E[x]² would lose the digits that a
//! mean of some deviations takes.

use super::text::{Function, Value};

/// What is normalised together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// Each row: layer norm.
    Last,
    /// Each feature of the last axis, over all other axes: batch norm.
    Others,
}

impl Over {
    fn axes(self, x: &Value) -> Vec<usize> {
        match self {
            Over::Last => vec![x.rank() - 1],
            Over::Others => others(x),
        }
    }
}

fn others(x: &Value) -> Vec<usize> {
    (0..x.rank() - 1).collect()
}

/// x̂ = (x − mean) / deviation, and 1 / deviation repeated to the shape of x.
fn normalized(f: &mut Function, x: &Value, axes: &[usize], eps: f64) -> (Value, Value) {
    let mean = f.mean(x, axes);
    let mean = f.spread(&mean, x, axes);
    let distance = f.sub(x, &mean);
    let square = f.mul(&distance, &distance);
    let variance = f.mean(&square, axes);
    let variance = f.plus(&variance, eps);
    let inverse = f.unary("rsqrt", &variance);
    let inverse = f.spread(&inverse, x, axes);
    (f.mul(&distance, &inverse), inverse)
}

/// x̂, times weight plus bias where there are.
pub(super) fn norm(f: &mut Function, x: &Value, affine: Option<(&Value, &Value)>, over: Over, eps: f64) -> Value {
    let (normal, _) = normalized(f, x, &over.axes(x), eps);
    let Some((weight, bias)) = affine else { return normal };
    let weight = f.along_last(weight, x);
    let bias = f.along_last(bias, x);
    let scaled = f.mul(&normal, &weight);
    f.add(&scaled, &bias)
}

/// The gradients of x and, with a weight, of weight and bias. With h = g·weight: (h − mean(h) − x̂·mean(h·x̂)) / deviation.
pub(super) fn norm_grad(
    f: &mut Function,
    (x, g): (&Value, &Value),
    weight: Option<&Value>,
    over: Over,
    eps: f64,
) -> Vec<Value> {
    let axes = over.axes(x);
    let (normal, inverse) = normalized(f, x, &axes, eps);
    let h = match weight {
        Some(weight) => {
            let weight = f.along_last(weight, x);
            f.mul(g, &weight)
        }
        None => g.clone(),
    };
    let mean = f.mean(&h, &axes);
    let mean = f.spread(&mean, x, &axes);
    let product = f.mul(&h, &normal);
    let along = f.mean(&product, &axes);
    let along = f.spread(&along, x, &axes);
    let part = f.mul(&normal, &along);
    let rest = f.sub(&h, &mean);
    let rest = f.sub(&rest, &part);
    let mut gradients = vec![f.mul(&rest, &inverse)];
    if weight.is_some() {
        let product = f.mul(g, &normal);
        gradients.push(f.sum(&product, &others(x)));
        gradients.push(f.sum(g, &others(x)));
    }
    gradients
}
