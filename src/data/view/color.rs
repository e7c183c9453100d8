//! Steps that change a pixel's colour, each by itself or by the mean of the picture.
//!
//! **Invariant:** bit for bit what torchvision computes on `uint8` tensors: in f32, clamped to 0..=255 and truncated.
//! Images of other than three channels have no colour: saturation, hue and grayscale leave them as they are, and the gray of
//! `contrast` is the mean of all their values.

use super::level::{below, clamp, floor};
use crate::data::Image;
use crate::spec::Scaling;
use crate::wide::wide;

/// `factor · v`; 0 is black, 1 the image.
pub fn brightness(mut image: Image, factor: f64) -> Image {
    let table = levels(|v| blend(f32::from(v), 0.0, weights(factor)) as u8);
    image.data.iter_mut().for_each(|v| *v = table[usize::from(*v)]);
    image
}

/// `factor · v + (1 − factor) · mean of gray`; 0 is plain gray, 1 the image.
pub fn contrast(mut image: Image, factor: f64) -> Image {
    // Sums of whole numbers are exact in any order.
    let mut sum = 0;
    match image.channels {
        3 => sum_of_grays(&image.data, &mut sum),
        _ => sum = image.data.iter().map(|&v| u64::from(v)).sum(),
    }
    let values = if image.channels == 3 { image.data.len() / 3 } else { image.data.len() };
    let mean = (sum as f64 / values as f64) as f32;
    let table = levels(|v| blend(f32::from(v), mean, weights(factor)) as u8);
    image.data.iter_mut().for_each(|v| *v = table[usize::from(*v)]);
    image
}

/// `factor · v + (1 − factor) · gray`; 0 is gray, 1 the image.
pub fn saturation(mut image: Image, factor: f64) -> Image {
    if image.channels == 3 {
        saturate(&mut image.data, weights(factor));
    }
    image
}

/// Turns the hue by `turn`, a share of a full turn in −0.5..=0.5.
pub fn hue(mut image: Image, turn: f64) -> Image {
    if image.channels == 3 {
        turn_hue(&mut image.data, turn as f32);
    }
    image
}

