//! The ranks of a run: processes that each have their own rows of every batch, and what they tell one another.
//!
//! Before: nothing; a run is one process unless something has started several. After: the backend exchanges values where a graph says
//! so, `data` draws a rank's own samples, `train` lets rank 0 own the run's folder.
//!
//! What moves values is an engine that exists: [`Alone`] for one process, MPI (feature `mpi`), or the [`store`] at rank 0 for
//! processes that no MPI has started. Programs of the `xla` backend hold their exchanges themselves, and their runtime finds its
//! devices by the store.
//!
//! **Invariant:** all ranks call the same methods in the same order with values of the same length and type; what one of them gets is
//! the same on all, bit for bit, but for its own number.

mod hosts;
mod launched;
#[cfg(feature = "mpi")]
mod mpi;
mod server;
pub mod store;
pub mod stored;
mod wire;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

pub use hosts::free_port;
pub use launched::{Launched, Meeting};
use store::{Joining, Store, StoreError};
use stored::Stored;

use crate::tensor::{Values, ValuesMut};

pub trait Ranks: Debug + Send + Sync {
    /// The number of this one, from 0.
    fn rank(&self) -> usize;

    fn count(&self) -> usize;

    /// How many of them share this machine.
    fn local(&self) -> usize;

    /// Its number among those that share this machine, from 0.
    fn local_rank(&self) -> usize;

    /// Whether it may move what is summed in every step.
    fn sums_steps(&self) -> bool {
        true
    }

    /// Values by their keys that all ranks see. All ask for it, or none does.
    fn store(&self) -> Result<Arc<Store>, StoreError>;

    /// What starts as many ranks once more, in front of a command of `cmaec`.
    fn again(&self) -> String;

    /// Fills `all` with what each rank has as `own`, in the order of the ranks.
    fn all_gather(&self, own: Values<'_>, all: ValuesMut<'_>);

    /// Fills `sum` with the sums, element by element, of what each rank has as `own`.
    fn all_reduce(&self, own: Values<'_>, sum: ValuesMut<'_>);

