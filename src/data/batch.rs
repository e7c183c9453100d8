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

/// A batch that samples are put into, in any order; none of them is kept beside it.
pub struct Filling<'a> {
    inputs: &'a [InputDecl],
    /// Of what samples have rows of.
    values: Vec<Option<InputValue>>,
}

impl<'a> Filling<'a> {
    pub fn new(inputs: &'a [InputDecl]) -> Self {
        Filling { inputs, values: vec![None; inputs.len()] }
    }

    /// Puts a sample in its place, which is below the inputs' leading size. Rows of an input are all in one form.
    pub fn put(&mut self, place: usize, rows: &Rows) {
        for ((value, row), input) in self.values.iter_mut().zip(rows).zip(self.inputs) {
            match input.kind {
                InputKind::Schedule(_) | InputKind::Joined | InputKind::Label | InputKind::Random => continue,
                InputKind::View { .. }
                | InputKind::Noise
                | InputKind::BlockMask(_)
                | InputKind::MultiBlock(_)
                | InputKind::Geometry { .. } => {}
            }
            match (value.get_or_insert_with(|| empty(input, row)), row) {
                (InputValue::Float(tensor), Row::Floats(row)) => copy(row, &mut tensor.data, place),
                (InputValue::Levels(levels), Row::Levels(row, _)) => copy(row, &mut levels.tensor.data, place),
                (InputValue::Int(tensor), Row::Floats(row)) => {
                    let ids: Vec<i64> = row.iter().map(|id| *id as i64).collect();
                    copy(&ids, &mut tensor.data, place);
                }
                _ => unreachable!("an input's rows are all in one form"),
            }
        }
    }

    /// The inputs by name, with the labels of the samples (−1 where one has none) in their order; scheduled numbers are left to who
    /// knows the step. `key` is the batch's.
    pub fn finish(self, labels: &[i64], key: Key) -> Vec<(String, InputValue)> {
        let value = |(input, value): (&InputDecl, Option<InputValue>)| {
            let shape = input.ty.shape.clone();
            let value = match input.kind {
                InputKind::Label => Some(InputValue::Int(HostTensor { shape, data: labels.to_vec() })),
                InputKind::Random => {
                    let data = sample::noise(&mut key.stream(&input.name), input.ty.elements());
                    Some(InputValue::Float(HostTensor { shape, data }))
                }
                _ => value,
            };
            Some((input.name.clone(), value?))
        };
        self.inputs.iter().zip(self.values).filter_map(value).collect()
    }
}

/// The inputs of samples that are all there; as many as the inputs' leading size.
pub fn assemble(inputs: &[InputDecl], samples: &[&Rows], labels: &[i64], key: Key) -> Vec<(String, InputValue)> {
    let mut filling = Filling::new(inputs);
    samples.iter().enumerate().for_each(|(place, rows)| filling.put(place, rows));
    filling.finish(labels, key)
}

/// Zeros for all rows of an input, in the form of `row`.
fn empty(input: &InputDecl, row: &Row) -> InputValue {
    let (shape, len) = (input.ty.shape.clone(), input.ty.elements());
    match (row, input.ty.dtype) {
        (Row::Levels(_, scaling), _) => {
            InputValue::Levels(Levels { tensor: HostTensor { shape, data: vec![0; len] }, scaling: scaling.clone() })
        }
        (Row::Floats(_), DType::Float) => InputValue::Float(HostTensor { shape, data: vec![0.0; len] }),
        (Row::Floats(_), DType::Int) => InputValue::Int(HostTensor { shape, data: vec![0; len] }),
    }
}

fn copy<T: Copy>(row: &[T], all: &mut [T], place: usize) {
    all[place * row.len()..(place + 1) * row.len()].copy_from_slice(row);
}
