//! Steps that move pixels: resizing, windows, flips.
//!
//! **Invariant:** resizing is torchvision's on `uint8` with antialias, which is Pillow's: separable, the width first,
//! rounded to 8 bits between the passes, the kernel stretched when shrinking. A window is cut out before it is resized,
//! so that no pixel outside of it bears on the result.

use std::cell::RefCell;

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

impl Window {
    /// All of a picture.
    pub fn all_of(image: &Image) -> Window {
        Window { top: 0, left: 0, height: image.height, width: image.width }
    }

    fn lies_in(self, (height, width): (usize, usize)) -> bool {
        self.height > 0 && self.width > 0 && self.top + self.height <= height && self.left + self.width <= width
    }
}

/// `image` at `size` (height, width).
///
/// # Panics
/// For a size of zero, which the compiler rejects.
pub fn resize(image: &Image, size: (usize, usize), interpolation: Interpolation) -> Image {
    resized_part(image, Window::all_of(image), size, interpolation)
}

/// `part` of `image` at `size`, as if it had been cut out before: nothing is copied but what it becomes.
///
/// # Panics
/// For a size of zero, and where the part is empty or leaves the image.
pub fn resized_part(image: &Image, part: Window, size: (usize, usize), interpolation: Interpolation) -> Image {
    if (part.height, part.width) == size {
        return crop(image, part);
    }
    resized(image, part, size, Window { top: 0, left: 0, height: size.0, width: size.1 }, interpolation)
}

/// `window` of `image` at `size`: the pixels that cutting it out of the whole would give, but for one rounding in either pass,
/// and none beside them is computed.
///
/// # Panics
/// For a window that is empty or leaves `size`.
pub fn resized_window(image: &Image, size: (usize, usize), window: Window, interpolation: Interpolation) -> Image {
    resized(image, Window::all_of(image), size, window, interpolation)
}

/// Bytes between the passes that a thread keeps for the next picture: those of 100 Mpixels at a side of 256.
const KEPT: usize = 1 << 24;

thread_local! {
    /// What a thread resizes with, again and again: tables, and the rows between the passes.
    static RESIZER: RefCell<(fir::Resizer, Vec<u8>)> = RefCell::default();
}

fn resized(image: &Image, part: Window, size: (usize, usize), window: Window, interpolation: Interpolation) -> Image {
    if !matches!(image.channels, 1 | 3) {
        let whole = Window { top: 0, left: 0, ..part };
        return by_channel(&crop(image, part), |plane| resized(plane, whole, size, window, interpolation));
    }
    let Window { top, left, height, width } = window;
    assert!(window.lies_in(size), "{window:?} of {size:?}");
    assert!(part.lies_in((image.height, image.width)), "{part:?} of {} x {}", image.height, image.width);
    let (filter, support) = match interpolation {
        Interpolation::Bilinear => (fir::FilterType::Bilinear, 1.0),
        // Keys' cubic with a = -0.5.
        Interpolation::Bicubic => (fir::FilterType::CatmullRom, 2.0),
        Interpolation::Lanczos => (fir::FilterType::Lanczos3, 3.0),
    };
    let (from_row, rows) = span(top, height, size.0, part.height);
    let (from_column, columns) = span(left, width, size.1, part.width);
    // The rows that the window's see: a filter reaches so far, and a pixel is for rounding.
    let reach = support * (part.height as f64 / size.0 as f64).max(1.0) + 1.0;
    let first = (from_row - reach).max(0.0) as usize;
    let last = ((from_row + rows + reach).ceil() as usize).min(part.height);
    let count = last - first;
    let mut data = vec![0; height * width * image.channels];
    RESIZER.with_borrow_mut(|(resizer, between)| {
        // For a pixel type each: for one that is chosen as it runs, all that there are would be built in.
        let mut pass = |source: Pixels<'_>, of: [f64; 4], to: (usize, usize), target: &mut [u8]| match image.channels {
            1 => pass::<fir::pixels::U8>(resizer, filter, source, of, to, target),
            _ => pass::<fir::pixels::U8x3>(resizer, filter, source, of, to, target),
        };
        let needed = count * width * image.channels;
        if between.len() < needed {
            between.resize(needed, 0);
        }
        let seen = Window { top: part.top + first, height: count, ..part };
        // Along the width first, and rounded to 8 bits before the height: as PIL and torchvision do.
        let source = Pixels { data: &image.data, row_length: image.width, part: seen };
        pass(source, [0.0, from_column, count as f64, columns], (count, width), &mut between[..needed]);
        let all = Window { top: 0, left: 0, height: count, width };
        let source = Pixels { data: &between[..needed], row_length: width, part: all };
        pass(source, [from_row - first as f64, 0.0, rows, width as f64], (height, width), &mut data);
        if needed > KEPT {
            *between = Vec::new();
        }
    });
    Image::new(height, width, image.channels, data)
}

