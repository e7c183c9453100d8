//! Pages of a column: where they lie, how large they say that they are, and how they come into memory.
//!
//! The head of a page is read here before the library is asked for its values: it takes memory for what a head says, and heads
//! may lie.
//!
//! **Invariant:** a page takes no more memory than [`LARGEST`], nor more than its bytes can be unpacked to.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, Encoding};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{ByteArray, ByteArrayType, DataType};
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::ColumnDescPtr;

use super::compact::{Compact, Fault, I32, STRUCT};

/// Bytes of an unpacked page, of which each thread holds one.
pub const LARGEST: u32 = 512 << 20;

/// Values that are read at once.
const AT_ONCE: usize = 1024;

/// What the head of a page says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub kind: Kind,
    /// Bytes of the head itself.
    pub length: usize,
    /// Bytes behind it, and those that they unpack to.
    pub packed: u32,
    pub unpacked: u32,
    pub values: u32,
    /// By its number.
    pub encoding: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Data,
    Dictionary,
    /// Of another use, which is none here.
    Other,
}

/// A page within its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub offset: u64,
    /// With its head.
    pub length: u32,
    /// Bytes in memory.
    pub size: u32,
}

/// What is needed to read the pages of a column.
#[derive(Debug, Clone)]
pub struct Column {
    pub of: ColumnDescPtr,
    pub codec: Compression,
}

