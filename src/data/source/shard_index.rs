//! What lies where in a tar file: its headers are read and its data are stepped over, once.
//!
//! Files of a sample stand one behind the other and share their name up to its first dot, as WebDataset writes them
//! (<https://github.com/webdataset/webdataset>): `000017.jpg`, `000017.cls`.
//!
//! **Invariant:** what the index says lies within the file. It takes 24 bytes a sample and the bytes of its key, whatever the
//! headers say.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use tar::Archive;

use super::checked::{Reader, Writer};
use crate::data::decode;

/// Bytes of a label's file at most: digits, or a document that has it among others.
const LABEL_BYTES: u64 = 1 << 16;

/// Block of a tar file.
const BLOCK: u64 = 512;

/// Pictures of a tar file, in its order.
#[derive(Debug, Default, PartialEq)]
pub struct Index {
    samples: Vec<Sample>,
    /// One behind the other.
    keys: String,
    /// Samples in which there is no picture, and the key of the first.
    pub without_picture: (usize, String),
}

/// Where a picture lies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    pub offset: u64,
    /// Of one that is longer than 4 GiB, which is no picture, that.
    pub length: u32,
    /// −1 where there is none.
    pub label: i32,
    key_end: u32,
}

/// The sample whose files are being read.
#[derive(Default)]
struct Open {
    key: String,
    picture: Option<(u64, u32)>,
    label: Option<i32>,
    /// Of a `.cls`, which counts before any other.
    by_cls: bool,
}

impl Index {
    /// Reads the headers of the tar file at `path`.
    ///
    /// # Errors
    /// Why it is none that is whole.
    pub fn read(path: &Path) -> Result<Index, String> {
        let broken =
            |error: std::io::Error| format!("damaged: {error}").split_whitespace().collect::<Vec<_>>().join(" ");
        let mut file = File::open(path).map_err(|error| error.to_string())?;
        let length = file.metadata().map_err(broken)?.len();
        check_ends(&mut file, length)?;
        let mut index = Index::default();
        let mut open = Open::default();
        let mut archive = Archive::new(file);
        for entry in archive.entries_with_seek().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            let (begin, size) = (entry.raw_file_position(), entry.size());
            if begin.checked_add(size).is_none_or(|end| end > length) {
                return Err("ends early: cut, or not written to its end".to_owned());
            }
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let Some((key, ending)) = parts(&name) else { continue };
            if key != open.key {
                index.close(std::mem::take(&mut open))?;
                open.key = key.to_owned();
            }
            let is_label = ending.eq_ignore_ascii_case("cls");
            if is_label || (ending.eq_ignore_ascii_case("json") && !open.by_cls) {
                let mut text = String::new();
                let read = (&mut entry).take(LABEL_BYTES).read_to_string(&mut text);
                let label = read.ok().and_then(|_| if is_label { text.trim().parse().ok() } else { of_json(&text) });
                match label.filter(|label| *label >= 0) {
                    Some(label) => (open.label, open.by_cls) = (Some(label), is_label),
                    None if is_label => return Err(format!("`{name}` holds no number of a class")),
                    // A document may say other things.
                    None => {}
                }
            } else if open.picture.is_none() && is_picture(ending) {
                open.picture = Some((begin, u32::try_from(size).unwrap_or(u32::MAX)));
            }
        }
        index.close(open)?;
        index.samples.shrink_to_fit();
        index.keys.shrink_to_fit();
        Ok(index)
    }

    fn close(&mut self, open: Open) -> Result<(), String> {
        let Some((offset, length)) = open.picture else {
            if !open.key.is_empty() {
                self.without_picture.0 += 1;
                if self.without_picture.0 == 1 {
                    self.without_picture.1 = open.key;
                }
            }
            return Ok(());
        };
        let key_end = u32::try_from(self.keys.len() + open.key.len());
        let key_end = key_end.map_err(|_| "its names are longer than 4 GiB".to_owned())?;
        self.keys.push_str(&open.key);
        self.samples.push(Sample { offset, length, label: open.label.unwrap_or(-1), key_end });
        Ok(())
    }

    /// Writes what [`Index::take`] reads.
    pub fn put(&self, to: &mut Writer<'_>) -> std::io::Result<()> {
        for count in [self.samples.len(), self.keys.len(), self.without_picture.0, self.without_picture.1.len()] {
            to.put(&(count as u64).to_le_bytes())?;
        }
        for Sample { offset, length, label, key_end } in &self.samples {
            to.put(&offset.to_le_bytes())?;
            to.put(&length.to_le_bytes())?;
            to.put(&label.to_le_bytes())?;
            to.put(&key_end.to_le_bytes())?;
        }
        to.put(self.keys.as_bytes())?;
        to.put(self.without_picture.1.as_bytes())
    }

    /// Takes what [`Index::put`] has written; `None` where that is not what stands there.
    pub fn take(from: &mut Reader) -> Option<Index> {
        let mut counts = [0; 4];
        for count in &mut counts {
            *count = u64::from_le_bytes(from.array()?);
        }
        let [samples, keys, without, example] = counts;
        let mut index = Index::default();
        for _ in 0..samples {
            index.samples.push(Sample {
                offset: u64::from_le_bytes(from.array()?),
                length: u32::from_le_bytes(from.array()?),
                label: i32::from_le_bytes(from.array()?),
                key_end: u32::from_le_bytes(from.array()?),
            });
        }
        index.samples.shrink_to_fit();
        index.keys = String::from_utf8(from.bytes(keys)?).ok()?;
        index.without_picture = (usize::try_from(without).ok()?, String::from_utf8(from.bytes(example)?).ok()?);
        Some(index)
    }

    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// What the files of a sample share of their names.
    pub fn key(&self, number: usize) -> &str {
        let begin = number.checked_sub(1).map_or(0, |before| self.samples[before].key_end);
        &self.keys[begin as usize..self.samples[number].key_end as usize]
    }
}

