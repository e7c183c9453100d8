//! Batches: the rows of samples side by side, as a graph's inputs take them.
//!
//! **Invariant:** row i of every input belongs to the same sample, but for those that show the sample before it.

use std::ops::Range;
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

/// The rows of a batch that are made: all of them, or those of some of the ranks that share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Samples of the whole batch.
    pub batch: usize,
    pub rows: Range<usize>,
}

impl From<usize> for Share {
    fn from(batch: usize) -> Self {
        Share { batch, rows: 0..batch }
    }
}

impl Share {
    pub fn is_all(&self) -> bool {
        self.rows == (0..self.batch)
    }

    /// Places in the batch of the samples that are drawn for `inputs`: the rows', and behind them that of the sample before the first
    /// where a row shows it and has it not among its own.
    pub fn drawn(&self, inputs: &[InputDecl]) -> Vec<usize> {
        let beside = |input: &InputDecl| matches!(input.kind, InputKind::Beside { .. } | InputKind::LabelBeside);
        let before = (self.rows.start + self.batch).saturating_sub(1) % self.batch.max(1);
        let needed = !self.is_all() && inputs.iter().any(beside);
        self.rows.clone().chain(needed.then_some(before)).collect()
    }
}

/// A batch that samples are put into.
pub struct Filling<'a> {
    /// As the whole batch has them.
    inputs: &'a [InputDecl],
    share: &'a Share,
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
    /// A share of a batch, of zeros.
    pub fn new(inputs: &'a [InputDecl], scalings: &Scalings, share: &'a Share) -> Self {
        let own = |input: &InputDecl| input.of_rows(share.batch, share.rows.len());
        let values = inputs.iter().zip(scalings).map(|(input, scaling)| zeros(&own(input), scaling.as_ref()));
        Filling { inputs, share, values: values.collect() }
    }

    /// The places of the samples that are drawn for it ([`Share::drawn`]), in their order, to be filled in any.
    pub fn places(&mut self) -> Vec<Places<'_>> {
        let (samples, rows) = (self.share.drawn(self.inputs).len(), self.share.rows.len());
        let mut places: Vec<Places<'_>> = (0..samples).map(|_| Places(Vec::with_capacity(self.values.len()))).collect();
        for (at, (input, value)) in self.inputs.iter().zip(&mut self.values).enumerate() {
            // The sample that each row shows.
            let shown = |row: usize| match input.kind {
                InputKind::Beside { .. } => (row + samples - 1) % samples,
                _ => row,
            };
            match value {
                None => {}
                Some(InputValue::Float(tensor)) => cut(&mut tensor.data, rows, &mut places, shown, Place::Floats),
                Some(InputValue::Int(tensor)) => cut(&mut tensor.data, rows, &mut places, shown, Place::Ids),
                Some(InputValue::Levels(levels)) => {
                    cut(&mut levels.tensor.data, rows, &mut places, shown, Place::Levels);
                }
                Some(InputValue::Double(_)) => unreachable!("no batch begins with doubles"),
            }
            // Nothing of a sample that no row of this input shows.
            places.iter_mut().filter(|places| places.0.len() == at).for_each(|places| places.0.push(Place::None));
        }
        places
    }

    /// The inputs by name, with the labels of the samples that are drawn (−1 where one has none) in their order; scheduled numbers are
    /// left to who knows the step. `key` is the batch's.
    pub fn finish(self, labels: &[i64], key: Key) -> Vec<(String, InputValue)> {
        let Share { batch, rows } = self.share;
        let value = |(input, value): (&InputDecl, Option<InputValue>)| {
            let own = input.of_rows(*batch, rows.len()).ty;
            let shape = own.shape.clone();
            let value = match input.kind {
                InputKind::Label => Some(InputValue::Int(HostTensor { shape, data: labels[..rows.len()].to_vec() })),
                InputKind::LabelBeside => {
                    let mut data = labels.to_vec();
                    let one = data.len().min(1);
                    data.rotate_right(one);
                    data.truncate(rows.len());
                    Some(InputValue::Int(HostTensor { shape, data }))
                }
                InputKind::Random | InputKind::Normal => {
                    // The whole batch's, of which rows are cut where it has them: the same for any number of ranks.
                    let mut data = sample::of_the_batch(&input.kind, &mut key.stream(&input.name), input.ty.elements());
                    if own != input.ty {
                        let row = input.ty.elements() / batch;
                        data = data[rows.start * row..rows.end * row].to_vec();
                    }
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
    let share = Share::from(samples.len());
    let mut filling = Filling::new(inputs, &scalings, &share);
    filling.places().iter_mut().zip(samples).for_each(|(places, rows)| places.put(rows));
    filling.finish(labels, key)
}

/// Zeros for all rows of an input; `None` where samples have no rows of it.
fn zeros(input: &InputDecl, scaling: Option<&Arc<Scaling>>) -> Option<InputValue> {
    match input.kind {
        InputKind::Schedule(_)
        | InputKind::Joined
        | InputKind::Label
        | InputKind::LabelBeside
        | InputKind::Random
        | InputKind::Normal => return None,
        InputKind::View { .. }
        | InputKind::Beside { .. }
        | InputKind::Noise
        | InputKind::BlockMask(_)
        | InputKind::MultiBlock(_)
        | InputKind::Geometry { .. }
        | InputKind::LabelMap { .. } => {}
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

/// Gives each of `rows` rows to the sample that it shows.
fn cut<'a, T>(
    all: &'a mut [T],
    rows: usize,
    places: &mut [Places<'a>],
    shown: impl Fn(usize) -> usize,
    place: impl Fn(&'a mut [T]) -> Place<'a>,
) {
    let row = all.len() / rows.max(1);
    for (at, row) in all.chunks_exact_mut(row.max(1)).take(rows).enumerate() {
        places[shown(at)].0.push(place(row));
    }
}
