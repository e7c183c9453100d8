//! Weights of cubic interpolation, the same for every backend.

/// Keys' parameter as PyTorch has it; Pillow's antialiased kernel, which resizes pictures, has −0.5.
const A: f64 = -0.75;

/// `[to, from]`, row by row: value i of the result is the weighted sum of four neighbours of `(i + ½)·from/to − ½`, border
/// values repeated.
///
/// Source: Keys 1981; as `torch.nn.functional.interpolate(mode="bicubic", align_corners=False)` on one axis, by size.
pub fn cubic_weights(from: usize, to: usize) -> Vec<f64> {
    let mut weights = vec![0.0; to * from];
    for (i, row) in weights.chunks_exact_mut(from).enumerate() {
        let place = (i as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        let first = place.floor();
        for offset in -1..=2 {
            let neighbour = (first as i64 + offset).clamp(0, from as i64 - 1);
            row[neighbour as usize] += kernel(place - first - offset as f64);
        }
    }
    weights
}

fn kernel(x: f64) -> f64 {
    let x = x.abs();
    if x <= 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_add_up_and_equal_sizes_change_nothing() {
        for (from, to) in [(14, 6), (4, 2), (3, 7), (1, 5)] {
            for row in cubic_weights(from, to).chunks(from) {
                assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-14, "{from} → {to}: {row:?}");
            }
        }
        let same = cubic_weights(3, 3);
        assert!(same.iter().enumerate().all(|(i, w)| (w - f64::from(u8::from(i % 4 == 0))).abs() < 1e-15), "{same:?}");
    }

    /// Half the size: the place lies midway between two values, whose neighbours weigh −0.09375 each.
    #[test]
    fn four_to_two_is_pytorchs() {
        let weights = cubic_weights(4, 2);
        let expected = [0.5 - 0.0, 0.59375, -0.09375, 0.0];
        assert!(weights[..4].iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-15), "{weights:?}");
    }
}
