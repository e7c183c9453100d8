//! The ranks of a run: processes that each have their own rows of every batch, and what they tell one another.
//!
//! Before: nothing; a run is one process unless an engine says otherwise. After: the backend exchanges values where a graph says so,
//! `data` draws a rank's own samples, `train` lets rank 0 own the run's folder.
//!
//! What moves values is an engine that exists: [`Alone`] for one process, MPI (feature `mpi`) for the `cpu` backend. Programs of
//! the `xla` backend hold their exchanges themselves.
//!
//! **Invariant:** all ranks call the same methods in the same order with values of the same length and type; what one of them gets is
//! the same on all, bit for bit, but for its own number.

use std::fmt::Debug;
use std::sync::Arc;

use crate::tensor::{Values, ValuesMut};

pub trait Ranks: Debug + Send + Sync {
    /// The number of this one, from 0.
    fn rank(&self) -> usize;

    fn count(&self) -> usize;

    /// Fills `all` with what each rank has as `own`, in the order of the ranks.
    fn all_gather(&self, own: Values<'_>, all: ValuesMut<'_>);

    /// Fills `sum` with the sums, element by element, of what each rank has as `own`.
    fn all_reduce(&self, own: Values<'_>, sum: ValuesMut<'_>);

    /// Ends all ranks, since this one cannot go on: why was told.
    fn end_all(&self) -> !;
}

/// One process by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Alone;

impl Ranks for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn count(&self) -> usize {
        1
    }

    fn all_gather(&self, own: Values<'_>, all: ValuesMut<'_>) {
        copy(own, all);
    }

    fn all_reduce(&self, own: Values<'_>, sum: ValuesMut<'_>) {
        copy(own, sum);
    }

    fn end_all(&self) -> ! {
        std::process::exit(1)
    }
}

fn copy(from: Values<'_>, to: ValuesMut<'_>) {
    match (from, to) {
        (Values::F32(from), ValuesMut::F32(to)) => to.copy_from_slice(from),
        (Values::F64(from), ValuesMut::F64(to)) => to.copy_from_slice(from),
        (Values::I64(from), ValuesMut::I64(to)) => to.copy_from_slice(from),
        _ => unreachable!("ranks exchange values of one type"),
    }
}

/// Whether any rank says so.
pub fn any(ranks: &dyn Ranks, own: bool) -> bool {
    if ranks.count() == 1 {
        return own;
    }
    let mut sum = [0];
    ranks.all_reduce(Values::I64(&[i64::from(own)]), ValuesMut::I64(&mut sum));
    sum != [0]
}

/// One process, where nothing else is said.
pub fn alone() -> Arc<dyn Ranks> {
    Arc::new(Alone)
}