/// A tar file ends with blocks of zeros; one that was cut between two files would be read as whole.
fn check_ends(file: &mut File, length: u64) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let mut head = Vec::new();
    file.by_ref().take(2).read_to_end(&mut head).map_err(text)?;
    if head == [0x1f, 0x8b] {
        return Err("it is compressed, and pictures are read out of its order".to_owned());
    }
    if length < 2 * BLOCK {
        return Err(format!("{length} bytes are no tar file"));
    }
    let mut last = [0; BLOCK as usize];
    file.seek(SeekFrom::End(-(BLOCK as i64))).and_then(|_| file.read_exact(&mut last)).map_err(text)?;
    if last.iter().any(|byte| *byte != 0) {
        return Err("ends early: cut, or not written to its end".to_owned());
    }
    file.seek(SeekFrom::Start(0)).map(drop).map_err(text)
}

/// A path up to the first dot of its last name, and what stands behind that; `None` for hidden files and those without an ending.
fn parts(path: &str) -> Option<(&str, &str)> {
    let name = path.rfind('/').map_or(0, |slash| slash + 1);
    let dot = name + path[name..].find('.')?;
    (dot > name).then(|| (&path[..dot], &path[dot + 1..]))
}

/// Of `000017.seg.png` the ending is `seg.png`, which is a mask or the like.
fn is_picture(ending: &str) -> bool {
    !ending.contains('.') && decode::is_picture(Path::new(&format!("a.{ending}"))) == Some(true)
}

/// `{"label": 7}`.
fn of_json(text: &str) -> Option<i32> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    i32::try_from(value.get("label")?.as_i64()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_million_samples_with_long_keys_stay_below_a_gigabyte() {
        let key = "imagenet-train/n01440764/n01440764_10026";
        assert!((size_of::<Sample>() + key.len()) * 10_000_000 < 1 << 30);
    }

    #[test]
    fn names_are_cut_at_their_first_dot() {
        assert_eq!(parts("a.b/0017.seg.png"), Some(("a.b/0017", "seg.png")));
        assert_eq!(parts("0017.jpg"), Some(("0017", "jpg")));
        assert_eq!((parts("a/.hidden"), parts("a.b/README")), (None, None));
        assert!(is_picture("JPG") && !is_picture("seg.png") && !is_picture("cls"));
    }
}
