//! Whether a file reaches its end. Decoders differ in what they do where it does not: some fill the rest with gray.
//!
//! **Invariant:** a JPEG, PNG, WebP or GIF is whole when it reaches the mark that ends it, so that one which was cut anywhere,
//! if only by its last byte, is not. What follows a whole picture does not count. BMP and TIFF have no such mark: there, the
//! decoder misses the pixels.

use std::borrow::Cow;
use std::cell::Cell;
use std::io::{BufRead, Cursor, Read, Result as IoResult, Seek, SeekFrom};
use std::rc::Rc;

use ::image::ImageFormat;
use memchr::memchr;

/// What is said of a file that was cut.
pub const EARLY: &str = "ends early: cut, or not written to its end";

/// Bytes that remember whether more were wanted than there are.
#[derive(Clone)]
pub struct Watched<'a> {
    bytes: Cursor<&'a [u8]>,
    too_few: Rc<Cell<bool>>,
}

impl<'a> Watched<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Watched { bytes: Cursor::new(bytes), too_few: Rc::default() }
    }

    /// Of this and its clones.
    pub fn are_too_few(&self) -> bool {
        self.too_few.get()
    }
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> IoResult<usize> {
        let count = self.bytes.read(buffer)?;
        self.too_few.set(self.too_few.get() || (count == 0 && !buffer.is_empty()));
        Ok(count)
    }
}

impl BufRead for Watched<'_> {
    fn fill_buf(&mut self) -> IoResult<&[u8]> {
        let left = self.bytes.fill_buf()?;
        self.too_few.set(self.too_few.get() || left.is_empty());
        Ok(left)
    }

    fn consume(&mut self, count: usize) {
        self.bytes.consume(count);
    }
}

impl Seek for Watched<'_> {
    fn seek(&mut self, to: SeekFrom) -> IoResult<u64> {
        self.bytes.seek(to)
    }
}

/// Refuses a PNG, WebP, GIF or TIFF that ends early.
pub fn check(format: ImageFormat, bytes: &[u8]) -> Result<(), String> {
    let whole = match format {
        ImageFormat::Png => png(bytes),
        ImageFormat::WebP => webp(bytes),
        ImageFormat::Gif => gif(bytes),
        ImageFormat::Tiff => tiff(bytes),
        _ => Some(()),
    };
    whole.ok_or_else(|| EARLY.to_owned())
}

/// Width and height in a PNG's header, which is its first chunk.
pub fn png_size(bytes: &[u8]) -> Result<(u64, u64), String> {
    match (bytes.get(12..16), big_endian(bytes, 16), big_endian(bytes, 20)) {
        (Some(b"IHDR"), Some(width), Some(height)) => Ok((width as u64, height as u64)),
        _ => Err("damaged: its header is missing".to_owned()),
    }
}

/// Width and height of each frame in the chunks of a WebP, which may be more than its header says.
pub fn webp_sizes(bytes: &[u8]) -> Vec<(u64, u64)> {
    let mut sizes = Vec::new();
    // An animation's frames are chunks that hold chunks, behind 16 bytes of their own.
    let mut waiting = vec![bytes.get(12..).unwrap_or_default()];
    while let Some(chunks) = waiting.pop() {
        let mut rest = chunks;
        while let (Some(name), Some(length)) = (rest.get(..4), little_endian(rest, 4)) {
            let data = &rest[8..8 + length.min(rest.len() - 8)];
            let half =
                |at: usize| data.get(at..at + 2).map_or(0, |half| u64::from(u16::from_le_bytes([half[0], half[1]])));
            match name {
                // Behind a tag of three bytes and a start code of three; two bits of each side are a scale.
                b"VP8 " => sizes.push((half(6) & 0x3fff, half(8) & 0x3fff)),
                // Behind a signature: 14 bits less one of each.
                b"VP8L" => {
                    let bits = half(1) | half(3) << 16;
                    sizes.push(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1));
                }
                b"ANMF" => waiting.push(data.get(16..).unwrap_or_default()),
                _ => {}
            }
            rest = rest.get(8 + length + length % 2..).unwrap_or_default();
        }
    }
    sizes
}

fn little_endian(bytes: &[u8], at: usize) -> Option<usize> {
    let word: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_le_bytes(word) as usize)
}

fn big_endian(bytes: &[u8], at: usize) -> Option<usize> {
    let word: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
    Some(u32::from_be_bytes(word) as usize)
}

/// Chunks of length, name, data and checksum, up to `IEND`.
fn png(bytes: &[u8]) -> Option<()> {
    let mut at = 8;
    loop {
        let name = bytes.get(at + 4..at + 8)?;
        let next = big_endian(bytes, at)?.checked_add(at + 12)?;
        if next > bytes.len() {
            return None;
        }
        if name == b"IEND" {
            return Some(());
        }
        at = next;
    }
}

