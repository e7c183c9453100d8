//! Files of features, written as they are made: safetensors, numpy's arrays, a Parquet table.
//!
//! Before: [`super::features`] makes rows. After: whatever reads such a file.
//!
//! **Invariant:** each row of a file is that of one picture, in the order in which they were made, with its label beside.

use std::path::{Path, PathBuf};

use super::features::Made;
use crate::data::source::Source;
use crate::run::array_file::{self, ArrayFile};
use crate::run::row_file::{Head, RowFile};
use crate::run::table_file::TableFile;
use crate::run::tensor_file::{FileTensor, WriteError, write_atomically};

/// A file of features on its way.
pub struct FeatureFile<'s> {
    source: &'s dyn Source,
    dim: usize,
    labels: Vec<i64>,
    rows: Vec<usize>,
    form: Form,
}

enum Form {
    /// `features: f32[N, D]`, `labels: i64[N]` and, in the metadata, `names` of the samples and of the `classes` that labels count (JSON
    /// lists; may be empty). Labels of two files meet by the names of their classes.
    Tensors(RowFile),
    /// `[N, D]`, and the labels in a file beside.
    Array { features: ArrayFile, labels: PathBuf },
    /// Columns `path`, `label` (null without a class) and `features`.
    Table(Box<TableFile>),
}

/// The file of the labels beside the array at `path`: `x.labels.npy` of `x.npy`.
pub fn labels_beside(path: &Path) -> PathBuf {
    path.with_extension("labels.npy")
}

impl<'s> FeatureFile<'s> {
    /// A file at `path` for features of `dim` dimensions of the pictures of `source`: `.npy`, `.parquet`, and else safetensors.
    pub fn create(path: &Path, source: &'s dyn Source, dim: usize) -> Result<Self, WriteError> {
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        let form = match ending.as_deref() {
            Some("npy") => Form::Array { features: ArrayFile::create(path)?, labels: labels_beside(path) },
            Some("parquet") => Form::Table(Box::new(TableFile::create(path, dim, source.classes())?)),
            _ => {
                let rows: Vec<usize> = (0..source.len()).collect();
                // Whole, unless pictures are broken.
                let file = with_head(source, &rows, &vec![0; rows.len()], dim, |head| RowFile::create(path, head));
                Form::Tensors(file?)
            }
        };
        Ok(FeatureFile { source, dim, labels: Vec::new(), rows: Vec::new(), form })
    }

    pub fn push(&mut self, made: &Made) -> Result<(), WriteError> {
        self.labels.extend(&made.labels);
        self.rows.extend(&made.rows);
        let values = &made.features.data;
        match &mut self.form {
            Form::Tensors(file) => file.push(values),
            Form::Array { features, .. } => features.push(values),
            Form::Table(file) => file.push(made.rows.iter().map(|row| self.source.name(*row)), &made.labels, values),
        }
    }

    /// Ends the file; gives the number of its rows.
    pub fn finish(self) -> Result<usize, WriteError> {
        let FeatureFile { source, dim, labels, rows, form } = self;
        match form {
            Form::Tensors(file) => with_head(source, &rows, &labels, dim, |head| file.finish(head))?,
            Form::Array { features, labels: path } => {
                let written = write_atomically(&path, &array_file::of_ints(&labels));
                written.map_err(|source| WriteError::Io { path, source })?;
                features.finish(dim)?;
            }
            Form::Table(file) => file.finish()?,
        }
        Ok(rows.len())
    }
}

/// What `then` makes of what stands ahead of the features.
fn with_head<T>(
    source: &dyn Source,
    rows: &[usize],
    labels: &[i64],
    dim: usize,
    then: impl FnOnce(&Head<'_>) -> Result<T, WriteError>,
) -> Result<T, WriteError> {
    let names: Vec<String> = rows.iter().map(|row| source.name(*row)).collect();
    let list = |names: &[String]| serde_json::Value::from(names.to_vec()).to_string();
    then(&Head {
        tensors: &[FileTensor::i64("labels", vec![labels.len()], labels.iter().copied())],
        rows: ("features", [rows.len(), dim]),
        metadata: &[("kind", "features".to_owned()), ("names", list(&names)), ("classes", list(source.classes()))],
    })
}
