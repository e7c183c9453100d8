//! Raw pixels as features: what a learned feature has to beat.
//!
//! Before: `data` makes batches of the evaluation view. After: [`super::quality`] judges them as it does a model's.
//!
//! **Invariant:** small pictures stay as they are; of large ones each value is the mean of an area, so that memory and time do not
//! grow with the view's size.

use super::features::{FeaturesError, Made, each};
use crate::data::DataError;
use crate::data::evaluation::EvalBatch;
use crate::tensor::{HostTensor, InputValue};

/// The longest side that stays. Digits and `shapes` do; of ImageNet's pictures a row is 3,072 values, where the 150,528 of 224 × 224
/// would take 30 GB for 50,000 queries, and are no nearer to each other for it.
const LONGEST: usize = 32;

/// What pictures of (height, width) are pooled to.
pub fn pooled_size((height, width): (usize, usize)) -> (usize, usize) {
    (height.min(LONGEST), width.min(LONGEST))
}

/// The pictures of input `input`, pooled and flattened. To `sink`, batch by batch.
pub fn raw_pixels<X: From<FeaturesError>>(
    input: &str,
    batches: impl Iterator<Item = Result<EvalBatch, DataError>>,
    sink: impl FnMut(Made) -> Result<(), X>,
) -> Result<(), X> {
    let of = |batch, inputs: &[(String, InputValue)]| match inputs.iter().find(|(name, _)| name == input) {
        Some((_, InputValue::Float(HostTensor { shape, data }))) => match shape[..] {
            [rows, channels, height, width] => {
                let data = pool(data, (height, width), pooled_size((height, width)));
                let (height, width) = pooled_size((height, width));
                Ok(HostTensor { shape: vec![rows, channels * height * width], data })
            }
            _ => Err(FeaturesError::Pictures { name: input.to_owned(), found: shape.clone() }),
        },
        Some((_, InputValue::Double(_) | InputValue::Levels(_))) => {
            Err(FeaturesError::Output { name: input.to_owned(), found: "no picture".to_owned() })
        }
        Some((_, InputValue::Int(tensor))) => {
            Err(FeaturesError::Output { name: input.to_owned(), found: format!("int {:?}", tensor.shape) })
        }
        None => {
            let there: Vec<&str> = inputs.iter().map(|(name, _)| name.as_str()).collect();
            Err(FeaturesError::NoInput { batch, name: input.to_owned(), there: there.join(", ") })
        }
    };
    each(batches, of, sink)
}

/// Planes of `from` (height, width), one after the other, as planes of `to`, no larger: each value is the mean of its share of the
/// plane's area, in which pixels on its border count by what lies inside.
pub fn pool(planes: &[f32], from: (usize, usize), to: (usize, usize)) -> Vec<f32> {
    if from == to || from.0 * from.1 == 0 {
        return planes.to_vec();
    }
    let (rows, columns) = (shares(from.0, to.0), shares(from.1, to.1));
    let mut pooled = Vec::with_capacity(planes.len() / (from.0 * from.1) * to.0 * to.1);
    for plane in planes.chunks_exact(from.0 * from.1) {
        for row in &rows {
            for column in &columns {
                let of_row = |(y, share): &(usize, f64)| -> f64 {
                    let line = &plane[y * from.1..(y + 1) * from.1];
                    share * column.iter().map(|(x, share)| share * f64::from(line[*x])).sum::<f64>()
                };
                pooled.push(row.iter().map(of_row).sum::<f64>() as f32);
            }
        }
    }
    pooled
}

/// For each of `to` equal parts of a line of `from` pixels, the pixels that it covers and their shares of it.
fn shares(from: usize, to: usize) -> Vec<Vec<(usize, f64)>> {
    // In units of 1/to of a pixel: part i goes from i·from to (i + 1)·from, pixel x from x·to to (x + 1)·to.
    let of = |part: usize| {
        let (start, end) = (part * from, (part + 1) * from);
        let share = move |x: usize| (end.min((x + 1) * to) - start.max(x * to)) as f64 / from as f64;
        (start / to..end.div_ceil(to)).map(|x| (x, share(x))).collect()
    };
    (0..to).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_means_of_areas() {
        // Two planes of 3 × 4 as 2 × 2: the middle row counts half in both.
        let plane: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let both: Vec<f32> = plane.iter().copied().chain(plane.iter().map(|x| -x)).collect();
        let expected = [(0.0 + 1.0 + (4.0 + 5.0) / 2.0) / 3.0, (2.0 + 3.0 + (6.0 + 7.0) / 2.0) / 3.0];
        let lower = [(8.0 + 9.0 + (4.0 + 5.0) / 2.0) / 3.0, (10.0 + 11.0 + (6.0 + 7.0) / 2.0) / 3.0];
        let found = pool(&both, (3, 4), (2, 2));
        for (i, value) in expected.into_iter().chain(lower).enumerate() {
            assert!((found[i] - value).abs() < 1e-6 && (found[4 + i] + value).abs() < 1e-6, "{found:?}");
        }
        assert_eq!(pool(&plane, (3, 4), (3, 4)), plane);
    }

    #[test]
    fn a_plane_of_one_value_stays_one_and_small_ones_stay() {
        for side in [33, 47, 224, 1000] {
            let to = pooled_size((side, 40));
            assert_eq!(to, (32, 32));
            let found = pool(&vec![0.7; side * 40], (side, 40), to);
            assert!(found.len() == 1024 && found.iter().all(|x| (x - 0.7).abs() < 1e-6), "{side}");
        }
        assert_eq!((pooled_size((28, 28)), pooled_size((8, 100))), ((28, 28), (8, 32)));
    }
}
