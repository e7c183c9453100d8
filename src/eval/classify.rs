//! What a classifier's logits say of pictures whose classes are known: accuracies, who is taken for whom, and whether its confidence is
//! worth its name.
//!
//! Before: [`super::classifier`] has logits, batch by batch. After: `run` logs the figures, `report` draws the confusion and the
//! reliability.
//!
//! **Invariant:** figures are sums over pictures in f64, in the order of the source: the same for any number of threads and ranks.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::features::Features;
use crate::run::tensor_file::{WriteError, write_json};

/// Intervals of confidence of equal width, as Guo et al. 2017 take them.
pub const BINS: usize = 15;

/// Pictures whose confidence lies in one interval.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Bin {
    pub pictures: u64,
    /// Of them, those that are classified right.
    pub right: u64,
    /// The mean of their largest probability.
    pub confidence: f64,
}

/// Figures over all pictures that have a class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Classified {
    /// Optimizer steps after which the logits were made.
    pub step: u64,
    pub pictures: u64,
    /// Shares of the pictures whose class is the first, or among the first five, by logit; the lower class goes first of equals.
    pub top1: f64,
    /// `None` where there are no more than five classes.
    pub top5: Option<f64>,
    /// Mean of −log p of the picture's class.
    pub cross_entropy: f64,
    /// Mean of |share right − confidence| over the intervals, by their pictures (Guo et al. 2017, section 2).
    pub calibration_error: f64,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Pictures of a class that were taken for one: (class, taken for, pictures), in this order; what never happened is left out.
    pub confusion: Vec<(usize, usize, u64)>,
    pub reliability: Vec<Bin>,
}

/// Why logits could not be judged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClassifyError {
    #[error(
        "`{name}` has logits of {found} classes, {source_name} has {expected} (help: let the last layer give {expected}, such as --set \
         classes={expected})"
    )]
    Classes { name: String, found: usize, expected: usize, source_name: String },
    #[error(
        "`{name}` wants labels, and {source_name} has none (help: put pictures in a folder for each class, PATH/CLASS/picture.jpg)"
    )]
    NoLabels { name: String, source_name: String },
    #[error("logits hold a value that is not finite, in row {row}")]
    NotFinite { row: usize },
}

/// Figures while they are summed up.
#[derive(Debug, Clone, Default)]
pub struct Verdicts {
    pictures: u64,
    top1: u64,
    top5: u64,
    loss: f64,
    confusion: BTreeMap<(usize, usize), u64>,
    bins: [(u64, u64, f64); BINS],
}

impl Verdicts {
    /// Adds the pictures of `logits` [B, K], whose classes are `labels`; those below 0 have none and are passed over.
    pub fn add(&mut self, logits: &Features, labels: &[i64]) -> Result<(), ClassifyError> {
        if let Some(row) = logits.first_not_finite() {
            return Err(ClassifyError::NotFinite { row });
        }
        for (row, label) in labels.iter().enumerate().take(logits.rows) {
            if let Some(class) = usize::try_from(*label).ok().filter(|class| *class < logits.dim) {
                self.add_one(logits.row(row), class);
            }
        }
        Ok(())
    }

    fn add_one(&mut self, logits: &[f32], class: usize) {
        let own = logits[class];
        // Of equals the lower class goes first, as PyTorch's argmax has it.
        let before = logits.iter().enumerate().filter(|(at, x)| **x > own || (**x == own && *at < class)).count();
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let taken = logits.iter().position(|x| *x == largest).unwrap_or(class);
        let total: f64 = logits.iter().map(|x| libm::exp(f64::from(*x) - f64::from(largest))).sum();
        let confidence = 1.0 / total;
        self.pictures += 1;
        self.top1 += u64::from(before == 0);
        self.top5 += u64::from(before < 5);
        self.loss += libm::log(total) - (f64::from(own) - f64::from(largest));
        *self.confusion.entry((class, taken)).or_default() += 1;
        // Intervals are closed above, and the first holds 0 too.
        let bin = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        let (pictures, right, sum) = &mut self.bins[bin];
        *pictures += 1;
        *right += u64::from(before == 0);
        *sum += confidence;
    }

