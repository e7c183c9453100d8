//! Linear probes of features that an evaluation has kept: each tried setting with its accuracy.
//!
//! Before: [`super::judge`] has features of both sources. After: [`super::quality`] tells the best.
//!
//! Ranks share the settings out: what one classifier becomes does not hang on those beside it.

use std::collections::BTreeMap;
use std::ops::Range;

use super::features::Features;
use super::knn::accuracy;
use super::linear::{self, Classifiers, Course, Normalised, Rate};
use super::logistic;
use super::pass::{Look, Pass};
use super::quality::{QualityError, Setting};
use crate::ranks::{self, Ranks};
use crate::spec::Solver;

pub(super) struct Probes<'q> {
    /// Normalised from the first time on that they are trained on, with the queries' by the same statistics.
    kept: Vec<(Range<usize>, Features)>,
    asked: BTreeMap<usize, Features>,
    labels: Vec<i64>,
    classes: usize,
    /// Features of the queries, all columns, and their labels among `classes`.
    queries: (&'q Features, &'q [i64]),
}

impl<'q> Probes<'q> {
    pub fn new(
        kept: Vec<(Range<usize>, Features)>,
        labels: Vec<i64>,
        classes: usize,
        queries: (&'q Features, &'q [i64]),
    ) -> Probes<'q> {
        Probes { kept, asked: BTreeMap::new(), labels, classes, queries }
    }

    /// Accuracies of the classifiers that `solver` makes on the features at `place`.
    pub fn tried(
        &mut self,
        place: usize,
        solver: &Solver,
        engine: &dyn Ranks,
        look: Look<'_>,
    ) -> Result<Vec<(Setting, f64)>, QualityError> {
        let (columns, features) = &mut self.kept[place];
        let asked = self.asked.entry(place).or_insert_with(|| {
            let by = Normalised::by(features);
            by.apply(features);
            let mut asked = self.queries.0.columns(columns.clone());
            by.apply(&mut asked);
            asked
        });
        let (features, labels, rows) = (&*features, &self.labels[..], features.rows);
        let of = |found: &Classifiers| -> Vec<i64> {
            let shares = found.predictions(asked).into_iter().map(|found| accuracy(&found, self.queries.1));
            // As whole numbers, which ranks can exchange.
            shares.map(|share| (share * self.queries.1.len() as f64).round() as i64).collect()
        };
        let share = |right: i64| right as f64 / self.queries.1.len().max(1) as f64;
        match solver {
            Solver::Sgd { learning_rates, weight_decays, epochs, batch_size } => {
                let with = |&weight_decay: &f64| {
                    learning_rates.iter().map(move |&learning_rate| Rate { learning_rate, weight_decay })
                };
                let rates: Vec<Rate> = weight_decays.iter().flat_map(with).collect();
                let first = |rank: usize| rank * rates.len() / engine.count();
                let own = &rates[first(engine.rank())..first(engine.rank() + 1)];
                let course = Course { epochs: *epochs, batch_size: *batch_size };
                let found = linear::train(features, labels, self.classes, (own, course), |epoch| {
                    let pass = Pass { what: "linear probing", done: epoch * rows, of: epochs * rows };
                    match ranks::any(engine, look(pass).is_break()) {
                        true => Err(QualityError::Stopped),
                        false => Ok(()),
                    }
                })?;
                let right = ranks::of_each(engine, of(&found)).concat();
                Ok(rates.into_iter().map(Setting::Rate).zip(right.into_iter().map(share)).collect())
            }
            Solver::Exact => {
                let all = rows * logistic::STEPS;
                // Of rank 0 alone: others may take another number of steps.
                let found = match engine.rank() {
                    0 => logistic::fit(features, labels, self.classes, |step| {
                        match look(Pass { what: "logistic regression", done: step * rows, of: all }).is_break() {
                            true => Err(QualityError::Stopped),
                            false => Ok(()),
                        }
                    })
                    .map(Some),
                    _ => Ok(None),
                };
                let mut ended = || look(Pass { what: "logistic regression", done: all, of: all }).is_break();
                if ranks::any(engine, found.is_err() || ended()) {
                    return Err(QualityError::Stopped);
                }
                let mut right = found?.as_ref().map_or_else(|| vec![0], of);
                ranks::of_first(engine, &mut right);
                Ok(right.into_iter().map(|right| (Setting::Exact, share(right))).collect())
            }
        }
    }
}
