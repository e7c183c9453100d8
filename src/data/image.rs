//! A decoded picture: 8-bit, interleaved, with one channel or three.
//!
//! **Invariant:** `data` holds `height · width · channels` values, row by row, all channels of a pixel side by side;
//! neither side is zero. Picture files become this form as Pillow's `convert("RGB")` or `convert("L")` make them.

use std::io::Cursor;

use ::image::{DynamicImage, ImageDecoder, ImageReader};

/// `height` × `width` × `channels`, 8-bit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub data: Vec<u8>,
}

impl Image {
    /// Wraps `data` (row, column, channel).
    ///
    /// # Panics
    /// Where `data` is not `height · width · channels` long: a caller's mistake, not a user's.
    pub fn new(height: usize, width: usize, channels: usize, data: Vec<u8>) -> Image {
        assert_eq!(data.len(), height * width * channels, "data of an image of {height} x {width} x {channels}");
        Image { height, width, channels, data }
    }

    /// The same size, with the pixel values that `data` holds.
    pub(crate) fn with_data(&self, data: Vec<u8>) -> Image {
        Image::new(self.height, self.width, self.channels, data)
    }

    /// With `channels` channels, 1 or 3: colour to luma, or gray three times.
    pub fn into_channels(self, channels: usize) -> Image {
        let data = match (self.channels, channels) {
            (from, to) if from == to => return self,
            (3, 1) => self.data.chunks_exact(3).map(luma).collect(),
            (1, 3) => self.data.iter().flat_map(|&v| [v; 3]).collect(),
            (from, to) => panic!("an image has 1 or 3 channels: {from} to {to}"),
        };
        Image::new(self.height, self.width, channels, data)
    }
}

/// ITU-R 601 luma of an RGB pixel in 16-bit fixed point, rounded: Pillow's `convert("L")`.
fn luma(rgb: &[u8]) -> u8 {
    let [r, g, b] = [rgb[0], rgb[1], rgb[2]].map(u32::from);
    ((r * 19595 + g * 38470 + b * 7471 + (1 << 15)) >> 16) as u8
}

/// Decodes a JPEG, PNG or WebP file, whose format its first bytes tell, to 1 or 3 `channels`.
///
/// The EXIF orientation is applied, alpha is dropped, and 16-bit values are rounded to 8 bits. CMYK and YCCK become
/// RGB as in Adobe's files, which store them inverted.
///
/// # Errors
/// What the decoder says, for bytes that are no such picture.
pub fn decode(bytes: &[u8], channels: usize) -> Result<Image, String> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| e.to_string())?;
    if reader.format().is_none() {
        return Err("not a jpeg, png or webp picture".to_owned());
    }
    let mut decoder = reader.into_decoder().map_err(|e| e.to_string())?;
    // A damaged EXIF block says nothing about the pixels: the picture is taken as it lies.
    let orientation = decoder.orientation().ok();
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|e| e.to_string())?;
    if let Some(orientation) = orientation {
        picture.apply_orientation(orientation);
    }
    let (height, width) = (picture.height() as usize, picture.width() as usize);
    if height == 0 || width == 0 {
        return Err(format!("empty picture of {height} x {width} pixels"));
    }
    let image = if picture.color().has_color() {
        Image::new(height, width, 3, picture.into_rgb8().into_raw())
    } else {
        Image::new(height, width, 1, picture.into_luma8().into_raw())
    };
    Ok(image.into_channels(channels))
}
