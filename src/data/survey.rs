//! What a source holds: every picture read, and what there is to say of them all.
//!
//! Before: a source was opened. After: `cmaec data check` tells it.
//!
//! **Invariant:** figures are sums of whole numbers, so that they hang neither on the number of threads nor on who was read first.
//! What is kept of a picture is counts: memory hangs on how many sides and broken pictures there are, not on how many were read.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rayon::prelude::*;

use super::source::Source;
use super::{Image, decode};

/// Pictures that are read between two looks at who waits.
const AT_ONCE: usize = 256;

/// Figures of the pictures of a source.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Survey {
    /// Pictures that were read; the others that were tried are broken.
    pub read: usize,
    /// Name of each, and why it is broken, in their order.
    pub broken: Vec<(String, String)>,
    /// Pictures of each format, by how its files' names end; empty where pictures are no files.
    pub formats: BTreeMap<&'static str, usize>,
    pub heights: Sides,
    pub widths: Sides,
    /// Pictures of three channels that are all alike.
    pub gray: usize,
    channels: Vec<Sums>,
}

/// How often a side of so many pixels occurs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sides(BTreeMap<usize, usize>);

/// Of the values of a channel, 0 to 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Sums {
    count: u64,
    sum: u64,
    squares: u64,
}

impl Sides {
    /// Shortest, median (the lower of two) and longest; `None` where there is none.
    pub fn figures(&self) -> Option<[usize; 3]> {
        let count: usize = self.0.values().sum();
        let mut before = 0;
        let median = self.0.iter().find_map(|(side, times)| {
            before += times;
            (2 * before >= count).then_some(*side)
        })?;
        Some([*self.0.first_key_value()?.0, median, *self.0.last_key_value()?.0])
    }
}

impl Sums {
    fn of(values: impl Iterator<Item = u8>) -> Sums {
        values.fold(Sums::default(), |mut sums, value| {
            sums.count += 1;
            sums.sum += u64::from(value);
            sums.squares += u64::from(value) * u64::from(value);
            sums
        })
    }

    fn add(&mut self, other: Sums) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
    }

    /// Mean and deviation of values of 0 to 1.
    fn figures(self) -> (f64, f64) {
        let (n, sum, squares) = (u128::from(self.count), u128::from(self.sum), u128::from(self.squares));
        let n_times = 255.0 * self.count as f64;
        // Not below zero: no mean of squares is below the square of the mean.
        let spread = n * squares - sum * sum;
        (self.sum as f64 / n_times, (spread as f64).sqrt() / n_times)
    }
}

impl Survey {
    /// Mean and deviation of each channel's values, of 0 to 1, over all pixels of all pictures; empty where none was read.
    pub fn statistics(&self) -> Vec<(f64, f64)> {
        self.channels.iter().map(|sums| sums.figures()).collect()
    }

    fn add(&mut self, name: String, read: Result<One, String>) {
        let one = match read {
            Ok(one) => one,
            Err(reason) => return self.broken.push((name, reason)),
        };
        self.read += 1;
        if let Some(format) = one.format {
            *self.formats.entry(format).or_default() += 1;
        }
        *self.heights.0.entry(one.height).or_default() += 1;
        *self.widths.0.entry(one.width).or_default() += 1;
        self.gray += usize::from(one.gray);
        self.channels.resize(one.channels.len(), Sums::default());
        self.channels.iter_mut().zip(one.channels).for_each(|(sums, other)| sums.add(other));
    }
}

/// What is kept of a picture.
struct One {
    format: Option<&'static str>,
    height: usize,
    width: usize,
    gray: bool,
    channels: Vec<Sums>,
}

impl One {
    fn of(source: &dyn Source, index: usize) -> Result<One, String> {
        let Image { height, width, channels, data } = source.image(index)?;
        // A file that was decoded begins as one.
        let format = source.file(index).and_then(|file| decode::ending(&file.ok()?).ok());
        let gray = channels == 3 && data.chunks_exact(3).all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2]);
        let sums = (0..channels).map(|channel| Sums::of(data.iter().skip(channel).step_by(channels).copied()));
        Ok(One { format, height, width, gray, channels: sums.collect() })
    }
}

/// Reads the pictures `indices` of `source`, on all threads; `look` hears how many are done, and may end it.
///
/// # Errors
/// Where it was ended.
pub fn survey(
    source: &dyn Source,
    indices: &[usize],
    look: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Survey, Ended> {
    let mut survey = Survey::default();
    let mut done = 0;
    for some in indices.chunks(AT_ONCE) {
        let read = |index: &usize| {
            // A source is others' code in part: what it fails on is broken.
            let read = catch_unwind(AssertUnwindSafe(|| One::of(source, *index)));
            read.unwrap_or_else(|_| Err("the decoder failed on it".to_owned()))
        };
        let read: Vec<Result<One, String>> = some.par_iter().map(read).collect();
        some.iter().zip(read).for_each(|(index, one)| survey.add(source.name(*index), one));
        done += some.len();
        if look(done).is_break() {
            return Err(Ended);
        }
    }
    Ok(survey)
}

/// Whoever waited did not want to any longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_have_a_median() {
        let mut sides = Sides::default();
        assert_eq!(sides.figures(), None);
        for side in [7, 3, 3, 9] {
            *sides.0.entry(side).or_default() += 1;
        }
        assert_eq!(sides.figures(), Some([3, 3, 9]));
        *sides.0.entry(8).or_default() += 1;
        assert_eq!(sides.figures(), Some([3, 7, 9]));
    }

    #[test]
    fn mean_and_deviation_are_those_of_all_values() {
        let mut sums = Sums::of([0, 255].into_iter());
        assert_eq!(sums.figures(), (0.5, 0.5));
        sums.add(Sums::of([51; 2].into_iter()));
        let (mean, deviation) = sums.figures();
        // (0 + 1 + 0.2 + 0.2) / 4, and the root of (0.35² + 0.65² + 2 · 0.15²) / 4.
        assert!(
            (mean - 0.35).abs() < 1e-12 && (deviation - 0.384_057_287_393_430_4).abs() < 1e-12,
            "{mean} {deviation}"
        );
        // Sums of a petapixel neither run over nor lose a digit.
        let large = Sums { count: 1 << 40, sum: 255 << 39, squares: (255 * 255) << 39 };
        assert_eq!(large.figures(), (0.5, 0.5));
    }
}
