//! A safetensors file whose largest tensor is written as its rows are made.
//!
//! Before: `eval` makes features batch by batch. After: any reader of safetensors.
//!
//! The format wants names, shapes and small tensors ahead of the rows, which are known when the last row is: room is left for what
//! they are expected to take, and the rows are moved where it was another.
//!
//! **Invariant:** the bytes are those that [`super::tensor_file`] writes of the same tensors, and the file under its final name is
//! whole: what is dropped before its end leaves nothing.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use safetensors::tensor::Dtype;
use serde_json::{Map, Value, json};
use tempfile::NamedTempFile;

use super::tensor_file::{FORMAT_VERSION, FileTensor, WriteError, folder_of, put};

/// Bytes that are moved at once.
const CHUNK: usize = 1 << 20;

/// What stands ahead of the rows: tensors of 8 bytes a value, as the format wants the wider ones first, and texts by name.
#[derive(Debug)]
pub struct Head<'a> {
    pub tensors: &'a [FileTensor],
    /// Name and shape of the tensor of rows, f32.
    pub rows: (&'a str, [usize; 2]),
    pub metadata: &'a [(&'a str, String)],
}

impl Head<'_> {
    fn bytes(&self) -> Vec<u8> {
        let texts = self.metadata.iter().map(|(name, text)| ((*name).to_owned(), json!(text)));
        let version = ("format_version".to_owned(), json!(FORMAT_VERSION));
        let mut header = Map::new();
        header.insert("__metadata__".to_owned(), texts.chain([version]).collect::<Map<_, _>>().into());
        let mut at = 0;
        let mut place = |name: &str, dtype: Dtype, shape: &[usize], bytes: usize| {
            let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": [at, at + bytes] });
            header.insert(name.to_owned(), entry);
            at += bytes;
        };
        self.tensors.iter().for_each(|tensor| place(&tensor.name, tensor.dtype, &tensor.shape, tensor.bytes.len()));
        let (name, shape) = self.rows;
        place(name, Dtype::F32, &shape, 4 * shape[0] * shape[1]);
        let mut text = Value::Object(header).to_string().into_bytes();
        // The format wants the data to start at a multiple of 8.
        text.resize(text.len().next_multiple_of(8), b' ');
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(text);
        self.tensors.iter().for_each(|tensor| bytes.extend(&tensor.bytes));
        bytes
    }
}

/// A file on its way to `path`.
pub struct RowFile {
    path: PathBuf,
    file: io::BufWriter<NamedTempFile>,
    /// Where the rows begin, and what there is of them.
    start: u64,
    len: u64,
}

impl RowFile {
    /// A file that will begin with what is like `expected`.
    pub fn create(path: &Path, expected: &Head<'_>) -> Result<RowFile, WriteError> {
        let start = expected.bytes().len() as u64;
        let create = || {
            let mut file = NamedTempFile::new_in(folder_of(path))?;
            file.seek(SeekFrom::Start(start))?;
            Ok(RowFile { path: path.to_owned(), file: io::BufWriter::new(file), start, len: 0 })
        };
        create().map_err(|source| WriteError::Io { path: path.to_owned(), source })
    }

    /// Adds rows.
    pub fn push(&mut self, rows: &[f32]) -> Result<(), WriteError> {
        let mut write = || rows.iter().try_for_each(|value| self.file.write_all(&value.to_le_bytes()));
        write().map_err(|source| WriteError::Io { path: self.path.clone(), source })?;
        self.len += 4 * rows.len() as u64;
        Ok(())
    }

    /// Ends the file with `head`, whose shape is that of the rows that were added.
    pub fn finish(self, head: &Head<'_>) -> Result<(), WriteError> {
        let RowFile { path, file, start, len } = self;
        let [rows, width] = head.rows.1;
        if (4 * rows * width) as u64 != len {
            let message = format!("{len} bytes were written of [{rows}, {width}] values");
            return Err(WriteError::Layout { path, message });
        }
        let finish = || {
            let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            let head = head.bytes();
            move_within(file.as_file_mut(), start, head.len() as u64, len)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&head)?;
            file.as_file().set_len(head.len() as u64 + len)?;
            put(file, &path)
        };
        finish().map_err(|source| WriteError::Io { path: path.clone(), source })
    }
}

/// Moves `len` bytes from `from` to `to`, which may overlap.
fn move_within(file: &mut (impl Read + Write + Seek), from: u64, to: u64, len: u64) -> io::Result<()> {
    if from == to {
        return Ok(());
    }
    let mut buffer = vec![0; CHUNK];
    let mut moved = 0;
    while moved < len {
        let count = (CHUNK as u64).min(len - moved);
        // To the front from the first on, to the back from the last on: what is not moved yet is never written over.
        let at = if to < from { moved } else { len - moved - count };
        let part = &mut buffer[..count as usize];
        file.seek(SeekFrom::Start(from + at))?;
        file.read_exact(part)?;
        file.seek(SeekFrom::Start(to + at))?;
        file.write_all(part)?;
        moved += count;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn what_is_moved_stays_as_it_is() {
        let bytes: Vec<u8> = (0..3 * CHUNK + 17).map(|i| (i % 251) as u8).collect();
        for to in [0, 1, 40, 41, 100, CHUNK as u64] {
            let mut file = Cursor::new(vec![0; 40]);
            file.get_mut().extend(&bytes);
            move_within(&mut file, 40, to, bytes.len() as u64).expect("it is in memory");
            assert!(file.get_ref()[to as usize..][..bytes.len()] == bytes, "{to}");
        }
    }
}
