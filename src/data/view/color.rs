//! Steps that change a pixel's colour, each by itself or by the mean of the picture.
//!
//! **Invariant:** bit for bit what torchvision computes on `uint8` tensors: in f32, clamped to 0..=255 and truncated.
//! Images of other than three channels have no colour: saturation, hue and grayscale leave them as they are, and the gray of
//! `contrast` is the mean of all their values.

use crate::data::Image;
use crate::spec::Scaling;

/// `factor · v`; 0 is black, 1 the image.
pub fn brightness(mut image: Image, factor: f64) -> Image {
    let table = levels(|v| blend(v, 0.0, factor));
    image.data.iter_mut().for_each(|v| *v = table[usize::from(*v)]);
    image
}

/// `factor · v + (1 − factor) · mean of gray`; 0 is plain gray, 1 the image.
pub fn contrast(mut image: Image, factor: f64) -> Image {
    let sum: f64 = match image.channels {
        3 => image.data.chunks_exact(3).map(|rgb| f64::from(gray(rgb))).sum(),
        _ => image.data.iter().map(|&v| f64::from(v)).sum(),
    };
    let values = if image.channels == 3 { image.data.len() / 3 } else { image.data.len() };
    let mean = (sum / values as f64) as f32;
    let table = levels(|v| blend(v, mean, factor));
    image.data.iter_mut().for_each(|v| *v = table[usize::from(*v)]);
    image
}

/// `factor · v + (1 − factor) · gray`; 0 is gray, 1 the image.
pub fn saturation(mut image: Image, factor: f64) -> Image {
    if image.channels == 3 {
        for rgb in image.data.chunks_exact_mut(3) {
            let gray = gray(rgb);
            rgb.iter_mut().for_each(|v| *v = blend(f32::from(*v), gray, factor));
        }
    }
    image
}

/// Turns the hue by `turn`, a share of a full turn in −0.5..=0.5.
pub fn hue(mut image: Image, turn: f64) -> Image {
    if image.channels == 3 {
        for rgb in image.data.chunks_exact_mut(3) {
            let (h, s, v) = to_hsv([rgb[0], rgb[1], rgb[2]]);
            let turned = (h + turn as f32).rem_euclid(1.0);
            rgb.copy_from_slice(&from_hsv(turned, s, v));
        }
    }
    image
}

/// Each pixel's gray in all of its channels.
pub fn grayscale(mut image: Image) -> Image {
    if image.channels == 3 {
        for rgb in image.data.chunks_exact_mut(3) {
            let gray = gray(rgb) as u8;
            rgb.fill(gray);
        }
    }
    image
}

/// `255 − v` where `v ≥ threshold`.
pub fn solarize(mut image: Image, threshold: u8) -> Image {
    image.data.iter_mut().filter(|v| **v >= threshold).for_each(|v| *v = 255 - *v);
    image
}

/// The picture by `scaling`, as channel × row × column.
///
/// # Panics
/// Where there is not one mean and deviation a channel, which the compiler rejects.
pub fn normalize(image: &Image, scaling: &Scaling) -> Vec<f32> {
    let channels = image.channels;
    assert!(scaling.mean.len() == channels && scaling.std.len() == channels, "mean and std of {channels} channels");
    let mut planes = Vec::with_capacity(image.data.len());
    for channel in 0..channels {
        planes.extend(image.data.iter().skip(channel).step_by(channels).copied().map(scaling.of_channel(channel)));
    }
    planes
}

/// What [`normalize`] takes, in its order.
pub fn planes(image: &Image) -> Vec<u8> {
    let channels = image.channels;
    (0..channels).flat_map(|channel| image.data.iter().skip(channel).step_by(channels).copied()).collect()
}

/// What `f` makes of each of the 256 levels.
fn levels(f: impl Fn(f32) -> u8) -> [u8; 256] {
    std::array::from_fn(|v| f(v as f32))
}

/// `factor · v + (1 − factor) · other`, clamped and truncated.
///
/// Both factors are rounded to f32 by themselves, and the sum is fused, as torch's are: where `v` equals `other`, a plain sum may fall short of it and lose a level.
fn blend(v: f32, other: f32, factor: f64) -> u8 {
    ((1.0 - factor) as f32).mul_add(other, factor as f32 * v).clamp(0.0, 255.0) as u8
}

/// A pixel's gray, truncated, by torchvision's weights (ITU-R 601, rounded to four digits).
fn gray(rgb: &[u8]) -> f32 {
    let [r, g, b] = [rgb[0], rgb[1], rgb[2]].map(f32::from);
    (0.2989 * r + 0.587 * g + 0.114 * b).floor()
}

/// Hue in turns, saturation and value in 0..=1.
fn to_hsv(rgb: [u8; 3]) -> (f32, f32, f32) {
    let [r, g, b] = rgb.map(|v| f32::from(v) / 255.0);
    let (high, low) = (r.max(g).max(b), r.min(g).min(b));
    if high == low {
        return (0.0, 0.0, high);
    }
    let spread = high - low;
    let sixths = if high == r {
        (g - b) / spread
    } else if high == g {
        2.0 + (b - r) / spread
    } else {
        4.0 + (r - g) / spread
    };
    ((sixths / 6.0).rem_euclid(1.0), spread / high, high)
}

fn from_hsv(h: f32, s: f32, v: f32) -> [u8; 3] {
    // Red, green and blue are the same wave, a third of a turn apart.
    [5.0, 3.0, 1.0].map(|shift| {
        let k = (shift + 6.0 * h) % 6.0;
        let value = v - v * s * k.min(4.0 - k).clamp(0.0, 1.0);
        (value * 255.999) as u8
    })
}
