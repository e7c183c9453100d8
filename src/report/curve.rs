//! Curves: a number over optimizer steps, smoothed and thinned for drawing.
//!
//! **Invariant:** thinning keeps the first, the last, the least and the largest points as they were logged; nothing that
//! is drawn as a raw value was made up.

/// Points that a curve keeps at most: about as many as a screen has columns.
pub const MAX_POINTS: usize = 1000;
/// A curve of fewer points is not smoothed.
const MIN_SMOOTHED: usize = 60;
/// Share of a curve that is averaged to one smoothed point.
const WINDOW: f64 = 0.03;

/// A number over steps. Values that are not finite are gaps.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Curve {
    /// `loss`, `losses/NAME`, `monitors/NAME`, `evaluation/NAME`, or a field of the metrics.
    pub key: String,
    pub steps: Vec<u64>,
    pub values: Vec<f64>,
}

impl Curve {
    pub fn new(key: &str) -> Curve {
        Curve { key: key.to_owned(), ..Curve::default() }
    }

    pub fn push(&mut self, step: u64, value: f64) {
        self.steps.push(step);
        self.values.push(value);
    }

    /// Step and value of the last point that is finite.
    pub fn last(&self) -> Option<(u64, f64)> {
        self.steps.iter().copied().zip(self.values.iter().copied()).rev().find(|(_, value)| value.is_finite())
    }

    /// The middle one of the finite values.
    pub fn median(&self) -> Option<f64> {
        let mut finite: Vec<f64> = self.values.iter().copied().filter(|value| value.is_finite()).collect();
        finite.sort_by(f64::total_cmp);
        finite.get(finite.len() / 2).copied()
    }

    pub fn is_drawn(&self) -> bool {
        self.values.iter().any(|value| value.is_finite())
    }

    /// Points that a smoothed one is the mean of; 1 where there are too few to smooth.
    pub fn window(&self) -> usize {
        if self.values.len() < MIN_SMOOTHED {
            return 1;
        }
        // Odd, so that it has a middle.
        (self.values.len() as f64 * WINDOW / 2.0) as usize * 2 + 1
    }

    /// Each point the mean of the finite ones around it: centred, so that it does not lag. Narrower at the start, where
    /// losses fall steeply; at the end, where they hardly do, the last point is the mean of those before it.
    pub fn smoothed(&self) -> Curve {
        let half = self.window() / 2;
        let mut sums = vec![(0.0, 0usize)];
        for &value in &self.values {
            let (sum, count) = sums[sums.len() - 1];
            sums.push(if value.is_finite() { (sum + value, count + 1) } else { (sum, count) });
        }
        let mean = |at: usize| {
            let half = half.min(at);
            let (from, to) = (sums[at - half], sums[(at + half + 1).min(self.values.len())]);
            if to.1 > from.1 { (to.0 - from.0) / (to.1 - from.1) as f64 } else { f64::NAN }
        };
        let values = (0..self.values.len()).map(mean).collect();
        Curve { key: self.key.clone(), steps: self.steps.clone(), values }
    }

    /// At most [`MAX_POINTS`] of the points: of each of equal parts the least and the largest. Gaps stay gaps.
    pub fn thinned(&self) -> Curve {
        let count = self.values.len();
        if count <= MAX_POINTS {
            return self.clone();
        }
        // The two ends beside two of each part.
        let parts = (MAX_POINTS - 2) / 2;
        let mut kept = vec![0];
        for part in 0..parts {
            let range = part * count / parts..(part + 1) * count / parts;
            let finite = || range.clone().filter(|&at| self.values[at].is_finite());
            let least = finite().min_by(|&a, &b| self.values[a].total_cmp(&self.values[b]));
            let largest = finite().max_by(|&a, &b| self.values[a].total_cmp(&self.values[b]));
            match (least, largest) {
                (Some(least), Some(largest)) => kept.extend([least.min(largest), least.max(largest)]),
                _ => kept.push(range.start),
            }
        }
        kept.push(count - 1);
        kept.dedup();
        let steps = kept.iter().map(|&at| self.steps[at]).collect();
        let values = kept.iter().map(|&at| self.values[at]).collect();
        Curve { key: self.key.clone(), steps, values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(values: impl IntoIterator<Item = f64>) -> Curve {
        let values: Vec<f64> = values.into_iter().collect();
        Curve { key: "loss".to_owned(), steps: (1..=values.len() as u64).collect(), values }
    }

    #[test]
    fn thinning_keeps_ends_and_peaks() {
        let mut long = curve((0..100_000).map(|i| libm::sin(i as f64 / 5000.0)));
        long.values[77_777] = 9.0;
        long.values[33_333] = -9.0;
        let thin = long.thinned();
        assert!(thin.steps.len() <= MAX_POINTS, "{}", thin.steps.len());
        assert_eq!((thin.steps[0], thin.steps[thin.steps.len() - 1]), (1, 100_000));
        assert!(thin.steps.windows(2).all(|pair| pair[0] < pair[1]), "in order, none twice");
        assert!(thin.values.contains(&9.0) && thin.values.contains(&-9.0));
        for (step, value) in thin.steps.iter().zip(&thin.values) {
            assert_eq!(*value, long.values[*step as usize - 1]);
        }
        let short = curve([1.0, 2.0]);
        assert_eq!(short.thinned(), short);
    }

    #[test]
    fn values_that_are_not_finite_stay_gaps() {
        let mut long = curve((0..5000).map(f64::from));
        long.values[1000..2000].fill(f64::NAN);
        let thin = long.thinned();
        assert!(thin.values.iter().any(|value| value.is_nan()));
        let smooth = long.smoothed();
        assert!(smooth.values[1500].is_nan() && smooth.values[900].is_finite());
        assert_eq!(smooth.values[4000], 4000.0, "a straight line stays one");
        let half = long.window() as f64 / 2.0 - 0.5;
        assert_eq!((smooth.values[0], smooth.values[4999]), (0.0, 4999.0 - half / 2.0));
        assert_eq!(curve([f64::NAN; 3]).last(), None);
        assert_eq!(curve([1.0, f64::INFINITY]).last(), Some((1, 1.0)));
        assert!(!curve([f64::NAN]).is_drawn());
    }
}
