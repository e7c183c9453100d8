//! Batches: the rows of samples side by side, as a graph's inputs take them.
//!
//! **Invariant:** row i of every input belongs to the same sample.

use super::rng::Key;
use super::sample::{self, Rows};
use crate::decl::{InputDecl, InputKind};
use crate::op::DType;
use crate::tensor::{HostTensor, InputValue};

/// Key of what is random for the batch as a whole; samples have other keys, for none has that index.
pub fn batch_key(seed: u64, step: u64) -> Key {
    Key { seed, epoch: step, sample: u64::MAX }
}

/// Bytes of a batch of these inputs.
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
        let empty = |input: &InputDecl| {
            let shape = input.ty.shape.clone();
            match input.kind {
                InputKind::Schedule(_) | InputKind::Joined | InputKind::Label | InputKind::Random => None,
                InputKind::View { .. }
                | InputKind::Noise
                | InputKind::BlockMask(_)
                | InputKind::MultiBlock(_)
                | InputKind::Geometry { .. } => Some(match input.ty.dtype {
                    DType::Int => InputValue::Int(HostTensor { data: vec![0; input.ty.elements()], shape }),
                    DType::Float => InputValue::Float(HostTensor { data: vec![0.0; input.ty.elements()], shape }),
                }),
            }
        };
        Filling { inputs, values: inputs.iter().map(empty).collect() }
    }

    /// Puts a sample in its place, which is below the inputs' leading size.
    pub fn put(&mut self, place: usize, rows: &Rows) {
        for (value, row) in self.values.iter_mut().zip(rows) {
            let at = place * row.len()..(place + 1) * row.len();
            match value {
                Some(InputValue::Float(tensor)) => tensor.data[at].copy_from_slice(row),
                Some(InputValue::Int(tensor)) => {
                    tensor.data[at].iter_mut().zip(row).for_each(|(to, id)| *to = *id as i64);
                }
                Some(InputValue::Double(_)) | None => {}
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
