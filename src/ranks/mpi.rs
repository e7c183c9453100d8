//! MPI: ranks that `mpirun`, `mpiexec` or `srun` has started, by the library that the machine has.
//!
//! Every call is made by one thread at a time, whichever it is: a step's kernels run among rayon's. An error of MPI ends all ranks, as
//! its standard has it, so that no call here gives one.

use std::sync::{Arc, Mutex, PoisonError};

use mpi::Threading;
use mpi::collective::SystemOperation;
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Root};

use super::hosts::{free_port, this_host};
use super::store::{Joining, Store, StoreError};
use super::{JoinError, Joined, Launched, Meeting, PATIENCE, Ranks, text_of_first};
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
    local_rank: usize,
    lost: fn(&StoreError) -> !,
    /// Joined when it is first asked for.
    store: Mutex<Option<Arc<Store>>>,
}

/// Joins the ranks that this process was started with, as `launched` says.
pub fn join(launched: Launched, lost: fn(&StoreError) -> !) -> Result<Joined, JoinError> {
    let Some((universe, threading)) = mpi::initialize_with_threading(Threading::Serialized) else {
        return Err(JoinError::Again);
    };
    if threading < Threading::Serialized {
        return Err(JoinError::Threads);
    }
    let world = universe.world();
    let number = |number: i32| usize::try_from(number).unwrap_or(0);
    let here = world.split_shared(world.rank());
    let (local, local_rank) = (number(here.size()), number(here.rank()));
    if number(world.size()) != launched.count {
        let Launched { by, count, .. } = launched;
        return Err(JoinError::Others { by, count, found: number(world.size()) });
    }
    let (rank, count) = (number(world.rank()), number(world.size()));
    let ranks = Mpi { rank, count, local, local_rank, lost, store: Mutex::default() };
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

    fn local_rank(&self) -> usize {
        self.local_rank
    }

    /// MPI hands round where rank 0 serves it.
    fn store(&self) -> Result<Arc<Store>, StoreError> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = &*store {
            return Ok(store.clone());
        }
        let is_first = self.rank == 0;
        let host = if self.local == self.count { "127.0.0.1".to_owned() } else { this_host() };
        let port = if is_first { free_port(&host).to_string() } else { String::new() };
        let (host, port) = (text_of_first(self, &host), text_of_first(self, &port));
        let meeting = Meeting { run: format!("MPI {host} {port}"), host, port: port.parse().unwrap_or(0) };
        let (rank, count, lost) = (self.rank, self.count, self.lost);
        let joined = Arc::new(Store::join(&meeting, &Joining { rank, count, patience: PATIENCE, lost })?);
        *store = Some(joined.clone());
        Ok(joined)
    }

    fn again(&self) -> String {
        format!("mpirun -n {} cmaec ", self.count)
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

    fn leave(&self) {
        if let Some(store) = &*self.store.lock().unwrap_or_else(PoisonError::into_inner) {
            store.leave();
        }
    }

    fn end_all(&self) -> ! {
        if let Some(store) = &*self.store.lock().unwrap_or_else(PoisonError::into_inner) {
            // So that none takes this one for dead.
            store.end_all();
        }
        world().abort(1)
    }
}
