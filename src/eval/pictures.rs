//! Draws reconstructions: a grid whose rows are samples and whose columns are original, masked, reconstructed.
//!
//! Before: the graph `Program::pictures` gives three normalised tensors. After: `run` puts the PNG in the report.
//!
//! **Invariant:** pixels are enlarged by whole numbers and never blended, so that a pixel in the file is a pixel of
//! the model.

use std::io::{self, Cursor};
use std::path::Path;

use image::{ImageFormat, Rgb, RgbImage};

use crate::run::tensor_file::write_atomically;

/// Sides shorter than this are enlarged until they reach it.
const MIN_SIDE: usize = 128;
/// Width of the lines between pictures and around them.
pub(super) const LINE: usize = 2;
pub(super) const LINE_COLOUR: Rgb<u8> = Rgb([255, 255, 255]);

/// `[B, C, H, W]` normalised pictures, row-major.
#[derive(Debug, Clone, Copy)]
pub struct Pictures<'a> {
    pub shape: [usize; 4],
    pub data: &'a [f32],
}

/// Why a grid could not be drawn.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PicturesError {
    #[error("`{name}` has shape {found:?}, `original` has {expected:?}")]
    Shape { name: &'static str, found: [usize; 4], expected: [usize; 4] },
    #[error("`{name}` of shape {shape:?} has {found} values")]
    Length { name: &'static str, shape: [usize; 4], found: usize },
    #[error("pictures of shape {0:?} hold no pixel")]
    Empty([usize; 4]),
    #[error("{channels} channels, but {mean} means and {std} standard deviations")]
    Statistics { channels: usize, mean: usize, std: usize },
}

/// The grid of `original | masked | reconstructed`, one sample to a row, in the colours of before the normalisation
/// by `mean` and `std` (of values in 0..=1), clamped. Of more than three channels the first three are drawn, of two the first.
pub fn grid(
    original: Pictures<'_>,
    masked: Pictures<'_>,
    reconstructed: Pictures<'_>,
    mean: &[f64],
    std: &[f64],
) -> Result<RgbImage, PicturesError> {
    let columns = [("original", original), ("masked", masked), ("reconstructed", reconstructed)];
    let shape = original.shape;
    let [batch, channels, height, width] = shape;
    for (name, pictures) in columns {
        if pictures.shape != shape {
            return Err(PicturesError::Shape { name, found: pictures.shape, expected: shape });
        }
        if pictures.data.len() != shape.iter().product::<usize>() {
            return Err(PicturesError::Length { name, shape, found: pictures.data.len() });
        }
    }
    if batch * channels * height * width == 0 {
        return Err(PicturesError::Empty(shape));
    }
    if mean.len() != channels || std.len() != channels {
        return Err(PicturesError::Statistics { channels, mean: mean.len(), std: std.len() });
    }

    let scale = scale(height, width);
    let (cell_height, cell_width) = (height * scale + LINE, width * scale + LINE);
    let (rows, total) = (batch * cell_height + LINE, columns.len() * cell_width + LINE);
    let mut image = RgbImage::from_pixel(total as u32, rows as u32, LINE_COLOUR);
    for (column, (_, pictures)) in columns.iter().enumerate() {
        for sample in 0..batch {
            let corner = (LINE + sample * cell_height, LINE + column * cell_width);
            for y in 0..height * scale {
                for x in 0..width * scale {
                    let colour = colour(pictures, sample, y / scale, x / scale, mean, std);
                    image.put_pixel((corner.1 + x) as u32, (corner.0 + y) as u32, colour);
                }
            }
        }
    }
    Ok(image)
}

/// How many times pictures of this size are enlarged: 4 for 32 px, 1 from 128 px on.
pub fn scale(height: usize, width: usize) -> usize {
    MIN_SIDE.div_ceil(height.min(width).max(1)).max(1)
}

/// Writes `image` as PNG; a file under `path` is always whole.
pub fn write_png(path: &Path, image: &RgbImage) -> io::Result<()> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).map_err(io::Error::other)?;
    write_atomically(path, bytes.get_ref())
}

/// The picture of `sample`, enlarged, in the colours of before the normalisation.
pub(super) fn cell(pictures: &Pictures<'_>, sample: usize, mean: &[f64], std: &[f64]) -> RgbImage {
    let [_, _, height, width] = pictures.shape;
    let scale = scale(height, width);
    RgbImage::from_fn((width * scale) as u32, (height * scale) as u32, |x, y| {
        colour(pictures, sample, y as usize / scale, x as usize / scale, mean, std)
    })
}

fn colour(pictures: &Pictures<'_>, sample: usize, y: usize, x: usize, mean: &[f64], std: &[f64]) -> Rgb<u8> {
    let [_, channels, height, width] = pictures.shape;
    let level = |channel: usize| {
        let value = pictures.data[((sample * channels + channel) * height + y) * width + x];
        let value = f64::from(value) * std[channel] + mean[channel];
        // `as` turns NaN into 0: a picture is drawn even where the model has gone astray.
        (value * 255.0).round().clamp(0.0, 255.0) as u8
    };
    rgb(channels, level)
}

/// A pixel of `channels` levels: of more than three the first three, of two the first.
pub(super) fn rgb(channels: usize, level: impl Fn(usize) -> u8) -> Rgb<u8> {
    match channels {
        1 | 2 => Rgb([level(0); 3]),
        _ => Rgb([level(0), level(1), level(2)]),
    }
}
