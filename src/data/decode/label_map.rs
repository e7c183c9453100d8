//! Label maps: PNGs whose pixels are classes, as gray levels or as places in a palette, whose colours say nothing.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ::image::ImageFormat;
use png::{BitDepth, ColorType, Decoder, Limits};

use super::{ASIDE, fits, format, one_line, whole};
use crate::data::label_map::{LabelMap, NONE};

/// The classes of a PNG's pixels, but for `ignored`, which stands for none.
///
/// # Errors
/// Why the bytes are no label map of at most `max_pixels`.
pub fn label_map(bytes: &[u8], max_pixels: usize, ignored: Option<u16>) -> Result<LabelMap, String> {
    let read = || read(bytes, max_pixels, ignored);
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err("the decoder failed on it".to_owned()))
}

fn read(bytes: &[u8], max_pixels: usize, ignored: Option<u16>) -> Result<LabelMap, String> {
    let found = format::of(bytes)?;
    if found != ImageFormat::Png {
        let found = found.extensions_str().first().unwrap_or(&"another format").to_uppercase();
        return Err(format!("{found}, where a label map is a PNG: others lose what small numbers say"));
    }
    whole::check(found, bytes)?;
    let (width, height) = whole::png_size(bytes)?;
    fits(width, height, max_pixels)?;
    let (width, height) = (width as usize, height as usize);
    // Two bytes a pixel at most, and once more for what the decoder keeps.
    let limits = Limits { bytes: ASIDE as usize + 4 * width * height };
    let mut reader = Decoder::new_with_limits(Cursor::new(bytes), limits).read_info().map_err(damaged)?;
    let (color, depth) = reader.output_color_type();
    if !matches!(color, ColorType::Grayscale | ColorType::Indexed) {
        return Err("in colour, where a label map has one number a pixel: write the classes as gray levels".to_owned());
    }
    let mut packed = vec![0; reader.output_buffer_size().ok_or("its header names no size")?];
    let line = reader.next_frame(&mut packed).map_err(damaged)?.line_size;
    let class = |level: u16| if Some(level) == ignored { NONE } else { i32::from(level) };
    let mut data = Vec::with_capacity(width * height);
    for row in packed.chunks_exact(line.max(1)).take(height) {
        data.extend((0..width).map(|column| class(level(row, column, depth))));
    }
    if data.len() != width * height {
        return Err("its pixels are not as many as its header says".to_owned());
    }
    Ok(LabelMap { height, width, data })
}

/// The number of a pixel in a row, whose pixels lie from the highest bits on.
fn level(row: &[u8], column: usize, depth: BitDepth) -> u16 {
    let bits = match depth {
        BitDepth::Sixteen => return u16::from_be_bytes([row[2 * column], row[2 * column + 1]]),
        BitDepth::Eight => return row[column].into(),
        BitDepth::One => 1,
        BitDepth::Two => 2,
        BitDepth::Four => 4,
    };
    let at = column * bits;
    u16::from(row[at / 8] >> (8 - bits - at % 8)) & ((1 << bits) - 1)
}

fn damaged(error: png::DecodingError) -> String {
    format!("damaged: {}", one_line(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(size: (u32, u32), color: ColorType, depth: BitDepth, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, size.0, size.1);
        encoder.set_color(color);
        encoder.set_depth(depth);
        if color == ColorType::Indexed {
            // All black: the colours are not what counts.
            encoder.set_palette(vec![0; 3 << depth as u8]);
        }
        let mut writer = encoder.write_header().expect("it is a size");
        writer.write_image_data(data).expect("as many as its size says");
        writer.finish().expect("it is written");
        bytes
    }

    #[test]
    fn levels_of_all_depths_and_places_in_a_palette() {
        let expect = |color, depth, data: &[u8], wanted: [i32; 6]| {
            let map = label_map(&encoded((3, 2), color, depth, data), 100, None).expect("it is one");
            assert_eq!((map.height, map.width, map.data), (2, 3, wanted.to_vec()), "{color:?} {depth:?}");
        };
        for color in [ColorType::Grayscale, ColorType::Indexed] {
            expect(color, BitDepth::One, &[0b101 << 5, 0b011 << 5], [1, 0, 1, 0, 1, 1]);
            expect(color, BitDepth::Two, &[0b00_01_10 << 2, 0b11_10_01 << 2], [0, 1, 2, 3, 2, 1]);
            expect(color, BitDepth::Four, &[0x0f, 0x30, 0x71, 0x20], [0, 15, 3, 7, 1, 2]);
            expect(color, BitDepth::Eight, &[0, 150, 255, 1, 2, 3], [0, 150, 255, 1, 2, 3]);
        }
        let deep = [0, 0, 1, 0, 0xff, 0xff, 0, 1, 0, 2, 0, 3];
        expect(ColorType::Grayscale, BitDepth::Sixteen, &deep, [0, 256, 65535, 1, 2, 3]);
        let eight = encoded((3, 2), ColorType::Indexed, BitDepth::Eight, &[0, 150, 255, 1, 2, 255]);
        assert_eq!(label_map(&eight, 6, Some(255)).expect("it is one").data, [0, 150, NONE, 1, 2, NONE]);
    }

    #[test]
    fn what_is_none_says_why() {
        let colours = encoded((1, 1), ColorType::Rgb, BitDepth::Eight, &[1, 2, 3]);
        let gray = encoded((3, 2), ColorType::Grayscale, BitDepth::Eight, &[0; 6]);
        for (bytes, part) in [
            (&colours[..], "in colour"),
            (&gray[..gray.len() - 1], "ends early"),
            (b"\xff\xd8\xff\xe0", "JPG, where a label map is a PNG"),
            (b"BM", "BMP, where"),
            (b"", "empty"),
        ] {
            let error = label_map(bytes, 100, None).expect_err("it is none");
            assert!(error.contains(part), "{error}");
        }
        assert!(label_map(&gray, 5, None).expect_err("too large").contains("more than `data.max_pixels`, 5"));
        // Whatever a byte becomes, it is a map or a clause.
        for at in 8..gray.len() {
            let mut bytes = gray.clone();
            bytes[at] ^= 0xff;
            let _ = label_map(&bytes, 100, None);
        }
    }
}
