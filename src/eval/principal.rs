//! Principal components.
//!
//! **Invariant:** nothing random, the same for any number of threads.

use nalgebra::{DMatrix, SymmetricEigen};

/// Directions that are followed at least, and how often: the error falls with the ratio of the last followed variance to that of the last
/// wanted, to the power of twice the rounds (Halko et al. 2011).
const DIRECTIONS: usize = 10;
const ROUNDS: usize = 20;

/// Takes its mean off each column.
pub(super) fn centre(rows: &mut DMatrix<f64>) {
    for mut column in rows.column_iter_mut() {
        let mean = column.mean();
        column.add_scalar_mut(-mean);
    }
}

/// The `count` directions of largest variance of centred rows, `[D, count]`, and their shares of it, by subspace iteration: a full
/// decomposition of `D` = 1024 would take longer than a small evaluation. Zeros where there are fewer directions.
pub(super) fn principal_axes(centred: &DMatrix<f64>, count: usize) -> (DMatrix<f64>, Vec<f64>) {
    let (rows, dim) = centred.shape();
    let total: f64 = centred.iter().map(|x| x * x).sum();
    let directions = DIRECTIONS.max(2 * count).min(dim).min(rows);
    // Any start that lies askew to the answer serves: a fixed one keeps maps the same.
    let start = DMatrix::from_fn(dim, directions, |i, j| ((i * directions + j) as f64 * 0.754_877_666).fract() - 0.5);
    let mut basis = start.qr().q();
    for _ in 0..ROUNDS {
        basis = (centred.transpose() * (centred * &basis)).qr().q();
    }
    let inside = centred * &basis;
    let eigen = SymmetricEigen::new(inside.transpose() * &inside);
    let mut order: Vec<usize> = (0..directions).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
    let mut axes = DMatrix::zeros(dim, count);
    let mut explained = vec![0.0; count];
    for (axis, &at) in order.iter().take(count).enumerate() {
        let direction = &basis * eigen.eigenvectors.column(at);
        // A direction has no sign of its own: the largest entry is made positive, so that maps do not flip by chance.
        let sign = if direction[direction.icamax()] < 0.0 { -1.0 } else { 1.0 };
        axes.set_column(axis, &(direction * sign));
        explained[axis] = if total > 0.0 { eigen.eigenvalues[at].max(0.0) / total } else { 0.0 };
    }
    (axes, explained)
}