/// Each pixel's gray in all of its channels.
pub fn grayscale(mut image: Image) -> Image {
    if image.channels == 3 {
        make_gray(&mut image.data);
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
    // A byte has 256 values: each is computed once a channel.
    let tables: Vec<[f32; 256]> = (0..channels).map(|channel| levels(scaling.of_channel(channel))).collect();
    parted(image, |channel, v| tables[channel][usize::from(v)])
}

/// What [`normalize`] takes, in its order.
pub fn planes(image: &Image) -> Vec<u8> {
    parted(image, |_, v| v)
}

/// `of` each channel and value, as channel × row × column.
fn parted<T: Copy + Default>(image: &Image, of: impl Fn(usize, u8) -> T) -> Vec<T> {
    let (channels, pixels) = (image.channels, image.height * image.width);
    let mut parted = vec![T::default(); image.data.len()];
    if channels == 3 {
        // One way through the bytes, three rows that grow.
        let (first, rest) = parted.split_at_mut(pixels);
        let (second, third) = rest.split_at_mut(pixels);
        for (((rgb, r), g), b) in image.data.chunks_exact(3).zip(first).zip(second).zip(third) {
            (*r, *g, *b) = (of(0, rgb[0]), of(1, rgb[1]), of(2, rgb[2]));
        }
    } else {
        for (channel, plane) in parted.chunks_exact_mut(pixels).enumerate() {
            let values = image.data.iter().skip(channel).step_by(channels);
            plane.iter_mut().zip(values).for_each(|(to, v)| *to = of(channel, *v));
        }
    }
    parted
}

/// What `f` makes of each of the 256 levels.
fn levels<T>(f: impl Fn(u8) -> T) -> [T; 256] {
    std::array::from_fn(|v| f(v as u8))
}

/// `factor` and `1 − factor`, each rounded to f32 by itself, as torch's are.
fn weights(factor: f64) -> (f32, f32) {
    (factor as f32, (1.0 - factor) as f32)
}

/// `factor · v + (1 − factor) · other`, clamped; a cast truncates it.
///
/// The sum is fused, as torch's is: where `v` equals `other`, a plain sum may fall short of it and lose a level.
#[inline(always)]
fn blend(v: f32, other: f32, (factor, rest): (f32, f32)) -> f32 {
    clamp(rest.mul_add(other, factor * v), 255.0)
}

/// A pixel's gray, truncated, by torchvision's weights (ITU-R 601, rounded to four digits).
#[inline(always)]
fn gray(r: f32, g: f32, b: f32) -> f32 {
    floor(0.2989 * r + 0.587 * g + 0.114 * b)
}

/// Pixels that are worked on at once; their channels lie apart meanwhile, so that loops over them become vectors.
const BLOCK: usize = 64;

/// The levels of a block, channel by channel; black where there are fewer pixels.
struct Block([[f32; BLOCK]; 3]);

impl Block {
    const BLACK: Block = Block([[0.0; BLOCK]; 3]);

    #[inline(always)]
    fn read(&mut self, pixels: &[u8]) {
        let mut bytes = [0; 3 * BLOCK];
        bytes[..pixels.len()].copy_from_slice(pixels);
        for at in 0..BLOCK {
            self.0[0][at] = f32::from(bytes[3 * at]);
            self.0[1][at] = f32::from(bytes[3 * at + 1]);
            self.0[2][at] = f32::from(bytes[3 * at + 2]);
        }
    }

    /// Truncated.
    #[inline(always)]
    fn write(&self, pixels: &mut [u8]) {
        let mut bytes = [0; 3 * BLOCK];
        for at in 0..BLOCK {
            bytes[3 * at] = below(self.0[0][at]);
            bytes[3 * at + 1] = below(self.0[1][at]);
            bytes[3 * at + 2] = below(self.0[2][at]);
        }
        pixels.copy_from_slice(&bytes[..pixels.len()]);
    }
}

wide! {
    fn sum_of_grays(data: &[u8], sum: &mut u64) {
        for pixels in data.chunks(3 * BLOCK) {
            // Black where there are no pixels, which adds nothing.
            let mut block = Block::BLACK;
            block.read(pixels);
            let Block([red, green, blue]) = &block;
            // Whole numbers whose sum a float holds.
            let mut grays = [0.0; BLOCK];
            for at in 0..BLOCK {
                grays[at] = gray(red[at], green[at], blue[at]);
            }
            *sum += grays.iter().sum::<f32>() as u64;
        }
    }

    fn saturate(data: &mut [u8], weights: (f32, f32)) {
        let mut block = Block::BLACK;
        for pixels in data.chunks_mut(3 * BLOCK) {
            block.read(pixels);
            let Block([red, green, blue]) = &mut block;
            for at in 0..BLOCK {
                let (r, g, b) = (red[at], green[at], blue[at]);
                let gray = gray(r, g, b);
                red[at] = blend(r, gray, weights);
                green[at] = blend(g, gray, weights);
                blue[at] = blend(b, gray, weights);
            }
            block.write(pixels);
        }
    }

    fn make_gray(data: &mut [u8]) {
        let mut block = Block::BLACK;
        for pixels in data.chunks_mut(3 * BLOCK) {
            block.read(pixels);
            let Block([red, green, blue]) = &mut block;
            for at in 0..BLOCK {
                let gray = gray(red[at], green[at], blue[at]);
                (red[at], green[at], blue[at]) = (gray, gray, gray);
            }
            block.write(pixels);
        }
    }

    fn turn_hue(data: &mut [u8], turn: f32) {
        let mut block = Block::BLACK;
        for pixels in data.chunks_mut(3 * BLOCK) {
            block.read(pixels);
            let Block([red, green, blue]) = &mut block;
            for at in 0..BLOCK {
                let (h, s, v) = to_hsv(red[at], green[at], blue[at]);
                let h = within_a_turn(h + turn);
                // Red, green and blue are the same wave, a third of a turn apart.
                red[at] = from_hsv(5.0, h, s, v);
                green[at] = from_hsv(3.0, h, s, v);
                blue[at] = from_hsv(1.0, h, s, v);
            }
            block.write(pixels);
        }
    }
}

/// Hue in turns, saturation and value in 0..=1, of levels; a gray has neither hue nor saturation.
#[inline(always)]
fn to_hsv(r: f32, g: f32, b: f32) -> (f32, f32, f32) {
    let (r, g, b) = (r / 255.0, g / 255.0, b / 255.0);
    let rg = if r > g { (r, g) } else { (g, r) };
    let high = if rg.0 > b { rg.0 } else { b };
    let low = if rg.1 < b { rg.1 } else { b };
    let spread = high - low;
    let is_gray = high == low;
    // No quotient is of zero, whatever becomes of it.
    let divisor = if is_gray { 1.0 } else { spread };
    let whole = if is_gray { 1.0 } else { high };
    let of_red = (g - b) / divisor;
    let of_green = 2.0 + (b - r) / divisor;
    let of_blue = 4.0 + (r - g) / divisor;
    let of_others = if high == g { of_green } else { of_blue };
    let sixths = if high == r { of_red } else { of_others };
    (within_a_turn(sixths / 6.0), spread / whole, high)
}

/// What is left of `turns`, few of them, without the whole ones, in 0..=1: `rem_euclid(1.0)`, to the bit.
#[inline(always)]
fn within_a_turn(turns: f32) -> f32 {
    // Half as much again as 2²³: so are whole numbers rounded that may be negative.
    const WHOLES: f32 = (3 << 22) as f32;
    let whole = turns + WHOLES - WHOLES;
    turns - if whole > turns { whole - 1.0 } else { whole }
}

/// What a cast makes the level of the channel whose wave begins at `shift` sixths.
#[inline(always)]
fn from_hsv(shift: f32, h: f32, s: f32, v: f32) -> f32 {
    // At most 11, of which 6 are taken once: the remainder, to the bit.
    let k = shift + 6.0 * h;
    let k = if k >= 6.0 { k - 6.0 } else { k };
    let wave = if k < 4.0 - k { k } else { 4.0 - k };
    (v - v * s * clamp(wave, 1.0)) * 255.999
}
