//! Files that a run keeps of its sources: a line of JSON, bytes behind it, and the BLAKE3 sum of both.
//!
//! **Invariant:** whatever the bytes of a file are, reading it takes no more memory than the file is long; what was read counts only
//! once [`Reader::ends_whole`] has said so.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes that are asked of the system at once.
const BUFFER: usize = 1 << 20;

pub struct Writer<'w> {
    to: &'w mut dyn Write,
    hasher: blake3::Hasher,
}

impl<'w> Writer<'w> {
    pub fn new(to: &'w mut dyn Write, header: &impl Serialize) -> io::Result<Self> {
        let mut writer = Writer { to, hasher: blake3::Hasher::new() };
        writer.put(&serde_json::to_vec(header).map_err(io::Error::other)?)?;
        writer.put(b"\n")?;
        Ok(writer)
    }

    pub fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.to.write_all(bytes)
    }

    pub fn finish(self) -> io::Result<()> {
        self.to.write_all(self.hasher.finalize().as_bytes())
    }
}

pub struct Reader {
    file: BufReader<File>,
    hasher: blake3::Hasher,
}

impl Reader {
    /// The file at `path` with its header; `None` where there is none of that kind.
    pub fn open<H: DeserializeOwned>(path: &Path) -> Option<(H, Reader)> {
        let file = BufReader::with_capacity(BUFFER, File::open(path).ok()?);
        let mut reader = Reader { file, hasher: blake3::Hasher::new() };
        let mut line = Vec::new();
        reader.file.read_until(b'\n', &mut line).ok()?;
        reader.hasher.update(&line);
        Some((serde_json::from_slice(&line).ok()?, reader))
    }

    /// Replaces `bytes` by those up to the next zero, which ends them.
    pub fn until_zero(&mut self, bytes: &mut Vec<u8>) -> Option<()> {
        bytes.clear();
        self.file.read_until(0, bytes).ok()?;
        self.hasher.update(bytes);
        (bytes.pop() == Some(0)).then_some(())
    }

    /// The next bytes.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes).ok()?;
        self.hasher.update(&bytes);
        Some(bytes)
    }

    /// The next `count` bytes.
    pub fn bytes(&mut self, count: u64) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file.by_ref().take(count).read_to_end(&mut bytes).ok()?;
        self.hasher.update(&bytes);
        (bytes.len() as u64 == count).then_some(bytes)
    }

    /// Whether nothing but the sum of all that was read is left.
    pub fn ends_whole(mut self) -> bool {
        let mut sum = Vec::new();
        let read = self.file.by_ref().take(blake3::OUT_LEN as u64 + 1).read_to_end(&mut sum);
        read.is_ok() && self.hasher.finalize().as_bytes() == sum.as_slice()
    }
}
