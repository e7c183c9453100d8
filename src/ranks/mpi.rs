//! MPI: ranks that `mpirun`, `mpiexec` or `srun` has started, by the library that the machine has.
//!
//! Every call is made by one thread at a time, whichever it is: a step's kernels run among rayon's. An error of MPI ends all ranks, as
//! its standard has it, so that no call here gives one.

use std::sync::Arc;

use mpi::Threading;
use mpi::collective::SystemOperation;
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Root};

use super::{JoinError, Joined, Launched, Ranks};
use crate::tensor::{Values, ValuesMut};

/// Ends MPI when it is dropped.
pub struct Guard {
    _universe: Universe,
}

#[derive(Debug)]
struct Mpi {
    rank: usize,
    count: usize,
    local: usize,
}

/// Joins the ranks that this process was started with, as `launched` says.
pub fn join(launched: Launched) -> Result<Joined, JoinError> {
    let Some((universe, threading)) = mpi::initialize_with_threading(Threading::Serialized) else {
        return Err(JoinError::Again);
    };
    if threading < Threading::Serialized {
        return Err(JoinError::Threads);
    }
    let world = universe.world();
    let number = |number: i32| usize::try_from(number).unwrap_or(0);
    let local = number(world.split_shared(world.rank()).size());
    if number(world.size()) != launched.count {
        let Launched { by, count, .. } = launched;
        return Err(JoinError::Others { by, count, found: number(world.size()) });
    }
    let ranks = Mpi { rank: number(world.rank()), count: number(world.size()), local };
    Ok(Joined { ranks: Arc::new(ranks), _guard: Some(Guard { _universe: universe }) })
}

/// All ranks. Found anew for each call: a handle is no more than a number, and may not be passed between threads.
fn world() -> SimpleCommunicator {
    SimpleCommunicator::world()
}

impl Ranks for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn count(&self) -> usize {
        self.count
    }

    fn local(&self) -> usize {
        self.local
    }

    fn all_gather(&self, own: Values<'_>, all: ValuesMut<'_>) {
        match (own, all) {
            (Values::F32(own), ValuesMut::F32(all)) => world().all_gather_into(own, all),
            (Values::F64(own), ValuesMut::F64(all)) => world().all_gather_into(own, all),
            (Values::I64(own), ValuesMut::I64(all)) => world().all_gather_into(own, all),
            _ => unreachable!("ranks exchange values of one type"),
        }
    }

    fn all_reduce(&self, own: Values<'_>, sum: ValuesMut<'_>) {
        let add = SystemOperation::sum();
        match (own, sum) {
            (Values::F32(own), ValuesMut::F32(sum)) => world().all_reduce_into(own, sum, add),
            (Values::F64(own), ValuesMut::F64(sum)) => world().all_reduce_into(own, sum, add),
            (Values::I64(own), ValuesMut::I64(sum)) => world().all_reduce_into(own, sum, add),
            _ => unreachable!("ranks exchange values of one type"),
        }
    }

    fn broadcast(&self, from: usize, values: ValuesMut<'_>) {
        let world = world();
        // A rank's number is one of MPI's.
        let from = world.process_at_rank(from as i32);
        match values {
            ValuesMut::F32(values) => from.broadcast_into(values),
            ValuesMut::F64(values) => from.broadcast_into(values),
            ValuesMut::I64(values) => from.broadcast_into(values),
        }
    }

    fn end_all(&self) -> ! {
        world().abort(1)
    }
}
