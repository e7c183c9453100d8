//! Gaussian blur.
//!
//! **Invariant:** torchvision's on `uint8`: weights over a finite window that sum to one, the border mirrored without
//! repeating the edge, one rounding at the end.

use crate::data::Image;

/// Radius of the window for `sigma`: what lies outside has less than 0.3 % of the weight.
pub fn radius(sigma: f64) -> usize {
    (3.0 * sigma).ceil() as usize
}

/// Blurs with standard deviation `sigma` in pixels over a window of `2 · radius + 1` pixels a side.
///
/// The mirror goes back and forth where the window is larger than the image, so that any size will do.
pub fn gaussian(image: Image, sigma: f64, radius: usize) -> Image {
    if sigma <= 0.0 || radius == 0 {
        return image;
    }
    let weights = weights(sigma, radius);
    let (height, width, channels) = (image.height, image.width, image.channels);
    let row_length = width * channels;
    let across: Vec<Vec<usize>> = (0..width).map(|column| taps(column, radius, width)).collect();
    let mut rows = vec![0.0f32; image.data.len()];
    for (source, target) in image.data.chunks_exact(row_length).zip(rows.chunks_exact_mut(row_length)) {
        for (taps, pixel) in across.iter().zip(target.chunks_exact_mut(channels)) {
            for (channel, value) in pixel.iter_mut().enumerate() {
                let seen = taps.iter().map(|tap| f32::from(source[tap * channels + channel]));
                *value = weights.iter().zip(seen).map(|(w, v)| w * v).sum();
            }
        }
    }
    let mut sums = vec![0.0f32; row_length];
    let mut data = Vec::with_capacity(image.data.len());
    for row in 0..height {
        sums.fill(0.0);
        for (weight, tap) in weights.iter().zip(taps(row, radius, height)) {
            let source = &rows[tap * row_length..][..row_length];
            sums.iter_mut().zip(source).for_each(|(sum, v)| *sum += weight * v);
        }
        data.extend(sums.iter().map(|v| v.round_ties_even() as u8));
    }
    image.with_data(data)
}

/// `2 · radius + 1` weights that sum to one.
fn weights(sigma: f64, radius: usize) -> Vec<f32> {
    let at = |i: usize| {
        let distance = (i as f64 - radius as f64) / sigma;
        libm::exp(-0.5 * distance * distance)
    };
    let raw: Vec<f64> = (0..=2 * radius).map(at).collect();
    let sum: f64 = raw.iter().sum();
    raw.into_iter().map(|w| (w / sum) as f32).collect()
}

/// Where the window around `centre` reads in a line of `length`.
fn taps(centre: usize, radius: usize, length: usize) -> Vec<usize> {
    (0..=2 * radius).map(|i| mirror((centre + i) as isize - radius as isize, length)).collect()
}

/// `at` folded into `0..length`; the edge itself is not repeated.
fn mirror(at: isize, length: usize) -> usize {
    if length == 1 {
        return 0;
    }
    let period = 2 * (length as isize - 1);
    let folded = at.rem_euclid(period);
    folded.min(period - folded) as usize
}
