//! A Parquet table of pictures with their features, written as they are made.
//!
//! Before: `eval` makes features batch by batch. After: pandas, polars, DuckDB, `datasets`.
//!
//! **Invariant:** the file under its final name is whole: it is written beside, synced, and renamed in.
//!
//! Source: Apache Parquet, LogicalTypes.md (lists of three levels); the entry `huggingface` as `datasets` writes it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use serde_json::json;
use tempfile::NamedTempFile;

use super::tensor_file::{WriteError, folder_of, put};

/// Values that a group of rows holds at most, all rows of one push beside.
const GROUP: usize = 1 << 22;

/// Values of a list: this many levels deep where there is one, of which repeats begin at the second.
const SCHEMA: &str = "message features {
  required binary path (UTF8);
  optional int64 label;
  required group features (LIST) { repeated group list { required float element; } }
}";

/// A table on its way to `path`.
pub struct TableFile {
    path: PathBuf,
    writer: SerializedFileWriter<NamedTempFile>,
    width: usize,
    /// Rows that are not written yet.
    paths: Vec<String>,
    labels: Vec<i64>,
    features: Vec<f32>,
}

impl TableFile {
    /// A table of rows with `width` features; labels count `classes`.
    pub fn create(path: &Path, width: usize, classes: &[String]) -> Result<TableFile, WriteError> {
        let layout = |message: String| WriteError::Layout { path: path.to_owned(), message };
        let schema = parquet::schema::parser::parse_message_type(SCHEMA).map_err(|error| layout(error.to_string()))?;
        let label = match classes.is_empty() {
            true => json!({ "dtype": "int64", "_type": "Value" }),
            false => json!({ "names": classes, "_type": "ClassLabel" }),
        };
        let features = json!({ "info": { "features": {
            "path": { "dtype": "string", "_type": "Value" },
            "label": label,
            "features": { "feature": { "dtype": "float32", "_type": "Value" }, "_type": "Sequence" },
        } } });
        let known = KeyValue::new("huggingface".to_owned(), features.to_string());
        let properties = WriterProperties::builder()
            // Numbers of a network are no two alike: a dictionary of them would be all of them.
            .set_column_dictionary_enabled("features.list.element".into(), false)
            .set_compression(Compression::SNAPPY)
            .set_key_value_metadata(Some(vec![known]))
            .build();
        let file = NamedTempFile::new_in(folder_of(path)).map_err(io_at(path))?;
        let writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties));
        Ok(TableFile {
            path: path.to_owned(),
            writer: writer.map_err(|error| failed(path, error))?,
            width,
            paths: Vec::new(),
            labels: Vec::new(),
            features: Vec::new(),
        })
    }

    /// Adds rows: their names, their labels (−1 where one has none), and their features.
    pub fn push(
        &mut self,
        paths: impl IntoIterator<Item = String>,
        labels: &[i64],
        features: &[f32],
    ) -> Result<(), WriteError> {
        self.paths.extend(paths);
        self.labels.extend(labels);
        self.features.extend(features);
        if self.features.len() >= GROUP { self.flush() } else { Ok(()) }
    }

    /// Ends the table.
    pub fn finish(mut self) -> Result<(), WriteError> {
        self.flush()?;
        let path = self.path;
        let file = self.writer.into_inner().map_err(|error| failed(&path, error))?;
        put(file, &path).map_err(io_at(&path))
    }

    /// Writes the rows that wait as a group.
    fn flush(&mut self) -> Result<(), WriteError> {
        if !self.paths.is_empty() {
            self.group().map_err(|error| failed(&self.path, error))?;
        }
        self.paths.clear();
        self.labels.clear();
        self.features.clear();
        Ok(())
    }

    fn group(&mut self) -> Result<(), ParquetError> {
        let mut group = self.writer.next_row_group()?;
        while let Some(mut column) = group.next_column()? {
            match column.untyped() {
                ColumnWriter::ByteArrayColumnWriter(typed) => {
                    let paths: Vec<ByteArray> = self.paths.iter().map(|path| ByteArray::from(path.as_str())).collect();
                    typed.write_batch(&paths, None, None)?;
                }
                ColumnWriter::Int64ColumnWriter(typed) => {
                    let there: Vec<i16> = self.labels.iter().map(|label| i16::from(*label >= 0)).collect();
                    let labels: Vec<i64> = self.labels.iter().copied().filter(|label| *label >= 0).collect();
                    typed.write_batch(&labels, Some(&there), None)?;
                }
                ColumnWriter::FloatColumnWriter(typed) => {
                    let deep = vec![1; self.features.len()];
                    // 0 where a row begins.
                    let repeats: Vec<i16> =
                        (0..self.features.len()).map(|at| i16::from(!at.is_multiple_of(self.width))).collect();
                    typed.write_batch(&self.features, Some(&deep), Some(&repeats))?;
                }
                _ => return Err(ParquetError::General("a column that the schema does not have".to_owned())),
            }
            column.close()?;
        }
        group.close()?;
        Ok(())
    }
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> WriteError {
    let path = path.to_owned();
    |source| WriteError::Io { path, source }
}

fn failed(path: &Path, error: ParquetError) -> WriteError {
    WriteError::Layout { path: path.to_owned(), message: error.to_string() }
}