/// `of` (top, left, height, width) of `source` becomes `target`, of `to` rows and columns.
fn pass<P: fir::PixelTrait>(
    resizer: &mut fir::Resizer,
    filter: fir::FilterType,
    source: Pixels<'_>,
    of: [f64; 4],
    to: (usize, usize),
    target: &mut [u8],
) {
    let options = fir::ResizeOptions::new()
        .resize_alg(fir::ResizeAlg::Convolution(filter))
        .crop(of[1], of[0], of[3], of[2])
        .use_alpha(false);
    let Pixels { data, row_length, part } = source;
    let rows = data.len() / (row_length * P::size());
    let all = fir::images::TypedImageRef::<P>::from_buffer(row_length as u32, rows as u32, data)
        .expect("an image's data is as long as its sides say");
    let [top, left, height, width] = [part.top, part.left, part.height, part.width].map(|n| n as u32);
    let part = fir::images::TypedCroppedImage::new(all, left, top, width, height).expect("it lies within the image");
    let mut target = fir::images::TypedImage::<P>::from_buffer(to.1 as u32, to.0 as u32, target)
        .expect("it is as long as its sides say");
    resizer.resize_typed(&part, &mut target, &options).expect("the box is within");
}

/// A part of rows of `row_length` pixels.
struct Pixels<'a> {
    data: &'a [u8],
    row_length: usize,
    part: Window,
}

/// Each channel by itself, as a picture of one.
fn by_channel(image: &Image, of_plane: impl Fn(&Image) -> Image) -> Image {
    let channels = image.channels;
    let planes: Vec<Image> = (0..channels)
        .map(|channel| {
            let plane = image.data.iter().skip(channel).step_by(channels).copied().collect();
            of_plane(&Image::new(image.height, image.width, 1, plane))
        })
        .collect();
    let (height, width) = (planes[0].height, planes[0].width);
    let data = (0..height * width).flat_map(|pixel| planes.iter().map(move |plane| plane.data[pixel]));
    Image::new(height, width, channels, data.collect())
}

/// Where `part` pixels from `at` on, of `whole`, come from among `source` pixels: their begin and how many they are.
fn span(at: usize, part: usize, whole: usize, source: usize) -> (f64, f64) {
    let place = |at: usize| at as f64 * source as f64 / whole as f64;
    let begin = place(at);
    // The end may be rounded beyond the last pixel, the sum of both once more.
    (begin, (place(at + part) - begin).min(source as f64 - begin))
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

/// `image` on black of `size`, its corner at `at`, where it fits.
pub fn pad(image: &Image, size: (usize, usize), at: (usize, usize)) -> Image {
    let row_length = image.width * image.channels;
    let mut data = vec![0; size.0 * size.1 * image.channels];
    for (row, pixels) in image.data.chunks_exact(row_length).enumerate() {
        let into = ((at.0 + row) * size.1 + at.1) * image.channels;
        data[into..into + row_length].copy_from_slice(pixels);
    }
    Image::new(size.0, size.1, image.channels, data)
}

/// Row and column of the centred window of `size`, rounded half to even as torchvision's Python does; negative where
/// the image is smaller.
pub fn center_offset(whole: (usize, usize), size: (usize, usize)) -> (isize, isize) {
    let half = |whole: usize, part: usize| ((whole as f64 - part as f64) / 2.0).round_ties_even() as isize;
    (half(whole.0, size.0), half(whole.1, size.1))
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
