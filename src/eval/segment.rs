//! What classes of pixels are worth: mean intersection over union, and accuracies.
//!
//! Before: [`super::segmenter`] has classes of pixels, batch by batch. After: `run` logs the figures, `report` lists the classes.
//!
//! **Invariant:** figures are whole counts of pixels over all pictures: the same for any number of threads and ranks.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::run::tensor_file::{WriteError, write_json};

/// Pixels of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OfClass {
    /// Of the class, by the label maps.
    pub wanted: u64,
    /// Taken for it.
    pub taken: u64,
    /// Both.
    pub right: u64,
}

impl OfClass {
    /// Intersection over union; `None` where no pixel is of the class and none is taken for it.
    pub fn iou(&self) -> Option<f64> {
        let union = self.wanted + self.taken - self.right;
        (union > 0).then(|| self.right as f64 / union as f64)
    }

    /// The share of its pixels that are taken for it; `None` where there are none.
    pub fn accuracy(&self) -> Option<f64> {
        (self.wanted > 0).then(|| self.right as f64 / self.wanted as f64)
    }
}

/// Figures over all pixels that have a class.
/// Source: Long et al. 2015, section 5; a class that is nowhere, neither wanted nor taken, has no part in a mean, as in mmseg.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Segmented {
    /// Optimizer steps after which the logits were made.
    pub step: u64,
    pub pictures: u64,
    pub mean_iou: f64,
    /// Share of all pixels that are taken for what they are.
    pub pixel_accuracy: f64,
    /// Mean over the classes.
    pub class_accuracy: f64,
    pub classes: Vec<OfClass>,
}

impl Segmented {
    /// Writes the figures to `path` as JSON.
    pub fn write(&self, path: &Path) -> Result<(), WriteError> {
        write_json(path, self)
    }
}

/// Counts while they are summed up.
#[derive(Debug, Clone)]
pub struct Counts {
    pictures: u64,
    classes: Vec<OfClass>,
}

impl Counts {
    pub fn new(classes: usize) -> Counts {
        Counts { pictures: 0, classes: vec![OfClass::default(); classes] }
    }

    /// Adds what [`counted`] made of one picture.
    pub fn add(&mut self, row: &[f32]) {
        self.pictures += 1;
        for (class, counts) in self.classes.iter_mut().zip(row.as_chunks::<3>().0) {
            let [wanted, taken, right] = counts.map(|count| count as u64);
            class.wanted += wanted;
            class.taken += taken;
            class.right += right;
        }
    }

    /// The figures; `None` where no pixel had a class.
    pub fn finish(self, step: u64) -> Option<Segmented> {
        let Counts { pictures, classes } = self;
        let (right, wanted) = classes.iter().fold((0, 0), |sum, class| (sum.0 + class.right, sum.1 + class.wanted));
        let mean = |of: fn(&OfClass) -> Option<f64>| {
            let (sum, count) = classes.iter().filter_map(of).fold((0.0, 0), |(sum, n), share| (sum + share, n + 1));
            sum / f64::from(count)
        };
        (wanted > 0).then(|| Segmented {
            step,
            pictures,
            mean_iou: mean(OfClass::iou),
            pixel_accuracy: right as f64 / wanted as f64,
            class_accuracy: mean(OfClass::accuracy),
            classes: classes.clone(),
        })
    }
}

/// For each class three counts of one picture's pixels, exact below 2²⁴: of the class, taken for it, both. Pixels without a class
/// (−1) do not count.
///
/// # Errors
/// The first class of the label map that is none of `classes`.
pub fn counted(taken: &[i64], wanted: &[i64], classes: usize) -> Result<Vec<f32>, i64> {
    let mut counts = vec![0.0; 3 * classes];
    for (taken, wanted) in taken.iter().zip(wanted) {
        let Ok(class) = usize::try_from(*wanted) else { continue };
        if class >= classes {
            return Err(*wanted);
        }
        counts[3 * class] += 1.0;
        // The largest of as many logits.
        counts[3 * *taken as usize + 1] += 1.0;
        counts[3 * class + 2] += f32::from(taken == wanted);
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked out by hand: of class 0 two pixels, one right; of class 1 one, right; class 2 is nowhere, 3 is taken once and wrong.
    #[test]
    fn figures_of_two_pictures() {
        let mut counts = Counts::new(4);
        counts.add(&counted(&[0, 3, 1], &[0, 0, -1], 4).expect("all are classes"));
        counts.add(&counted(&[1], &[1], 4).expect("all are classes"));
        let found = counts.finish(7).expect("three pixels have a class");
        assert_eq!((found.pictures, found.step), (2, 7));
        assert_eq!(found.classes[0], OfClass { wanted: 2, taken: 1, right: 1 });
        assert_eq!(found.classes[2], OfClass::default());
        // 1/2, 1, nothing, 0.
        assert_eq!(found.mean_iou, 0.5);
        assert_eq!(found.pixel_accuracy, 2.0 / 3.0);
        assert_eq!(found.class_accuracy, 0.75);
        assert_eq!(counted(&[0], &[4], 4), Err(4));
        assert_eq!(Counts::new(2).finish(0), None);
    }
}
