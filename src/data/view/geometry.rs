//! Steps that move pixels: resizing, windows, flips.
//!
//! **Invariant:** resizing is torchvision's on `uint8` with antialias, which is Pillow's: separable, the width first,
//! rounded to 8 bits between the passes, the kernel stretched when shrinking. A window is cut out before it is resized,
//! so that no pixel outside of it bears on the result.

use fast_image_resize as fir;

use crate::data::Image;
use crate::spec::Interpolation;

/// A window of whole pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub top: usize,
    pub left: usize,
    pub height: usize,
    pub width: usize,
}

/// Where a picture lies in the source's: a box in shares of its sides, and whether it is seen in a mirror.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Geometry {
    pub top: f64,
    pub left: f64,
    pub height: f64,
    pub width: f64,
    pub flipped: bool,
}

impl Default for Geometry {
    fn default() -> Self {
        Geometry { top: 0.0, left: 0.0, height: 1.0, width: 1.0, flipped: false }
    }
}

impl Geometry {
    /// After `window` was cut out of a picture of `whole` (height, width).
    pub fn cut(&mut self, window: Window, whole: (usize, usize)) {
        self.cut_at((window.top as isize, window.left as isize), (window.height, window.width), whole);
    }

    /// The same for a window that may start or end outside.
    pub fn cut_at(&mut self, at: (isize, isize), size: (usize, usize), whole: (usize, usize)) {
        let (rows, columns) = (whole.0 as f64, whole.1 as f64);
        let (height, width) = (size.0 as f64 / rows, size.1 as f64 / columns);
        let left = at.1 as f64 / columns;
        self.top += self.height * at.0 as f64 / rows;
        // In a mirror the window's left edge is counted from the right.
        self.left += self.width * if self.flipped { 1.0 - left - width } else { left };
        self.height *= height;
        self.width *= width;
    }

    pub fn flip(&mut self) {
        self.flipped = !self.flipped;
    }

    /// Top, left, height, width, flipped: as a graph's input has it.
    pub fn row(&self) -> [f32; 5] {
        let flipped = f32::from(u8::from(self.flipped));
        [self.top as f32, self.left as f32, self.height as f32, self.width as f32, flipped]
    }
}

/// `image` at `size` (height, width).
///
/// # Panics
/// For a size of zero, which the compiler rejects.
pub fn resize(image: &Image, size: (usize, usize), interpolation: Interpolation) -> Image {
    let (height, width) = size;
    assert!(height > 0 && width > 0, "resize to {height} x {width}");
    if (image.height, image.width) == size {
        return image.clone();
    }
    let pixel = match image.channels {
        1 => fir::PixelType::U8,
        _ => fir::PixelType::U8x3,
    };
    let filter = match interpolation {
        Interpolation::Bilinear => fir::FilterType::Bilinear,
        // Keys' cubic with a = -0.5.
        Interpolation::Bicubic => fir::FilterType::CatmullRom,
        Interpolation::Lanczos => fir::FilterType::Lanczos3,
    };
    let options = fir::ResizeOptions::new().resize_alg(fir::ResizeAlg::Convolution(filter)).use_alpha(false);
    let mut resizer = fir::Resizer::new();
    let mut pass = |data: &[u8], from: (usize, usize), to: (usize, usize)| -> Vec<u8> {
        let source = fir::images::ImageRef::new(from.1 as u32, from.0 as u32, data, pixel)
            .expect("an image's data is as long as its sides say");
        let mut target = fir::images::Image::new(to.1 as u32, to.0 as u32, pixel);
        resizer
            .resize(&source, &mut target, &options)
            .expect("both images have the same pixel type and no crop box is set");
        target.into_vec()
    };
    // Along the width first, and rounded to 8 bits before the height: as PIL and torchvision do.
    let across = pass(&image.data, (image.height, image.width), (image.height, width));
    Image::new(height, width, image.channels, pass(&across, (image.height, width), size))
}

/// The pixels of `window`.
///
/// # Panics
/// Where the window leaves the image.
pub fn crop(image: &Image, window: Window) -> Image {
    let Window { top, left, height, width } = window;
    assert!(
        top + height <= image.height && left + width <= image.width,
        "{window:?} of an image of {} x {}",
        image.height,
        image.width
    );
    let channels = image.channels;
    let mut data = Vec::with_capacity(height * width * channels);
    for row in top..top + height {
        let start = (row * image.width + left) * channels;
        data.extend_from_slice(&image.data[start..start + width * channels]);
    }
    Image::new(height, width, channels, data)
}

/// The window of `size` at `at` (row, column), which may lie partly or wholly outside: there it is black.
pub fn crop_padded(image: &Image, size: (usize, usize), at: (isize, isize)) -> Image {
    let ((height, width), channels) = (size, image.channels);
    let mut data = vec![0; height * width * channels];
    let clamp = |v: isize, limit: usize| v.clamp(0, limit as isize) as usize;
    // Columns of the image that the window shows, and the column of the window that the first of them falls on.
    let (from, to) = (clamp(at.1, image.width), clamp(at.1 + width as isize, image.width));
    if from < to {
        let shift = (from as isize - at.1) as usize;
        for row in clamp(at.0, image.height)..clamp(at.0 + height as isize, image.height) {
            let into = ((row as isize - at.0) as usize * width + shift) * channels;
            let pixels = &image.data[(row * image.width + from) * channels..(row * image.width + to) * channels];
            data[into..into + pixels.len()].copy_from_slice(pixels);
        }
    }
    Image::new(height, width, channels, data)
}

/// Row and column of the centred window of `size`, rounded half to even as torchvision's Python does; negative where
/// the image is smaller.
pub fn center_offset(image: &Image, size: (usize, usize)) -> (isize, isize) {
    let half = |whole: usize, part: usize| ((whole as f64 - part as f64) / 2.0).round_ties_even() as isize;
    (half(image.height, size.0), half(image.width, size.1))
}

/// `window` of `image`, resized to `size`.
pub fn resized_crop(image: &Image, window: Window, size: (usize, usize), interpolation: Interpolation) -> Image {
    resize(&crop(image, window), size, interpolation)
}

/// Left to right.
pub fn flip(mut image: Image) -> Image {
    let channels = image.channels;
    for row in image.data.chunks_exact_mut(image.width * channels) {
        // Backwards as a whole, then each pixel's channels back in order.
        row.reverse();
        row.chunks_exact_mut(channels).for_each(<[u8]>::reverse);
    }
    image
}
