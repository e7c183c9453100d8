//! From a file's bytes to a picture: the one door through which files come.
//!
//! ```text
//! format (what the first bytes say) ─▶ whole (does it reach its end?) ─▶ decoder, limited by the header's size ─▶ levels (8 bits)
//! ```
//! **Invariant:** whatever the bytes are, the answer is a whole picture or a clause that says why there is none. Nothing panics,
//! and no more memory is taken than [`Reading::max_pixels`] allow: a picture's size is read and judged before its pixels are.

mod bands;
mod format;
mod label_map;
mod levels;
mod spare;
mod whole;

use std::panic::{AssertUnwindSafe, catch_unwind};

use ::image::error::LimitErrorKind;
use ::image::metadata::Orientation;
use ::image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::Image;

pub use format::{READ, begins_as_picture, ending, is_picture, may_be_deep};
pub use label_map::label_map;
pub use levels::{Deep, levels_of};
pub use spare::give_back;

/// Longest side: the tables of a resize are as long. No camera or scanner comes near.
const MAX_SIDE: u64 = 1 << 20;

/// Memory beyond its pixels that a decoder may take: profiles, tables, rows.
const ASIDE: u64 = 16 << 20;
/// Bytes of a decoded pixel at most, and once more for what a decoder keeps while it works.
const PIXEL: u64 = 16;

/// How files are read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// Channels that a picture shall have. Colour becomes gray and gray colour; others must be there: four as alpha of a picture
    /// or as bands of a TIFF, any number as its bands.
    pub channels: usize,
    /// Larger pictures are broken.
    pub max_pixels: usize,
    /// 16-bit values that become black and white; all of them where it is `None`.
    pub range: Option<(u16, u16)>,
}

impl Reading {
    /// Bytes of a file beyond which it is no picture: two a value, of four values a pixel at the least for alpha and what is not
    /// read, and some for what is no pixel.
    pub fn most_bytes(self) -> u64 {
        2 * (self.max_pixels as u64 * self.channels.max(4) as u64) + (64 << 20)
    }
}

/// A picture, and where its 16-bit values were lost on 8 bits.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    pub image: Image,
    pub deep: Option<Deep>,
}

/// Decodes a file, whose format its first bytes tell: the first picture of those that hold several.
///
/// The EXIF orientation is applied, alpha is dropped unless four channels are wanted, and 16-bit values are rounded to 8 bits. CMYK and YCCK become
/// RGB as in Adobe's files, which store them inverted.
///
/// # Errors
/// Why the bytes are no whole picture of a format that is read.
pub fn decode(bytes: &[u8], reading: Reading) -> Result<Decoded, String> {
    // The decoders are others' code: where one panics on a damaged file, that file is broken, and nothing else is.
    let read = || read(bytes, reading);
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err("the decoder failed on it".to_owned()))
}

fn read(bytes: &[u8], reading: Reading) -> Result<Decoded, String> {
    let format = format::of(bytes)?;
    if format == ImageFormat::Tiff && !matches!(reading.channels, 1 | 3) {
        whole::check(format, bytes)?;
        return bands::tiff(bytes, reading);
    }
    let (picture, orientation) = match format {
        ImageFormat::Jpeg => jpeg(&whole::jpeg(bytes)?, reading)?,
        _ => {
            whole::check(format, bytes)?;
            other(format, bytes, reading)?
        }
    };
    let alpha = reading.channels == 4;
    let (pixels, deep) = levels::to_8_bits(picture, reading.range, alpha);
    let mut picture = pixels;
    picture.apply_orientation(orientation);
    let (height, width) = (picture.height() as usize, picture.width() as usize);
    let image = if alpha && picture.color() == ColorType::Rgba8 {
        Image::new(height, width, 4, picture.into_rgba8().into_raw())
    } else if picture.color().has_color() {
        Image::new(height, width, 3, picture.into_rgb8().into_raw())
    } else {
        Image::new(height, width, 1, picture.into_luma8().into_raw())
    };
    Ok(Decoded { image: image.into_channels(reading.channels)?, deep })
}

