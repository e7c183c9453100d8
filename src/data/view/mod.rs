//! Views: the steps that make a picture of a sample.
//!
//! **Invariant:** the result hangs on the image, the steps and the numbers drawn, and on nothing else. How many numbers
//! a step draws may depend on what it drew before, never on the time or the thread.

pub mod affine;
pub mod augment;
pub mod blur;
pub mod color;
mod erase;
pub mod geometry;
mod level;
pub mod tone;

pub use color::{normalize, planes};

use std::borrow::Cow;

use self::augment::Magnitude;
use self::geometry::{Geometry, Window};
use super::Image;
use crate::spec::{Interpolation, MAX_PIXELS, ViewOp, covering_size};

/// Pixels up to which a picture is resized as a whole before a window is cut out of it, which is torchvision's way to the last
/// bit; a window of its own is off by a rounding here and there.
const WHOLE_PIXELS: usize = 1 << 24;

/// Attempts at a box that fits, before the central one is taken.
const CROP_ATTEMPTS: usize = 10;

/// A stream of random numbers.
pub trait Draw {
    /// Uniform over [0, 1).
    fn uniform(&mut self) -> f64;

    /// Uniform over `0..n`; `n` is not zero.
    fn below(&mut self, n: u64) -> u64;
}

/// `image` after `steps`; `place` follows where it lies in the source's picture. One that is only lent is not copied where a step
/// makes another of a part of it.
///
/// # Errors
/// Where the image is too small for a step that cuts a window out of it, or would become too large.
///
/// # Panics
/// For `Normalize`, whose result is no 8-bit image: see [`normalize`].
pub fn apply(
    steps: &[ViewOp],
    image: Cow<'_, Image>,
    draw: &mut dyn Draw,
    place: &mut Geometry,
) -> Result<Image, String> {
    let start = Picture { image, resize: None };
    steps.iter().try_fold(start, |picture, op| step(op, picture, draw, place))?.whole()
}

fn step<'a>(
    op: &ViewOp,
    picture: Picture<'a>,
    draw: &mut dyn Draw,
    place: &mut Geometry,
) -> Result<Picture<'a>, String> {
    let whole = picture.size();
    let cut = |place: &mut Geometry, window: Window| place.cut(window, whole);
    Ok(Picture::from(match op {
        ViewOp::RandomResizedCrop { size, scale, ratio, interpolation } => {
            let window = random_window(whole, *scale, *ratio, draw);
            cut(place, window);
            match picture.resize {
                None => geometry::resized_part(&picture.image, window, *size, *interpolation),
                Some(_) => geometry::resize(&picture.window(window)?, *size, *interpolation),
            }
        }
        ViewOp::RandomCrop { scale, ratio } => {
            let window = random_window(whole, *scale, *ratio, draw);
            cut(place, window);
            picture.window(window)?
        }
        ViewOp::Resize { size, interpolation } => {
            return Ok(Picture { image: picture.settled()?, resize: Some((*size, *interpolation)) });
        }
        ViewOp::ResizeCover { size, interpolation } => {
            let size = covering_size(whole, *size);
            return Ok(Picture { image: picture.settled()?, resize: Some((size, *interpolation)) });
        }
        ViewOp::CenterCrop { size } => {
            let at = geometry::center_offset(whole, *size);
            place.cut_at(at, *size, whole);
            picture.padded(*size, at)?
        }
        ViewOp::Crop { size, at } => {
            let window = window_at(*size, *at);
            fits(window, whole)?;
            cut(place, window);
            picture.window(window)?
        }
        ViewOp::RandomShift { size, by } => {
            fits(window_at(*size, (by.1, by.1)), whole)?;
            let mut offset = || by.0 + draw.below((by.1 - by.0) as u64 + 1) as usize;
            let window = window_at(*size, (offset(), offset()));
            cut(place, window);
            picture.window(window)?
        }
        ViewOp::RandomFlip { p } => {
            if draw.uniform() >= *p {
                return Ok(picture);
            }
            place.flip();
            geometry::flip(picture.whole()?)
        }
        ViewOp::RandomApply { p, ops } => {
            if draw.uniform() >= *p {
                return Ok(picture);
            }
            return ops.iter().try_fold(picture, |picture, op| step(op, picture, draw, place));
        }
        ViewOp::ColorJitter { brightness, contrast, saturation, hue } => {
            jitter(picture.whole()?, [*brightness, *contrast, *saturation, *hue], draw)
        }
        ViewOp::RandomGrayscale { p } => {
            if draw.uniform() >= *p {
                return Ok(picture);
            }
            color::grayscale(picture.whole()?)
        }
        ViewOp::GaussianBlur { sigma } => {
            let sigma = between(*sigma, draw);
            blur::gaussian(picture.whole()?, sigma, blur::radius(sigma))
        }
        ViewOp::Solarize { threshold } => color::solarize(picture.whole()?, *threshold),
        ViewOp::RandAugment { ops, magnitude, bins, color } => {
            augment::random(picture.whole()?, *ops, Magnitude { level: *magnitude, bins: *bins }, *color, draw)
        }
        ViewOp::RandomErasing { p, scale, ratio, filling } => {
            if draw.uniform() >= *p {
                return Ok(picture);
            }
            erase::random(picture.whole()?, *scale, *ratio, *filling, draw)
        }
        ViewOp::Normalize { .. } => panic!("normalize ends a view: its result is not an 8-bit image"),
    }))
}

