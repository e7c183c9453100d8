//! The feature map: features of the evaluation in two dimensions, to look at.
//!
//! Before: [`super::quality`] has features of the queries, or `cmaec show map` asks for them. After: `report` draws the points.
//!
//! **Invariant:** the map hangs on the features alone: nothing random, the same for any number of threads.

use std::path::Path;

use bhtsne::tSNE;
use nalgebra::DMatrix;
use serde::{Deserialize, Serialize};

use super::features::{Features, unit_row};
use super::principal::{centre, principal_axes};
use crate::run::tensor_file::{WriteError, write_json};

/// Points of a map at most: more would hide one another.
pub const MAX_POINTS: usize = 1500;
/// Neighbours that t-SNE takes a point to have, about.
const PERPLEXITY: f32 = 30.0;
/// Deviation of the points that t-SNE begins with.
const START: f64 = 1e-4;

/// L2-normalised features in the plane: their first two principal components, or by t-SNE.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureMap {
    /// Optimizer steps after which the features were made.
    pub step: u64,
    /// Features that there were; at most [`MAX_POINTS`] are shown, evenly spread over their order.
    pub rows: usize,
    /// Dimensions of a feature.
    pub dim: usize,
    /// Shares of the shown features' variance that lie along the two axes; `None` for t-SNE, whose axes mean nothing.
    pub explained: Option<[f64; 2]>,
    /// Names of the labels.
    pub classes: Vec<String>,
    /// Label (−1 without) and coordinates.
    pub points: Vec<(i64, f32, f32)>,
}

/// The map of `features: [N, D]`; `None` where there are fewer than three, or one is not finite.
pub fn feature_map(features: &Features, labels: &[i64], classes: &[String], step: u64) -> Option<FeatureMap> {
    let shown = shown(features)?;
    let (coordinates, shares) = principal(features, &shown);
    let explained = Some([0, 1].map(|axis| shares[axis]));
    let points = points(&shown, labels, |at| [0, 1].map(|axis| coordinates[(at, axis)] as f32));
    Some(FeatureMap { step, rows: features.rows, dim: features.dim, explained, classes: classes.to_vec(), points })
}

/// The same by t-SNE, which keeps neighbours together and says nothing of distances between groups: exact, by squared distances,
/// begun from the principal components, so that two maps of the same features are alike.
/// Source: van der Maaten and Hinton 2008; the start as Kobak and Berens 2019 advise.
pub fn neighbour_map(features: &Features, labels: &[i64], classes: &[String], step: u64) -> Option<FeatureMap> {
    // A perplexity is a third of the others at most, and 1 at least.
    let shown = shown(features).filter(|shown| shown.len() > 3)?;
    let perplexity = PERPLEXITY.min((shown.len() - 1) as f32 / 3.0);
    let (coordinates, _) = principal(features, &shown);
    let deviation = (coordinates.column(0).norm_squared() / shown.len() as f64).sqrt().max(f64::MIN_POSITIVE);
    let start: Vec<f32> =
        coordinates.row_iter().flat_map(|row| [row[0], row[1]].map(|x| (START * x / deviation) as f32)).collect();
    let units: Vec<Vec<f32>> = shown.iter().map(|&row| unit_row(features.row(row)).collect()).collect();
    let fit = || {
        let mut tsne: tSNE<'_, f32, Vec<f32>> = tSNE::new(&units);
        tsne.perplexity(perplexity).initial_embedding(start.clone());
        tsne.exact(|a, b| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()).embedding()
    };
    // On one thread, on which sums have one order.
    let fitted = rayon::ThreadPoolBuilder::new().num_threads(1).build().ok()?.install(fit);
    let points = points(&shown, labels, |at| [fitted[2 * at], fitted[2 * at + 1]]);
    let (rows, dim) = (features.rows, features.dim);
    Some(FeatureMap { step, rows, dim, explained: None, classes: classes.to_vec(), points })
}

/// Rows that are shown; `None` where there are fewer than three, or one is not finite.
fn shown(features: &Features) -> Option<Vec<usize>> {
    if features.rows < 3 || features.dim == 0 || features.first_not_finite().is_some() {
        return None;
    }
    let count = features.rows.min(MAX_POINTS);
    // Sources list a class after the other: even strides keep the classes' shares.
    Some((0..count).map(|i| i * features.rows / count).collect())
}

/// The first two principal components of `rows`, `[N, 2]`, and the shares of the variance along them.
fn principal(features: &Features, rows: &[usize]) -> (DMatrix<f64>, Vec<f64>) {
    let values = rows.iter().flat_map(|&row| unit_row(features.row(row))).map(f64::from);
    let mut centred = DMatrix::from_row_iterator(rows.len(), features.dim, values);
    centre(&mut centred);
    let (axes, shares) = principal_axes(&centred, 2);
    (&centred * axes, shares)
}

