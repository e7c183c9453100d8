//! Batches for evaluation: a source in its order, every image once, the last batch padded.
//!
//! **Invariant:** rows stand in the source's order; a broken image has no row and is listed; padding is never counted.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rayon::prelude::*;

use super::batch::{assemble, batch_key};
use super::error::DataError;
use super::loader::draw;
use super::rng::Key;
use super::sample::{Rows, SamplePlan};
use super::source::Source;
use crate::decl::InputDecl;
use crate::spec::ViewSpec;
use crate::tensor::{InputValue, Pictures};

/// Epoch of the keys of evaluation: no training epoch has it, and every evaluation draws the same.
const EPOCH: u64 = u64::MAX;

/// Inputs by name, the number of rows that are no padding, and the labels of those.
pub type EvalBatch = (Vec<(String, InputValue)>, usize, Vec<i64>);

/// Pictures of a source that are tried before a run starts.
const PROBED: usize = 32;

/// Batches over a source.
pub struct EvalBatches {
    source: Arc<dyn Source>,
    plan: SamplePlan,
    inputs: Vec<InputDecl>,
    batch_size: usize,
    seed: u64,
    next: usize,
    rows: Vec<usize>,
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
        let plan = SamplePlan::new(views, inputs, Pictures::Floats)?;
        let (rows, broken) = (Vec::new(), Vec::new());
        Ok(EvalBatches { source, plan, inputs: inputs.to_vec(), batch_size, seed, next: 0, rows, broken })
    }

    /// Which images of the source the rows given so far show.
    pub fn rows(&self) -> &[usize] {
        &self.rows
    }

    pub fn source(&self) -> &dyn Source {
        &*self.source
    }

    /// Images without a row: (name, reason).
    pub fn broken(&self) -> &[(String, String)] {
        &self.broken
    }

    /// The samples at `indices`, drawn in parallel; broken ones are left out.
    fn samples(&mut self, indices: &[usize]) -> Result<Vec<(usize, Rows)>, DataError> {
        let (source, plan, seed) = (&*self.source, &self.plan, self.seed);
        let drawn: Vec<Result<Rows, String>> = indices
            .par_iter()
            .map(|index| draw(source, plan, *index, Key { seed, epoch: EPOCH, sample: *index as u64 }))
            .collect();
        let mut samples = Vec::with_capacity(indices.len());
        for (index, rows) in indices.iter().zip(drawn) {
            match rows {
                Ok(rows) => samples.push((*index, rows)),
                Err(reason) => {
                    // Pictures of a disk that is gone are not broken.
                    self.source.check()?;
                    self.broken.push((self.source.name(*index), reason));
                }
            }
        }
        Ok(samples)
    }

    /// A batch of `samples`, of which there is at least one.
    fn batch(&mut self, samples: &[(usize, Rows)]) -> EvalBatch {
        let label = |index: &usize| self.source.label(*index).unwrap_or(-1);
        let padded = || samples.iter().chain(samples.iter().cycle()).take(self.batch_size);
        let rows: Vec<&Rows> = padded().map(|(_, rows)| rows).collect();
        let labels: Vec<i64> = padded().map(|(index, _)| label(index)).collect();
        let inputs = assemble(&self.inputs, &rows, &labels, batch_key(self.seed, EPOCH));
        self.rows.extend(samples.iter().map(|(index, _)| *index));
        (inputs, samples.len(), labels[..samples.len()].to_vec())
    }
}

/// Refuses a source of which no picture can be read, by some that are spread evenly over it: what would end every
/// evaluation is said before the first step. `source_name` is what the error calls it.
pub fn probe(source: &dyn Source, source_name: &str) -> Result<(), DataError> {
    let (len, tried) = (source.len(), source.len().min(PROBED));
    let mut last = String::new();
    for index in (0..tried).map(|i| i * len / tried) {
        let read = catch_unwind(AssertUnwindSafe(|| source.image(index).map(drop)));
        match read.unwrap_or_else(|_| Err("the decoder failed on it".to_owned())) {
            Ok(()) => return Ok(()),
            Err(reason) => last = format!("{}: {reason}", source.name(index)),
        }
    }
    source.check()?;
    Err(DataError::NoneReadable { source_name: source_name.to_owned(), tried, last })
}

impl Iterator for EvalBatches {
    type Item = Result<EvalBatch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut samples = Vec::new();
        // Broken images are made up for by those that follow.
        while samples.len() < self.batch_size && self.next < self.source.len() {
            let end = (self.next + self.batch_size - samples.len()).min(self.source.len());
            let indices: Vec<usize> = (self.next..end).collect();
            self.next = end;
            match self.samples(&indices) {
                Ok(found) => samples.extend(found),
                Err(error) => return Some(Err(error)),
            }
        }
        if samples.is_empty() {
            return None;
        }
        Some(Ok(self.batch(&samples)))
    }
}

/// The first batch for pictures: `count` samples spread evenly over the source, so that a source sorted by class shows
/// many, each of them the first that is not broken from its place to the next one's; padded to the batch. Gives the inputs and
/// how many samples there are; `source_name` is what an error calls the source.
pub fn sample_inputs(
    batches: &mut EvalBatches,
    count: usize,
    source_name: &str,
) -> Result<(Vec<(String, InputValue)>, usize), DataError> {
    let len = batches.source.len();
    let count = count.min(len).min(batches.batch_size).max(1);
    let mut samples = Vec::new();
    for place in 0..count {
        for index in place * len / count..(place + 1) * len / count {
            let found = batches.samples(&[index])?;
            if !found.is_empty() {
                samples.extend(found);
                break;
            }
        }
    }
    if samples.is_empty() {
        let last = batches.broken.last().map(|(name, reason)| format!("{name}: {reason}")).unwrap_or_default();
        return Err(DataError::NoneReadable { source_name: source_name.to_owned(), tried: len, last });
    }
    let (inputs, valid, _) = batches.batch(&samples);
    Ok((inputs, valid))
}
