//! Shears, shifts and turns, by the nearest pixel.
//!
//! **Invariant:** bit for bit torchvision's `affine` and `rotate` on `uint8` with nearest interpolation: places are computed in f32, in
//! shares of half a side and in that order, and a half goes to the even pixel. What comes from outside is black.

use crate::data::Image;
use crate::wide::wide;

/// Where a pixel of the result comes from along one side, both counted from the middle: `x · of[0] + y · of[1] + of[2]`.
type Along = [f64; 3];

/// Rows move to the left, the further down the more: by `slope` pixels a row, the upper edge stays.
pub fn shear_x(image: &Image, slope: f64) -> Image {
    moved(image, [1.0, slope, slope * image.height as f64 * 0.5], [0.0, 1.0, 0.0])
}

/// Columns move up, the further right the more: by `slope` pixels a column, the left edge stays.
pub fn shear_y(image: &Image, slope: f64) -> Image {
    moved(image, [1.0, 0.0, 0.0], [slope, 1.0, slope * image.width as f64 * 0.5])
}

/// To the right and down, by whole pixels.
pub fn translate(image: &Image, right: i32, down: i32) -> Image {
    moved(image, [1.0, 0.0, -f64::from(right)], [0.0, 1.0, -f64::from(down)])
}

/// About the middle, against the clock.
pub fn rotate(image: &Image, degrees: f64) -> Image {
    let angle = degrees.to_radians();
    let (sin, cos) = (libm::sin(angle), libm::cos(angle));
    moved(image, [cos, -sin, 0.0], [sin, cos, 0.0])
}

fn moved(image: &Image, column_of: Along, row_of: Along) -> Image {
    let Image { height, width, channels, .. } = *image;
    let mut data = vec![0; image.data.len()];
    let (mut columns, mut rows) = (vec![0.0; width], vec![0.0; width]);
    let inside = |place: f32, side: usize| (place >= 0.0 && place < side as f32).then_some(place as usize);
    for (y, line) in data.chunks_exact_mut(width * channels).enumerate() {
        let y = y as f32 - (height as f32 - 1.0) * 0.5;
        places(&mut columns, column_of, y, width);
        places(&mut rows, row_of, y, height);
        for (pixel, (column, row)) in line.chunks_exact_mut(channels).zip(columns.iter().zip(&rows)) {
            if let (Some(column), Some(row)) = (inside(*column, width), inside(*row, height)) {
                let from = (row * width + column) * channels;
                pixel.copy_from_slice(&image.data[from..from + channels]);
            }
        }
    }
    Image::new(height, width, channels, data)
}

wide! {
    /// For each pixel of the row at `y`, the nearest place along a side of `side` pixels, which may lie outside.
    fn places(places: &mut [f32], of: Along, y: f32, side: usize) {
        let middle = (places.len() as f32 - 1.0) * 0.5;
        let half = side as f32 * 0.5;
        let of = [of[0] as f32 / half, of[1] as f32 / half, of[2] as f32 / half];
        for (x, place) in places.iter_mut().enumerate() {
            let share = (x as f32 - middle) * of[0] + y * of[1] + of[2];
            *place = nearest((share + 1.0) * half - 0.5);
        }
    }
}

/// The nearest whole number, half to even, of what is no further than 2²² from zero. What is further stays outside of any picture.
#[inline(always)]
fn nearest(v: f32) -> f32 {
    // Half as much again as 2²³: so are whole numbers rounded that may be negative.
    const WHOLES: f32 = (3 << 22) as f32;
    v + WHOLES - WHOLES
}
