//! The plan: steps, and the places that they read and write.

use super::arena::Place;
use super::work::Work;
use crate::graph::{Graph, ValueId};

#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Whose value it makes.
    pub node: ValueId,
    pub work: Work,
    /// Of [`Work::reads`].
    pub reads: Vec<Place>,
    pub writes: Place,
    /// Floats that the step needs for itself; empty for most.
    pub scratch: Place,
    /// The read whose place is also written.
    pub in_place: Option<usize>,
    /// Its products round their operands to bf16 and add up in f32.
    pub bf16: bool,
    /// A value that no input changes: computed in the first run, and its place is its own for ever.
    pub once: bool,
}

impl Step {
    /// See [`Work::kernel`].
    pub fn kernel(&self) -> ValueId {
        self.work.kernel(self.node)
    }
}

/// A gradient that is a part of another value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// The step that makes what it is a part of, and that it is copied after: the next may write there.
    pub after: usize,
    pub from: Place,
    /// The caller's.
    pub to: Place,
}

/// How many floats are values that are still needed, or a step's scratch; two numbers of bf16 are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Index of the step that runs then.
    pub step: usize,
    pub floats: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub graph: Graph,
    pub steps: Vec<Step>,
    /// Where each node's value lies, if it lies anywhere: at the plan's end only results still do.
    pub places: Vec<Option<Place>>,
    /// Elements of the arenas; in that of floats lie numbers of bf16 too.
    pub floats: usize,
    pub ints: usize,
    /// When most is held, ids and gradients aside: by the arenas, which are larger by what lies free between values then, and by the room
    /// of gradients that are not written yet.
    pub most: Held,
    /// Gradients that no step writes into the caller's arena, in the order in which they are there.
    pub copies: Vec<Copied>,
    /// Gradients of trained tensors that the total does not depend on: the caller's ranges to be zeroed.
    pub zeros: Vec<Place>,
}
