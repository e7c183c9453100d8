//! Features of pictures: runs the evaluation graph over batches, keeps the rows, and writes them.
//!
//! Before: `data` makes batches of the evaluation view. After: [`super::knn`], [`super::collapse`], a file.
//!
//! **Invariant:** rows stand in the order of the batches, and padding never becomes a row.

use std::path::Path;

use crate::backend::{BackendError, Session};
use crate::data::DataError;
use crate::graph::Graph;
use crate::run::tensor_file::{self, FileTensor, WriteError};
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

    /// Each row over its Euclidean norm; a row of zeros stays zero.
    pub fn l2_normalized(&self) -> Features {
        let mut unit = self.clone();
        if self.dim > 0 {
            for row in unit.data.chunks_exact_mut(self.dim) {
                let norm = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
                // The bound of PyTorch's `normalize`, so that a row of denormals does not blow up.
                row.iter_mut().for_each(|x| *x = (f64::from(*x) / norm.max(1e-12)) as f32);
            }
        }
        unit
    }

    /// Index of the first row that holds a NaN or an infinity.
    pub fn first_not_finite(&self) -> Option<usize> {
        self.data.iter().position(|x| !x.is_finite()).map(|at| at / self.dim)
    }

    /// Adds the first `valid` rows of `values: [B, dim]`.
    fn append(&mut self, dim: usize, values: impl Iterator<Item = f32>, valid: usize) {
        self.dim = dim;
        self.rows += valid;
        self.data.extend(values.take(valid * dim));
    }
}

/// Inputs of one batch by name, how many of its rows are no padding, and the labels of those rows.
pub type Batch = (Vec<(String, InputValue)>, usize, Vec<i64>);

/// Why features could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FeaturesError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error(
        "`features` is {found}, expected float [B, D] (help: pool it, as in `encoder(view).patches |> mean_tokens`)"
    )]
    Output { found: String },
    #[error("batch {batch} has {valid} rows that count, but holds {rows}")]
    Valid { batch: usize, valid: usize, rows: usize },
    #[error("batch {batch} has {labels} labels for {valid} rows")]
    Labels { batch: usize, labels: usize, valid: usize },
    #[error("batch {batch} gives features of {found} dimensions, those before it {expected}")]
    Dimensions { batch: usize, found: usize, expected: usize },
    #[error("batch {batch} has no input `{name}` (help: its inputs are {there})")]
    NoInput { batch: usize, name: String, there: String },
}

/// Runs `graph`, an evaluation graph of the session's program, on each batch and gathers its output `features` with the labels.
pub fn extract<E: Element>(
    session: &mut dyn Session<E>,
    graph: &Graph,
    batches: impl Iterator<Item = Result<Batch, DataError>>,
) -> Result<(Features, Vec<i64>), FeaturesError> {
    let wanted = ["features".to_owned()];
    gather(batches, |_, inputs| match session.evaluate(graph, inputs, &wanted)?.into_iter().next() {
        Some(OutputValue::Float(tensor)) if tensor.shape.len() == 2 => {
            let data = tensor.data.into_iter().map(|x| x.to_f64() as f32).collect();
            Ok(HostTensor { shape: tensor.shape, data })
        }
        Some(OutputValue::Float(tensor)) => Err(FeaturesError::Output { found: format!("float {:?}", tensor.shape) }),
        Some(OutputValue::Int(tensor)) => Err(FeaturesError::Output { found: format!("int {:?}", tensor.shape) }),
        None => Err(FeaturesError::Output { found: "missing".to_owned() }),
    })
}

/// The pictures of input `input` as features, each flattened: what a learned feature has to beat.
pub fn raw_pixels(
    input: &str,
    batches: impl Iterator<Item = Result<Batch, DataError>>,
) -> Result<(Features, Vec<i64>), FeaturesError> {
    gather(batches, |batch, inputs| match inputs.iter().find(|(name, _)| name == input) {
        Some((_, InputValue::Float(tensor))) => {
            let rows = tensor.shape.first().copied().unwrap_or(1);
            let dim = tensor.data.len().checked_div(rows).unwrap_or(0);
            Ok(HostTensor { shape: vec![rows, dim], data: tensor.data.clone() })
        }
        Some((_, InputValue::Double(_) | InputValue::Levels(_))) => {
            Err(FeaturesError::Output { found: "no picture".to_owned() })
        }
        Some((_, InputValue::Int(tensor))) => Err(FeaturesError::Output { found: format!("int {:?}", tensor.shape) }),
        None => {
            let there: Vec<&str> = inputs.iter().map(|(name, _)| name.as_str()).collect();
            Err(FeaturesError::NoInput { batch, name: input.to_owned(), there: there.join(", ") })
        }
    })
}

/// Rows without padding of what `rows_of` makes of each batch.
fn gather(
    batches: impl Iterator<Item = Result<Batch, DataError>>,
    mut rows_of: impl FnMut(usize, &[(String, InputValue)]) -> Result<HostTensor<f32>, FeaturesError>,
) -> Result<(Features, Vec<i64>), FeaturesError> {
    let mut features = Features::default();
    let mut all_labels = Vec::new();
    for (batch, item) in batches.enumerate() {
        let (inputs, valid, mut labels) = item?;
        let tensor = rows_of(batch, &inputs)?;
        let (rows, dim) = (tensor.shape[0], tensor.shape[1]);
        if valid > rows {
            return Err(FeaturesError::Valid { batch, valid, rows });
        }
        // A loader may hand over the labels of the padding as well.
        if labels.len() == rows {
            labels.truncate(valid);
        }
        if labels.len() != valid {
            return Err(FeaturesError::Labels { batch, labels: labels.len(), valid });
        }
        if batch > 0 && dim != features.dim {
            return Err(FeaturesError::Dimensions { batch, found: dim, expected: features.dim });
        }
        features.append(dim, tensor.data.into_iter(), valid);
        all_labels.extend(labels);
    }
    Ok((features, all_labels))
}

/// Writes `features: f32[N, D]`, `labels: i64[N]` and, in the metadata, `names` of the samples and of the `classes` that labels
/// count (JSON lists; may be empty) as safetensors. Labels of two files meet by the names of their classes.
pub fn write_features(
    path: &Path,
    features: &Features,
    labels: &[i64],
    names: &[String],
    classes: &[String],
) -> Result<(), WriteError> {
    let tensors = [
        FileTensor::f32("features", vec![features.rows, features.dim], features.data.iter().copied()),
        FileTensor::i64("labels", vec![labels.len()], labels.iter().copied()),
    ];
    let list = |names: &[String]| serde_json::Value::from(names.to_vec()).to_string();
    let metadata = [("kind", "features".to_owned()), ("names", list(names)), ("classes", list(classes))];
    tensor_file::write(path, &tensors, &metadata)
}
