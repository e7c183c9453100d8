//! Batches: the rows of samples side by side, as a graph's inputs take them.
//!
//! **Invariant:** row i of every input belongs to the same sample.

use super::sample::Rows;
use crate::backend::{HostTensor, InputValue};
use crate::decl::{InputDecl, InputKind};

/// Inputs by name from the samples' rows and labels (−1 where a sample has none), in order.
///
/// `samples` are as many as the inputs' leading size.
pub fn assemble(inputs: &[InputDecl], samples: &[&Rows], labels: &[i64]) -> Vec<(String, InputValue)> {
    let value = |(index, input): (usize, &InputDecl)| {
        let shape = input.ty.shape.clone();
        let value = match input.kind {
            InputKind::Label => InputValue::Int(HostTensor { shape, data: labels.to_vec() }),
            InputKind::View { .. } | InputKind::Noise => {
                let mut data = Vec::with_capacity(input.ty.elements());
                samples.iter().for_each(|rows| data.extend_from_slice(&rows[index]));
                InputValue::Float(HostTensor { shape, data })
            }
        };
        (input.name.clone(), value)
    };
    inputs.iter().enumerate().map(value).collect()
}
