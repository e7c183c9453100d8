//! Samples to be looked at: pictures of a source as the loader draws them in the first epoch.
//!
//! **Invariant:** a picture's rows are those that the loader gives of it, for the same plan and seed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::error::DataError;
use super::image::Image;
use super::loader::draw;
use super::rng::Key;
use super::sample::{Rows, SamplePlan};
use super::source::Source;

/// A picture and what it became.
pub struct Shown {
    /// Which picture of the source.
    pub index: usize,
    /// As it was read.
    pub picture: Image,
    pub rows: Rows,
}

/// What a source gave to look at.
pub struct Samples {
    pub shown: Vec<Shown>,
    /// Pictures that were passed over, as (name, reason).
    pub broken: Vec<(String, String)>,
}

/// `count` samples spread evenly over `source`, so that one sorted by class shows many, each of them the first that is not broken from
/// its place to the next one's. `source_name` is what an error calls the source.
///
/// # Errors
/// Where none can be read, or the source is gone.
pub fn shown(
    source: &dyn Source,
    plan: &SamplePlan,
    seed: u64,
    count: usize,
    source_name: &str,
) -> Result<Samples, DataError> {
    let len = source.len();
    let count = count.min(len);
    let mut found = Samples { shown: Vec::with_capacity(count), broken: Vec::new() };
    for place in 0..count {
        for index in place * len / count..(place + 1) * len / count {
            match of_picture(source, plan, seed, index) {
                Ok(sample) => {
                    found.shown.push(sample);
                    break;
                }
                Err(reason) => {
                    // Pictures of a disk that is gone are not broken.
                    source.check()?;
                    found.broken.push((source.name(index), reason));
                }
            }
        }
    }
    if found.shown.is_empty() {
        let last = found.broken.last().map(|(name, reason)| format!("{name}: {reason}")).unwrap_or_default();
        return Err(DataError::NoneReadable { source_name: source_name.to_owned(), tried: len, last });
    }
    Ok(found)
}

fn of_picture(source: &dyn Source, plan: &SamplePlan, seed: u64, index: usize) -> Result<Shown, String> {
    let rows = draw(source, plan, index, Key { seed, epoch: 0, sample: index as u64 })?;
    // Decoded once more, for `draw` gives the picture's memory back. What a decoder fails on is broken here as there.
    let read = catch_unwind(AssertUnwindSafe(|| source.image(index)));
    let picture = read.unwrap_or_else(|_| Err("the decoder failed on it".to_owned()))?;
    Ok(Shown { index, picture, rows })
}
