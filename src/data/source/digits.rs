//! The embedded handwritten digits: 8 × 8 pixels, one channel, ten classes (see `digits/CREDITS.md`).
//!
//! **Invariant:** the files are IDX of unsigned bytes, images and labels of a split equally many; a test counts them.

use super::{DataError, Identity, Image, Source};

/// Magic number and counts of an IDX file of images, and of one of labels.
const IMAGES_HEADER: usize = 16;
const LABELS_HEADER: usize = 8;
const SIDE: usize = 8;

pub(super) struct Digits {
    split: &'static str,
    /// `len` × 8 × 8.
    pixels: &'static [u8],
    labels: &'static [u8],
    classes: Vec<String>,
    channels: usize,
}

impl Digits {
    /// Opens the split `train` or `val`.
    pub(super) fn open(split: &str, channels: usize) -> Result<Digits, DataError> {
        let (split, images, labels): (_, &[u8], &[u8]) = match split {
            "train" => ("train", include_bytes!("digits/train-images.idx"), include_bytes!("digits/train-labels.idx")),
            "val" => ("val", include_bytes!("digits/val-images.idx"), include_bytes!("digits/val-labels.idx")),
            other => return Err(DataError::UnknownSplit { split: other.to_owned() }),
        };
        let (pixels, labels) = (&images[IMAGES_HEADER..], &labels[LABELS_HEADER..]);
        debug_assert_eq!(pixels.len(), labels.len() * SIDE * SIDE);
        Ok(Digits { split, pixels, labels, classes: (0..10).map(|digit| digit.to_string()).collect(), channels })
    }
}

impl Source for Digits {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn image(&self, index: usize) -> Result<Image, String> {
        let pixels = &self.pixels[index * SIDE * SIDE..][..SIDE * SIDE];
        Image::new(SIDE, SIDE, 1, pixels.to_vec()).into_channels(self.channels)
    }

    fn label(&self, index: usize) -> Option<i64> {
        Some(self.labels[index].into())
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn name(&self, index: usize) -> String {
        format!("digits/{}/{index}", self.split)
    }

    fn identity(&self, index: usize) -> Identity {
        Identity::of_text(&self.name(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_splits_have_as_many_images_as_labels() {
        for (name, len) in [("train", 1400), ("val", 397)] {
            let split = Digits::open(name, 1).expect("it is embedded");
            assert_eq!((split.len(), split.pixels.len()), (len, len * SIDE * SIDE));
            let mut counts = [0; 10];
            (0..len).for_each(|index| counts[split.label(index).expect("each has one") as usize] += 1);
            assert!(counts.iter().all(|count| *count > len / 12), "{counts:?}");
            assert!((0..len).all(|index| split.image(index).is_ok_and(|image| image.data.iter().any(|v| *v > 100))));
        }
    }
}
