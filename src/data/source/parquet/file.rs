//! One file of Parquet: its footer, where the pages of its pictures lie, and all of its labels.
//!
//! A row group's pages are found by their heads, a small read each: so there is one way to any row, whether the file's writer left an
//! index of its pages or not, and it is known before training that they are all there.
//!
//! **Invariant:** what is said of a row group lies within the file, its pages hold as many rows as it says, and none has
//! more memory to take than its bytes unpack to. No bytes of pictures are held: a row takes 4 bytes, a page 24.

use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::basic::Type as Physical;
use parquet::column::page::Page;
use parquet::data_type::{Int32Type, Int64Type};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader};

use super::Wrong;
use super::columns::{self, Chosen, LABEL, Names};
use super::compact::{Compact, Fault, I32, LIST, STRUCT};
use super::page::{self, Column, Kind, Place};
use crate::data::source::Identity;
use crate::data::source::opened::read_at;

const MAGIC: &[u8] = b"PAR1";
/// Behind the footer: its length and the magic.
const TAIL: u64 = 8;
/// Structures within structures of a schema: pictures lie in the second.
const DEEPEST: usize = 64;
/// Bytes of a page's head that are read at first, and at the most: values of pictures may stand in it as least and greatest.
const HEADS: [usize; 3] = [1 << 10, 1 << 16, 1 << 22];

/// What a file holds.
pub struct Opened {
    pub path: PathBuf,
    pub identity: Identity,
    pub groups: Vec<Group>,
    /// A number a row, −1 where there is none; empty where there is no column of labels.
    pub labels: Vec<i32>,
    /// Of the classes that labels count, where the file says them.
    pub classes: Option<Vec<String>>,
    /// What there is to say of columns that are not read.
    pub passed: Option<String>,
}

/// Rows that were written together.
pub struct Group {
    pub rows: u32,
    pub column: Column,
    pub dictionary: Option<Place>,
    pub pages: Vec<DataPage>,
}

pub struct DataPage {
    pub place: Place,
    /// Rows of the group up to its end.
    pub end: u32,
}

impl Group {
    /// Number of the page that a row of the group lies in, and the row's number there.
    pub fn place(&self, row: u32) -> (usize, u32) {
        let at = self.pages.partition_point(|page| page.end <= row);
        (at, row - at.checked_sub(1).map_or(0, |before| self.pages[before].end))
    }
}

impl Opened {
    /// Reads all but the pictures of the file at `path`; `call` is the source as messages write it, without its end.
    pub fn read(path: &Path, names: &Names, call: &str) -> Result<Opened, Wrong> {
        let (file, length, meta) = meta(path).map_err(Wrong::file)?;
        let schema = meta.file_metadata().schema_descr_ptr();
        let (chosen, passed) = columns::choose(&schema, names, call)?;
        let rows = meta.row_groups().iter().map(|group| group.num_rows().max(0) as u64).fold(0, u64::saturating_add);
        // Each takes a byte at the least, and four of ours.
        if rows > length {
            return Err(Wrong::file(format!("damaged: {length} bytes are no {rows} rows")));
        }
        let mut read = Reading { file, length, labels: Vec::new() };
        let groups = read.groups(&meta, chosen).map_err(Wrong::file)?;
        let name = names.label.as_deref().unwrap_or(LABEL);
        let known = meta.file_metadata().key_value_metadata().into_iter().flatten();
        let known = known.filter(|entry| entry.key == "huggingface").find_map(|entry| entry.value.as_deref());
        Ok(Opened {
            path: path.to_owned(),
            identity: Identity::of_file(path),
            groups,
            labels: read.labels,
            classes: known.and_then(|known| columns::classes(known, name)),
            passed,
        })
    }
}

/// The column of the file at `path` that holds pictures: the first that may; `None` where there is none, or no file of Parquet.
pub fn pictures_of(path: &Path) -> Option<String> {
    let (_, _, meta) = meta(path).ok()?;
    columns::first_of_pictures(meta.file_metadata().schema_descr())
}