/// The outermost chunk says how long the file is.
fn webp(bytes: &[u8]) -> Option<()> {
    (little_endian(bytes, 4)? + 8 <= bytes.len()).then_some(())
}

/// A screen with its palette, then blocks: extensions and frames, whose data come in pieces, up to the trailer.
fn gif(bytes: &[u8]) -> Option<()> {
    let palette = |flags: u8| if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    let mut at = 13 + palette(*bytes.get(10)?);
    loop {
        match bytes.get(at)? {
            0x3b => return Some(()),
            0x21 => at += 2,
            0x2c => at += 11 + palette(*bytes.get(at + 9)?),
            // A stray byte, which decoders step over or refuse.
            _ => {
                at += 1;
                continue;
            }
        }
        // Pieces of a length and so many bytes; one of no length ends them.
        loop {
            match *bytes.get(at)? {
                0 => break,
                length => at += 1 + usize::from(length),
            }
        }
        at += 1;
    }
}

/// A directory, whose values lie within the file: what the decoder takes for them is bounded by what there is.
fn tiff(bytes: &[u8]) -> Option<()> {
    let number = |at: usize, length: usize| -> Option<usize> {
        let digits = bytes.get(at..at + length)?;
        let join = |number: usize, digit: &u8| number << 8 | usize::from(*digit);
        // `II` or `MM`: Intel's order, or Motorola's.
        Some(if bytes[0] == b'I' { digits.iter().rev().fold(0, join) } else { digits.iter().fold(0, join) })
    };
    let directory = number(4, 4)?;
    for entry in 0..number(directory, 2)? {
        let at = directory + 2 + 12 * entry;
        let size = match number(at + 2, 2)? {
            1 | 2 | 6 | 7 => 1,
            3 | 8 => 2,
            4 | 9 | 11 | 13 => 4,
            _ => 8,
        };
        let length = size * number(at + 4, 4)?;
        // Four bytes stand in the entry itself.
        let place = if length <= 4 { at + 8 } else { number(at + 8, 4)? };
        if place + length > bytes.len() {
            return None;
        }
    }
    Some(())
}

/// Bytes of nothing but ones that are put before the end mark: more than the longest code and the longest value behind it.
const ONES: usize = 16;

/// A JPEG up to its end mark, without stray bytes between its segments: common programs pass them over, a strict decoder does
/// not. Segments of tables and scans follow each other; a scan's data hold no mark but those of restarts.
///
/// A file may be cut and its end mark set anew, as some programs do when they mend: decoders make up the rest out of zeros. So ones
/// are put before the mark, which are the beginning of no code: a decoder that wants more data than there are fails at them.
/// The first scan of a progressive one does without: it has to end where the next mark is.
pub fn jpeg(bytes: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    jpeg_segments(bytes).ok_or_else(|| EARLY.to_owned())
}

fn jpeg_segments(bytes: &[u8]) -> Option<Cow<'_, [u8]>> {
    // What was kept before something was left out, and where the bytes begin that are kept since.
    let mut kept = Vec::new();
    let (mut from, mut at) = (0, 2);
    let (mut progressive, mut scans) = (false, 0);
    loop {
        let mark = next_mark(bytes, at)?;
        if mark > at {
            kept.extend_from_slice(&bytes[from..at]);
            from = mark;
        }
        match bytes[mark + 1] {
            0xd9 => {
                let is_one_scan = progressive && scans == 1;
                if from == 0 && is_one_scan {
                    return Some(Cow::Borrowed(&bytes[..mark + 2]));
                }
                kept.extend_from_slice(&bytes[from..mark]);
                if !is_one_scan {
                    (0..ONES).for_each(|_| kept.extend_from_slice(b"\xff\0"));
                }
                kept.extend_from_slice(b"\xff\xd9");
                return Some(Cow::Owned(kept));
            }
            // Marks that stand alone.
            0x01 | 0xd0..=0xd8 => at = mark + 2,
            code => {
                let length: [u8; 2] = bytes.get(mark + 2..mark + 4)?.try_into().ok()?;
                at = mark + 2 + usize::from(u16::from_be_bytes(length));
                progressive |= code == 0xc2;
                if code == 0xda {
                    scans += 1;
                    at = scan_end(bytes, at)?;
                }
            }
        }
    }
}

/// The last `ff` before a mark's code, from `at` on.
fn next_mark(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr(0xff, bytes.get(at..)?)?;
        match bytes.get(at + 1)? {
            0 | 0xff => at += 1,
            _ => return Some(at),
        }
    }
}

/// Where a scan's data end: at a mark that is no restart.
fn scan_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let mark = next_mark(bytes, at)?;
        match bytes[mark + 1] {
            0xd0..=0xd7 => at = mark + 2,
            _ => return Some(mark),
        }
    }
}
