//! Batches for evaluation: a source in its order, every image once, the last batch padded.
//!
//! **Invariant:** rows stand in the source's order; a broken image has no row and is listed; padding is never counted.

use std::sync::Arc;

use rayon::prelude::*;

use super::batch::{assemble, batch_key};
use super::error::DataError;
use super::loader::draw;
use super::rng::Key;
use super::sample::{Rows, SamplePlan};
use super::source::Source;
use crate::backend::InputValue;
use crate::decl::InputDecl;
use crate::spec::ViewSpec;

/// Epoch of the keys of evaluation: no training epoch has it, and every evaluation draws the same.
const EPOCH: u64 = u64::MAX;

/// Inputs by name, the number of rows that are no padding, and the labels of those.
pub type EvalBatch = (Vec<(String, InputValue)>, usize, Vec<i64>);

/// Batches over a source.
pub struct EvalBatches {
    source: Arc<dyn Source>,
    plan: SamplePlan,
    inputs: Vec<InputDecl>,
    batch_size: usize,
    seed: u64,
    next: usize,
    names: Vec<String>,
    broken: Vec<(String, String)>,
}

impl EvalBatches {
    /// Over all images of `source`; recipes are applied to its images.
    pub fn new(
        source: Arc<dyn Source>,
        views: &[ViewSpec],
        inputs: &[InputDecl],
        batch_size: usize,
        seed: u64,
    ) -> Result<EvalBatches, DataError> {
        let plan = SamplePlan::new(views, inputs)?;
        let (names, broken) = (Vec::new(), Vec::new());
        Ok(EvalBatches { source, plan, inputs: inputs.to_vec(), batch_size, seed, next: 0, names, broken })
    }

    /// Names of the rows given so far.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Images without a row: (name, reason).
    pub fn broken(&self) -> &[(String, String)] {
        &self.broken
    }

    /// The samples at `indices`, drawn in parallel; broken ones are left out.
    fn samples(&mut self, indices: &[usize]) -> Vec<(usize, Rows)> {
        let (source, plan, seed) = (&*self.source, &self.plan, self.seed);
        let drawn: Vec<Result<Rows, String>> = indices
            .par_iter()
            .map(|index| draw(source, plan, *index, Key { seed, epoch: EPOCH, sample: *index as u64 }))
            .collect();
        let mut samples = Vec::with_capacity(indices.len());
        for (index, rows) in indices.iter().zip(drawn) {
            match rows {
                Ok(rows) => samples.push((*index, rows)),
                Err(reason) => self.broken.push((self.source.name(*index), reason)),
            }
        }
        samples
    }

    /// A batch of `samples`, of which there is at least one.
    fn batch(&mut self, samples: &[(usize, Rows)]) -> EvalBatch {
        let label = |index: &usize| self.source.label(*index).unwrap_or(-1);
        let padded = || samples.iter().chain(samples.iter().cycle()).take(self.batch_size);
        let rows: Vec<&Rows> = padded().map(|(_, rows)| rows).collect();
        let labels: Vec<i64> = padded().map(|(index, _)| label(index)).collect();
        let inputs = assemble(&self.inputs, &rows, &labels, batch_key(self.seed, EPOCH));
        self.names.extend(samples.iter().map(|(index, _)| self.source.name(*index)));
        (inputs, samples.len(), labels[..samples.len()].to_vec())
    }
}

impl Iterator for EvalBatches {
    type Item = Result<EvalBatch, String>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut samples = Vec::new();
        // Broken images are made up for by those that follow.
        while samples.len() < self.batch_size && self.next < self.source.len() {
            let end = (self.next + self.batch_size - samples.len()).min(self.source.len());
            let indices: Vec<usize> = (self.next..end).collect();
            self.next = end;
            samples.extend(self.samples(&indices));
        }
        if samples.is_empty() {
            return None;
        }
        Some(Ok(self.batch(&samples)))
    }
}

/// The first batch for pictures: `count` samples spread evenly over the source, so that a source sorted by class shows
/// many; padded to the batch. Gives the inputs and how many samples there are.
pub fn sample_inputs(batches: &mut EvalBatches, count: usize) -> Result<(Vec<(String, InputValue)>, usize), DataError> {
    let len = batches.source.len();
    let count = count.min(len).min(batches.batch_size).max(1);
    let indices: Vec<usize> = (0..count).map(|i| i * len / count).collect();
    let samples = batches.samples(&indices);
    if samples.is_empty() {
        let last = batches.broken.last().map(|(name, reason)| format!("{name}: {reason}")).unwrap_or_default();
        return Err(DataError::TooManyBroken { broken: count, tried: count, limit: 0.0, last });
    }
    let (inputs, valid, _) = batches.batch(&samples);
    Ok((inputs, valid))
}
