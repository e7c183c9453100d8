//! Batches that show nothing: pictures of noise, with masks, ids and numbers drawn as the loader draws them.
//!
//! For timing steps without a source. Pictures are drawn once, what masks are made of anew for each batch.
//!
//! **Invariant:** a batch hangs on the seed and its number alone.

use std::sync::Arc;

use super::batch::{assemble, batch_key};
use super::mask;
use super::rng::{Key, Stream};
use super::sample::{self, Row, Rows};
use super::view::Draw;
use crate::decl::{InputDecl, InputKind};
use crate::spec::{Scaling, ViewSpec};
use crate::tensor::{InputValue, Pictures};

/// Draws batches for the inputs of a graph.
pub struct RandomBatches<'a> {
    inputs: &'a [InputDecl],
    batch_size: usize,
    seed: u64,
    /// Of the inputs that are drawn as bytes, as their names say.
    scalings: Vec<(String, Arc<Scaling>)>,
    pictures: Pictures,
    values: Vec<(String, InputValue)>,
}

impl<'a> RandomBatches<'a> {
    /// Pictures are normal with mean 0 and deviation 1, as normalised ones are; every sample is of class 0, which every
    /// classifier has, and shows the whole of its source.
    pub fn new(inputs: &'a [InputDecl], batch_size: usize, seed: u64) -> Self {
        Self::with(inputs, batch_size, seed, Vec::new(), Pictures::Floats)
    }

    /// The same, but that the pictures of `views` are what a loader gives a session that takes `pictures`: bytes, all as likely, which
    /// are normalised here or there.
    pub fn of_views(
        inputs: &'a [InputDecl],
        views: &[ViewSpec],
        batch_size: usize,
        seed: u64,
        pictures: Pictures,
    ) -> Self {
        let scaled = |input: &InputDecl| Some((input.name.clone(), Arc::new(input.scaling(views)?)));
        Self::with(inputs, batch_size, seed, inputs.iter().filter_map(scaled).collect(), pictures)
    }

    fn with(
        inputs: &'a [InputDecl],
        batch_size: usize,
        seed: u64,
        scalings: Vec<(String, Arc<Scaling>)>,
        pictures: Pictures,
    ) -> Self {
        let mut batches = RandomBatches { inputs, batch_size, seed, scalings, pictures, values: Vec::new() };
        batches.values = batches.draw(inputs, 0);
        batches
    }

    /// The inputs of batch `number`; scheduled numbers are left to who knows the step.
    pub fn batch(&mut self, number: u64) -> &[(String, InputValue)] {
        let again = |input: &&InputDecl| {
            matches!(
                input.kind,
                InputKind::Noise
                    | InputKind::Random
                    | InputKind::Normal
                    | InputKind::BlockMask(_)
                    | InputKind::MultiBlock(_)
            )
        };
        let inputs: Vec<InputDecl> = self.inputs.iter().filter(again).cloned().collect();
        for (name, new) in self.draw(&inputs, number) {
            if let Some((_, value)) = self.values.iter_mut().find(|(n, _)| *n == name) {
                *value = new;
            }
        }
        &self.values
    }

    fn draw(&self, inputs: &[InputDecl], number: u64) -> Vec<(String, InputValue)> {
        let samples: Vec<Rows> = (0..self.batch_size as u64)
            .map(|sample| {
                let key = Key { seed: self.seed, epoch: number, sample };
                inputs.iter().map(|input| self.row(input, &mut key.stream(&input.name))).collect()
            })
            .collect();
        let samples: Vec<&Rows> = samples.iter().collect();
        assemble(inputs, &samples, &vec![0; self.batch_size], batch_key(self.seed, number))
    }

    /// One sample's row of an input.
    fn row(&self, input: &InputDecl, stream: &mut Stream) -> Row {
        let Some((_, scaling)) = self.scalings.iter().find(|(name, _)| *name == input.name) else {
            return Row::Floats(numbers(input, stream));
        };
        let plane = input.ty.shape.iter().skip(2).product::<usize>().max(1);
        let len = input.ty.shape.iter().skip(1).product();
        let levels: Vec<u8> = (0..len).map(|_| stream.below(256) as u8).collect();
        match self.pictures {
            Pictures::Levels => Row::Levels(levels, scaling.clone()),
            Pictures::Floats => {
                let planes = levels.chunks(plane).enumerate();
                let floats = planes.flat_map(|(at, plane)| plane.iter().copied().map(scaling.of_channel(at)));
                Row::Floats(floats.collect())
            }
        }
    }
}

/// A sample's numbers for an input.
fn numbers(input: &InputDecl, stream: &mut Stream) -> Vec<f32> {
    let len = input.ty.shape.iter().skip(1).product();
    match &input.kind {
        InputKind::View { .. } | InputKind::Beside { .. } => sample::normal(stream, len),
        InputKind::Noise => sample::noise(stream, len),
        InputKind::BlockMask(spec) => mask::block_mask(spec, stream),
        InputKind::MultiBlock(spec) => mask::multi_block(spec, stream),
        InputKind::Geometry { .. } => vec![0.0, 0.0, 1.0, 1.0, 0.0],
        InputKind::LabelMap { .. } => vec![0.0; len],
        InputKind::Label
        | InputKind::LabelBeside
        | InputKind::Random
        | InputKind::Normal
        | InputKind::Schedule(_)
        | InputKind::Joined => Vec::new(),
    }
}
