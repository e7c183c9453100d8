//! Shards of a source's pictures, as WebDataset has them: what `tar_shards` reads again.
//!
//! Before: a source was opened. After: a folder of `000000.tar`, …, with `classes.txt` where pictures have classes.
//! Files of pictures go in as they are, byte for byte; pictures that are no file are written as PNG.
//!
//! **Invariant:** shards are written in a folder beside, named `OUT.partial`, which is renamed when the last is whole and on the disk:
//! a folder of the name that was asked for holds all of them. The same source, seed and size give the same bytes.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use ::image::codecs::png::PngEncoder;
use ::image::{ExtendedColorType, ImageEncoder};
use rayon::prelude::*;
use tar::{Builder, Header};

use super::loader::shuffle;
use super::rng::Key;
use super::source::{CLASSES, Source};
use super::{Image, decode};

/// Pictures that are read between two looks at who waits, and whose files are held at once.
const AT_ONCE: usize = 64;

/// A tar file pads each header and each file to whole blocks, and ends with two.
const BLOCK: u64 = 512;

/// Shards whose names sort as their numbers do.
const MOST: usize = 1_000_000;

/// Where a shard ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardSize {
    /// Of the file, but that a shard holds one picture at the least.
    Bytes(u64),
    Pictures(usize),
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Packed {
    pub pictures: usize,
    pub shards: usize,
    pub bytes: u64,
    /// Pictures that are in none, by name, and why.
    pub left_out: Vec<(String, String)>,
}

#[derive(Debug, thiserror::Error)]
pub enum PackError {
    #[error("{} is there already (help: name another folder with -o, or remove it)", path.display())]
    IsThere { path: PathBuf },
    #[error("{} was left by a pack that was broken off, or belongs to one that is at work (help: remove it, or name another folder with -o)", path.display())]
    IsLeft { path: PathBuf },
    #[error("{} cannot be written: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("class {number} has a name of several lines, `{}`, and classes.txt has a line for each (help: rename its folder)", name.escape_debug())]
    ClassName { number: usize, name: String },
    #[error("more than {MOST} shards (help: make them larger: --shard-size 1GB)")]
    TooMany,
    #[error("none of {tried} pictures can be written; the last is {last}")]
    NoneWritten { tried: usize, last: String },
    #[error("ended before all was written: {} was not made", path.display())]
    Ended { path: PathBuf },
}

/// Writes all pictures of `source` to shards in the folder `out`, in an order that `seed` draws; `look` hears how many are done, and
/// may end it.
///
/// A picture's key is its number in the source, of eight digits: `00001234.jpg`, and `00001234.cls` where it has a label.
///
/// # Errors
/// Where `out` is there, cannot be written, or no picture can be read; nothing is left then but by a process that was killed.
pub fn pack(
    source: &dyn Source,
    out: &Path,
    size: ShardSize,
    seed: u64,
    look: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Packed, PackError> {
    // An empty folder is as good as none: a rename takes its place.
    if out.exists() && fs::read_dir(out).map_or(true, |mut entries| entries.next().is_some()) {
        return Err(PackError::IsThere { path: out.to_owned() });
    }
    let partial = partial(out);
    let io = |path: &Path, error| PackError::Io { path: path.to_owned(), error };
    if let Some(parent) = out.parent() {
        fs::create_dir_all(parent).map_err(|error| io(parent, error))?;
    }
    match fs::create_dir(&partial) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(PackError::IsLeft { path: partial }),
        made => made.map_err(|error| io(&partial, error))?,
    }
    let packed = write(source, &partial, size, seed, look).and_then(|packed| {
        // Windows renames onto no folder.
        let _ = fs::remove_dir(out);
        fs::rename(&partial, out).map_err(|error| io(out, error))?;
        Ok(packed)
    });
    if packed.is_err() {
        // What cannot be removed is refused by name the next time.
        let _ = fs::remove_dir_all(&partial);
    }
    packed.map_err(|error| match error {
        PackError::Ended { .. } => PackError::Ended { path: out.to_owned() },
        error => error,
    })
}

/// The folder that is written in before it has its name.
fn partial(out: &Path) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    out.with_file_name(name)
}