    /// The figures; `None` where no picture had a class.
    pub fn finish(self, classes: &[String], step: u64) -> Option<Classified> {
        let total = self.pictures;
        if total == 0 {
            return None;
        }
        let share = |count: u64| count as f64 / total as f64;
        let reliability: Vec<Bin> = self
            .bins
            .iter()
            .map(|&(pictures, right, sum)| Bin { pictures, right, confidence: sum / pictures.max(1) as f64 })
            .collect();
        let gap = |bin: &Bin| (bin.right as f64 - bin.confidence * bin.pictures as f64).abs();
        Some(Classified {
            step,
            pictures: total,
            top1: share(self.top1),
            top5: (classes.len() > 5).then(|| share(self.top5)),
            cross_entropy: self.loss / total as f64,
            calibration_error: reliability.iter().map(gap).sum::<f64>() / total as f64,
            classes: classes.to_vec(),
            confusion: self.confusion.into_iter().map(|((class, taken), count)| (class, taken, count)).collect(),
            reliability,
        })
    }
}

impl Classified {
    /// Writes the figures to `path` as JSON.
    pub fn write(&self, path: &Path) -> Result<(), WriteError> {
        write_json(path, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|class| format!("class {class}")).collect()
    }

    /// Worked out by hand: softmax of (ln 3, 0) is (3/4, 1/4).
    #[test]
    fn figures_of_four_pictures() {
        let three = libm::logf(3.0);
        let logits = Features { rows: 4, dim: 2, data: vec![three, 0.0, three, 0.0, 0.0, three, 1.0, 1.0] };
        let mut verdicts = Verdicts::default();
        verdicts.add(&logits, &[0, 1, 1, 1]).expect("all are finite");
        let found = verdicts.finish(&names(2), 7).expect("there are four");
        // Of the last, whose logits are equal, the lower class goes first.
        assert_eq!((found.pictures, found.top1, found.top5), (4, 0.5, None));
        assert_eq!(found.confusion, [(0, 0, 1), (1, 0, 2), (1, 1, 1)]);
        let loss = (2.0 * libm::log(4.0 / 3.0) + libm::log(4.0) + libm::log(2.0)) / 4.0;
        assert!((found.cross_entropy - loss).abs() < 1e-7, "{}", found.cross_entropy);
        // Three at 3/4, of which two are right; one at 1/2, which is wrong.
        let error = (3.0 * (2.0f64 / 3.0 - 0.75).abs() + 0.5) / 4.0;
        assert!((found.calibration_error - error).abs() < 1e-7, "{}", found.calibration_error);
    }

    #[test]
    fn five_go_before_the_sixth() {
        let logits = Features { rows: 1, dim: 7, data: vec![7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0] };
        for (class, right) in [(4, 1.0), (5, 0.0)] {
            let mut verdicts = Verdicts::default();
            verdicts.add(&logits, &[class]).expect("all are finite");
            assert_eq!(verdicts.finish(&names(7), 0).and_then(|found| found.top5), Some(right));
        }
    }

    #[test]
    fn pictures_without_a_class_do_not_count() {
        let logits = Features { rows: 1, dim: 2, data: vec![0.0, 1.0] };
        let mut verdicts = Verdicts::default();
        verdicts.add(&logits, &[-1]).expect("all are finite");
        assert_eq!(verdicts.finish(&names(2), 0), None);
        let broken = Features { rows: 1, dim: 2, data: vec![0.0, f32::NAN] };
        assert_eq!(Verdicts::default().add(&broken, &[0]), Err(ClassifyError::NotFinite { row: 0 }));
    }
}
