//! Makes the masks of samples, as the training graph makes them of what the samples bring.
//!
//! Before: `graph::hiding` found the masks, `data` drew the samples. After: a contact sheet darkens what is hidden.
//!
//! **Invariant:** the model takes no part: the graph that runs has no tensors.

use crate::backend::{Backend, BackendError, Request};
use crate::data::batch::{assemble, batch_key};
use crate::data::sample::{Row, Rows};
use crate::graph::hiding::{Hiding, of_outputs};
use crate::graph::{Graph, Layout};
use crate::tensor::OutputValue;

/// For each of `hidings` and each sample, by patch in the order of the image: whether it is hidden.
///
/// `samples` hold a row for each input of `graph`, which `hidings` are of.
pub fn hidden(
    graph: &Graph,
    hidings: &[Hiding],
    samples: &[&Rows],
    backend: &mut dyn Backend<f32>,
) -> Result<Vec<Vec<Vec<bool>>>, BackendError> {
    let outputs: Vec<String> = hidings.iter().map(|hiding| hiding.output.clone()).collect();
    let mut all: Vec<Vec<Vec<bool>>> = vec![Vec::new(); hidings.len()];
    let masks = of_outputs(graph, &outputs);
    // Each has a first dim, the batch, as `hiding` knows no others.
    let Some(batch) = masks.inputs.first().and_then(|input| input.ty.shape.first()).copied().filter(|b| *b > 0) else {
        return Ok(all);
    };
    let places: Vec<usize> =
        masks.inputs.iter().filter_map(|input| graph.inputs.iter().position(|of| of.name == input.name)).collect();
    let request = Request { outputs, ..Request::default() };
    for chunk in samples.chunks(batch) {
        let rows = |sample: &&Rows| places.iter().map(|place| sample[*place].clone()).collect::<Vec<Row>>();
        let rows: Vec<Rows> = chunk.iter().map(rows).collect();
        let padded: Vec<&Rows> = rows.iter().cycle().take(batch).collect();
        let inputs = assemble(&masks.inputs, &padded, &vec![-1; batch], batch_key(0, 0));
        let results = backend.run(&masks, &Layout::new(Vec::new()), &[], &inputs, &request)?;
        for ((hiding, output), found) in hidings.iter().zip(&results.outputs).zip(&mut all) {
            found.extend((0..chunk.len()).map(|sample| patches(hiding, output, sample, batch)));
        }
    }
    Ok(all)
}

fn patches(hiding: &Hiding, output: &OutputValue<f32>, sample: usize, batch: usize) -> Vec<bool> {
    let values: Vec<f32> = match output {
        OutputValue::Float(tensor) => row(&tensor.data, sample, batch).to_vec(),
        OutputValue::Int(tensor) => row(&tensor.data, sample, batch).iter().map(|id| *id as f32).collect(),
    };
    if !hiding.of_kept {
        return values.iter().map(|value| *value > 0.5).collect();
    }
    let mut hidden = vec![true; hiding.grid.0 * hiding.grid.1];
    for id in values {
        if let Some(patch) = hidden.get_mut(id as usize) {
            *patch = false;
        }
    }
    hidden
}

fn row<T>(data: &[T], sample: usize, batch: usize) -> &[T] {
    let len = data.len() / batch;
    &data[sample * len..(sample + 1) * len]
}
