//! Files of numpy: an array whose rows are written as they are made.
//!
//! Before: `eval` makes features batch by batch. After: `numpy.load`.
//!
//! **Invariant:** the file under its final name is whole: it is written beside, synced, and renamed in.
//!
//! Source: the .npy format, version 1.0 (numpy 2.4, numpy/lib/_format_impl.py).

use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::tensor_file::{WriteError, folder_of, put};

/// What stands ahead of the values: room for any shape of two axes.
const HEADER: usize = 128;

/// A file on its way to `path`.
pub struct ArrayFile {
    path: PathBuf,
    file: io::BufWriter<NamedTempFile>,
    /// Values so far.
    count: usize,
}

impl ArrayFile {
    pub fn create(path: &Path) -> Result<ArrayFile, WriteError> {
        let create = || {
            let mut file = NamedTempFile::new_in(folder_of(path))?;
            file.seek(SeekFrom::Start(HEADER as u64))?;
            Ok(ArrayFile { path: path.to_owned(), file: io::BufWriter::new(file), count: 0 })
        };
        create().map_err(|source| WriteError::Io { path: path.to_owned(), source })
    }

    /// Adds rows.
    pub fn push(&mut self, rows: &[f32]) -> Result<(), WriteError> {
        let mut write = || rows.iter().try_for_each(|value| self.file.write_all(&value.to_le_bytes()));
        write().map_err(|source| WriteError::Io { path: self.path.clone(), source })?;
        self.count += rows.len();
        Ok(())
    }

    /// Ends the file: rows of `width` values.
    pub fn finish(self, width: usize) -> Result<(), WriteError> {
        let ArrayFile { path, file, count } = self;
        let rows = count.checked_div(width).unwrap_or(0);
        let finish = || {
            let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&header("<f4", &format!("{rows}, {width}")))?;
            put(file, &path)
        };
        finish().map_err(|source| WriteError::Io { path: path.clone(), source })
    }
}

/// The bytes of a file of whole numbers.
pub fn of_ints(values: &[i64]) -> Vec<u8> {
    let mut bytes = header("<i8", &format!("{},", values.len()));
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

fn header(dtype: &str, shape: &str) -> Vec<u8> {
    let mut text = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({shape}), }}").into_bytes();
    // Blanks up to the values, and a line's end last, as the format wants it.
    text.resize(HEADER - 11, b' ');
    text.push(b'\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_behind_a_header_of_its_size() {
        let bytes = of_ints(&[3, -1]);
        assert_eq!(&bytes[..10], b"\x93NUMPY\x01\x00\x76\x00");
        assert!(bytes[10..].starts_with(b"{'descr': '<i8', 'fortran_order': False, 'shape': (2,), }  "));
        assert_eq!((bytes[HEADER - 1], &bytes[HEADER..HEADER + 8]), (b'\n', &3_i64.to_le_bytes()[..]));
        assert_eq!(header("<f4", &format!("{0}, {0}", usize::MAX)).len(), HEADER);
    }
}
