//! Weighted k-nearest-neighbour classification: how well features separate classes, without training anything.
//!
//! Before: [`super::features`] makes the queries, then the bank, batch by batch. After: `run` logs the accuracy.
//!
//! The bank is never held: its rows are compared as they come, in blocks of [`BANK_ROWS`] by products of matrices in f64, and of each
//! query the `k` nearest so far are kept. For Q queries of D dimensions memory is 4·D·Q bytes for queries, at most 48·k·Q for
//! neighbours, 8 KiB·D for the block, and 2 MiB + 2 KiB·D for each thread: some 0.2 GB for ImageNet's 50,000 queries at 768
//! dimensions and k = 20, whatever the bank.
//!
//! **Invariant:** the result depends on the features alone, not on the number of threads nor on how the bank is cut into batches:
//! each similarity is one sum in f64 from a product of fixed sizes, and ties go to the lower index (of the bank's rows, then of
//! the classes).
//!
//! Source: Wu et al. 2018, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", section 3.4.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use rayon::prelude::*;

use super::features::{self, Features};
use crate::backend::cpu::inner_products;
use crate::data::source::Identity;

/// Rows of the bank, and queries, of one product: the result is 2 MiB, a second-level cache, and each operand is read often enough
/// to be worth its packing.
const BANK_ROWS: usize = 1024;
const QUERY_ROWS: usize = 256;