fn write(
    source: &dyn Source,
    folder: &Path,
    size: ShardSize,
    seed: u64,
    look: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Packed, PackError> {
    let io = |path: &Path, error| PackError::Io { path: path.to_owned(), error };
    let mut order: Vec<u32> = (0..source.len() as u32).collect();
    shuffle(&mut order, &mut Key { seed, epoch: 0, sample: 0 }.stream("pack"));
    let mut shards = Shards { folder, size, open: None, done: Packed::default() };
    let mut tried = 0;
    for some in order.chunks(AT_ONCE) {
        let read = |index: &u32| picture(source, *index as usize);
        let read: Vec<Result<(&str, Vec<u8>), String>> = some.par_iter().map(read).collect();
        for (index, read) in some.iter().zip(read) {
            let index = *index as usize;
            match read {
                Ok((ending, bytes)) => shards.add(index, ending, &bytes, source.label(index))?,
                Err(reason) => shards.done.left_out.push((source.name(index), reason)),
            }
        }
        tried += some.len();
        if look(tried).is_break() {
            return Err(PackError::Ended { path: folder.to_owned() });
        }
    }
    shards.close()?;
    let mut packed = shards.done;
    // In their own order, whatever that of the shards is.
    packed.left_out.sort();
    if packed.pictures == 0 {
        let last = packed.left_out.last().map_or(String::new(), |(name, reason)| format!("{name}: {reason}"));
        return Err(PackError::NoneWritten { tried, last });
    }
    if let Some(text) = classes(source)? {
        let path = folder.join(CLASSES);
        let written = File::create(&path).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        written.map_err(|error| io(&path, error))?;
    }
    Ok(packed)
}

/// A line for each class; `None` where pictures have none.
fn classes(source: &dyn Source) -> Result<Option<String>, PackError> {
    let classes = source.classes();
    if let Some(number) = classes.iter().position(|name| name.contains(['\n', '\r'])) {
        return Err(PackError::ClassName { number, name: classes[number].clone() });
    }
    Ok((!classes.is_empty()).then(|| classes.iter().map(|name| format!("{name}\n")).collect()))
}

/// How a picture's file ends, and its bytes.
fn picture(source: &dyn Source, index: usize) -> Result<(&'static str, Vec<u8>), String> {
    match source.file(index) {
        Some(bytes) => {
            let bytes = bytes?;
            Ok((decode::ending(&bytes)?, bytes))
        }
        None => Ok(("png", png(&source.image(index)?)?)),
    }
}

fn png(image: &Image) -> Result<Vec<u8>, String> {
    let colour = match image.channels {
        1 => ExtendedColorType::L8,
        3 => ExtendedColorType::Rgb8,
        other => return Err(format!("a picture of {other} channels, and PNG has 1 or 3")),
    };
    let mut bytes = Vec::new();
    // Sides of pictures are below 2^20.
    let (width, height) = (image.width as u32, image.height as u32);
    let written = PngEncoder::new(&mut bytes).write_image(&image.data, width, height, colour);
    written.map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// Shards as they are filled.
struct Shards<'a> {
    folder: &'a Path,
    size: ShardSize,
    open: Option<Shard>,
    done: Packed,
}

struct Shard {
    path: PathBuf,
    tar: Builder<BufWriter<File>>,
    pictures: usize,
    /// With its end.
    bytes: u64,
}

impl Shards<'_> {
    fn add(&mut self, index: usize, ending: &str, bytes: &[u8], label: Option<i64>) -> Result<(), PackError> {
        let label = label.map(|label| label.to_string());
        let takes = |length: usize| BLOCK + (length as u64).next_multiple_of(BLOCK);
        let size = takes(bytes.len()) + label.as_ref().map_or(0, |label| takes(label.len()));
        let is_full = self.open.as_ref().is_some_and(|shard| match self.size {
            ShardSize::Bytes(most) => shard.bytes + size > most,
            ShardSize::Pictures(most) => shard.pictures >= most,
        });
        if is_full {
            self.close()?;
        }
        let shard = match &mut self.open {
            Some(shard) => shard,
            None => {
                if self.done.shards == MOST {
                    return Err(PackError::TooMany);
                }
                let path = self.folder.join(format!("{:06}.tar", self.done.shards));
                let file = File::create_new(&path).map_err(|error| PackError::Io { path: path.clone(), error })?;
                let tar = Builder::new(BufWriter::with_capacity(1 << 20, file));
                self.open.insert(Shard { path, tar, pictures: 0, bytes: 2 * BLOCK })
            }
        };
        let files = [(ending, Some(bytes)), ("cls", label.as_ref().map(String::as_bytes))];
        for (ending, bytes) in files.into_iter().filter_map(|(ending, bytes)| Some((ending, bytes?))) {
            let mut header = Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            // Time and owner are left at 0: the same pictures make the same bytes.
            let written = shard.tar.append_data(&mut header, format!("{index:08}.{ending}"), bytes);
            written.map_err(|error| PackError::Io { path: shard.path.clone(), error })?;
        }
        shard.pictures += 1;
        shard.bytes += size;
        Ok(())
    }

    /// Ends the shard that is open, and waits until the disk has it.
    fn close(&mut self) -> Result<(), PackError> {
        let Some(Shard { path, tar, pictures, bytes }) = self.open.take() else { return Ok(()) };
        let end = |tar: Builder<BufWriter<File>>| {
            tar.into_inner()?.into_inner().map_err(|error| error.into_error())?.sync_all()
        };
        end(tar).map_err(|error| PackError::Io { path, error })?;
        self.done.pictures += pictures;
        self.done.shards += 1;
        self.done.bytes += bytes;
        Ok(())
    }
}
