//! Batches for evaluation: a source in its order, or some of it, every image once, the last batch padded.
//!
//! Several ranks share a source batch by batch: each makes every so many-th of them.
//!
//! **Invariant:** rows stand in the source's order; a broken image has no row and is listed; padding is never counted; which images
//! a batch is of does not hang on which of them are broken.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rayon::prelude::*;

use super::batch::{assemble, batch_key};
use super::error::DataError;
use super::loader::draw;
use super::rng::Key;
use super::sample::{Rows, SamplePlan};
use super::source::Source;
use super::view::Draw;
use crate::decl::{InputDecl, InputKind};
use crate::spec::ViewSpec;
use crate::tensor::{InputValue, Pictures};

/// Epoch of the keys of evaluation: no training epoch has it, and every evaluation draws the same.
const EPOCH: u64 = u64::MAX;

/// A batch, whose last rows may be padding.
#[derive(Debug, Clone)]
pub struct EvalBatch {
    /// By name.
    pub inputs: Vec<(String, InputValue)>,
    /// Of the rows that are no padding.
    pub labels: Vec<i64>,
    /// Which picture of the source each row shows that is no padding. Where all were broken there is none, and no input either.
    pub rows: Vec<usize>,
}

/// A picture without a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Its place in the source.
    pub image: usize,
    pub name: String,
    pub reason: String,
}

/// Pictures of a source that are tried before a run starts.
const PROBED: usize = 32;

/// Batches over a source.
pub struct EvalBatches {
    source: Arc<dyn Source>,
    plan: SamplePlan,
    inputs: Vec<InputDecl>,
    batch_size: usize,
    seed: u64,
    /// Which images of the source it goes over.
    images: Arc<[usize]>,
    /// The next batch to be made, and how many lie between two of this rank.
    next: usize,
    stride: usize,
    shown: usize,
    broken: Vec<Broken>,
}

impl EvalBatches {
    /// Over all images of `source`, as many at once as `inputs` take; recipes are applied to its images.
    pub fn new(
        source: Arc<dyn Source>,
        views: &[ViewSpec],
        inputs: &[InputDecl],
        seed: u64,
    ) -> Result<EvalBatches, DataError> {
        let images = (0..source.len()).collect();
        EvalBatches::over(source, images, views, inputs, seed)
    }

    /// The same over those of `images`, each less than the source's length.
    pub fn over(
        source: Arc<dyn Source>,
        images: Arc<[usize]>,
        views: &[ViewSpec],
        inputs: &[InputDecl],
        seed: u64,
    ) -> Result<EvalBatches, DataError> {
        let plan = SamplePlan::new(views, inputs, Pictures::Floats)?;
        let batch_size = batch_size(inputs);
        let broken = Vec::new();
        let inputs = inputs.to_vec();
        Ok(EvalBatches { source, plan, inputs, batch_size, seed, images, next: 0, stride: 1, shown: 0, broken })
    }

    /// Of these the batches of one of `count` ranks, before the first was made.
    pub fn of_rank(self, rank: usize, count: usize) -> EvalBatches {
        EvalBatches { next: rank, stride: count, ..self }
    }

    /// The most batches that a rank makes.
    pub fn rounds(&self) -> usize {
        self.images.len().div_ceil(self.batch_size).div_ceil(self.stride)
    }

    /// Images of a batch.
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// Images that had a row so far.
    pub fn shown(&self) -> usize {
        self.shown
    }

    /// Images that it goes over.
    pub fn images(&self) -> usize {
        self.images.len()
    }

    /// Images without a row.
    pub fn broken(&self) -> &[Broken] {
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
                    self.broken.push(Broken { image: *index, name: self.source.name(*index), reason });
                }
            }
        }
        Ok(samples)
    }

    fn batch(&mut self, samples: &[(usize, Rows)]) -> EvalBatch {
        if samples.is_empty() {
            return EvalBatch { inputs: Vec::new(), labels: Vec::new(), rows: Vec::new() };
        }
        let label = |index: &usize| self.source.label(*index).unwrap_or(-1);
        let padded = || samples.iter().chain(samples.iter().cycle()).take(self.batch_size);
        let rows: Vec<&Rows> = padded().map(|(_, rows)| rows).collect();
        let labels: Vec<i64> = padded().map(|(index, _)| label(index)).collect();
        let inputs = assemble(&self.inputs, &rows, &labels, batch_key(self.seed, EPOCH));
        self.shown += samples.len();
        let rows = samples.iter().map(|(index, _)| *index).collect();
        EvalBatch { inputs, labels: labels[..samples.len()].to_vec(), rows }
    }
}

/// `count` of the places `0..len`, in their order: always the same for one `name`, whatever a run's seed is, so that runs are judged
/// alike.
/// Source: Knuth, "The Art of Computer Programming" volume 2, section 3.4.2, algorithm S.
pub fn some_of(len: usize, count: usize, name: &str) -> Vec<usize> {
    let mut stream = Key { seed: 0, epoch: EPOCH, sample: 0 }.stream(name);
    let mut missing = count.min(len);
    let is_taken = |place: &usize| {
        // Each place is as likely as what is missing among what is left.
        let taken = missing > 0 && stream.below((len - place) as u64) < missing as u64;
        missing -= usize::from(taken);
        taken
    };
    (0..len).filter(is_taken).collect()
}

/// Samples that a graph of these inputs takes at once.
fn batch_size(inputs: &[InputDecl]) -> usize {
    // Neither numbers in force nor what is drawn for a batch as a whole have a row a sample.
    let of_the_batch = |input: &&InputDecl| {
        matches!(input.kind, InputKind::Schedule(_) | InputKind::Joined | InputKind::Random | InputKind::Normal)
    };
    let of_samples = inputs.iter().find(|input| !of_the_batch(input));
    of_samples.and_then(|input| input.ty.shape.first()).copied().unwrap_or(1)
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
        let images = self.images.clone();
        let indices = images.chunks(self.batch_size).nth(self.next)?;
        self.next += self.stride;
        Some(self.samples(indices).map(|samples| self.batch(&samples)))
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
        let last =
            batches.broken.last().map(|Broken { name, reason, .. }| format!("{name}: {reason}")).unwrap_or_default();
        return Err(DataError::NoneReadable { source_name: source_name.to_owned(), tried: len, last });
    }
    let batch = batches.batch(&samples);
    Ok((batch.inputs, batch.rows.len()))
}
