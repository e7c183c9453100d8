//! 16-bit pictures become 8-bit ones, and it is seen where that loses more than depth.

use ::image::{DynamicImage, ImageBuffer, Luma, Rgb, Rgba};

/// Levels of 256 below which a picture of more values is worth a word: a quarter.
const FEW: u16 = 64;

/// What is left of a picture's 16-bit values, where that is little.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Deep {
    /// Least and greatest value, without alpha where that is dropped.
    pub least: f64,
    pub greatest: f64,
    /// Distinct 8-bit levels that they span.
    pub levels: u16,
    /// Whether some lie outside of the range that the source was given.
    pub clipped: bool,
}

/// `picture` with 8 bits a value: `range` becomes 0..=255, rounded, what lies outside of it the nearest of both.
///
/// Alpha of 16-bit pictures is dropped unless it is one of four channels that are wanted; others stay as they are.
pub fn to_8_bits(picture: DynamicImage, range: Option<(u16, u16)>, alpha: bool) -> (DynamicImage, Option<Deep>) {
    let (width, height) = (picture.width(), picture.height());
    let (values, channels) = match picture {
        DynamicImage::ImageLuma16(picture) => (picture.into_raw(), 1),
        DynamicImage::ImageLumaA16(picture) => (kept::<2, 1>(&picture), 1),
        DynamicImage::ImageRgb16(picture) => (picture.into_raw(), 3),
        DynamicImage::ImageRgba16(picture) if alpha => (picture.into_raw(), 4),
        DynamicImage::ImageRgba16(picture) => (kept::<4, 3>(&picture), 3),
        picture => return (picture, None),
    };
    let (data, deep) = of_16_bits(values, range);
    let picture = match channels {
        1 => ImageBuffer::<Luma<u8>, _>::from_raw(width, height, data).map(DynamicImage::from),
        3 => ImageBuffer::<Rgb<u8>, _>::from_raw(width, height, data).map(DynamicImage::from),
        _ => ImageBuffer::<Rgba<u8>, _>::from_raw(width, height, data).map(DynamicImage::from),
    };
    (picture.expect("each value became one"), deep)
}

/// Values of 16 bits with 8 each, as [`to_8_bits`] makes them.
pub fn of_16_bits(values: Vec<u16>, range: Option<(u16, u16)>) -> (Vec<u8>, Option<Deep>) {
    let (low, high) = range.unwrap_or((0, u16::MAX));
    let (low, span) = (u32::from(low), u32::from(high - low));
    let level = |value: u16| (((u32::from(value).clamp(low, low + span) - low) * 255 + span / 2) / span) as u8;
    let (least, greatest) = values.iter().fold((u16::MAX, 0), |(a, b), v| (a.min(*v), b.max(*v)));
    let levels = u16::from(level(greatest)) - u16::from(level(least)) + 1;
    let clipped = u32::from(least) < low || u32::from(greatest) > low + span;
    let few = levels < FEW && greatest - least >= levels;
    let (least, greatest) = (f64::from(least), f64::from(greatest));
    let deep = (few || clipped).then_some(Deep { least, greatest, levels, clipped });
    (values.into_iter().map(level).collect(), deep)
}

/// Numbers with 8 bits each: `range` becomes 0..=255, rounded, what lies outside of it the nearest of both. None is NaN.
pub fn levels_of(values: &[f32], (low, high): (f64, f64)) -> (Vec<u8>, Option<Deep>) {
    // A cast clamps.
    let level = |value: f64| ((value - low) * (255.0 / (high - low)) + 0.5) as u8;
    let (least, greatest) = values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
    let (least, greatest) = (f64::from(least), f64::from(greatest));
    let levels = u16::from(level(greatest)).saturating_sub(u16::from(level(least))) + 1;
    let clipped = least < low || greatest > high;
    // A picture of one value, and whole numbers that each have a level of their own, lose nothing.
    let is_whole = || values.iter().all(|value| value.fract() == 0.0);
    let few = levels < FEW && greatest > least && !(is_whole() && greatest - least < f64::from(levels));
    let deep = (few || clipped).then_some(Deep { least, greatest, levels, clipped });
    (values.iter().map(|value| level(f64::from(*value))).collect(), deep)
}

/// The first `KEPT` of every `ALL` values.
fn kept<const ALL: usize, const KEPT: usize>(values: &[u16]) -> Vec<u16> {
    values.chunks_exact(ALL).flat_map(|pixel| pixel[..KEPT].iter().copied()).collect()
}
