//! IDX files, as MNIST and its kind come: one of pictures, one of labels, plain or compressed by gzip.
//!
//! A file is a magic number (two zeros, the type of its values, how many dimensions), the dimensions, and the values, all
//! big-endian (<https://yann.lecun.com/exdb/mnist/>). Unsigned bytes are read.
//!
//! **Invariant:** once it is open, all is in memory, with as many values as the dimensions say. What a header says takes no
//! memory: values are taken as they come, and a file may hold no more of them.

use std::io::Read;
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::{DataError, Identity, Image, Source};

/// Type of the values, by its number in the magic.
const TYPES: [(u8, &str); 6] = [
    (0x08, "unsigned bytes"),
    (0x09, "signed bytes"),
    (0x0b, "16-bit numbers"),
    (0x0c, "32-bit numbers"),
    (0x0d, "floats"),
    (0x0e, "doubles"),
];

pub(super) struct Idx {
    name: String,
    identity: Identity,
    height: usize,
    width: usize,
    pixels: Vec<u8>,
    /// `None` where pictures have no class.
    labels: Option<Vec<u8>>,
    classes: Vec<String>,
    channels: usize,
}

impl Idx {
    /// Opens a file of pictures, and that of their labels where there is one.
    pub(super) fn open(
        images: &Path,
        labels: Option<&Path>,
        channels: usize,
        max_pixels: usize,
    ) -> Result<Idx, DataError> {
        let (dimensions, pixels) = read(images, 3, "IDX file of pictures")?;
        let (count, height, width) = (dimensions[0], dimensions[1], dimensions[2]);
        let wrong = |path: &Path, kind, reason| DataError::WrongFormat {
            path: path.to_owned(),
            kind,
            reason,
            help: "get it anew: it is damaged, or another file".to_owned(),
        };
        if count == 0 || height == 0 || width == 0 {
            let reason = format!("{count} x {height} x {width} pixels are no pictures");
            return Err(wrong(images, "IDX file of pictures", reason));
        }
        if height * width > max_pixels {
            let reason = format!("{width} x {height} pixels are more than `data.max_pixels`, {max_pixels}");
            return Err(wrong(images, "IDX file of pictures", reason));
        }
        let labels = match labels {
            None => None,
            Some(path) => {
                let (dimensions, labels) = read(path, 1, "IDX file of labels")?;
                if dimensions[0] != count {
                    let reason = format!("{} labels for the {count} pictures of `{}`", labels.len(), images.display());
                    return Err(wrong(path, "IDX file of labels", reason));
                }
                Some(labels)
            }
        };
        // From 0 to the greatest that occurs.
        let classes = labels.iter().flatten().max().map_or(0, |most| usize::from(*most) + 1);
        let file = images.file_name().unwrap_or_default().to_string_lossy();
        Ok(Idx {
            name: file.strip_suffix(".gz").unwrap_or(&file).to_owned(),
            identity: Identity::of_file(images),
            height,
            width,
            pixels,
            labels,
            classes: (0..classes).map(|class| class.to_string()).collect(),
            channels,
        })
    }
}

/// Dimensions, `rank` of them, and values of the file at `path`.
fn read(path: &Path, rank: usize, kind: &'static str) -> Result<(Vec<usize>, Vec<u8>), DataError> {
    let bytes = super::read_file(path)?;
    let read = if bytes.starts_with(&[0x1f, 0x8b]) {
        values(MultiGzDecoder::new(&*bytes), rank)
    } else {
        values(&*bytes, rank)
    };
    read.map_err(|reason| DataError::WrongFormat {
        path: path.to_owned(),
        kind,
        reason,
        help: "get it anew: it is damaged, or another file".to_owned(),
    })
}

fn values(mut from: impl Read, rank: usize) -> Result<(Vec<usize>, Vec<u8>), String> {
    let read = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "ends early: cut, or not written to its end".to_owned(),
        _ => format!("damaged: {error}"),
    };
    let mut word = [0; 4];
    from.read_exact(&mut word).map_err(read)?;
    let [0, 0, of, dimensions] = word else { return Err("it does not begin with the magic number".to_owned()) };
    if of != TYPES[0].0 {
        let found = TYPES.iter().find(|(number, _)| *number == of).map_or("values of no known type", |(_, name)| name);
        return Err(format!("it holds {found}, and unsigned bytes are read"));
    }
    if usize::from(dimensions) != rank {
        return Err(format!("it has {dimensions} dimensions, not {rank}"));
    }
    let mut sizes = Vec::with_capacity(rank);
    for _ in 0..rank {
        from.read_exact(&mut word).map_err(read)?;
        sizes.push(u32::from_be_bytes(word) as usize);
    }
    let expected = sizes.iter().try_fold(1, |product: usize, size| product.checked_mul(*size));
    let expected = expected.ok_or("its dimensions are larger than any file")?;
    let mut values = Vec::new();
    from.by_ref().take(expected as u64).read_to_end(&mut values).map_err(read)?;
    if values.len() < expected {
        return Err(format!("ends early: {} of {expected} values are there", values.len()));
    }
    // A gzip's checksum is looked at behind its last byte.
    match from.read(&mut word).map_err(read)? {
        0 => Ok((sizes, values)),
        _ => Err(format!("it holds more than the {expected} values that its dimensions say")),
    }
}

impl Source for Idx {
    fn len(&self) -> usize {
        self.pixels.len() / (self.height * self.width)
    }

    fn image(&self, index: usize) -> Result<Image, String> {
        let pixels = &self.pixels[index * self.height * self.width..][..self.height * self.width];
        Image::new(self.height, self.width, 1, pixels.to_vec()).into_channels(self.channels)
    }

    fn label(&self, index: usize) -> Option<i64> {
        self.labels.as_ref().map(|labels| labels[index].into())
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn name(&self, index: usize) -> String {
        format!("{}/{index}", self.name)
    }

    fn identity(&self, index: usize) -> Identity {
        self.identity.part(index as u64)
    }
}
