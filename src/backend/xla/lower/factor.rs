//! The logarithm of the determinant of symmetric positive definite matrices, and its gradient, by Cholesky's factor.
//!
//! What a plugin makes of a matrix without a factor differs: a value on the diagonal that is not above 0 counts as NaN here.

use super::build::{Contraction, Order};
use super::text::{Function, Value};

/// The lower factor of (x + xᵀ) / 2, the places of its diagonal, and the axes of its rows and columns.
fn factor(f: &mut Function, x: &Value) -> (Value, Value, [usize; 2]) {
    let axes = [x.rank() - 2, x.rank() - 1];
    let mut order: Vec<usize> = (0..x.rank()).collect();
    order.swap(axes[0], axes[1]);
    let turned = f.transpose(x, &order);
    let sum = f.add(x, &turned);
    let symmetric = f.times(&sum, 0.5);
    let lower = f.cholesky(&symmetric);
    let (rows, columns) = (f.iota(x.shape(), axes[0]), f.iota(x.shape(), axes[1]));
    (lower, f.compare(&rows, Order::Eq, &columns), axes)
}

/// 2 · Σ ln of the factor's diagonal.
pub(super) fn log_det(f: &mut Function, x: &Value) -> Value {
    let (lower, is_diagonal, axes) = factor(f, x);
    let zero = f.constant(0.0, &lower.ty);
    let diagonal = f.select(&is_diagonal, &lower, &zero);
    let diagonal = f.sum(&diagonal, &axes[1..]);
    let nan = f.constant(f64::NAN, &diagonal.ty);
    let is_positive = f.compare_to(&diagonal, Order::Gt, 0.0);
    let diagonal = f.select(&is_positive, &diagonal, &nan);
    let log = f.unary("log", &diagonal);
    let sum = f.sum(&log, &axes[..1]);
    f.times(&sum, 2.0)
}

/// g · mᵀ·m, where m is the inverse of the factor.
pub(super) fn log_det_grad(f: &mut Function, x: &Value, g: &Value) -> Value {
    let (lower, is_diagonal, [rows, columns]) = factor(f, x);
    let identity = f.convert(&is_diagonal, x.scalar());
    let inverse = f.lower_solve(&lower, &identity);
    let batch: Vec<usize> = (0..rows).collect();
    let how = Contraction { batch: [&batch, &batch], over: [rows, rows] };
    let product = f.dot(&inverse, &inverse, how, x.scalar());
    let g = f.spread(g, x, &[rows, columns]);
    f.mul(&product, &g)
}