/// The file at `path`, its length, and what its footer says.
fn meta(path: &Path) -> Result<(File, u64, ParquetMetaData), String> {
    let text = |error: std::io::Error| error.to_string();
    let file = File::open(path).map_err(text)?;
    let length = file.metadata().map_err(text)?.len();
    let footer = footer(&file, length)?;
    check_depth(&footer).map_err(|_| "damaged: its schema".to_owned())?;
    let meta = page::guarded(|| ParquetMetaDataReader::decode_metadata(&footer))?;
    Ok((file, length, meta))
}

/// The bytes of a file's footer.
fn footer(file: &File, length: u64) -> Result<Vec<u8>, String> {
    let text = |error: std::io::Error| error.to_string();
    let mut head = [0; 4];
    let whole = MAGIC.len() as u64 + TAIL;
    if length < whole {
        return Err(format!("{length} bytes are no Parquet file"));
    }
    read_at(file, &mut head, 0).map_err(text)?;
    if head == *b"PARE" {
        return Err("it is encrypted".to_owned());
    }
    if head != MAGIC {
        return Err("it does not begin with `PAR1`".to_owned());
    }
    let mut tail = [0; TAIL as usize];
    read_at(file, &mut tail, length - TAIL).map_err(text)?;
    if tail[4..] != *MAGIC {
        return Err("ends early: cut, or not written to its end".to_owned());
    }
    let size = u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]);
    if u64::from(size) > length - whole {
        return Err(format!("damaged: a footer of {size} bytes in a file of {length}"));
    }
    let mut bytes = vec![0; size as usize];
    read_at(file, &mut bytes, length - TAIL - u64::from(size)).map_err(text)?;
    Ok(bytes)
}

/// Refuses a schema that lies deeper in itself than a stack reaches: the library follows it by calls within calls.
fn check_depth(footer: &[u8]) -> Result<(), Fault> {
    Compact::new(footer).fields(&mut |compact, number, kind| {
        if (number, kind) != (2, LIST) {
            return Ok(false);
        }
        let (STRUCT, count) = compact.list()? else { return Err(Fault::Wrong) };
        // Children that are still to come, of each structure that is not at its end.
        let mut open: Vec<i64> = Vec::new();
        for _ in 0..count {
            let mut children = 0;
            compact.fields(&mut |compact, number, kind| {
                let is_count = (number, kind) == (5, I32);
                if is_count {
                    children = compact.number()?;
                }
                Ok(is_count)
            })?;
            if let Some(left) = open.last_mut() {
                *left -= 1;
            }
            open.push(children);
            while open.last().is_some_and(|left| *left <= 0) {
                open.pop();
            }
            if open.len() > DEEPEST {
                return Err(Fault::Wrong);
            }
        }
        Ok(true)
    })
}

/// A file that is being read.
struct Reading {
    file: File,
    length: u64,
    labels: Vec<i32>,
}

impl Reading {
    fn groups(&mut self, meta: &ParquetMetaData, chosen: Chosen) -> Result<Vec<Group>, String> {
        let mut groups = Vec::with_capacity(meta.num_row_groups());
        for (number, of) in meta.row_groups().iter().enumerate() {
            let within = |reason: String| format!("{reason}, in its row group {number}");
            let rows = u32::try_from(of.num_rows()).map_err(|_| within("damaged: no number of rows".to_owned()))?;
            let column = |number: usize| {
                let chunk =
                    of.columns().get(number).ok_or_else(|| within("damaged: a column is missing".to_owned()))?;
                self.chunk(chunk, rows).map_err(within)
            };
            let group = column(chosen.image)?;
            if let Some(label) = chosen.label {
                let labels = column(label)?;
                self.labels(&labels).map_err(within)?;
            }
            groups.push(group);
        }
        Ok(groups)
    }

