//! Views: the steps that make a picture of a sample.
//!
//! **Invariant:** the result hangs on the image, the steps and the numbers drawn, and on nothing else. How many numbers
//! a step draws may depend on what it drew before, never on the time or the thread.

pub mod blur;
pub mod color;
pub mod geometry;

pub use color::normalize;

use self::geometry::{Geometry, Window};
use super::Image;
use crate::spec::{ViewOp, covering_size};

/// Attempts at a box that fits, before the central one is taken.
const CROP_ATTEMPTS: usize = 10;

/// A stream of random numbers.
pub trait Draw {
    /// Uniform over [0, 1).
    fn uniform(&mut self) -> f64;

    /// Uniform over `0..n`; `n` is not zero.
    fn below(&mut self, n: u64) -> u64;
}

/// `image` after one step; `geometry` follows where it lies in the source's picture.
///
/// # Panics
/// For `Normalize`, whose result is no 8-bit image (see [`normalize`]), and for a `Crop` or a `RandomShift` that does
/// not fit the image: the compiler rejects what it can see, and a loader must check what comes from files.
pub fn apply(op: &ViewOp, image: Image, draw: &mut dyn Draw, place: &mut Geometry) -> Image {
    let whole = (image.height, image.width);
    let cut = |place: &mut Geometry, window: Window| place.cut(window, whole);
    match op {
        ViewOp::RandomResizedCrop { size, scale, ratio, interpolation } => {
            let window = random_window(&image, *scale, *ratio, draw);
            cut(place, window);
            geometry::resized_crop(&image, window, *size, *interpolation)
        }
        ViewOp::RandomCrop { scale, ratio } => {
            let window = random_window(&image, *scale, *ratio, draw);
            cut(place, window);
            geometry::crop(&image, window)
        }
        ViewOp::Resize { size, interpolation } => geometry::resize(&image, *size, *interpolation),
        ViewOp::ResizeCover { size, interpolation } => {
            let size = covering_size((image.height, image.width), *size);
            geometry::resize(&image, size, *interpolation)
        }
        ViewOp::CenterCrop { size } => {
            let at = geometry::center_offset(&image, *size);
            place.cut_at(at, *size, whole);
            geometry::crop_padded(&image, *size, at)
        }
        ViewOp::Crop { size, at } => {
            let window = window_at(*size, *at);
            cut(place, window);
            geometry::crop(&image, window)
        }
        ViewOp::RandomShift { size, by } => {
            let mut offset = || by.0 + draw.below((by.1 - by.0) as u64 + 1) as usize;
            let window = window_at(*size, (offset(), offset()));
            cut(place, window);
            geometry::crop(&image, window)
        }
        ViewOp::RandomFlip { p } => chance(*p, draw, image, |image, _| {
            place.flip();
            geometry::flip(image)
        }),
        ViewOp::RandomApply { p, ops } => {
            chance(*p, draw, image, |image, draw| ops.iter().fold(image, |image, op| apply(op, image, draw, place)))
        }
        ViewOp::ColorJitter { brightness, contrast, saturation, hue } => {
            jitter(image, [*brightness, *contrast, *saturation, *hue], draw)
        }
        ViewOp::RandomGrayscale { p } => chance(*p, draw, image, |image, _| color::grayscale(image)),
        ViewOp::GaussianBlur { sigma } => {
            let sigma = between(*sigma, draw);
            blur::gaussian(image, sigma, blur::radius(sigma))
        }
        ViewOp::Solarize { threshold } => color::solarize(image, *threshold),
        ViewOp::Normalize { .. } => panic!("normalize ends a view: its result is not an 8-bit image"),
    }
}

/// Uniform over `range`.
pub(super) fn between(range: (f64, f64), draw: &mut dyn Draw) -> f64 {
    range.0 + (range.1 - range.0) * draw.uniform()
}

/// An aspect within `range`, whose logarithm is uniform: tall and wide are as likely.
fn aspect_between(range: (f64, f64), draw: &mut dyn Draw) -> f64 {
    libm::exp(between((libm::log(range.0), libm::log(range.1)), draw))
}

/// `f(image)` with probability `p`, else `image`; one number is drawn either way.
fn chance(p: f64, draw: &mut dyn Draw, image: Image, f: impl FnOnce(Image, &mut dyn Draw) -> Image) -> Image {
    if draw.uniform() < p { f(image, draw) } else { image }
}

fn window_at(size: (usize, usize), at: (usize, usize)) -> Window {
    Window { top: at.0, left: at.1, height: size.0, width: size.1 }
}

/// A box of a share of the area within `scale` and an aspect (width / height) within `ratio`, as torchvision draws it.
///
/// Boxes that stick out are drawn anew; after ten, it is the largest central box whose aspect lies within `ratio`.
pub fn random_window(image: &Image, scale: (f64, f64), ratio: (f64, f64), draw: &mut dyn Draw) -> Window {
    let (height, width) = (image.height, image.width);
    let area = (height * width) as f64;
    for _ in 0..CROP_ATTEMPTS {
        let target = area * between(scale, draw);
        let aspect = aspect_between(ratio, draw);
        let w = (target * aspect).sqrt().round_ties_even() as usize;
        let h = (target / aspect).sqrt().round_ties_even() as usize;
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            let top = draw.below((height - h) as u64 + 1) as usize;
            let left = draw.below((width - w) as u64 + 1) as usize;
            return Window { top, left, height: h, width: w };
        }
    }
    let aspect = width as f64 / height as f64;
    // At least one pixel: an aspect far outside of `ratio` may round a side to nothing.
    let rounded = |v: f64, limit: usize| (v.round_ties_even() as usize).clamp(1, limit);
    let (h, w) = if aspect < ratio.0 {
        (rounded(width as f64 / ratio.0, height), width)
    } else if aspect > ratio.1 {
        (height, rounded(height as f64 * ratio.1, width))
    } else {
        (height, width)
    };
    Window { top: (height - h) / 2, left: (width - w) / 2, height: h, width: w }
}

/// Brightness, contrast, saturation and hue by `strengths`, in an order that is drawn.
///
/// Order and all four factors are drawn even where a strength is zero: changing one leaves the draws of the others.
fn jitter(image: Image, strengths: [f64; 4], draw: &mut dyn Draw) -> Image {
    let mut order = [0, 1, 2, 3];
    for last in (1..order.len()).rev() {
        order.swap(last, draw.below(last as u64 + 1) as usize);
    }
    let mut amounts = [0.0; 4];
    for (index, (amount, strength)) in amounts.iter_mut().zip(strengths).enumerate() {
        let range = if index == 3 { (-strength, strength) } else { ((1.0 - strength).max(0.0), 1.0 + strength) };
        *amount = between(range, draw);
    }
    order.into_iter().filter(|&index| strengths[index] > 0.0).fold(image, |image, index| {
        let step = [color::brightness, color::contrast, color::saturation, color::hue][index];
        step(image, amounts[index])
    })
}
