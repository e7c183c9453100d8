//! Random erasing: a box of a picture is filled.
//!
//! **Invariant:** the box is drawn as torchvision's `RandomErasing` draws it.

use super::geometry::Window;
use super::{Draw, aspect_between, between};
use crate::data::Image;
use crate::spec::Filling;

/// Attempts at a box that fits, before the picture stays as it is.
const ATTEMPTS: usize = 10;

/// Fills a box of a share of the area within `scale` and an aspect (height / width) within `ratio`.
///
/// Boxes as long as a side of the picture are drawn anew; after ten, nothing is erased.
/// Source: Zhong et al. 2020, "Random Erasing Data Augmentation", algorithm 1.
pub fn random(mut image: Image, scale: (f64, f64), ratio: (f64, f64), filling: Filling, draw: &mut dyn Draw) -> Image {
    if let Some(window) = window((image.height, image.width), scale, ratio, draw) {
        fill(&mut image, window, filling, draw);
    }
    image
}

fn window(
    (height, width): (usize, usize),
    scale: (f64, f64),
    ratio: (f64, f64),
    draw: &mut dyn Draw,
) -> Option<Window> {
    let area = (height * width) as f64;
    for _ in 0..ATTEMPTS {
        let target = area * between(scale, draw);
        let aspect = aspect_between(ratio, draw);
        let h = (target * aspect).sqrt().round_ties_even() as usize;
        let w = (target / aspect).sqrt().round_ties_even() as usize;
        if h < height && w < width {
            let top = draw.below((height - h) as u64 + 1) as usize;
            let left = draw.below((width - w) as u64 + 1) as usize;
            return Some(Window { top, left, height: h, width: w });
        }
    }
    None
}

fn fill(image: &mut Image, window: Window, filling: Filling, draw: &mut dyn Draw) {
    let (row, channels) = (image.width * image.channels, image.channels);
    for y in window.top..window.top + window.height {
        let line = &mut image.data[y * row + window.left * channels..][..window.width * channels];
        match filling {
            Filling::Level(level) => line.fill(level),
            Filling::Noise => {
                // Six levels a draw.
                for levels in line.chunks_mut(6) {
                    levels.copy_from_slice(&draw.below(1 << 48).to_le_bytes()[..levels.len()]);
                }
            }
        }
    }
}
