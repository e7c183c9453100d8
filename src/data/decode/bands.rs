//! TIFF of other than one or three bands, as satellites and microscopes give them: the first picture of a file, pixel by pixel or
//! band by band.
//!
//! **Invariant:** all bands of a picture are read or none is: what `data.channels` says is what the file holds.

use std::io::Cursor;

use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;

use super::levels::{self, Deep};
use super::{Decoded, Reading, fits, one_line};
use crate::data::Image;

/// Beside the pixels: the compressed data of a strip.
const ASIDE: usize = 16 << 20;

pub fn tiff(bytes: &[u8], reading: Reading) -> Result<Decoded, String> {
    let error = |error: tiff::TiffError| match &error {
        tiff::TiffError::UnsupportedError(what) => format!("not read: {}", one_line(what)),
        tiff::TiffError::IoError(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => {
            super::whole::EARLY.to_owned()
        }
        other => format!("damaged: {}", one_line(other)),
    };
    let mut limits = Limits::default();
    limits.ifd_value_size = bytes.len();
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(error)?.with_limits(limits.clone());
    let (width, height) = decoder.dimensions().map_err(error)?;
    fits(width.into(), height.into(), reading.max_pixels)?;
    let pixels = width as usize * height as usize;
    let bands = decoder.find_tag_unsigned::<u16>(Tag::SamplesPerPixel).map_err(error)?.unwrap_or(1).into();
    if bands != reading.channels {
        return Err(format!("a picture of {bands} bands where `data.channels` says {}", reading.channels));
    }
    if decoder.find_tag_unsigned::<u16>(Tag::Orientation).map_err(error)?.is_some_and(|turned| turned != 1) {
        return Err("it lies turned, which is not read of other than 1 or 3 bands".to_owned());
    }
    limits.decoding_buffer_size = pixels * bands * 2;
    limits.intermediate_buffer_size = pixels * bands * 2 + ASIDE;
    let mut decoder = decoder.with_limits(limits);
    let mut values = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut values).map_err(error)?;
    let by_plane = layout.planes > 1;
    let (data, deep): (Vec<u8>, Option<Deep>) = match values {
        DecodingResult::U8(values) => (values, None),
        DecodingResult::U16(values) => levels::of_16_bits(values, reading.range),
        _ => return Err("values of other than 8 or 16 bits, which are not read: convert them".to_owned()),
    };
    if data.len() != pixels * bands {
        return Err(format!("{} of its {bands} bands are read", data.len() / pixels));
    }
    let data = if by_plane { side_by_side(&data, bands) } else { data };
    Ok(Decoded { image: Image::new(height as usize, width as usize, bands, data), deep })
}

/// Planes one after the other, as pixels.
fn side_by_side(planes: &[u8], bands: usize) -> Vec<u8> {
    let pixels = planes.len() / bands;
    (0..pixels).flat_map(|pixel| (0..bands).map(move |band| planes[band * pixels + pixel])).collect()
}
