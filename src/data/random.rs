//! Batches that show nothing: pictures of noise, with masks, ids and numbers drawn as the loader draws them.
//!
//! For timing steps without a source. Pictures are drawn once, what masks are made of anew for each batch.
//!
//! **Invariant:** a batch hangs on the seed and its number alone.

use super::batch::{assemble, batch_key};
use super::mask;
use super::rng::{Key, Stream};
use super::sample::{self, Rows};
use crate::decl::{InputDecl, InputKind};
use crate::tensor::InputValue;

/// Draws batches for the inputs of a graph.
pub struct RandomBatches<'a> {
    inputs: &'a [InputDecl],
    batch_size: usize,
    seed: u64,
    values: Vec<(String, InputValue)>,
}

impl<'a> RandomBatches<'a> {
    /// Pictures are normal with mean 0 and deviation 1, as normalised ones are; every sample is of class 0, which every
    /// classifier has, and shows the whole of its source.
    pub fn new(inputs: &'a [InputDecl], batch_size: usize, seed: u64) -> Self {
        let mut batches = RandomBatches { inputs, batch_size, seed, values: Vec::new() };
        batches.values = batches.draw(inputs, 0);
        batches
    }

    /// The inputs of batch `number`; scheduled numbers are left to who knows the step.
    pub fn batch(&mut self, number: u64) -> &[(String, InputValue)] {
        let again = |input: &&InputDecl| {
            matches!(
                input.kind,
                InputKind::Noise | InputKind::Random | InputKind::BlockMask(_) | InputKind::MultiBlock(_)
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
                inputs.iter().map(|input| row(input, &mut key.stream(&input.name))).collect()
            })
            .collect();
        let samples: Vec<&Rows> = samples.iter().collect();
        assemble(inputs, &samples, &vec![0; self.batch_size], batch_key(self.seed, number))
    }
}

/// One sample's row of an input.
fn row(input: &InputDecl, stream: &mut Stream) -> Vec<f32> {
    let len = input.ty.shape.iter().skip(1).product();
    match &input.kind {
        InputKind::View { .. } => (0..len).map(|_| stream.normal() as f32).collect(),
        InputKind::Noise => sample::noise(stream, len),
        InputKind::BlockMask(spec) => mask::block_mask(spec, stream),
        InputKind::MultiBlock(spec) => mask::multi_block(spec, stream),
        InputKind::Geometry { .. } => vec![0.0, 0.0, 1.0, 1.0, 0.0],
        InputKind::Label | InputKind::Random | InputKind::Schedule(_) | InputKind::Joined => Vec::new(),
    }
}