    /// The pages of a column in a row group.
    fn chunk(&self, chunk: &ColumnChunkMetaData, rows: u32) -> Result<Group, String> {
        let column = Column { of: chunk.column_descr_ptr(), codec: chunk.compression() };
        if chunk.file_path().is_some() {
            return Err("it is kept in another file, which is not read".to_owned());
        }
        // Some writers say 0 where there is no dictionary.
        let dictionary = chunk.dictionary_page_offset().filter(|offset| *offset > 0);
        let first = dictionary.map_or(chunk.data_page_offset(), |offset| offset.min(chunk.data_page_offset()));
        let begin = u64::try_from(first).map_err(|_| "damaged: pages before the file".to_owned())?;
        let size = u64::try_from(chunk.compressed_size()).map_err(|_| "damaged: pages of no size".to_owned())?;
        let end = begin.checked_add(size).filter(|end| *end <= self.length);
        let end = end.ok_or("ends early: cut, or not written to its end")?;
        let mut group = Group { rows, column, dictionary: None, pages: Vec::new() };
        let (mut at, mut done) = (begin, 0_u32);
        while done < rows {
            let head = self.head(at, end)?;
            page::check(&head, group.column.codec)?;
            let length = head.length as u64 + u64::from(head.packed);
            if length > end - at {
                return Err("damaged: a page reaches beyond its column".to_owned());
            }
            let length = u32::try_from(length).map_err(|_| "damaged: a page of more than 4 GiB".to_owned())?;
            let place = Place { offset: at, length, size: head.unpacked };
            match head.kind {
                Kind::Dictionary if group.dictionary.is_some() || done > 0 => {
                    return Err("damaged: a dictionary behind its values".to_owned());
                }
                Kind::Dictionary => group.dictionary = Some(place),
                Kind::Data => {
                    match page::by_dictionary(head.encoding) {
                        Ok(true) if group.dictionary.is_none() => return Err("damaged: no dictionary".to_owned()),
                        Ok(_) => {}
                        Err(name) => return Err(format!("its values are written by {name}, which is not read")),
                    }
                    done = done
                        .checked_add(head.values)
                        .filter(|done| *done <= rows)
                        .ok_or_else(|| format!("damaged: its pages hold more than its {rows} rows"))?;
                    group.pages.push(DataPage { place, end: done });
                }
                Kind::Other => {}
            }
            at += u64::from(length);
        }
        group.pages.shrink_to_fit();
        Ok(group)
    }

    /// The head of the page at `at`, of a column that ends at `end`.
    fn head(&self, at: u64, end: u64) -> Result<page::Head, String> {
        for size in HEADS {
            let mut bytes = vec![0; size.min(usize::try_from(end - at).unwrap_or(size))];
            read_at(&self.file, &mut bytes, at).map_err(|error| error.to_string())?;
            match page::head(&bytes) {
                Err(Fault::Short) if bytes.len() == size => {}
                head => return head.map_err(|_| "damaged: the head of a page".to_owned()),
            }
        }
        Err("damaged: the head of a page".to_owned())
    }

    /// Adds the numbers of a column.
    fn labels(&mut self, group: &Group) -> Result<(), String> {
        let load = |place: &Place| -> Result<Page, String> {
            let mut bytes = vec![0; place.length as usize];
            read_at(&self.file, &mut bytes, place.offset).map_err(|error| error.to_string())?;
            page::unpack(bytes, &group.column)
        };
        let dictionary = group.dictionary.as_ref().map(load).transpose()?;
        let before = self.labels.len();
        let mut large = None;
        for data in &group.pages {
            let page = load(&data.place)?;
            let labels = &mut self.labels;
            let mut sink = |label: i64| match i32::try_from(label) {
                Ok(label) => labels.push(label),
                Err(_) => large = Some(label),
            };
            let read = match group.column.of.physical_type() {
                Physical::INT32 => page::numbers::<Int32Type>,
                _ => page::numbers::<Int64Type>,
            };
            read(dictionary.clone(), page, &group.column, &mut sink)?;
        }
        match large {
            Some(label) => Err(format!("a row has label {label}, of a million classes at most")),
            None if self.labels.len() - before == group.rows as usize => Ok(()),
            None => Err("damaged: its labels are not as many as its rows".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_million_rows_stay_below_a_gigabyte_even_with_a_page_for_each() {
        assert!((size_of::<DataPage>() + size_of::<i32>()) * 10_000_000 < 1 << 30);
    }

    #[test]
    fn a_schema_that_lies_deep_in_itself_is_refused() {
        // A list of so many structures, each with one child, the last with none.
        let schema = |count: u8| {
            let one = |children: u8| vec![0x55, 2 * children, 0];
            let all: Vec<u8> = (1..count).flat_map(|_| one(1)).chain(one(0)).collect();
            [vec![0x29, 0xfc, count], all, vec![0]].concat()
        };
        assert_eq!(check_depth(&schema(20)), Ok(()));
        assert_eq!(check_depth(&schema(100)), Err(Fault::Wrong));
    }
}
