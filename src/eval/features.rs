//! Features of pictures: runs the evaluation graph over batches, and gives the rows on.
//!
//! Before: `data` makes batches of the evaluation view. After: [`super::knn`], [`super::collapse`], [`super::feature_file`].
//!
//! **Invariant:** rows stand in the order of the batches, and padding never becomes a row.

use std::ops::Range;

use crate::backend::{BackendError, Session};
use crate::data::DataError;
use crate::data::evaluation::EvalBatch;
use crate::graph::Graph;
use crate::run::tensor_file::WriteError;
use crate::tensor::{Element, HostTensor, InputValue, OutputValue};

/// `[rows, dim]`, row-major.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Features {
    pub rows: usize,
    pub dim: usize,
    pub data: Vec<f32>,
}

impl Features {
    pub fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.dim..(row + 1) * self.dim]
    }

    /// Those of `rows`.
    pub fn slice(&self, rows: Range<usize>) -> Features {
        let data = self.data[rows.start * self.dim..rows.end * self.dim].to_vec();
        Features { rows: rows.len(), dim: self.dim, data }
    }

    /// Each row over its Euclidean norm; a row of zeros stays zero.
    pub fn l2_normalized(&self) -> Features {
        let data = (0..self.rows).flat_map(|row| unit_row(self.row(row))).collect();
        Features { rows: self.rows, dim: self.dim, data }
    }

    /// Index of the first row that holds a NaN or an infinity.
    pub fn first_not_finite(&self) -> Option<usize> {
        self.data.iter().position(|x| !x.is_finite()).map(|at| at / self.dim)
    }

    /// Those of `columns` of each row.
    pub fn columns(&self, columns: Range<usize>) -> Features {
        if columns == (0..self.dim) {
            return self.clone();
        }
        let data = (0..self.rows).flat_map(|row| &self.row(row)[columns.clone()]).copied().collect();
        Features { rows: self.rows, dim: columns.len(), data }
    }

    /// Adds the rows of `other`, which are of the same dimensions or the first.
    pub fn append(&mut self, other: &Features) {
        self.dim = other.dim;
        self.rows += other.rows;
        self.data.extend(&other.data);
    }
}

/// `row` over its Euclidean norm; zeros stay zeros.
pub(super) fn unit_row(row: &[f32]) -> impl Iterator<Item = f32> + '_ {
    let norm = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    // The bound of PyTorch's `normalize`, so that a row of denormals does not blow up.
    row.iter().map(move |&x| (f64::from(x) / norm.max(1e-12)) as f32)
}

/// What the pictures of one batch gave, or of several.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Made {
    pub features: Features,
    /// By the source's own classes.
    pub labels: Vec<i64>,
    /// Which picture of the source each row shows.
    pub rows: Vec<usize>,
}

impl Made {
    pub fn append(&mut self, other: &Made) {
        self.features.append(&other.features);
        self.labels.extend(&other.labels);
        self.rows.extend(&other.rows);
    }
}

/// Why features could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FeaturesError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error("`{name}` is {found}, expected float [B, D] (help: pool it, as in `encoder(view).patches |> mean_tokens`)")]
    Output { name: String, found: String },
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("stopped before all pictures were looked at; nothing was written")]
    Stopped,
    #[error(
        "a label map holds class {found}, the logits of `{name}` count {classes} (help: let the last layer give one for each class, and \
         name in `op::label_map(…, classes)` as many)"
    )]
    Classes { name: String, found: i64, classes: usize },
    #[error("batch {batch} has {valid} rows that count, but holds {rows}")]
    Valid { batch: usize, valid: usize, rows: usize },
    #[error("batch {batch} has {labels} labels for {valid} rows")]
    Labels { batch: usize, labels: usize, valid: usize },
    #[error("batch {batch} gives features of {found} dimensions, those before it {expected}")]
    Dimensions { batch: usize, found: usize, expected: usize },
    #[error("input `{name}` is {found:?}, expected pictures [B, C, H, W]")]
    Pictures { name: String, found: Vec<usize> },
    #[error("batch {batch} has no input `{name}` (help: its inputs are {there})")]
    NoInput { batch: usize, name: String, there: String },
}

