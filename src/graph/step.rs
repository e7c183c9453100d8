//! What one optimizer step computes: the training graph whole, or cut in parts for micro-batches, of one machine or of one rank.
//!
//! Before: a compiled [`Program`]. After: a backend runs it; the optimizer is the backend's own.

use super::accumulate::{Parts, SplitError, split};
use super::{Fault, Graph, InputDecl, Program, UnknownOutput, spread};

#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Names of what it gives beside losses, monitors and updates, in their order.
    pub outputs: Vec<String>,
    pub body: Body,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// One run, on the whole batch.
    Whole(Graph),
    /// The parts of a step by so many micro-batches.
    Parts(Box<Parts>, usize),
}

/// A batch is not shared out evenly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a batch of {samples} is not shared out evenly among {ranks} ranks (help: {fewer} ranks, or --set data.batch_size={larger}, \
     which is another step)"
)]
pub struct Uneven {
    samples: usize,
    ranks: usize,
    fewer: usize,
    larger: usize,
}

/// Why a program has no such step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoStep {
    #[error(transparent)]
    UnknownOutput(#[from] UnknownOutput),
    #[error(transparent)]
    Split(#[from] SplitError),
    #[error(transparent)]
    Uneven(#[from] Uneven),
    #[error(transparent)]
    Spread(#[from] Fault),
}

impl Program {
    /// Samples of a batch that are one rank's.
    pub fn own_samples(&self) -> usize {
        self.spec.data.batch_size / self.ranks.max(1)
    }

    /// Micro-batches of a step that are one rank's: as few as none is larger than the spec's and all are of one size.
    pub fn own_micro_batches(&self) -> usize {
        let (own, most) = (self.own_samples(), self.spec.micro_batch().max(1));
        (own.div_ceil(most).max(1)..own).find(|count| own.is_multiple_of(*count)).unwrap_or(own.max(1))
    }

    /// In how many parts what the optimizer keeps of the parameters lies: one of each rank, or one.
    pub fn shards(&self) -> usize {
        if self.sharded { self.ranks } else { 1 }
    }

    /// `64`, `64 in 4 micro-batches of 16`, `64 over 2 ranks, 32 each in 2 micro-batches of 16`.
    pub fn batch_text(&self) -> String {
        let (batch, own, count) = (self.spec.data.batch_size, self.own_samples(), self.own_micro_batches());
        let share =
            if self.ranks > 1 { format!("{batch} over {} ranks, {own} each", self.ranks) } else { batch.to_string() };
        match count {
            1 => share,
            _ => format!("{share} in {count} micro-batches of {}", own / count),
        }
    }

    /// The training graph's inputs as `count` of the ranks take them in together.
    pub fn inputs_of(&self, count: usize) -> Vec<InputDecl> {
        spread::inputs(&self.train.inputs, self.spec.data.batch_size, (count, self.ranks))
    }

    /// The step that also gives these of the training graph's outputs.
    pub fn step(&self, outputs: &[String]) -> Result<Step, NoStep> {
        self.step_of(self.train.with_outputs(outputs)?)
    }

    /// What the first batch gives states to start from, as outputs in the order of `train.initial`; nothing else is made of it, for
    /// what a graph is cut at is kept for the whole batch.
    pub fn first_values(&self) -> Result<Step, NoStep> {
        let Graph { nodes, inputs, initial, .. } = self.train.clone();
        // Outputs of a graph of their own, which no name of the pipeline can clash with.
        let outputs = initial.iter().enumerate().map(|(i, initial)| (format!("initial.{i}"), initial.value)).collect();
        self.step_of(Graph { nodes, inputs, outputs, ..Graph::default() })
    }

    /// `graph` is a form of the training graph; the step gives all its outputs.
    fn step_of(&self, graph: Graph) -> Result<Step, NoStep> {
        let outputs: Vec<String> = graph.outputs.iter().map(|(name, _)| name.clone()).collect();
        let (samples, ranks, layout) = (self.spec.data.batch_size, self.ranks, &self.layout);
        let count = self.own_micro_batches();
        if !samples.is_multiple_of(ranks) {
            let fewer = (1..ranks).rev().find(|fewer| samples.is_multiple_of(*fewer)).unwrap_or(1);
            return Err(Uneven { samples, ranks, fewer, larger: samples.next_multiple_of(ranks) }.into());
        }
        let body = match (ranks, count) {
            (1, 1) => Body::Whole(graph),
            (1, count) => Body::Parts(Box::new(split(&graph, layout, samples, count)?), count),
            (ranks, 1) => {
                let parts = split(&graph, layout, samples, ranks)?;
                Body::Whole(spread::whole(&parts, layout, &outputs, samples, ranks)?)
            }
            (ranks, count) => {
                let parts = split(&graph, layout, samples, ranks * count)?;
                Body::Parts(Box::new(spread::parts(&parts, layout, samples, ranks)?), count)
            }
        };
        Ok(Step { outputs, body })
    }
}