/// A picture that may still have to be resized: it is when its pixels are wanted, and of a large one only those that a window
/// shows. So a strip of 1 x 60,000 pixels can be given a short side of 256 and cut, without 15 million rows of 256 in between.
struct Picture<'a> {
    image: Cow<'a, Image>,
    resize: Option<((usize, usize), Interpolation)>,
}

impl From<Image> for Picture<'_> {
    fn from(image: Image) -> Self {
        Picture { image: Cow::Owned(image), resize: None }
    }
}

impl<'a> Picture<'a> {
    /// Height and width.
    fn size(&self) -> (usize, usize) {
        self.resize.map_or((self.image.height, self.image.width), |(size, _)| size)
    }

    /// The picture of its own, to be changed.
    fn whole(self) -> Result<Image, String> {
        self.settled().map(Cow::into_owned)
    }

    /// The picture with nothing left to do.
    fn settled(self) -> Result<Cow<'a, Image>, String> {
        match self.resize {
            None => Ok(self.image),
            Some((size, interpolation)) => {
                self.bounded(size)?;
                Ok(Cow::Owned(geometry::resize(&self.image, size, interpolation)))
            }
        }
    }

    /// `window`, which lies within the picture.
    fn window(self, window: Window) -> Result<Image, String> {
        match self.resize {
            Some((size, interpolation)) if size.0.saturating_mul(size.1) > WHOLE_PIXELS => {
                self.bounded((window.height, window.width))?;
                Ok(geometry::resized_window(&self.image, size, window, interpolation))
            }
            _ => Ok(geometry::crop(&*self.settled()?, window)),
        }
    }

    /// A window of `size` at `at` (row, column), which may lie partly or wholly outside: there it is black.
    fn padded(self, size: (usize, usize), at: (isize, isize)) -> Result<Image, String> {
        let whole = self.size();
        // Begin and length of what is seen along one side, and the black before it.
        let seen = |at: isize, part: usize, whole: usize| {
            let begin = at.clamp(0, whole as isize);
            let end = (at + part as isize).clamp(begin, whole as isize);
            (begin as usize, (end - begin) as usize, (begin - at) as usize)
        };
        let (rows, columns) = (seen(at.0, size.0, whole.0), seen(at.1, size.1, whole.1));
        if rows.1 == 0 || columns.1 == 0 {
            return Ok(Image::new(size.0, size.1, self.image.channels, vec![0; size.0 * size.1 * self.image.channels]));
        }
        let image = self.window(Window { top: rows.0, left: columns.0, height: rows.1, width: columns.1 })?;
        match (image.height, image.width) == size {
            true => Ok(image),
            false => Ok(geometry::pad(&image, size, (rows.2, columns.2))),
        }
    }

    /// Whether `size` may be computed.
    fn bounded(&self, size: (usize, usize)) -> Result<(), String> {
        if size.0.saturating_mul(size.1) <= MAX_PIXELS {
            return Ok(());
        }
        let Image { height, width, .. } = *self.image;
        Err(format!("{width} x {height} pixels become {} x {} by `resize`, more than {MAX_PIXELS}", size.1, size.0))
    }
}

/// Whether a window lies within a picture of `whole` (height, width).
fn fits(window: Window, whole: (usize, usize)) -> Result<(), String> {
    let (height, width) = (window.top + window.height, window.left + window.width);
    if height <= whole.0 && width <= whole.1 {
        return Ok(());
    }
    Err(format!("{} x {} pixels are too few for a window that ends at {width} x {height}", whole.1, whole.0))
}

/// Uniform over `range`.
pub(super) fn between(range: (f64, f64), draw: &mut dyn Draw) -> f64 {
    range.0 + (range.1 - range.0) * draw.uniform()
}

/// An aspect within `range`, whose logarithm is uniform: tall and wide are as likely.
fn aspect_between(range: (f64, f64), draw: &mut dyn Draw) -> f64 {
    libm::exp(between((libm::log(range.0), libm::log(range.1)), draw))
}

fn window_at(size: (usize, usize), at: (usize, usize)) -> Window {
    Window { top: at.0, left: at.1, height: size.0, width: size.1 }
}

/// A box of a share of the area within `scale` and an aspect (width / height) within `ratio`, as torchvision draws it.
///
/// Boxes that stick out are drawn anew; after ten, it is the largest central box whose aspect lies within `ratio`.
fn random_window((height, width): (usize, usize), scale: (f64, f64), ratio: (f64, f64), draw: &mut dyn Draw) -> Window {
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
