//! 16-bit pictures become 8-bit ones, and it is seen where that loses more than depth.

use ::image::{DynamicImage, ImageBuffer, Luma, Rgb};

/// Levels of 256 below which a picture of more values is worth a word: a quarter.
const FEW: u16 = 64;

/// What is left of a picture's 16-bit values, where that is little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deep {
    /// Least and greatest value, without alpha.
    pub least: u16,
    pub greatest: u16,
    /// Distinct 8-bit levels that they span.
    pub levels: u16,
    /// Whether some lie outside of the range that the source was given.
    pub clipped: bool,
}

/// `picture` with 8 bits a value: `range` becomes 0..=255, rounded, what lies outside of it the nearest of both.
///
/// Alpha of 16-bit pictures is dropped; others stay as they are.
pub fn to_8_bits(picture: DynamicImage, range: Option<(u16, u16)>) -> (DynamicImage, Option<Deep>) {
    let (width, height) = (picture.width(), picture.height());
    let (values, gray) = match picture {
        DynamicImage::ImageLuma16(picture) => (picture.into_raw(), true),
        DynamicImage::ImageLumaA16(picture) => (kept::<2, 1>(&picture), true),
        DynamicImage::ImageRgb16(picture) => (picture.into_raw(), false),
        DynamicImage::ImageRgba16(picture) => (kept::<4, 3>(&picture), false),
        picture => return (picture, None),
    };
    let (low, high) = range.unwrap_or((0, u16::MAX));
    let (low, span) = (u32::from(low), u32::from(high - low));
    let level = |value: u16| (((u32::from(value).clamp(low, low + span) - low) * 255 + span / 2) / span) as u8;
    let (least, greatest) = values.iter().fold((u16::MAX, 0), |(a, b), v| (a.min(*v), b.max(*v)));
    let levels = u16::from(level(greatest)) - u16::from(level(least)) + 1;
    let clipped = u32::from(least) < low || u32::from(greatest) > low + span;
    let few = levels < FEW && greatest - least >= levels;
    let deep = (few || clipped).then_some(Deep { least, greatest, levels, clipped });
    let data: Vec<u8> = values.into_iter().map(level).collect();
    let picture = match gray {
        true => ImageBuffer::<Luma<u8>, _>::from_raw(width, height, data).map(DynamicImage::from),
        false => ImageBuffer::<Rgb<u8>, _>::from_raw(width, height, data).map(DynamicImage::from),
    };
    (picture.expect("each value became one"), deep)
}

/// The first `KEPT` of every `ALL` values.
fn kept<const ALL: usize, const KEPT: usize>(values: &[u16]) -> Vec<u16> {
    values.chunks_exact(ALL).flat_map(|pixel| pixel[..KEPT].iter().copied()).collect()
}