fn points(shown: &[usize], labels: &[i64], place: impl Fn(usize) -> [f32; 2]) -> Vec<(i64, f32, f32)> {
    let point = |(at, row): (usize, &usize)| {
        let [x, y] = place(at);
        (labels.get(*row).copied().unwrap_or(-1), x, y)
    };
    shown.iter().enumerate().map(point).collect()
}

impl FeatureMap {
    /// Writes the map to `path` as JSON.
    pub fn write(&self, path: &Path) -> Result<(), WriteError> {
        write_json(path, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Unit vectors near (1, 0, 0, 0) that spread in the second and less in the third dimension.
    fn spread() -> Features {
        let rows = 40;
        let row = |i: usize| {
            let (a, b) = ((i as f32 - 19.5) / 400.0, if i.is_multiple_of(2) { 0.01 } else { -0.01 });
            [(1.0 - a * a - b * b).sqrt(), a, b, 0.0]
        };
        Features { rows, dim: 4, data: (0..rows).flat_map(row).collect() }
    }

    #[test]
    fn the_axes_are_those_of_the_largest_variance() {
        let map = feature_map(&spread(), &[1; 40], &["a".to_owned(), "b".to_owned()], 7).expect("all are finite");
        assert_eq!((map.step, map.rows, map.dim, map.points.len()), (7, 40, 4, 40));
        for (i, (label, x, y)) in map.points.iter().enumerate() {
            let (a, b) = ((i as f32 - 19.5) / 400.0, if i.is_multiple_of(2) { 0.01 } else { -0.01 });
            assert_eq!(*label, 1);
            // 1e-3: the two are not quite uncorrelated.
            assert!((x - a).abs() < 1e-3 && (y - b).abs() < 1e-3, "{x} {a}, {y} {b}");
        }
        let [first, second] = map.explained.expect("they are components");
        assert!(first > second && first + second > 0.99);
    }

    #[test]
    fn features_that_are_all_the_same_are_one_point() {
        let map = feature_map(&Features { rows: 5, dim: 2, data: vec![1.0; 10] }, &[], &[], 0).expect("finite");
        assert_eq!(map.explained, Some([0.0; 2]));
        assert!(map.points.iter().all(|&(label, x, y)| label == -1 && x.abs() < 1e-6 && y.abs() < 1e-6));
        let broken = Features { rows: 3, dim: 1, data: vec![f32::NAN; 3] };
        assert_eq!(feature_map(&broken, &[], &[], 0), None);
        assert_eq!(feature_map(&Features::default(), &[], &[], 0), None);
    }

    /// Three groups of directions, of which each point's nearest are its own.
    #[test]
    fn neighbours_stay_together_by_t_sne() {
        let row = |i: usize| {
            let mut row = [0.02 * (i / 3) as f32 / 20.0; 6];
            row[i % 3] = 1.0;
            row[3 + i % 2] += 0.05;
            row
        };
        let features = Features { rows: 60, dim: 6, data: (0..60).flat_map(row).collect() };
        let labels: Vec<i64> = (0..60).map(|i| i % 3).collect();
        let map = neighbour_map(&features, &labels, &[], 3).expect("all are finite");
        assert_eq!((map.explained, map.points.len()), (None, 60));
        for (at, (label, x, y)) in map.points.iter().enumerate() {
            let others = map.points.iter().enumerate().filter(|(other, _)| *other != at);
            let distance = |point: &(i64, f32, f32)| {
                let (across, up) = (point.1 - x, point.2 - y);
                across * across + up * up
            };
            let nearest = others.map(|(_, point)| point).min_by(|a, b| distance(a).total_cmp(&distance(b)));
            assert_eq!(nearest.map(|point| point.0), Some(*label));
        }
        assert_eq!(neighbour_map(&features, &labels, &[], 3), Some(map), "nothing is random");
        assert_eq!(neighbour_map(&Features::default(), &[], &[], 0), None);
    }

    #[test]
    fn many_features_are_thinned_evenly() {
        let rows = 4 * MAX_POINTS + 1;
        let data = (0..rows).flat_map(|i| [1.0, i as f32 / rows as f32]).collect();
        let labels: Vec<i64> = (0..rows as i64).collect();
        let map = feature_map(&Features { rows, dim: 2, data }, &labels, &[], 0).expect("finite");
        assert_eq!((map.rows, map.points.len()), (rows, MAX_POINTS));
        assert!(map.points.windows(2).all(|pair| (4..=5).contains(&(pair[1].0 - pair[0].0))));
    }
}
