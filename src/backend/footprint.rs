//! What a run takes of the memory that its backend computes in, known before its first step.

use crate::op::DType;

/// Bytes of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// Tensors, gradients, what the optimizer keeps, and what else lasts from step to step.
    pub stored: u64,
    /// Values of a step, or of an evaluation, whichever takes more: they share their memory.
    pub values: u64,
    pub memory: Whose,
}

/// Whose memory is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The machine's, which the batches that are loaded take their part of.
    Machine,
    /// A device's own, of so many bytes.
    Device { bytes: u64 },
}

impl Footprint {
    pub fn bytes(&self) -> u64 {
        self.stored.saturating_add(self.values)
    }
}

/// Bytes of an element, where floats take `float`.
pub(super) fn element_bytes(dtype: DType, float: usize) -> usize {
    match dtype {
        DType::Float => float,
        DType::Int => size_of::<i64>(),
    }
}
