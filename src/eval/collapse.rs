//! Figures that tell collapse: features that are all alike, or that use few of their dimensions.
//!
//! Before: [`super::features`] makes the features. After: `run` logs the figures beside the losses.
//!
//! **Invariant:** sums run in f64 and in row order, so that the figures are the same for any number of threads.

use nalgebra::DMatrix;
use rayon::prelude::*;

use super::features::{Features, unit_row};
use crate::backend::cpu::inner_products;

/// Rows that are summed up at once.
const BLOCK: usize = 1024;

/// Samples whose pairs are looked at: two million pairs tell their mean to some thousandths, and take a second.
const PAIRED: usize = 2048;
/// Of them, rows of one product.
const PART: usize = 128;

/// How much features differ between samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Collapse {
    /// Mean over dimensions of the standard deviation of the l2-normalised features: near [`Collapse::uniform_std`]
    /// for features spread over the sphere, 0 for features that are all the same (Chen & He 2021, figure 2).
    pub std: f64,
    /// 1/√D.
    pub uniform_std: f64,
    /// exp of the entropy of the normalised singular values of the features: 1 where all lie on one line through the
    /// origin, D where every direction is used alike (Roy & Vetterli 2007; of features it is RankMe, Garrido et al. 2023, but for that one's
    /// 1e-7 beside each share). 0 where all features are 0.
    pub effective_rank: f64,
    /// log of the mean over pairs of different samples of exp(−2 · squared distance of the l2-normalised features): −4 at best, 0 where
    /// all are the same (Wang & Isola 2020, t = 2). Of [`PAIRED`] samples, evenly spread, where there are more. 0 for a single one.
    pub uniformity: f64,
    /// Mean cosine between different samples: 1 for features that are all the same. 0 for a single sample.
    pub mean_cosine: f64,
}

/// The figures of `features: [N, D]`; `None` without rows or dimensions, or where a value is not finite.
pub fn collapse(features: &Features) -> Option<Collapse> {
    if features.rows == 0 || features.dim == 0 || features.first_not_finite().is_some() {
        return None;
    }
    Some(Collapse {
        std: mean_std(features),
        uniform_std: 1.0 / (features.dim as f64).sqrt(),
        effective_rank: effective_rank(features),
        uniformity: uniformity(features),
        mean_cosine: mean_cosine(features),
    })
}

/// Normalised rows; made as they are read, so that many features are not held twice.
fn unit_rows(features: &Features) -> impl Iterator<Item = impl Iterator<Item = f64> + '_> {
    (0..features.rows).map(|row| unit_row(features.row(row)).map(f64::from))
}

/// Mean over dimensions of the (biased) standard deviation over normalised rows.
fn mean_std(features: &Features) -> f64 {
    let rows = features.rows as f64;
    let means: Vec<f64> = column_sums(features).iter().map(|sum| sum / rows).collect();
    let mut squares = vec![0.0; features.dim];
    for row in unit_rows(features) {
        for ((square, x), mean) in squares.iter_mut().zip(row).zip(&means) {
            let distance = x - mean;
            *square += distance * distance;
        }
    }
    squares.iter().map(|square| (square / rows).sqrt()).sum::<f64>() / features.dim as f64
}

/// Over all ordered pairs of different rows: ‖Σ x‖² counts each pair and the squares of the rows themselves.
fn mean_cosine(features: &Features) -> f64 {
    if features.rows < 2 {
        return 0.0;
    }
    let all: f64 = column_sums(features).iter().map(|sum| sum * sum).sum();
    // A row of zeros stays zero when normalised, so that its square is 0, not 1.
    let own: f64 = unit_rows(features).flatten().map(|x| x * x).sum();
    (all - own) / (features.rows * (features.rows - 1)) as f64
}

/// Over unordered pairs, in parts of rows that are added in their order.
fn uniformity(features: &Features) -> f64 {
    let count = features.rows.min(PAIRED);
    if count < 2 {
        return 0.0;
    }
    let taken = (0..count).flat_map(|i| unit_row(features.row(i * features.rows / count)));
    let rows: Vec<f64> = taken.map(f64::from).collect();
    let squares: Vec<f64> = rows.chunks_exact(features.dim).map(|row| row.iter().map(|x| x * x).sum()).collect();
    let parts: Vec<usize> = (0..count).step_by(PART).collect();
    let of_part = |first: &usize| -> f64 {
        let part = &rows[first * features.dim..(first + PART).min(count) * features.dim];
        let mut products = vec![0.0; part.len() / features.dim * count];
        inner_products(&mut products, part, &rows, features.dim);
        let of_row = |(i, products): (usize, &[f64])| -> f64 {
            let others = (first + i + 1)..count;
            // A row of zeros stays one when normalised, so that squares are not all 1.
            others.map(|j| libm::exp(-2.0 * (squares[first + i] + squares[j] - 2.0 * products[j]))).sum()
        };
        products.chunks_exact(count).enumerate().map(of_row).sum()
    };
    let sums: Vec<f64> = parts.par_iter().map(of_part).collect();
    libm::log(sums.iter().sum::<f64>() / (count * (count - 1) / 2) as f64)
}

/// Of normalised rows.
fn column_sums(features: &Features) -> Vec<f64> {
    let mut sums = vec![0.0; features.dim];
    for row in unit_rows(features) {
        sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
    sums
}

/// Singular values are the roots of the eigenvalues of the Gram matrix, of which the smaller is taken.
fn effective_rank(features: &Features) -> f64 {
    let gram = if features.rows < features.dim { gram_of_rows(features) } else { gram_of_columns(features) };
    let eigenvalues = gram.symmetric_eigenvalues();
    let largest = eigenvalues.iter().copied().fold(0.0, f64::max);
    // Rounding leaves eigenvalues of about 1e-16 of the largest where they are 0, whose roots (1e-8) would count.
    let floor = largest * f64::EPSILON * eigenvalues.len() as f64;
    let singular: Vec<f64> = eigenvalues.iter().filter(|&&e| e > floor).map(|e| e.sqrt()).collect();
    let total: f64 = singular.iter().sum();
    if total == 0.0 {
        return 0.0;
    }
    let entropy: f64 = singular.iter().map(|s| s / total).map(|p| -p * libm::log(p)).sum();
    libm::exp(entropy)
}

/// `[N, N]`, of fewer rows than dimensions.
fn gram_of_rows(features: &Features) -> DMatrix<f64> {
    let matrix = block(features, 0, features.rows);
    &matrix * matrix.transpose()
}

/// `[D, D]`, summed up over blocks of rows: all of them in f64, and once more transposed, would be four times the features.
fn gram_of_columns(features: &Features) -> DMatrix<f64> {
    let mut gram = DMatrix::zeros(features.dim, features.dim);
    for first in (0..features.rows).step_by(BLOCK) {
        let rows = block(features, first, BLOCK.min(features.rows - first));
        gram.gemm(1.0, &rows.transpose(), &rows, 1.0);
    }
    gram
}

fn block(features: &Features, first: usize, rows: usize) -> DMatrix<f64> {
    let values = &features.data[first * features.dim..(first + rows) * features.dim];
    DMatrix::from_row_iterator(rows, features.dim, values.iter().map(|&x| f64::from(x)))
}
