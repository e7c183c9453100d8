//! Steps that spread, cut or sharpen levels, each channel by itself.
//!
//! **Invariant:** bit for bit torchvision's on `uint8`, for any number of channels.

use super::level::{below, clamp};
use crate::data::Image;
use crate::wide::wide;

/// Keeps the `bits` highest bits of each level.
pub fn posterize(mut image: Image, bits: u32) -> Image {
    let mask = !(0xff_u32 >> bits.min(8)) as u8;
    image.data.iter_mut().for_each(|v| *v &= mask);
    image
}

/// Spreads each channel's levels over 0..=255; one of a single level stays.
pub fn auto_contrast(mut image: Image) -> Image {
    by_level(&mut image, |counts| {
        let used = |level: &usize| counts[*level] > 0;
        let (Some(least), Some(most)) = ((0..256).find(used), (0..256).rfind(used)) else { return identity() };
        if least == most {
            return identity();
        }
        let scale = (most - least) as f32 * (1.0 / 255.0_f64) as f32;
        // A cast ends at 0 and at 255, and cuts off what is behind the point.
        std::array::from_fn(|level| ((level as f32 - least as f32) / scale) as u8)
    });
    image
}

/// Gives each of a channel's levels about as many pixels.
///
/// Source: Pillow's `ImageOps.equalize`, which torchvision follows: the step is what a level would have, without the pixels of the
/// greatest level. A channel of fewer than 255 others stays.
pub fn equalize(mut image: Image) -> Image {
    by_level(&mut image, |counts| {
        let greatest = counts.iter().rposition(|count| *count > 0).unwrap_or(0);
        let others: usize = counts[..greatest].iter().sum();
        let step = others / 255;
        if step == 0 {
            return identity();
        }
        let mut below = 0;
        std::array::from_fn(|level| {
            let new = (below + step / 2) / step;
            below += counts[level];
            new.min(255) as u8
        })
    });
    image
}

/// `factor · v + (1 − factor) · blurred`; 0 is blurred, 1 the image. Pixels at the edges stay.
///
/// Blurred is the mean of a pixel, which counts five times, and its eight neighbours, as a whole level.
pub fn sharpness(image: &Image, factor: f64) -> Image {
    let Image { height, width, channels, .. } = *image;
    let mut data = image.data.clone();
    if height <= 2 || width <= 2 {
        return Image::new(height, width, channels, data);
    }
    let (row, rest) = (width * channels, (1.0 - factor) as f32);
    let inner = row - 2 * channels;
    for y in 1..height - 1 {
        let lines: [&[u8]; 3] = [y - 1, y, y + 1].map(|y| &image.data[y * row..][..row]);
        sharpen(lines, channels, rest, &mut data[y * row + channels..][..inner]);
    }
    Image::new(height, width, channels, data)
}

wide! {
    /// A row without its first and last pixels, from the whole rows above, of, and below it.
    fn sharpen(lines: [&[u8]; 3], channels: usize, rest: f32, target: &mut [u8]) {
        let len = target.len();
        let taps: [[&[u8]; 3]; 3] = lines.map(|line| [0, 1, 2].map(|tap| &line[tap * channels..][..len]));
        for (at, v) in target.iter_mut().enumerate() {
            let mut sum = 4 * u32::from(*v);
            for line in &taps {
                sum += u32::from(line[0][at]) + u32::from(line[1][at]) + u32::from(line[2][at]);
            }
            // A thirteenth never lies half between two levels: the nearest is that of whole numbers.
            let blurred = ((2 * sum + 13) / 26) as f32;
            let level = f32::from(*v);
            // Fused, as torch's is.
            let sharp = rest.mul_add(blurred - level, level);
            *v = below(clamp(sharp, 255.0));
        }
    }
}

fn identity() -> [u8; 256] {
    std::array::from_fn(|level| level as u8)
}

/// Gives each channel's pixels new levels, by a table made of how many pixels each level has.
fn by_level(image: &mut Image, table: impl Fn(&[usize; 256]) -> [u8; 256]) {
    let channels = image.channels;
    for channel in 0..channels {
        let mut counts = [0; 256];
        image.data.iter().skip(channel).step_by(channels).for_each(|v| counts[usize::from(*v)] += 1);
        let table = table(&counts);
        image.data.iter_mut().skip(channel).step_by(channels).for_each(|v| *v = table[usize::from(*v)]);
    }
}
