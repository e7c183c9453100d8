//! What a run takes of the memory that its backend computes in, known before its first step.

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
