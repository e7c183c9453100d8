//! Weighted k-nearest-neighbour classification: how well features separate classes, without training anything.
//!
//! Before: [`super::features`] makes the bank and the queries. After: `run` logs the accuracy.
//!
//! **Invariant:** the result depends on the features alone, not on the number of threads: each query is computed by
//! one task in a fixed order, and ties go to the lower index (of the bank's rows, then of the classes).
//!
//! Source: Wu et al. 2018, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", section 3.4.

use std::collections::HashMap;

use rayon::prelude::*;

use super::features::Features;
use crate::data::source::Identity;

/// What [`knn`] found for each query.
#[derive(Debug, Clone, PartialEq)]
pub struct KnnResult {
    /// Class of the largest score, the lowest of equals.
    pub predictions: Vec<i64>,
    /// `[Q, classes]`, row-major: the class's share of the votes; a row sums to 1.
    pub scores: Vec<f32>,
    /// One more than the largest label of the bank.
    pub classes: usize,
}

impl KnnResult {
    /// Share of predictions equal to `labels`; 0 without queries.
    pub fn accuracy(&self, labels: &[i64]) -> f64 {
        accuracy(&self.predictions, labels)
    }
}

/// Share of `predictions` equal to `labels`, over the shorter of the two; 0 where there is none.
pub fn accuracy(predictions: &[i64], labels: &[i64]) -> f64 {
    let total = predictions.len().min(labels.len());
    if total == 0 {
        return 0.0;
    }
    let right = predictions.iter().zip(labels).filter(|(p, l)| p == l).count();
    right as f64 / total as f64
}

/// Why a classification could not be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum KnnError {
    #[error("the bank has {rows} rows and {labels} labels (help: give one label for each row)")]
    Labels { rows: usize, labels: usize },
    #[error("bank features have {bank} dimensions, query features {queries} (help: take both from one model)")]
    Dimensions { bank: usize, queries: usize },
    #[error("k is {k}, the bank has {rows} pictures{} (help: choose one in 1..={rows}: --set evaluate.knn.k={rows}, or -k {rows} of `cmaec eval knn`)", if *own { " beside the query itself" } else { "" })]
    Neighbours {
        k: usize,
        rows: usize,
        /// Whether the query is one of the bank, and left out of `rows`.
        own: bool,
    },
    #[error("temperature is {0} (help: it must be greater than 0, such as 0.07)")]
    Temperature(f64),
    #[error("label {0} is negative (help: classes count from 0)")]
    NegativeLabel(i64),
    #[error("the {which} features hold a value that is not finite, in row {row}")]
    NotFinite { which: &'static str, row: usize },
}

/// Which picture each row of the bank and of the queries shows.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    pub bank: &'a [Identity],
    pub queries: &'a [Identity],
}

/// Classifies each query by votes exp(cosine / temperature) of its `k` nearest rows of `bank`. A row that shows the query's own
/// picture has no vote: its label is what is asked for. Without `shown` no query lies in the bank.
///
/// Shapes: `bank: [N, D]`, `bank_labels: [N]`, `queries: [Q, D]` → scores `[Q, classes]`.
pub fn knn(
    bank: &Features,
    bank_labels: &[i64],
    queries: &Features,
    k: usize,
    temperature: f64,
    shown: Option<Shown<'_>>,
) -> Result<KnnResult, KnnError> {
    if bank.rows != bank_labels.len() {
        return Err(KnnError::Labels { rows: bank.rows, labels: bank_labels.len() });
    }
    if bank.dim != queries.dim {
        return Err(KnnError::Dimensions { bank: bank.dim, queries: queries.dim });
    }
    if k == 0 || k > bank.rows {
        return Err(KnnError::Neighbours { k, rows: bank.rows, own: false });
    }
    if let Some(Shown { bank: found, queries: asked }) = shown {
        assert!(found.len() == bank.rows && asked.len() == queries.rows, "each row shows a picture");
        check_others(k, found, asked)?;
    }
    // Not `<= 0`: a NaN must be refused too.
    if temperature.is_nan() || temperature <= 0.0 {
        return Err(KnnError::Temperature(temperature));
    }
    if let Some(&label) = bank_labels.iter().find(|&&label| label < 0) {
        return Err(KnnError::NegativeLabel(label));
    }
    for (which, features) in [("bank", bank), ("query", queries)] {
        if let Some(row) = features.first_not_finite() {
            return Err(KnnError::NotFinite { which, row });
        }
    }
    let classes = bank_labels.iter().max().map_or(0, |&label| label as usize + 1);
    let bank = bank.l2_normalized();
    let queries = queries.l2_normalized();
    let voted: Vec<Vec<f64>> = (0..queries.rows)
        .into_par_iter()
        .map(|row| {
            let may_vote = |of_bank: &usize| shown.is_none_or(|shown| shown.bank[*of_bank] != shown.queries[row]);
            votes(&bank, bank_labels, queries.row(row), k, temperature, classes, may_vote)
        })
        .collect();
    Ok(KnnResult {
        predictions: voted.iter().map(|scores| first_largest(scores) as i64).collect(),
        scores: voted.iter().flatten().map(|&score| score as f32).collect(),
        classes,
    })
}

/// Refuses a `k` for which a query has too few pictures in the bank beside itself.
pub fn check_others(k: usize, bank: &[Identity], queries: &[Identity]) -> Result<(), KnnError> {
    let mut counts: HashMap<Identity, usize> = HashMap::new();
    bank.iter().for_each(|identity| *counts.entry(*identity).or_default() += 1);
    let own = queries.iter().filter_map(|identity| counts.get(identity)).max().copied().unwrap_or(0);
    let rows = bank.len() - own;
    if k > rows { Err(KnnError::Neighbours { k, rows, own: own > 0 }) } else { Ok(()) }
}

/// Share of the votes of each class for one normalised query, of the rows that `may_vote`.
fn votes(
    bank: &Features,
    labels: &[i64],
    query: &[f32],
    k: usize,
    temperature: f64,
    classes: usize,
    may_vote: impl Fn(&usize) -> bool,
) -> Vec<f64> {
    let mut near: Vec<(f64, usize)> =
        (0..bank.rows).filter(may_vote).map(|row| (dot(bank.row(row), query), row)).collect();
    // Selection before sorting: O(N + k log k) for each query, which counts with a bank of a million rows.
    let order = |a: &(f64, usize), b: &(f64, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    near.select_nth_unstable_by(k - 1, order);
    near.truncate(k);
    near.sort_unstable_by(order);
    let nearest = near[0].0;
    let mut scores = vec![0.0; classes];
    for (similarity, row) in near {
        // The largest is taken off before exp: 1 / 0.001 would overflow, and the shares stay the same.
        scores[labels[row] as usize] += libm::exp((similarity - nearest) / temperature);
    }
    let total: f64 = scores.iter().sum();
    scores.iter_mut().for_each(|score| *score /= total);
    scores
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
}

fn first_largest(scores: &[f64]) -> usize {
    let mut best = 0;
    for (class, &score) in scores.iter().enumerate() {
        if score > scores[best] {
            best = class;
        }
    }
    best
}
