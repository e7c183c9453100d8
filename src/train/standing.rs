//! Losses that stand where they began: a run that learns nothing from one of them shows it long before its end.

/// A loss that fell by less than this share of itself stands.
const FALLEN: f64 = 0.02;
/// Of a loss that makes a smaller share of all, such as a penalty that has nothing to do, nothing is said.
const COUNTS: f64 = 0.1;
/// Means over fewer steps say little.
const LEAST: u64 = 10;

/// Means of each loss over the first twentieth of a run and over the one before its first quarter ends.
#[derive(Debug)]
pub(super) struct Standing {
    /// Steps of a mean.
    window: u64,
    /// The step at which it is asked.
    asked: u64,
    first: Vec<f64>,
    last: Vec<f64>,
}

impl Standing {
    /// For a run of `total` steps of which `made` are made; none where they are too few, or where what the first losses were is not known.
    pub fn new(made: u64, total: u64) -> Option<Self> {
        let window = total / 20;
        (made == 0 && window >= LEAST).then(|| Standing {
            window,
            asked: total / 4,
            first: Vec::new(),
            last: Vec::new(),
        })
    }

    /// Takes the losses of a step, counted from 1; gives a line for each that stands, once.
    pub fn add(&mut self, step: u64, losses: &[(&str, f64)]) -> Vec<String> {
        let sums = match step {
            _ if step <= self.window => &mut self.first,
            _ if step <= self.asked && step > self.asked - self.window => &mut self.last,
            _ => return Vec::new(),
        };
        sums.resize(losses.len(), 0.0);
        sums.iter_mut().zip(losses).for_each(|(sum, (_, loss))| *sum += loss);
        if step != self.asked {
            return Vec::new();
        }
        let means = |sums: &[f64]| sums.iter().map(|sum| sum / self.window as f64).collect::<Vec<f64>>();
        let (first, last) = (means(&self.first), means(&self.last));
        let all: f64 = first.iter().map(|loss| loss.abs()).sum();
        let of_both = losses.iter().zip(first.into_iter().zip(last));
        let standing = of_both.filter(|(_, (first, last))| {
            first.abs() >= COUNTS * all && *first != 0.0 && *last >= first - FALLEN * first.abs()
        });
        standing
            .map(|((name, _), (first, last))| {
                format!(
                    "the loss `{name}` stands where it began: {first:.4} in the first {0} steps, {last:.4} in the last {0} (help: docs/troubles.md, \"A loss does not move\")",
                    self.window
                )
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of a run of 200 steps by its losses at each.
    fn told(losses: impl Fn(u64) -> Vec<(&'static str, f64)>) -> Vec<String> {
        let mut standing = Standing::new(0, 200).expect("it is long enough");
        (1..=200).flat_map(|step| standing.add(step, &losses(step))).collect()
    }

    #[test]
    fn what_stands_is_told_once_and_what_falls_is_not() {
        let falls = |step: u64| 1.0 / (1.0 + step as f64 / 100.0);
        let lines = told(|step| vec![("falls", falls(step)), ("stands", 4.16 - 1e-4 * step as f64), ("rises", -1.0)]);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].contains("`stands` stands where it began: 4.1595 in the first 10 steps, 4.1555"), "{lines:?}");
        assert!(lines[1].contains("`rises`"), "{lines:?}");
    }

    #[test]
    fn little_penalties_and_losses_without_weight_may_stand() {
        assert_eq!(told(|step| vec![("main", 1.0 / step as f64 + 1.0), ("off", 0.0), ("penalty", 0.01)]), [""; 0]);
        assert_eq!(told(|_| vec![("off", 0.0)]), [""; 0]);
    }

    #[test]
    fn short_runs_and_those_that_go_on_are_not_asked() {
        assert!(Standing::new(0, 199).is_none() && Standing::new(1, 2000).is_none());
    }
}
