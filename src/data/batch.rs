//! Batches: the rows of samples side by side, as a graph's inputs take them.
//!
//! **Invariant:** row i of every input belongs to the same sample.

use super::rng::Key;
use super::sample::{self, Row, Rows};
use crate::decl::{InputDecl, InputKind};
use crate::op::DType;
use crate::tensor::{HostTensor, InputValue, Levels};

/// Key of what is random for the batch as a whole; samples have other keys, for none has that index.
pub fn batch_key(seed: u64, step: u64) -> Key {
    Key { seed, epoch: step, sample: u64::MAX }
}

/// Bytes of a batch of these inputs, at most: pictures that are not normalised yet take a quarter.
pub fn batch_bytes(inputs: &[InputDecl]) -> u64 {
    let bytes = |input: &InputDecl| match (&input.kind, input.ty.dtype) {
        (InputKind::Schedule(_) | InputKind::Joined, _) => 0,
        (_, DType::Int) => input.ty.elements() * size_of::<i64>(),
        (_, DType::Float) => input.ty.elements() * size_of::<f32>(),
    };
    inputs.iter().map(|input| bytes(input) as u64).sum()
}

/// Inputs by name from the samples' rows and labels (−1 where a sample has none), in order; scheduled numbers are left to
/// who knows the step.
///
/// `samples` are as many as the inputs' leading size; `key` is the batch's.
pub fn assemble(inputs: &[InputDecl], samples: &[&Rows], labels: &[i64], key: Key) -> Vec<(String, InputValue)> {
    let value = |(index, input): (usize, &InputDecl)| {
        let shape = input.ty.shape.clone();
        let value = match input.kind {
            InputKind::Schedule(_) | InputKind::Joined => return None,
            InputKind::Label => InputValue::Int(HostTensor { shape, data: labels.to_vec() }),
            InputKind::Random => {
                let data = sample::noise(&mut key.stream(&input.name), input.ty.elements());
                InputValue::Float(HostTensor { shape, data })
            }
            InputKind::View { .. }
            | InputKind::Noise
            | InputKind::BlockMask(_)
            | InputKind::MultiBlock(_)
            | InputKind::Geometry { .. } => {
                // Rows of an input are all in one form.
                let scaling = samples.iter().find_map(|rows| match &rows[index] {
                    Row::Levels(_, scaling) => Some(scaling.clone()),
                    Row::Floats(_) => None,
                });
                match (scaling, input.ty.dtype) {
                    (Some(scaling), _) => {
                        let data = joined(samples, input.ty.elements(), |rows| match &rows[index] {
                            Row::Levels(levels, _) => levels,
                            Row::Floats(_) => &[],
                        });
                        InputValue::Levels(Levels { tensor: HostTensor { shape, data }, scaling })
                    }
                    (None, DType::Float) => {
                        let data = joined(samples, input.ty.elements(), |rows| floats(&rows[index]));
                        InputValue::Float(HostTensor { shape, data })
                    }
                    (None, DType::Int) => {
                        let rows = samples.iter().flat_map(|rows| floats(&rows[index]));
                        InputValue::Int(HostTensor { shape, data: rows.map(|id| *id as i64).collect() })
                    }
                }
            }
        };
        Some((input.name.clone(), value))
    };
    inputs.iter().enumerate().filter_map(value).collect()
}

fn floats(row: &Row) -> &[f32] {
    match row {
        Row::Floats(values) => values,
        Row::Levels(..) => &[],
    }
}

/// What `of` gives of each sample, side by side.
fn joined<T: Copy>(samples: &[&Rows], len: usize, of: impl Fn(&Rows) -> &[T]) -> Vec<T> {
    let mut data = Vec::with_capacity(len);
    samples.iter().for_each(|rows| data.extend_from_slice(of(rows)));
    data
}