/// Runs `graph`, an evaluation graph of the session's program, on each batch, and gives its output `features` to `sink`, batch by
/// batch: what is kept of them is its choice.
pub fn extract<E: Element, X: From<FeaturesError>>(
    session: &mut dyn Session<E>,
    graph: &Graph,
    batches: impl Iterator<Item = Result<EvalBatch, DataError>>,
    sink: impl FnMut(Made) -> Result<(), X>,
) -> Result<(), X> {
    extract_all(session, graph, &["features".to_owned()], batches, sink)
}

/// The same of several outputs: a picture's row is that of each, one behind the other.
pub fn extract_all<E: Element, X: From<FeaturesError>>(
    session: &mut dyn Session<E>,
    graph: &Graph,
    outputs: &[String],
    batches: impl Iterator<Item = Result<EvalBatch, DataError>>,
    sink: impl FnMut(Made) -> Result<(), X>,
) -> Result<(), X> {
    let of = |_, inputs: &[_]| {
        let found = session.evaluate(graph, inputs, outputs)?;
        let mut parts = Vec::new();
        for (at, name) in outputs.iter().enumerate() {
            let wrong = |found: String| FeaturesError::Output { name: name.clone(), found };
            match found.get(at) {
                Some(OutputValue::Float(tensor)) if tensor.shape.len() == 2 => parts.push(tensor),
                Some(OutputValue::Float(tensor)) => return Err(wrong(format!("float {:?}", tensor.shape))),
                Some(OutputValue::Int(tensor)) => return Err(wrong(format!("int {:?}", tensor.shape))),
                None => return Err(wrong("missing".to_owned())),
            }
        }
        let rows = parts.first().map_or(0, |part| part.shape[0]);
        let dim: usize = parts.iter().map(|part| part.shape[1]).sum();
        let mut data = Vec::with_capacity(rows * dim);
        for row in 0..rows {
            for part in &parts {
                let width = part.shape[1];
                data.extend(part.data[row * width..(row + 1) * width].iter().map(|x| x.to_f64() as f32));
            }
        }
        Ok(HostTensor { shape: vec![rows, dim], data })
    };
    each(batches, of, sink)
}

/// Gives the rows without padding of what `rows_of` makes of each batch to `sink`: none of a batch whose pictures are all broken.
pub(super) fn each<X: From<FeaturesError>>(
    batches: impl Iterator<Item = Result<EvalBatch, DataError>>,
    mut rows_of: impl FnMut(usize, &[(String, InputValue)]) -> Result<HostTensor<f32>, FeaturesError>,
    mut sink: impl FnMut(Made) -> Result<(), X>,
) -> Result<(), X> {
    let mut expected = None;
    for (batch, item) in batches.enumerate() {
        let EvalBatch { inputs, labels, rows } = item.map_err(FeaturesError::from)?;
        if rows.is_empty() {
            sink(Made::default())?;
            continue;
        }
        let HostTensor { shape, mut data } = rows_of(batch, &inputs)?;
        let (held, dim, valid) = (shape[0], shape[1], rows.len());
        if valid > held {
            return Err(FeaturesError::Valid { batch, valid, rows: held }.into());
        }
        if labels.len() != valid {
            return Err(FeaturesError::Labels { batch, labels: labels.len(), valid }.into());
        }
        let expected = *expected.get_or_insert(dim);
        if dim != expected {
            return Err(FeaturesError::Dimensions { batch, found: dim, expected }.into());
        }
        data.truncate(valid * dim);
        sink(Made { features: Features { rows: valid, dim, data }, labels, rows })?;
    }
    Ok(())
}
