//! A folder of arrays as NumPy saves them, one a picture, of any number of channels: one folder a class, or all in one.
//!
//! Values of 8 and 16 bits and floats are read, in either order of bytes and of axes; `range` becomes 0..=255.

use std::path::Path;

use super::files::Files;
use super::listing::Wanted;
use super::noticed::{Noticed, Of};
use super::npy_header::{self, Header, Type};
use super::{DataError, Identity, Image, Opening, Source, Writes};
use crate::data::decode;
use crate::spec::ArrayLayout;

/// A header's bytes at most, of which there are some hundred.
const BYTES_ASIDE: u64 = 1 << 16;
/// Bytes of the widest value that is read.
const BYTES_A_VALUE: u64 = 4;

/// Arrays that are looked at as a source is opened, for values that 8 bits do not hold.
const LOOKED_AT: usize = 16;

pub(super) struct Npy {
    files: Files,
    settings: Settings,
    noticed: Noticed,
}

/// What arrays become pictures by.
#[derive(Clone, Copy)]
pub(super) struct Settings {
    pub channels: usize,
    pub max_pixels: usize,
    /// All of whole numbers, and 0..1 of floats, where it is `None`.
    pub range: Option<(f64, f64)>,
    /// Told by `channels` where it is `None`.
    pub layout: Option<ArrayLayout>,
}

impl Npy {
    /// Lists `root/CLASS/**/FILE.npy`, or `root/FILE.npy`.
    pub(super) fn open(root: &Path, settings: Settings, opening: Opening<'_>) -> Result<Npy, DataError> {
        let source = Npy { files: Files::list(root, Wanted::Arrays, opening)?, settings, noticed: Noticed::default() };
        // What is lost is told before it is trained on; an array that is broken is told when it is met.
        let count = LOOKED_AT.min(source.len());
        (0..count).for_each(|i| drop(source.image(i * source.len() / count)));
        Ok(source)
    }
}

/// Of one array: sides, and steps from value to value along each of them, in values.
struct Strides {
    height: usize,
    width: usize,
    row: usize,
    column: usize,
    channel: usize,
}

impl Settings {
    /// How the values of an array lie.
    ///
    /// # Errors
    /// Where its shape is none of a picture of so many channels, or may be that of two.
    fn strides(&self, header: &Header) -> Result<Strides, String> {
        let channels = self.channels;
        let shown = || header.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(" x ");
        let layout = match (header.shape.as_slice(), self.layout) {
            ([_, _], _) if channels == 1 => ArrayLayout::Hwc,
            ([_, _, last], Some(ArrayLayout::Hwc)) if *last == channels => ArrayLayout::Hwc,
            ([first, _, _], Some(ArrayLayout::Chw)) if *first == channels => ArrayLayout::Chw,
            ([first, _, last], None) => match (*first == channels, *last == channels) {
                (true, true) => {
                    return Err(format!(
                        "its shape, {}, may be [H, W, C] or [C, H, W]: write `layout: \"hwc\"` or `layout: \"chw\"` in `npy`",
                        shown()
                    ));
                }
                (true, false) => ArrayLayout::Chw,
                (false, true) => ArrayLayout::Hwc,
                (false, false) => return Err(self.no_picture(&shown())),
            },
            _ => return Err(self.no_picture(&shown())),
        };
        // Axes as a picture's: height, width, channels.
        let axes = match (layout, header.shape.len()) {
            (_, 2) => [Some(0), Some(1), None],
            (ArrayLayout::Hwc, _) => [Some(0), Some(1), Some(2)],
            (ArrayLayout::Chw, _) => [Some(1), Some(2), Some(0)],
        };
        let step = |axis: usize| -> usize {
            let inner = if header.fortran { &header.shape[..axis] } else { &header.shape[axis + 1..] };
            inner.iter().product()
        };
        let side = |axis: Option<usize>| axis.map_or(1, |axis| header.shape[axis]);
        let [row, column, channel] = axes.map(|axis| axis.map_or(0, step));
        let (height, width) = (side(axes[0]), side(axes[1]));
        decode::fits(width as u64, height as u64, self.max_pixels)?;
        Ok(Strides { height, width, row, column, channel })
    }

    fn no_picture(&self, shape: &str) -> String {
        let wanted = match self.layout {
            None => "no side of",
            Some(ArrayLayout::Hwc) => "no last side of",
            Some(ArrayLayout::Chw) => "no first side of",
        };
        format!("its shape, {shape}, has {wanted} {}, which `data.channels` says", self.channels)
    }

    /// What becomes black and white of values of a type.
    fn range(&self, of: Type) -> (f64, f64) {
        self.range.unwrap_or((0.0, if of.is_float() { 1.0 } else { f64::from(of.most()) }))
    }
}

impl Source for Npy {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn image(&self, index: usize) -> Result<Image, String> {
        let values = self.settings.max_pixels as u64 * self.settings.channels as u64;
        let bytes = self.files.bytes(index, BYTES_A_VALUE.saturating_mul(values).saturating_add(BYTES_ASIDE))?;
        // As long as its shape says: what is taken for pixels is bounded by the file.
        let (header, data) = npy_header::read(&bytes)?;
        let strides = self.settings.strides(&header)?;
        let channels = self.settings.channels;
        let mut picture = Vec::with_capacity(strides.height * strides.width * channels);
        for row in 0..strides.height {
            for column in 0..strides.width {
                let pixel = row * strides.row + column * strides.column;
                picture.extend((0..channels).map(|channel| header.of.value(data, pixel + channel * strides.channel)));
            }
        }
        if picture.iter().any(|value| value.is_nan()) {
            return Err("it holds values that are no numbers (NaN)".to_owned());
        }
        let range = self.settings.range(header.of);
        let (data, deep) = decode::levels_of(&picture, range);
        // Bytes as they are lose nothing.
        if let Some(deep) = deep.filter(|deep| header.of != Type::U8 || deep.clipped) {
            let call = format!("npy(\"{}\"", self.files.root().display());
            let kind = if header.of == Type::U8 || header.of.is_float() { "" } else { ", of 16 bits," };
            self.noticed.note(&self.name(index), deep, &Of { call: &call, range, kind });
        }
        Ok(Image::new(strides.height, strides.width, channels, data))
    }

    fn label(&self, index: usize) -> Option<i64> {
        self.files.label(index)
    }

    fn classes(&self) -> &[String] {
        self.files.classes()
    }

    fn name(&self, index: usize) -> String {
        self.files.name(index)
    }

    fn passed(&self) -> &[String] {
        self.files.passed()
    }

    fn noticed(&self) -> Vec<String> {
        self.noticed.take()
    }

    fn identity(&self, index: usize) -> Identity {
        self.files.identity(index)
    }

    fn check(&self) -> Result<(), DataError> {
        self.files.check()
    }

    fn keeps(&self) -> Option<Writes<'_>> {
        self.files.keeps()
    }
}