    /// Fills `values` with those of rank `from`.
    fn broadcast(&self, from: usize, values: ValuesMut<'_>);

    /// Goes, having done its part: rank 0 when all others have.
    fn leave(&self) {}

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

    fn local(&self) -> usize {
        1
    }

    fn local_rank(&self) -> usize {
        0
    }

    fn store(&self) -> Result<Arc<Store>, StoreError> {
        Err(StoreError::Alone)
    }

    fn again(&self) -> String {
        "cmaec ".to_owned()
    }

    fn all_gather(&self, own: Values<'_>, all: ValuesMut<'_>) {
        copy(own, all);
    }

    fn all_reduce(&self, own: Values<'_>, sum: ValuesMut<'_>) {
        copy(own, sum);
    }

    fn broadcast(&self, _: usize, _: ValuesMut<'_>) {}

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

/// One process, where nothing else is said.
pub fn alone() -> Arc<dyn Ranks> {
    Arc::new(Alone)
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

/// The number of each rank, in their order.
pub fn each(ranks: &dyn Ranks, own: i64) -> Vec<i64> {
    let mut all = vec![0; ranks.count()];
    ranks.all_gather(Values::I64(&[own]), ValuesMut::I64(&mut all));
    all
}

/// The numbers of rank 0.
pub fn of_first(ranks: &dyn Ranks, own: &mut Vec<i64>) {
    let mut len = [own.len() as i64];
    ranks.broadcast(0, ValuesMut::I64(&mut len));
    own.resize(usize::try_from(len[0]).unwrap_or(0), 0);
    ranks.broadcast(0, ValuesMut::I64(own));
}

/// The text of rank 0.
pub fn text_of_first(ranks: &dyn Ranks, own: &str) -> String {
    if ranks.count() == 1 {
        return own.to_owned();
    }
    let mut bytes: Vec<i64> = own.bytes().map(i64::from).collect();
    of_first(ranks, &mut bytes);
    text(&bytes)
}

/// The text of each rank, in their order.
pub fn text_of_each(ranks: &dyn Ranks, own: &str) -> Vec<String> {
    of_each(ranks, own.bytes().map(i64::from).collect()).iter().map(|bytes| text(bytes)).collect()
}

/// The numbers of each rank, in their order; each may have as many as it likes.
pub fn of_each(ranks: &dyn Ranks, mut own: Vec<i64>) -> Vec<Vec<i64>> {
    let lengths = each(ranks, own.len() as i64);
    let most = lengths.iter().copied().max().unwrap_or(0) as usize;
    own.resize(most, 0);
    let mut all = vec![0; most * ranks.count()];
    ranks.all_gather(Values::I64(&own), ValuesMut::I64(&mut all));
    let of = |(at, len): (usize, &i64)| all[at * most..at * most + *len as usize].to_vec();
    lengths.iter().enumerate().map(of).collect()
}

/// Bytes that were sent as numbers.
fn text(bytes: &[i64]) -> String {
    String::from_utf8_lossy(&bytes.iter().map(|byte| *byte as u8).collect::<Vec<_>>()).into_owned()
}

/// A process that has found the others. What it holds ends the engine when it is dropped.
pub struct Joined {
    pub ranks: Arc<dyn Ranks>,
    #[cfg(feature = "mpi")]
    _guard: Option<mpi::Guard>,
}

/// Why a process cannot join the ranks that it was started with.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error(
        "{by} has started {count} ranks, and nothing says where they meet (help: MASTER_ADDR=HOST MASTER_PORT=PORT, of rank 0's machine{})",
        if *by_mpi { "; or for MPI cargo build --release --features mpi" } else { "" }
    )]
    NoMeeting { by: &'static str, count: usize, by_mpi: bool },
    #[error("MASTER_PORT is `{text}` (help: a number from 1 to 65535)")]
    Port { text: String },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "{by} has started {count} ranks, MPI knows of {found} (help: start them by the launcher of the MPI that this binary was built with)"
    )]
    Others { by: &'static str, count: usize, found: usize },
    #[error(
        "MPI was built for one thread a process (help: a library with MPI_THREAD_SERIALIZED, as OpenMPI and MPICH have it by default)"
    )]
    Threads,
    #[error("internal error: MPI is joined twice")]
    Again,
}

/// How long ranks wait for all to come: a cluster may start some of them minutes after others.
const PATIENCE: Duration = Duration::from_secs(600);

/// The ranks that this process was started as one of, by itself where nothing has started several: by MPI where its launcher is MPI's
/// and this binary has it, else by the store. `lost` is called by any thread where one of them is gone and MPI does not end all.
pub fn join(lost: fn(&StoreError) -> !) -> Result<Joined, JoinError> {
    let variable = |name: &str| std::env::var(name).ok();
    let Some(launched @ Launched { by, rank, count: count @ 2.., by_mpi }) = Launched::read(variable) else {
        return Ok(Joined::without_guard(alone()));
    };
    #[cfg(feature = "mpi")]
    if by_mpi {
        return mpi::join(launched, lost);
    }
    #[cfg(not(feature = "mpi"))]
    let _ = launched;
    let meeting = Meeting::read(by, variable).map_err(|text| JoinError::Port { text })?;
    let meeting = meeting.ok_or(JoinError::NoMeeting { by, count, by_mpi })?;
    let store = Store::join(&meeting, &Joining { rank, count, patience: PATIENCE, lost })?;
    Ok(Joined::without_guard(Arc::new(Stored::new(Arc::new(store), lost)?)))
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.ranks.leave();
    }
}

impl Joined {
    fn without_guard(ranks: Arc<dyn Ranks>) -> Joined {
        Joined {
            ranks,
            #[cfg(feature = "mpi")]
            _guard: None,
        }
    }
}
