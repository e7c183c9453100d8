//! A decoded picture: 8-bit, interleaved, of any number of channels.
//!
//! **Invariant:** `data` holds `height · width · channels` values, row by row, all channels of a pixel side by side;
//! neither side is zero. Picture files become this form (`decode`) as Pillow's `convert("RGB")` or `convert("L")` make them.

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

    /// With `channels` channels: as it is, or colour to luma, or gray three times.
    ///
    /// # Errors
    /// Where no other channels can be made of those that are there.
    pub fn into_channels(self, channels: usize) -> Result<Image, String> {
        let data = match (self.channels, channels) {
            (from, to) if from == to => return Ok(self),
            (3, 1) => self.data.chunks_exact(3).map(luma).collect(),
            (1, 3) => self.data.iter().flat_map(|&v| [v; 3]).collect(),
            (1, to) => return Err(format!("a picture of 1 channel where `data.channels` says {to}")),
            (from, to) => return Err(format!("a picture of {from} channels where `data.channels` says {to}")),
        };
        Ok(Image::new(self.height, self.width, channels, data))
    }
}

/// ITU-R 601 luma of an RGB pixel in 16-bit fixed point, rounded: Pillow's `convert("L")`.
fn luma(rgb: &[u8]) -> u8 {
    let [r, g, b] = [rgb[0], rgb[1], rgb[2]].map(u32::from);
    ((r * 19595 + g * 38470 + b * 7471 + (1 << 15)) >> 16) as u8
}
