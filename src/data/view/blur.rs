//! Gaussian blur.
//!
//! **Invariant:** torchvision's on `uint8`: weights over a finite window that sum to one, the border mirrored without
//! repeating the edge, one rounding at the end.

use std::cell::RefCell;

use super::level::nearest;
use crate::data::Image;
use crate::wide::wide;

/// Radius of the window for `sigma`: what lies outside has less than 0.3 % of the weight.
pub fn radius(sigma: f64) -> usize {
    (3.0 * sigma).ceil() as usize
}

/// Blurs with standard deviation `sigma` in pixels over a window of `2 · radius + 1` pixels a side.
///
/// The mirror goes back and forth where the window is larger than the image, so that any size will do.
pub fn gaussian(mut image: Image, sigma: f64, radius: usize) -> Image {
    if sigma <= 0.0 || radius == 0 {
        return image;
    }
    let weights = weights(sigma, radius);
    let (height, width, channels) = (image.height, image.width, image.channels);
    let row_length = width * channels;
    // Rows of sums end with the last block, so that there is no part of one.
    let stride = row_length.next_multiple_of(BLOCK);
    let border = radius * channels;
    SUMS.with_borrow_mut(|sums| {
        if sums.len() < stride * height {
            sums.resize(stride * height, 0.0);
        }
        // A row with its mirrored borders, in which a tap is the whole row moved by some pixels.
        let mut row = vec![0.0; stride + 2 * border];
        for (source, target) in image.data.chunks_exact(row_length).zip(sums.chunks_exact_mut(stride)) {
            let middle = row[border..border + row_length].iter_mut().zip(source);
            middle.for_each(|(to, v)| *to = f32::from(*v));
            for at in 1..=radius {
                let beyond = [
                    (border - at * channels, -(at as isize)),
                    (border + row_length + (at - 1) * channels, (width - 1 + at) as isize),
                ];
                for (to, from) in beyond {
                    let from = border + mirror(from, width) * channels;
                    row.copy_within(from..from + channels, to);
                }
            }
            across(&row, channels, &weights, target);
        }
        let mut taps: Vec<&[f32]> = Vec::with_capacity(weights.len());
        let mut levels = vec![0; stride];
        for (row, target) in image.data.chunks_exact_mut(row_length).enumerate() {
            taps.clear();
            let seen = (0..weights.len()).map(|tap| mirror((row + tap) as isize - radius as isize, height));
            taps.extend(seen.map(|row| &sums[row * stride..][..stride]));
            down(&taps, &weights, &mut levels);
            target.copy_from_slice(&levels[..row_length]);
        }
        if sums.len() > KEPT {
            *sums = Vec::new();
        }
    });
    image
}

/// Sums between the passes that a thread keeps for the next picture: those of a side of 1,000.
const KEPT: usize = 1 << 22;

thread_local! {
    /// Sums along the rows, again and again.
    static SUMS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Values whose sums are kept in registers at once.
const BLOCK: usize = 32;

wide! {
    /// The weighted sums of `row`, which begins and ends with its borders, moved by a pixel of `channels` values for each tap.
    fn across(row: &[f32], channels: usize, weights: &[f32], sums: &mut [f32]) {
        for (at, sums) in sums.chunks_exact_mut(BLOCK).enumerate() {
            let mut block = [0.0; BLOCK];
            for (tap, weight) in weights.iter().enumerate() {
                add(&mut block, *weight, &row[at * BLOCK + tap * channels..]);
            }
            sums.copy_from_slice(&block);
        }
    }

    /// The weighted sums of rows, rounded half to even.
    fn down(rows: &[&[f32]], weights: &[f32], levels: &mut [u8]) {
        for (at, levels) in levels.chunks_exact_mut(BLOCK).enumerate() {
            let mut block = [0.0; BLOCK];
            for (row, weight) in rows.iter().zip(weights) {
                add(&mut block, *weight, &row[at * BLOCK..]);
            }
            let mut nearest_levels = [0; BLOCK];
            for at in 0..BLOCK {
                nearest_levels[at] = nearest(block[at]);
            }
            levels.copy_from_slice(&nearest_levels);
        }
    }
}

/// `weight` times each of the first values, added to the sums.
#[inline(always)]
fn add(sums: &mut [f32; BLOCK], weight: f32, values: &[f32]) {
    let values: &[f32; BLOCK] = values.first_chunk().expect("rows of sums and their borders end with a whole block");
    // By number: the sums stay in registers.
    for at in 0..BLOCK {
        sums[at] += weight * values[at];
    }
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

/// `at` folded into `0..length`; the edge itself is not repeated.
fn mirror(at: isize, length: usize) -> usize {
    if length == 1 {
        return 0;
    }
    let period = 2 * (length as isize - 1);
    let folded = at.rem_euclid(period);
    folded.min(period - folded) as usize
}
