//! A pass over pictures that several ranks share: each makes features of its own batches, and each gets those of all.
//!
//! Before: [`super::features`] and [`super::pixels`] make them of a rank's batches. After: [`super::quality`], or a file.
//!
//! **Invariant:** what comes out does not hang on the number of ranks: rows stand in the order of the source, and of the broken
//! pictures the first one of the source is the example.

use std::fmt;

use super::features::{Features, Made};
use crate::data::DataError;
use crate::data::evaluation::{Broken, EvalBatches};
use crate::ranks::{self, Ranks};
use crate::tensor::{Values, ValuesMut};

/// Broken pictures of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    pub source_name: String,
    pub broken: usize,
    pub of: usize,
    /// One of them by name, and why.
    pub example: String,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LeftOut { source_name, broken, of, example } = self;
        match broken {
            1 => write!(f, "1 of {of} pictures of {source_name} is broken and left out: {example}"),
            _ => write!(f, "{broken} of {of} pictures of {source_name} are broken and left out, such as {example}"),
        }
    }
}

/// Takes features as they are made.
pub type Sink<'s, X> = &'s mut dyn FnMut(Made) -> Result<(), X>;

/// Lets `make` give what it makes of this rank's batches, one by one, and gives what all ranks make to `sink`, in the order of the
/// source.
pub fn shared<X>(
    engine: &dyn Ranks,
    batches: &mut EvalBatches,
    make: impl FnOnce(&mut EvalBatches, Sink<'_, X>) -> Result<(), X>,
    sink: Sink<'_, X>,
) -> Result<(), X> {
    let (rounds, mut made) = (batches.rounds(), 0);
    let mut round =
        |own| gathered(engine, own).into_iter().filter(|made| !made.rows.is_empty()).try_for_each(&mut *sink);
    make(batches, &mut |own| {
        made += 1;
        round(own)
    })?;
    // The last round need not have a batch for each.
    (made..rounds).try_for_each(|_| round(Made::default()))
}

/// What each rank has made, in their order.
fn gathered(engine: &dyn Ranks, own: Made) -> Vec<Made> {
    let count = engine.count();
    if count == 1 {
        return vec![own];
    }
    let Made { features: Features { rows, dim, mut data }, labels, rows: images } = own;
    let most = |own: usize| ranks::each(engine, own as i64).into_iter().max().unwrap_or(0) as usize;
    let (longest, dim) = (most(rows), most(dim));
    // A number of values that is the same on all.
    data.resize(longest * dim, 0.0);
    let mut all = vec![0.0; data.len() * count];
    engine.all_gather(Values::F32(&data), ValuesMut::F32(&mut all));
    let labels = ranks::of_each(engine, labels);
    let images = ranks::of_each(engine, images.into_iter().map(|image| image as i64).collect());
    let of = |(rank, (labels, images)): (usize, (Vec<i64>, Vec<i64>))| {
        let (rows, first) = (images.len(), rank * longest * dim);
        Made {
            features: Features { rows, dim, data: all[first..first + rows * dim].to_vec() },
            labels,
            rows: images.into_iter().map(|image| image as usize).collect(),
        }
    };
    labels.into_iter().zip(images).enumerate().map(of).collect()
}

/// The broken pictures among those that `batches` of all ranks went over.
///
/// # Errors
/// Where there was no other.
pub fn left_out(engine: &dyn Ranks, batches: &EvalBatches, source_name: &str) -> Result<Option<LeftOut>, DataError> {
    let total = |own: usize| ranks::each(engine, own as i64).iter().sum::<i64>() as usize;
    let (shown, broken) = (total(batches.shown()), total(batches.broken().len()));
    let own = batches.broken().first();
    let firsts = ranks::each(engine, own.map_or(i64::MAX, |first| first.image as i64));
    let text = own.map_or(String::new(), |Broken { name, reason, .. }| format!("{name}: {reason}"));
    let texts = ranks::text_of_each(engine, &text);
    let first = firsts.iter().zip(texts).filter(|(image, _)| **image < i64::MAX).min_by_key(|(image, _)| **image);
    let Some((_, example)) = first else { return Ok(None) };
    let (source_name, of) = (source_name.to_owned(), batches.images());
    match shown {
        0 => Err(DataError::NoneReadable { source_name, tried: of, last: example }),
        _ => Ok(Some(LeftOut { source_name, broken, of, example })),
    }
}