/// What a [`Search`] found for each query.
#[derive(Debug, Clone, PartialEq)]
pub struct KnnResult {
    /// Class of the largest share, the lowest of equals.
    pub predictions: Vec<i64>,
    /// Classes that were voted for, in ascending order, each with its share of the votes; those of a query sum to 1.
    pub votes: Vec<Vec<(i64, f64)>>,
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
    #[error("{rows} rows of the bank have {labels} labels (help: give one label for each row)")]
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

/// A row of the bank, as a query sees it. The greater is the farther one: the top of a heap is the first to go.
#[derive(Debug, Clone, Copy)]
struct Near {
    similarity: f64,
    row: usize,
    label: i64,
}

impl Ord for Near {
    fn cmp(&self, other: &Near) -> Ordering {
        other.similarity.total_cmp(&self.similarity).then(self.row.cmp(&other.row))
    }
}

impl PartialOrd for Near {
    fn partial_cmp(&self, other: &Near) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Near {
    fn eq(&self, other: &Near) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Near {}

/// Rows of the bank that wait for a block to be full.
#[derive(Default)]
struct Block {
    /// `[BANK_ROWS, dim]` once it is compared; normalised.
    data: Vec<f64>,
    labels: Vec<i64>,
    /// Empty where no query lies in the bank.
    shown: Vec<Identity>,
}

/// The search for each query's nearest rows of a bank that comes in parts.
pub struct Search {
    /// Normalised.
    queries: Features,
    /// Which picture each query shows, where some may lie in the bank.
    shown: Option<Vec<Identity>>,
    /// How many of the nearest vote: each of these is a result of its own.
    ks: Vec<usize>,
    /// The largest of them.
    k: usize,
    nearest: Vec<BinaryHeap<Near>>,
    block: Block,
    /// Rows of the bank that were given.
    rows: usize,
}

impl Search {
    /// A search for the nearest of `queries: [Q, D]`, of which each of `ks` lets so many vote. `shown`: which picture each of them shows, where some may lie in the bank: a
    /// row that shows the query's own picture is passed over, for its label is what is asked for.
    pub fn new(queries: &Features, ks: &[usize], shown: Option<Vec<Identity>>) -> Result<Search, KnnError> {
        assert!(shown.as_ref().is_none_or(|shown| shown.len() == queries.rows), "each query shows a picture");
        if let Some(row) = queries.first_not_finite() {
            return Err(KnnError::NotFinite { which: "query", row });
        }
        let nearest = vec![BinaryHeap::new(); queries.rows];
        let (queries, ks, k) = (queries.l2_normalized(), ks.to_vec(), ks.iter().copied().max().unwrap_or(0));
        Ok(Search { queries, shown, ks, k, nearest, block: Block::default(), rows: 0 })
    }

    /// Compares the next rows of the bank, `part: [N, D]` with `labels: [N]`; `shown`: which picture each of them shows, or nothing
    /// where no query does.
    pub fn add(&mut self, part: &Features, labels: &[i64], shown: &[Identity]) -> Result<(), KnnError> {
        if part.rows != labels.len() {
            return Err(KnnError::Labels { rows: part.rows, labels: labels.len() });
        }
        if self.queries.rows > 0 && part.dim != self.queries.dim {
            return Err(KnnError::Dimensions { bank: part.dim, queries: self.queries.dim });
        }
        assert!(self.shown.is_none() || shown.len() == part.rows, "each row shows a picture");
        if let Some(&label) = labels.iter().find(|&&label| label < 0) {
            return Err(KnnError::NegativeLabel(label));
        }
        if let Some(row) = part.first_not_finite() {
            return Err(KnnError::NotFinite { which: "bank", row: self.rows + row });
        }
        for (row, label) in labels.iter().enumerate() {
            self.block.data.extend(features::unit_row(part.row(row)).map(f64::from));
            self.block.labels.push(*label);
            self.block.shown.extend(shown.get(row));
            self.rows += 1;
            if self.block.labels.len() == BANK_ROWS {
                self.compare();
            }
        }
        Ok(())
    }

    /// Compares what waits.
    fn compare(&mut self) {
        let (dim, k, count) = (self.queries.dim, self.k, self.block.labels.len());
        if count == 0 {
            return;
        }
        // Of whole blocks alone, so that what a similarity is hangs on nothing but its two rows.
        self.block.data.resize(BANK_ROWS * dim, 0.0);
        let (queries, block, first) = (&self.queries, &self.block, self.rows - count);
        let room = || (vec![0.0; QUERY_ROWS * dim], vec![0.0; QUERY_ROWS * BANK_ROWS]);
        self.nearest.par_chunks_mut(QUERY_ROWS).enumerate().for_each_init(room, |(tile, out), (chunk, nearest)| {
            let from = chunk * QUERY_ROWS;
            let values = &queries.data[from * dim..(from + nearest.len()) * dim];
            tile.fill(0.0);
            tile.iter_mut().zip(values).for_each(|(wide, value)| *wide = f64::from(*value));
            inner_products(out, tile, &block.data, dim);
            for ((i, nearest), similarities) in nearest.iter_mut().enumerate().zip(out.chunks_exact(BANK_ROWS)) {
                let own = self.shown.as_ref().map(|shown| shown[from + i]);
                for (at, similarity) in similarities[..count].iter().enumerate() {
                    // Rows come in their order: among equals the one that is there has the lower index.
                    let is_near = nearest.len() < k || nearest.peek().is_some_and(|last| *similarity > last.similarity);
                    if is_near && own.is_none_or(|own| own != block.shown[at]) {
                        if nearest.len() == k {
                            nearest.pop();
                        }
                        nearest.push(Near { similarity: *similarity, row: first + at, label: block.labels[at] });
                    }
                }
            }
        });
        self.block = Block::default();
    }

    /// Lets each query's nearest vote by exp(cosine / temperature), after the last of the bank: a result for each of `ks`.
    pub fn vote(mut self, temperature: f64) -> Result<Vec<KnnResult>, KnnError> {
        // Not `<= 0`: a NaN must be refused too.
        if temperature.is_nan() || temperature <= 0.0 {
            return Err(KnnError::Temperature(temperature));
        }
        let (k, rows) = (self.k, self.rows);
        if let Some(&k) = self.ks.iter().find(|&&k| k == 0 || k > rows) {
            return Err(KnnError::Neighbours { k, rows, own: false });
        }
        self.compare();
        // Who found fewer has passed over rows of its own.
        if let Some(rows) = self.nearest.iter().map(BinaryHeap::len).min().filter(|found| *found < k) {
            return Err(KnnError::Neighbours { k, rows, own: true });
        }
        let nearest: Vec<Vec<Near>> = self.nearest.into_par_iter().map(BinaryHeap::into_sorted_vec).collect();
        let of = |k: &usize| {
            let votes: Vec<Vec<(i64, f64)>> =
                nearest.par_iter().map(|nearest| votes(&nearest[..*k], temperature)).collect();
            KnnResult { predictions: votes.iter().map(|votes| first_largest(votes)).collect(), votes }
        };
        Ok(self.ks.iter().map(of).collect())
    }
}

/// Refuses a `k` for which a query has too few pictures in the bank beside itself.
pub fn check_others(k: usize, bank: &[Identity], queries: &[Identity]) -> Result<(), KnnError> {
    let mut counts: HashMap<Identity, usize> = HashMap::new();
    bank.iter().for_each(|identity| *counts.entry(*identity).or_default() += 1);
    let own = queries.iter().filter_map(|identity| counts.get(identity)).max().copied().unwrap_or(0);
    let rows = bank.len() - own;
    if k > rows { Err(KnnError::Neighbours { k, rows, own: own > 0 }) } else { Ok(()) }
}

/// Share of the votes of each class that `nearest`, at least one and the nearest first, vote for.
fn votes(nearest: &[Near], temperature: f64) -> Vec<(i64, f64)> {
    let mut scores: BTreeMap<i64, f64> = BTreeMap::new();
    for near in nearest {
        // The largest is taken off before exp: 1 / 0.001 would overflow, and the shares stay the same.
        let vote = libm::exp((near.similarity - nearest[0].similarity) / temperature);
        *scores.entry(near.label).or_default() += vote;
    }
    let total: f64 = scores.values().sum();
    scores.into_iter().map(|(class, score)| (class, score / total)).collect()
}

fn first_largest(votes: &[(i64, f64)]) -> i64 {
    let mut best = votes[0];
    for vote in votes {
        if vote.1 > best.1 {
            best = *vote;
        }
    }
    best.0
}
