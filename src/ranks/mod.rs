//! The ranks of a run: processes that each have their own rows of every batch, and what they tell one another.
//!
//! Before: nothing; a run is one process unless something has started several. After: the backend exchanges values where a graph says
//! so, `data` draws a rank's own samples, `train` lets rank 0 own the run's folder.
//!
//! What moves values is an engine that exists: [`Alone`] for one process, MPI (feature `mpi`) for the `cpu` backend. Programs of
//! the `xla` backend hold their exchanges themselves.
//!
//! **Invariant:** all ranks call the same methods in the same order with values of the same length and type; what one of them gets is
//! the same on all, bit for bit, but for its own number.

mod launched;
#[cfg(feature = "mpi")]
mod mpi;

use std::fmt::Debug;
use std::sync::Arc;

pub use launched::Launched;

use crate::tensor::{Values, ValuesMut};

pub trait Ranks: Debug + Send + Sync {
    /// The number of this one, from 0.
    fn rank(&self) -> usize;

    fn count(&self) -> usize;

    /// How many of them share this machine.
    fn local(&self) -> usize;

    /// Fills `all` with what each rank has as `own`, in the order of the ranks.
    fn all_gather(&self, own: Values<'_>, all: ValuesMut<'_>);

    /// Fills `sum` with the sums, element by element, of what each rank has as `own`.
    fn all_reduce(&self, own: Values<'_>, sum: ValuesMut<'_>);

    /// Fills `values` with those of rank `from`.
    fn broadcast(&self, from: usize, values: ValuesMut<'_>);

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
    if ranks.count() == 1 {
        return vec![own.to_owned()];
    }
    let lengths = each(ranks, own.len() as i64);
    let most = lengths.iter().copied().max().unwrap_or(0) as usize;
    let mut bytes: Vec<i64> = own.bytes().map(i64::from).collect();
    bytes.resize(most, 0);
    let mut all = vec![0; most * ranks.count()];
    ranks.all_gather(Values::I64(&bytes), ValuesMut::I64(&mut all));
    let of = |(at, len): (usize, &i64)| text(&all[at * most..at * most + *len as usize]);
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
        "{by} has started {count} ranks, and this binary has no engine for them (help: cargo build --release --features mpi, or for \
         the devices of one machine cmaec run --backend xla --devices N)"
    )]
    NoEngine { by: &'static str, count: usize },
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

/// The ranks that this process was started as one of, by itself where nothing has started several.
pub fn join() -> Result<Joined, JoinError> {
    match Launched::read(|name| std::env::var(name).ok()) {
        Some(launched @ Launched { count: 2.., .. }) => joined(launched),
        _ => Ok(Joined {
            ranks: alone(),
            #[cfg(feature = "mpi")]
            _guard: None,
        }),
    }
}

#[cfg(feature = "mpi")]
fn joined(launched: Launched) -> Result<Joined, JoinError> {
    mpi::join(launched)
}

#[cfg(not(feature = "mpi"))]
fn joined(Launched { by, count, .. }: Launched) -> Result<Joined, JoinError> {
    Err(JoinError::NoEngine { by, count })
}
