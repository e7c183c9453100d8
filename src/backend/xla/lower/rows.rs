//! Ops over the last axis: softmax, its logarithm, cross entropy and l2 normalisation, and their gradients.
//!
//! A row that holds NaN becomes NaN throughout: its greatest value may not be, but a sum with it is.

use super::build::{Order, Reduction};
use super::text::{Function, Scalar, Value};

fn last(x: &Value) -> [usize; 1] {
    [x.rank() - 1]
}

/// Σ over the last axis, repeated along it.
fn row_sum(f: &mut Function, x: &Value) -> Value {
    let sum = f.sum(x, &last(x));
    f.spread(&sum, x, &last(x))
}

/// x less the greatest value of its row.
fn below_greatest(f: &mut Function, x: &Value) -> Value {
    let greatest = f.reduce(x, &last(x), Reduction::Greatest);
    let greatest = f.spread(&greatest, x, &last(x));
    f.sub(x, &greatest)
}

pub(super) fn softmax(f: &mut Function, x: &Value) -> Value {
    let distance = below_greatest(f, x);
    let exponential = f.unary("exponential", &distance);
    let sum = row_sum(f, &exponential);
    f.div(&exponential, &sum)
}

pub(super) fn log_softmax(f: &mut Function, x: &Value) -> Value {
    let distance = below_greatest(f, x);
    let exponential = f.unary("exponential", &distance);
    let sum = f.sum(&exponential, &last(x));
    let log = f.unary("log", &sum);
    let log = f.spread(&log, x, &last(x));
    f.sub(&distance, &log)
}

/// y·(g − Σ g·y).
pub(super) fn softmax_grad(f: &mut Function, y: &Value, g: &Value) -> Value {
    let product = f.mul(g, y);
    let mean = row_sum(f, &product);
    let slope = f.sub(g, &mean);
    f.mul(y, &slope)
}

/// g − eʸ·Σ g.
pub(super) fn log_softmax_grad(f: &mut Function, y: &Value, g: &Value) -> Value {
    let whole = row_sum(f, g);
    let share = f.unary("exponential", y);
    let spread = f.mul(&share, &whole);
    f.sub(g, &spread)
}

/// i1 `[.., classes]`: whether the place is the id.
pub(super) fn is_id(f: &mut Function, ids: &Value, classes: usize) -> Value {
    let mut shape = ids.shape().to_vec();
    shape.push(classes);
    let places = f.iota(&shape, shape.len() - 1);
    let ids = f.broadcast(ids, &shape, &(0..ids.rank()).collect::<Vec<_>>());
    f.compare(&places, Order::Eq, &ids)
}

/// ln Σ e^(x − top) − (x[id] − top). Of an id out of range, which no row has, the last part is 0.
pub(super) fn cross_entropy(f: &mut Function, logits: &Value, ids: &Value) -> Value {
    let distance = below_greatest(f, logits);
    let exponential = f.unary("exponential", &distance);
    let sum = f.sum(&exponential, &last(logits));
    let log = f.unary("log", &sum);
    let is_id = is_id(f, ids, logits.shape()[logits.rank() - 1]);
    let zero = f.constant(0.0, &logits.ty);
    let chosen = f.select(&is_id, &distance, &zero);
    let chosen = f.sum(&chosen, &last(logits));
    f.sub(&log, &chosen)
}

/// (softmax − 1 at the id)·g.
pub(super) fn cross_entropy_grad(f: &mut Function, logits: &Value, ids: &Value, g: &Value) -> Value {
    let share = softmax(f, logits);
    let is_id = is_id(f, ids, logits.shape()[logits.rank() - 1]);
    let is_id = f.convert(&is_id, logits.scalar());
    let slope = f.sub(&share, &is_id);
    let g = f.spread(g, logits, &last(logits));
    f.mul(&slope, &g)
}

/// The least square of a norm: that of eps. The least normal number of f32 keeps the square of a tiny eps from vanishing there.
fn least_square(eps: f64) -> f64 {
    (eps * eps).max(f64::from(f32::MIN_POSITIVE))
}

/// Σ x² of each row; whether it is below the least; and the greater of both. NaN stays.
fn squares(f: &mut Function, x: &Value, eps: f64) -> (Value, Value) {
    let square = f.mul(x, x);
    let sum = f.sum(&square, &last(x));
    let least = f.constant(least_square(eps), &sum.ty);
    let is_small = f.compare(&sum, Order::Lt, &least);
    let bounded = f.select(&is_small, &least, &sum);
    (is_small, bounded)
}

/// x / max(‖x‖, eps).
pub(super) fn l2_normalize(f: &mut Function, x: &Value, eps: f64) -> Value {
    let (_, square) = squares(f, x, eps);
    let norm = f.unary("sqrt", &square);
    let norm = f.spread(&norm, x, &last(x));
    f.div(x, &norm)
}

/// (g − x·Σ g·x / ‖x‖²) / ‖x‖; below eps the norm is a constant.
pub(super) fn l2_normalize_grad(f: &mut Function, x: &Value, g: &Value, eps: f64) -> Value {
    let (is_small, square) = squares(f, x, eps);
    let product = f.mul(g, x);
    let product = f.sum(&product, &last(x));
    let along = f.div(&product, &square);
    let zero = f.constant(0.0, &along.ty);
    let along = f.select(&is_small, &zero, &along);
    let along = f.spread(&along, x, &last(x));
    let part = f.mul(x, &along);
    let rest = f.sub(g, &part);
    let norm = f.unary("sqrt", &square);
    let norm = f.spread(&norm, x, &last(x));
    f.div(&rest, &norm)
}

/// Float `[.., classes]` of ids: 1 at the id.
pub(super) fn one_hot(f: &mut Function, ids: &Value, classes: usize, scalar: Scalar) -> Value {
    let is_id = is_id(f, ids, classes);
    f.convert(&is_id, scalar)
}
