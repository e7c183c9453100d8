//! Draws what the model makes of masked pictures.

use std::path::Path;

use crate::backend::{BackendError, Session};
use crate::data::DataError;
use crate::data::evaluation::{EvalBatches, sample_inputs};
use crate::eval::Named;
use crate::eval::pictures::{self, Pictures, PicturesError};
use crate::graph::Program;
use crate::spec::{ReconstructionsSpec, Scaling, ViewSpec};
use crate::tensor::{Element, OutputValue};

const COLUMNS: [&str; 3] = ["original", "masked", "reconstructed"];

/// Why a picture could not be drawn.
#[derive(Debug, thiserror::Error)]
pub enum ReconstructError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error(transparent)]
    Pictures(#[from] PicturesError),
    #[error("the picture's `{name}` is not [B, C, H, W]")]
    Rank { name: &'static str },
    #[error("cannot write {}: {source}", path.display())]
    Write { path: std::path::PathBuf, source: std::io::Error },
}

/// Writes original, masked and reconstructed pictures of fixed samples of `source` to `path`. Does nothing for a
/// pipeline without pictures.
pub fn write<E: Element>(
    session: &mut dyn Session<E>,
    program: &Program,
    spec: &ReconstructionsSpec,
    source: &Named,
    path: &Path,
) -> Result<(), ReconstructError> {
    let Some(graph) = &program.pictures else { return Ok(()) };
    let data = &program.spec.data;
    let (views, seed) = (&program.spec.views, program.spec.train.seed);
    let mut batches = EvalBatches::new(source.source.clone(), views, &graph.inputs, seed)?;
    let (inputs, count) = sample_inputs(&mut batches, spec.count, &source.name)?;
    let outputs = COLUMNS.map(str::to_owned).to_vec();
    let found = session.evaluate(graph, &inputs, &outputs)?;
    let mut columns = Vec::new();
    for (name, output) in COLUMNS.iter().zip(&found) {
        let OutputValue::Float(tensor) = output else { return Err(ReconstructError::Rank { name }) };
        let [_, channels, height, width] = tensor.shape[..] else { return Err(ReconstructError::Rank { name }) };
        let shape = [count, channels, height, width];
        let values: Vec<f32> =
            tensor.data.iter().take(shape.iter().product()).map(|value| value.to_f64() as f32).collect();
        columns.push((shape, values));
    }
    let pictures = |i: usize| Pictures { shape: columns[i].0, data: &columns[i].1 };
    let view = views.iter().find(|view| view.name == spec.view);
    let unscaled = || Scaling { mean: vec![0.0; data.channels], std: vec![1.0; data.channels] };
    let Scaling { mean, std } = view.and_then(ViewSpec::scaling).unwrap_or_else(unscaled);
    let image = pictures::grid(pictures(0), pictures(1), pictures(2), &mean, &std)?;
    pictures::write_png(path, &image).map_err(|source| ReconstructError::Write { path: path.to_owned(), source })
}
