//! Batches: the rows of samples side by side, as a graph's inputs take them.
//!
//! **Invariant:** row i of every input belongs to the same sample, but for those that show the sample before it.

use std::sync::Arc;

use super::rng::Key;
use super::sample::{self, Row, Rows, Scalings};
use crate::decl::{InputDecl, InputKind};
use crate::op::DType;
use crate::spec::{Scaling, ViewSpec};
use crate::tensor::{HostTensor, InputValue, Levels};

/// Key of what is random for the batch as a whole; samples have other keys, for none has that index.
pub fn batch_key(seed: u64, step: u64) -> Key {
    Key { seed, epoch: step, sample: u64::MAX }
}

/// Bytes of a batch of these inputs, pictures in bytes where `views` say how they are scaled.
pub fn batch_bytes(inputs: &[InputDecl], views: &[ViewSpec]) -> u64 {
    let bytes = |input: &InputDecl| match (&input.kind, input.ty.dtype) {
        (InputKind::Schedule(_) | InputKind::Joined, _) => 0,
        (_, DType::Int) => input.ty.elements() * size_of::<i64>(),
        (_, DType::Float) if input.scaling(views).is_some() => input.ty.elements(),
        (_, DType::Float) => input.ty.elements() * size_of::<f32>(),
    };
    inputs.iter().map(|input| bytes(input) as u64).sum()
}

/// A batch that samples are put into.
pub struct Filling<'a> {
    inputs: &'a [InputDecl],
    /// Of what samples have rows of.
    values: Vec<Option<InputValue>>,
}

/// A sample's place in an input of a batch; `None` where samples have no rows of it.
enum Place<'a> {
    None,
    Floats(&'a mut [f32]),
    Ids(&'a mut [i64]),
    Levels(&'a mut [u8]),
}

/// A sample's places in a batch, which no other sample has a part of.
pub struct Places<'a>(Vec<Place<'a>>);

impl<'a> Filling<'a> {
    /// A batch of zeros.
    pub fn new(inputs: &'a [InputDecl], scalings: &Scalings) -> Self {
        let values = inputs.iter().zip(scalings).map(|(input, scaling)| zeros(input, scaling.as_ref()));
        Filling { inputs, values: values.collect() }
    }

    /// The places of its `samples` samples, in their order, to be filled in any.
    pub fn places(&mut self, samples: usize) -> Vec<Places<'_>> {
        let mut places: Vec<Places<'_>> = (0..samples).map(|_| Places(Vec::with_capacity(self.values.len()))).collect();
        for (input, value) in self.inputs.iter().zip(&mut self.values) {
            let down = usize::from(matches!(input.kind, InputKind::Beside { .. }));
            match value {
                None => places.iter_mut().for_each(|places| places.0.push(Place::None)),
                Some(InputValue::Float(tensor)) => cut(&mut tensor.data, &mut places, down, Place::Floats),
                Some(InputValue::Int(tensor)) => cut(&mut tensor.data, &mut places, down, Place::Ids),
                Some(InputValue::Levels(levels)) => cut(&mut levels.tensor.data, &mut places, down, Place::Levels),
                Some(InputValue::Double(_)) => unreachable!("no batch begins with doubles"),
            }
        }
        places
    }

    /// The inputs by name, with the labels of the samples (−1 where one has none) in their order; scheduled numbers are left to who
    /// knows the step. `key` is the batch's.
    pub fn finish(self, labels: &[i64], key: Key) -> Vec<(String, InputValue)> {
        let value = |(input, value): (&InputDecl, Option<InputValue>)| {
            let shape = input.ty.shape.clone();
            let value = match input.kind {
                InputKind::Label => Some(InputValue::Int(HostTensor { shape, data: labels.to_vec() })),
                InputKind::LabelBeside => {
                    let mut data = labels.to_vec();
                    let one = data.len().min(1);
                    data.rotate_right(one);
                    Some(InputValue::Int(HostTensor { shape, data }))
                }
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

impl Places<'_> {
    /// Writes a sample, whose rows are in the forms that the batch was made for.
    pub fn put(&mut self, rows: &Rows) {
        for (place, row) in self.0.iter_mut().zip(rows) {
            match (place, row) {
                (Place::None, _) => {}
                (Place::Floats(place), Row::Floats(row)) => place.copy_from_slice(row),
                (Place::Levels(place), Row::Levels(row, _)) => place.copy_from_slice(row),
                (Place::Ids(place), Row::Floats(row)) => {
                    place.iter_mut().zip(row).for_each(|(to, id)| *to = *id as i64);
                }
                _ => unreachable!("an input's rows are all in one form"),
            }
        }
    }
}

/// The inputs of samples that are all there; as many as the inputs' leading size.
pub fn assemble(inputs: &[InputDecl], samples: &[&Rows], labels: &[i64], key: Key) -> Vec<(String, InputValue)> {
    let scaling = |row: &Row| match row {
        Row::Levels(_, scaling) => Some(scaling.clone()),
        Row::Floats(_) => None,
    };
    let scalings = samples.first().map_or(vec![None; inputs.len()], |rows| rows.iter().map(scaling).collect());
    let mut filling = Filling::new(inputs, &scalings);
    filling.places(samples.len()).iter_mut().zip(samples).for_each(|(places, rows)| places.put(rows));
    filling.finish(labels, key)
}

/// Zeros for all rows of an input; `None` where samples have no rows of it.
fn zeros(input: &InputDecl, scaling: Option<&Arc<Scaling>>) -> Option<InputValue> {
    match input.kind {
        InputKind::Schedule(_) | InputKind::Joined | InputKind::Label | InputKind::LabelBeside | InputKind::Random => {
            return None;
        }
        InputKind::View { .. }
        | InputKind::Beside { .. }
        | InputKind::Noise
        | InputKind::BlockMask(_)
        | InputKind::MultiBlock(_)
        | InputKind::Geometry { .. } => {}
    }
    let (shape, len) = (input.ty.shape.clone(), input.ty.elements());
    Some(match (scaling, input.ty.dtype) {
        (Some(scaling), _) => {
            InputValue::Levels(Levels { tensor: HostTensor { shape, data: vec![0; len] }, scaling: scaling.clone() })
        }
        (None, DType::Float) => InputValue::Float(HostTensor { shape, data: vec![0.0; len] }),
        (None, DType::Int) => InputValue::Int(HostTensor { shape, data: vec![0; len] }),
    })
}

/// Gives each sample its row: its own, or the one so many `down`, round the batch.
fn cut<'a, T>(all: &'a mut [T], places: &mut [Places<'a>], down: usize, place: impl Fn(&'a mut [T]) -> Place<'a>) {
    let (row, samples) = (all.len() / places.len().max(1), places.len());
    for (at, row) in all.chunks_exact_mut(row.max(1)).take(samples).enumerate() {
        places[(at + samples - down) % samples].0.push(place(row));
    }
}
