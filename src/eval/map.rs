//! The feature map: features of the evaluation in two dimensions, to look at.
//!
//! Before: [`super::quality`] has features of the queries. After: `report` draws the points.
//!
//! **Invariant:** the map hangs on the features alone: nothing random, the same for any number of threads.

use std::path::Path;

use nalgebra::DMatrix;
use serde::{Deserialize, Serialize};

use super::features::{Features, unit_row};
use super::principal::{centre, principal_axes};
use crate::run::tensor_file::{WriteError, write_json};

/// Points of a map at most: more would hide one another.
pub const MAX_POINTS: usize = 1500;

/// First two principal components of l2-normalised features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureMap {
    /// Optimizer steps after which the features were made.
    pub step: u64,
    /// Features that there were; at most [`MAX_POINTS`] are shown, evenly spread over their order.
    pub rows: usize,
    /// Dimensions of a feature.
    pub dim: usize,
    /// Shares of the shown features' variance that lie along the two axes.
    pub explained: [f64; 2],
    /// Names of the labels.
    pub classes: Vec<String>,
    /// Label (−1 without) and coordinates.
    pub points: Vec<(i64, f32, f32)>,
}

/// The map of `features: [N, D]`; `None` where there are fewer than three, or one is not finite.
pub fn feature_map(features: &Features, labels: &[i64], classes: &[String], step: u64) -> Option<FeatureMap> {
    if features.rows < 3 || features.dim == 0 || features.first_not_finite().is_some() {
        return None;
    }
    let count = features.rows.min(MAX_POINTS);
    // Sources list a class after the other: even strides keep the classes' shares.
    let shown: Vec<usize> = (0..count).map(|i| i * features.rows / count).collect();
    let values = shown.iter().flat_map(|&row| unit_row(features.row(row))).map(f64::from);
    let mut centred = DMatrix::from_row_iterator(count, features.dim, values);
    centre(&mut centred);
    let (axes, shares) = principal_axes(&centred, 2);
    let explained = [0, 1].map(|axis| shares[axis]);
    let coordinates = &centred * axes;
    let point = |(at, &row): (usize, &usize)| {
        let label = labels.get(row).copied().unwrap_or(-1);
        (label, coordinates[(at, 0)] as f32, coordinates[(at, 1)] as f32)
    };
    let points = shown.iter().enumerate().map(point).collect();
    Some(FeatureMap { step, rows: features.rows, dim: features.dim, explained, classes: classes.to_vec(), points })
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
        assert!(map.explained[0] > map.explained[1] && map.explained[0] + map.explained[1] > 0.99);
    }

    #[test]
    fn features_that_are_all_the_same_are_one_point() {
        let map = feature_map(&Features { rows: 5, dim: 2, data: vec![1.0; 10] }, &[], &[], 0).expect("finite");
        assert_eq!(map.explained, [0.0; 2]);
        assert!(map.points.iter().all(|&(label, x, y)| label == -1 && x.abs() < 1e-6 && y.abs() < 1e-6));
        let broken = Features { rows: 3, dim: 1, data: vec![f32::NAN; 3] };
        assert_eq!(feature_map(&broken, &[], &[], 0), None);
        assert_eq!(feature_map(&Features::default(), &[], &[], 0), None);
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
