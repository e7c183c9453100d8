//! What one optimizer step computes: the training graph whole, or cut in parts for micro-batches.
//!
//! Before: a compiled [`Program`]. After: a backend runs it; the optimizer is the backend's own.

use super::accumulate::{Parts, SplitError, split};
use super::{Graph, Program, UnknownOutput};

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

/// Why a program has no such step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoStep {
    #[error(transparent)]
    UnknownOutput(#[from] UnknownOutput),
    #[error(transparent)]
    Split(#[from] SplitError),
}

impl Program {
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
        let outputs = graph.outputs.iter().map(|(name, _)| name.clone()).collect();
        let body = match self.spec.micro_batches() {
            1 => Body::Whole(graph),
            count => Body::Parts(Box::new(split(&graph, &self.layout, self.spec.data.batch_size, count)?), count),
        };
        Ok(Step { outputs, body })
    }
}