/// Whether a picture of this size is read.
pub fn fits(width: u64, height: u64, max_pixels: usize) -> Result<(), String> {
    if width == 0 || height == 0 {
        return Err(format!("{width} x {height} pixels are no picture"));
    }
    if width.max(height) > MAX_SIDE {
        return Err(format!("{width} x {height} pixels: a side is longer than {MAX_SIDE}"));
    }
    if width * height > max_pixels as u64 {
        return Err(format!("{width} x {height} pixels are more than `data.max_pixels`, {max_pixels}"));
    }
    Ok(())
}

/// Strict where the `image` crate is not: that fills what cannot be decoded with gray and says nothing.
fn jpeg(bytes: &[u8], reading: Reading) -> Result<(DynamicImage, Orientation), String> {
    let options = DecoderOptions::default().set_strict_mode(true).set_max_width(usize::MAX).set_max_height(usize::MAX);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(jpeg_error)?;
    let (width, height) = decoder.dimensions().ok_or("its header names no size")?;
    fits(width as u64, height as u64, reading.max_pixels)?;
    let gray = matches!(decoder.input_colorspace(), Some(ColorSpace::Luma));
    let wanted = if gray { ColorSpace::Luma } else { ColorSpace::RGB };
    decoder.set_options(options.jpeg_set_out_colorspace(wanted));
    let length = decoder.output_buffer_size().ok_or("its header names no size")?;
    let mut pixels = spare::take(length);
    decoder.decode_into(&mut pixels).map_err(jpeg_error)?;
    // A damaged EXIF block says nothing about the pixels: the picture is taken as it lies.
    let orientation = decoder.exif().and_then(|exif| Orientation::from_exif_chunk(exif));
    let picture = match gray {
        true => ::image::GrayImage::from_raw(width as u32, height as u32, pixels).map(DynamicImage::from),
        false => ::image::RgbImage::from_raw(width as u32, height as u32, pixels).map(DynamicImage::from),
    };
    let picture = picture.ok_or("its pixels are not as many as its header says")?;
    Ok((picture, orientation.unwrap_or(Orientation::NoTransforms)))
}

fn jpeg_error(error: DecodeErrors) -> String {
    match error {
        DecodeErrors::ExhaustedData => whole::EARLY.to_owned(),
        DecodeErrors::Unsupported(_) => format!("not read: {}", one_line(&error)),
        error => format!("damaged: {}", one_line(&error)),
    }
}

fn other(format: ImageFormat, bytes: &[u8], reading: Reading) -> Result<(DynamicImage, Orientation), String> {
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(ASIDE + PIXEL * reading.max_pixels as u64);
    if format == ImageFormat::Png {
        // The only decoder that takes its limits before it has told the size.
        let (width, height) = whole::png_size(bytes)?;
        fits(width, height, reading.max_pixels)?;
        limits.max_alloc = Some(ASIDE + PIXEL * width * height);
    }
    if format == ImageFormat::WebP {
        whole::webp_sizes(bytes).into_iter().try_for_each(|(width, height)| fits(width, height, reading.max_pixels))?;
    }
    let bytes = whole::Watched::new(bytes);
    // Formats without an end mark were not checked: there, a decoder that wants more than there is has missed pixels.
    let error = |found: ImageError| match format {
        ImageFormat::Bmp | ImageFormat::Tiff if bytes.are_too_few() => whole::EARLY.to_owned(),
        _ => error(found),
    };
    let mut reader = ImageReader::with_format(bytes.clone(), format);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().map_err(error)?;
    let (width, height) = decoder.dimensions();
    fits(width.into(), height.into(), reading.max_pixels)?;
    limits.max_alloc = Some(ASIDE + PIXEL * u64::from(width) * u64::from(height));
    decoder.set_limits(limits).map_err(error)?;
    if matches!(decoder.color_type(), ColorType::Rgb32F | ColorType::Rgba32F) {
        return Err("pixels of floats, which are not read: convert them to 8 or 16 bits".to_owned());
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    Ok((DynamicImage::from_decoder(decoder).map_err(error)?, orientation))
}

/// What a decoder says, as a clause.
fn error(error: ImageError) -> String {
    match error {
        ImageError::Limits(limit) if matches!(limit.kind(), LimitErrorKind::InsufficientMemory) => {
            "asks for more memory than its pixels need".to_owned()
        }
        ImageError::Unsupported(what) => format!("not read: {}", one_line(&what)),
        error => format!("damaged: {}", one_line(&error)),
    }
}

/// Whatever the decoder wrote.
fn one_line(error: &dyn std::error::Error) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
