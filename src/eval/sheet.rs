//! Draws contact sheets: a row a sample, a column a view, each column as wide as its pictures.
//!
//! Before: samples drawn as the loader draws them. After: `cmaec show views` writes the sheet as PNG.
//!
//! **Invariant:** pixels of views are enlarged by whole numbers and never blended, so that a pixel in the file is a pixel that the
//! graph takes in. Only the source's picture, which no graph sees, is fitted into its cell.

use image::imageops::replace;
use image::{Rgb, RgbImage};

use super::pictures::{LINE, LINE_COLOUR, rgb, scale};
use crate::data::Image;
use crate::data::view::geometry::resize;
use crate::spec::Interpolation;

/// Pixels of a sheet: 768 MB in memory, past what programs open.
const MAX_PIXELS: usize = 1 << 28;

/// What is left of a hidden pixel's brightness: a quarter, so that one still sees what was there.
const DARK: u8 = 4;

/// The sheet would be larger than anything opens.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a sheet of {height} x {width} pixels is larger than {MAX_PIXELS} pixels (help: {help})")]
pub struct TooLarge {
    height: usize,
    width: usize,
    help: String,
}

/// A sheet that cells are put on.
pub struct Sheet {
    image: RgbImage,
    /// Left edge of each column.
    columns: Vec<usize>,
    row_height: usize,
}

impl Sheet {
    /// For `rows` samples and cells of these heights and widths, enlarged, one for each column.
    pub fn new(cells: &[(usize, usize)], rows: usize) -> Result<Sheet, TooLarge> {
        let row_height = cells.iter().map(|(height, _)| height + LINE).max().unwrap_or(LINE);
        let mut width = LINE;
        let mut columns = Vec::with_capacity(cells.len());
        for (_, cell) in cells {
            columns.push(width);
            width += cell + LINE;
        }
        let height = rows * row_height + LINE;
        if height.saturating_mul(width) > MAX_PIXELS {
            let fit = (MAX_PIXELS / width).saturating_sub(LINE) / row_height;
            let help = match fit {
                0 => "smaller views: --set image_size=224px".to_owned(),
                _ => format!("--count {fit}"),
            };
            return Err(TooLarge { height, width, help });
        }
        // Within `MAX_PIXELS`, and neither side is zero: both fit.
        let image = RgbImage::from_pixel(width as u32, height as u32, LINE_COLOUR);
        Ok(Sheet { image, columns, row_height })
    }

    /// Draws `cell` with its upper left corner at that of the place.
    pub fn put(&mut self, row: usize, column: usize, cell: &RgbImage) {
        let (left, top) = (self.columns[column], LINE + row * self.row_height);
        replace(&mut self.image, cell, left as i64, top as i64);
    }

    pub fn into_image(self) -> RgbImage {
        self.image
    }
}

/// Height and width of a view's cell, and how many times its pixels are enlarged.
pub fn cell(height: usize, width: usize) -> ((usize, usize), usize) {
    let scale = scale(height, width);
    ((height * scale, width * scale), scale)
}

/// A view's picture from its planes, enlarged: `levels` are `[channels, height, width]`.
pub fn view(levels: &[u8], (channels, height, width): (usize, usize, usize)) -> RgbImage {
    let (cell, scale) = cell(height, width);
    RgbImage::from_fn(cell.1 as u32, cell.0 as u32, |x, y| {
        let (x, y) = (x as usize / scale, y as usize / scale);
        rgb(channels, |channel| levels[(channel * height + y) * width + x])
    })
}

/// A source's picture, as large as a square of `side` holds: enlarged by a whole number, or made smaller.
pub fn source(image: &Image, side: usize) -> RgbImage {
    let longest = image.height.max(image.width);
    let fitted = if longest > side {
        let size = |length: usize| (length * side / longest).max(1);
        &resize(image, (size(image.height), size(image.width)), Interpolation::Bicubic)
    } else {
        image
    };
    let scale = (side / fitted.height.max(fitted.width)).max(1);
    RgbImage::from_fn((fitted.width * scale) as u32, (fitted.height * scale) as u32, |x, y| {
        let pixel = (y as usize / scale) * fitted.width + x as usize / scale;
        rgb(fitted.channels, |channel| fitted.data[pixel * fitted.channels + channel])
    })
}

/// `cell` with the patches darkened that are `hidden`, which lie in a grid of these rows and columns.
pub fn darkened(cell: &RgbImage, hidden: &[bool], (rows, columns): (usize, usize)) -> RgbImage {
    let (height, width) = (cell.height() as usize, cell.width() as usize);
    RgbImage::from_fn(cell.width(), cell.height(), |x, y| {
        let patch = (y as usize * rows / height) * columns + x as usize * columns / width;
        let Rgb(levels) = *cell.get_pixel(x, y);
        Rgb(if hidden[patch] { levels.map(|level| level / DARK) } else { levels })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_are_darkened_where_they_lie() {
        let cell = RgbImage::from_pixel(4, 2, Rgb([200, 100, 40]));
        let drawn = darkened(&cell, &[true, false], (1, 2));
        assert_eq!(*drawn.get_pixel(1, 1), Rgb([50, 25, 10]));
        assert_eq!(*drawn.get_pixel(2, 1), Rgb([200, 100, 40]));
    }

    #[test]
    fn sheets_past_all_bounds_are_refused_with_what_fits() {
        let error = Sheet::new(&[(1000, 1000); 9], 64).err().expect("576 million pixels are too many");
        assert!(error.to_string().ends_with("(help: --count 29)"), "{error}");
        let error = Sheet::new(&[(100_000, 100_000)], 1).err().expect("one row is too large");
        assert!(error.to_string().contains("smaller views"), "{error}");
        assert!(Sheet::new(&[(1000, 1000); 9], 29).is_ok());
    }

    #[test]
    fn sources_of_any_shape_fit_their_cell() {
        for (height, width) in [(1, 1000), (1000, 1), (8, 8), (300, 200)] {
            let image = Image::new(height, width, 1, vec![7; height * width]);
            let drawn = source(&image, 128);
            assert!(drawn.width() <= 128 && drawn.height() <= 128 && drawn.width().max(drawn.height()) == 128);
        }
    }
}