/// The head that `bytes` begin with.
pub fn head(bytes: &[u8]) -> Result<Head, Fault> {
    let mut compact = Compact::new(bytes);
    let (mut kind, mut sizes, mut values, mut encoding) = (None, [None; 2], None, -1);
    compact.fields(&mut |compact, number, of| {
        match (number, of) {
            (1, I32) => kind = Some(compact.number()?),
            (2 | 3, I32) => sizes[number as usize - 2] = Some(compact.number()?),
            // Of data, of a dictionary, and of data in their second version.
            (5 | 7 | 8, STRUCT) => {
                let place_of_encoding = if number == 8 { 4 } else { 2 };
                compact.fields(&mut |compact, field, of| {
                    match (field, of) {
                        (1, I32) => values = Some(compact.number()?),
                        (field, I32) if field == place_of_encoding => encoding = compact.number()?,
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let count = |value: Option<i64>| value.and_then(|value| i32::try_from(value).ok()?.try_into().ok());
    let kind = match kind {
        Some(0 | 3) => Kind::Data,
        Some(2) => Kind::Dictionary,
        _ => Kind::Other,
    };
    let values = if kind == Kind::Other { Some(0) } else { count(values) };
    match (count(sizes[0]), count(sizes[1]), values) {
        (Some(unpacked), Some(packed), Some(values)) => {
            Ok(Head { kind, length: compact.position(), packed, unpacked, values, encoding })
        }
        _ => Err(Fault::Wrong),
    }
}

/// Whether a page may be as large as its head says.
///
/// # Errors
/// Why it is not read.
pub fn check(head: &Head, codec: Compression) -> Result<(), String> {
    let most = match codec {
        Compression::UNCOMPRESSED => 1,
        // The most that a byte unpacks to, rounded up: a copy of 64 takes three.
        Compression::SNAPPY => 32,
        Compression::LZ4 | Compression::LZ4_RAW => 256,
        Compression::GZIP(_) => 1032,
        // A block of 128 KiB of one value takes four.
        Compression::ZSTD(_) => 1 << 15,
        // By name alone: the library adds how hard it would compress.
        other => {
            let name = other.to_string();
            let name = name.split('(').next().unwrap_or_default();
            return Err(format!("it is compressed by {name}, which is not read"));
        }
    };
    let Head { packed, unpacked, .. } = *head;
    if u64::from(unpacked) > most * u64::from(packed) + 64 {
        return Err(format!("damaged: {packed} bytes of a page are no {unpacked}"));
    }
    if unpacked > LARGEST {
        return Err(format!("a page takes {unpacked} bytes, more than {LARGEST}"));
    }
    // Values of a dictionary are kept one by one, and each takes its length.
    if head.kind == Kind::Dictionary && head.values > unpacked / 4 {
        return Err(format!("damaged: {} values are no dictionary of {unpacked} bytes", head.values));
    }
    Ok(())
}

/// Unpacks the page whose bytes, its head among them, are `bytes`.
pub fn unpack(bytes: Vec<u8>, column: &Column) -> Result<Page, String> {
    let head = head(&bytes).map_err(|_| "damaged: the head of a page".to_owned())?;
    check(&head, column.codec)?;
    guarded(move || {
        let length = bytes.len() as i64;
        let meta = ColumnChunkMetaData::builder(column.of.clone())
            .set_compression(column.codec)
            .set_data_page_offset(0)
            .set_total_compressed_size(length)
            .build()?;
        let mut pages = SerializedPageReader::new(Arc::new(Bytes::from(bytes)), &meta, 0, None)?;
        pages.get_next_page()?.ok_or_else(|| ParquetError::EOF("no page".to_owned()))
    })
}

/// The value of `row` in a page of pictures; `None` where it is null.
pub fn value(dictionary: Option<Page>, page: Page, row: usize, column: &Column) -> Result<Option<ByteArray>, String> {
    guarded(|| {
        let pages = Box::new(Pages(dictionary.into_iter().chain([page]).collect()));
        let mut reader = ColumnReaderImpl::<ByteArrayType>::new(column.of.clone(), pages);
        let (mut levels, mut values) = (Vec::new(), Vec::new());
        let skipped = reader.skip_records(row)?;
        let (read, ..) = reader.read_records(1, Some(&mut levels), None, &mut values)?;
        if (skipped, read) != (row, 1) {
            return Err(ParquetError::EOF("fewer values than its page says".to_owned()));
        }
        Ok(values.pop())
    })
}

/// All values of a page of numbers, −1 for null, one after the other to `sink`.
pub fn numbers<T: DataType>(
    dictionary: Option<Page>,
    page: Page,
    column: &Column,
    sink: &mut dyn FnMut(i64),
) -> Result<(), String>
where
    i64: From<T::T>,
{
    guarded(|| {
        let count = page.num_values() as usize;
        let pages = Box::new(Pages(dictionary.into_iter().chain([page]).collect()));
        let mut reader = ColumnReaderImpl::<T>::new(column.of.clone(), pages);
        let full = column.of.max_def_level();
        let mut done = 0;
        while done < count {
            let (mut levels, mut values) = (Vec::new(), Vec::new());
            let (read, ..) = reader.read_records(AT_ONCE, Some(&mut levels), None, &mut values)?;
            if read == 0 {
                return Err(ParquetError::EOF("fewer values than its page says".to_owned()));
            }
            let mut values = values.into_iter().map(i64::from);
            if full == 0 {
                values.for_each(&mut *sink);
            } else {
                levels.iter().for_each(|level| sink(if *level == full { values.next().unwrap_or(-1) } else { -1 }));
            }
            done += read;
        }
        Ok(())
    })
}

/// The library's answer, as a clause. Its code is others': where it panics on a damaged file, that file is damaged, and nothing
/// else is.
pub fn guarded<T>(read: impl FnOnce() -> parquet::errors::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(read) => read.map_err(|error| {
            format!("damaged: {}", error.to_string().split_whitespace().collect::<Vec<_>>().join(" "))
        }),
        Err(_) => Err("damaged: the reader failed on it".to_owned()),
    }
}

/// Pages that were unpacked, as the library reads values from them.
struct Pages(VecDeque<Page>);

impl Iterator for Pages {
    type Item = parquet::errors::Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.pop_front().map(Ok)
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> parquet::errors::Result<Option<Page>> {
        Ok(self.0.pop_front())
    }

    fn peek_next_page(&mut self) -> parquet::errors::Result<Option<PageMetadata>> {
        Ok(self.0.front().map(|page| PageMetadata {
            num_rows: None,
            num_levels: page.is_data_page().then_some(page.num_values() as usize),
            is_dict: page.is_dictionary_page(),
        }))
    }

    fn skip_next_page(&mut self) -> parquet::errors::Result<()> {
        self.0.pop_front();
        Ok(())
    }
}

/// Whether values so encoded are read, and whether by a dictionary.
///
/// # Errors
/// The name of another encoding.
pub fn by_dictionary(encoding: i64) -> Result<bool, &'static str> {
    const PLAIN: i64 = Encoding::PLAIN as i64;
    match encoding {
        PLAIN => Ok(false),
        2 | 8 => Ok(true),
        5 => Err("DELTA_BINARY_PACKED"),
        6 => Err("DELTA_LENGTH_BYTE_ARRAY"),
        7 => Err("DELTA_BYTE_ARRAY"),
        9 => Err("BYTE_STREAM_SPLIT"),
        _ => Err("an encoding of no known name"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A whole number as the protocol has it.
    fn number(value: u32) -> Vec<u8> {
        let (mut left, mut bytes) = (u64::from(value) << 1, Vec::new());
        while left >= 0x80 {
            bytes.push(left as u8 | 0x80);
            left >>= 7;
        }
        bytes.push(left as u8);
        bytes
    }

    /// The head of a page of the kind with this number, by plain values.
    fn written(kind: u32, unpacked: u32, packed: u32, values: u32) -> Vec<u8> {
        let field = |head: u8, value: u32| [vec![head], number(value)].concat();
        // What says more of it is the fifth field, or the seventh.
        let part = if kind == 2 { 0x4c } else { 0x2c };
        let sizes = [field(0x15, kind), field(0x15, unpacked), field(0x15, packed)].concat();
        [sizes, vec![part], field(0x15, values), field(0x15, 0), vec![0, 0]].concat()
    }

    #[test]
    fn a_head_says_what_lies_behind_it_and_one_that_lies_takes_no_memory() {
        let bytes = written(0, 5000, 700, 9);
        let found = head(&bytes).expect("it is one");
        let kind = Kind::Data;
        assert_eq!(found, Head { kind, length: bytes.len(), packed: 700, unpacked: 5000, values: 9, encoding: 0 });
        assert_eq!(check(&found, Compression::SNAPPY), Ok(()));
        for (head_of, codec, reason) in [
            (written(0, 5000, 700, 9), Compression::UNCOMPRESSED, "damaged: 700 bytes of a page are no 5000"),
            (
                written(0, i32::MAX as u32, 700, 9),
                Compression::SNAPPY,
                "damaged: 700 bytes of a page are no 2147483647",
            ),
            (written(0, i32::MAX as u32, 1 << 28, 9), Compression::SNAPPY, "a page takes 2147483647 bytes"),
            (written(2, 100, 100, 26), Compression::UNCOMPRESSED, "damaged: 26 values are no dictionary of 100 bytes"),
            (written(0, 100, 100, 2), Compression::LZO, "which is not read"),
        ] {
            let found = check(&head(&head_of).expect("it is one"), codec).expect_err("it lies");
            assert!(found.contains(reason), "{found}");
        }
        assert_eq!(head(&bytes[..bytes.len() - 1]), Err(Fault::Short));
        assert_eq!(head(&[0]), Err(Fault::Wrong), "it says nothing");
    }
}
