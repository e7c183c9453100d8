//! Ranks that exchange what the host agrees on by the store at rank 0: stop signals, checkpoints, features, figures.
//!
//! All goes through one process, so it is no engine for the gradients of every step: `xla` sums those in its program, by the runtime's
//! own engine, and the `cpu` backend by MPI.
//!
//! **Invariant:** sums are added up in the order of the ranks, on each alike: the same bits on all.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::Ranks;
use super::hosts::this_host;
use super::store::{Store, StoreError};
use crate::tensor::{Values, ValuesMut};

#[derive(Debug)]
pub struct Stored {
    store: Arc<Store>,
    /// Exchanges that were begun.
    turns: Mutex<u64>,
    local: usize,
    local_rank: usize,
    lost: fn(&StoreError) -> !,
}

/// Bytes of the longest value there is.
const WIDEST: usize = 8;

impl Stored {
    /// Over a store that all ranks have joined; `lost` is called where one of them is gone.
    pub fn new(store: Arc<Store>, lost: fn(&StoreError) -> !) -> Result<Stored, StoreError> {
        let hosts = store.exchanged(0, this_host().as_bytes())?;
        let shares = |rank: &usize| hosts[*rank] == hosts[store.rank()];
        let (local, local_rank) = ((0..store.count()).filter(shares).count(), (0..store.rank()).filter(shares).count());
        Ok(Stored { store, turns: Mutex::new(1), local, local_rank, lost })
    }

    /// Lets each rank give what `own` makes of its values, as many of all `len` at once as the store takes, and has `take` take what
    /// all have given of them, by rank. Who gives only takes nothing.
    fn exchange(
        &self,
        len: usize,
        gives_only: bool,
        own: impl Fn(Range<usize>) -> Vec<u8>,
        mut take: impl FnMut(Range<usize>, &[Vec<u8>]) -> Option<()>,
    ) {
        let at_once = (self.store.at_once() / WIDEST).max(1);
        let mut turn = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        for start in (0..len).step_by(at_once) {
            let values = start..len.min(start + at_once);
            let differ = StoreError::Differ { turn: *turn };
            let exchanged = match gives_only {
                true => self.store.give(*turn, &own(values)),
                false => {
                    let parts = self.store.exchanged(*turn, &own(values.clone()));
                    parts.and_then(|parts| take(values, &parts).ok_or(differ))
                }
            };
            if let Err(error) = exchanged {
                (self.lost)(&error)
            }
            *turn += 1;
        }
    }
}

impl Ranks for Stored {
    fn rank(&self) -> usize {
        self.store.rank()
    }

    fn count(&self) -> usize {
        self.store.count()
    }

    fn local(&self) -> usize {
        self.local
    }

    fn local_rank(&self) -> usize {
        self.local_rank
    }

    fn sums_steps(&self) -> bool {
        false
    }

    fn store(&self) -> Result<Arc<Store>, StoreError> {
        Ok(self.store.clone())
    }

    fn again(&self) -> String {
        match self.local == self.count() {
            true => format!("cmaec launch --without-mpi -n {} -- ", self.count()),
            // Who has started them does so again.
            false => "cmaec ".to_owned(),
        }
    }

    fn all_gather(&self, own: Values<'_>, mut all: ValuesMut<'_>) {
        let len = len(&own);
        let bytes = |values| bytes(&own, values);
        self.exchange(len, false, bytes, |values, parts| {
            (parts.iter().enumerate())
                .try_for_each(|(rank, part)| write(&mut all, rank * len + values.start, values.len(), part))
        });
    }

    fn all_reduce(&self, own: Values<'_>, mut sum: ValuesMut<'_>) {
        let bytes = |values| bytes(&own, values);
        self.exchange(len(&own), false, bytes, |values, parts| {
            let (first, others) = parts.split_first()?;
            write(&mut sum, values.start, values.len(), first)?;
            others.iter().try_for_each(|part| add(&mut sum, values.start, values.len(), part))
        });
    }

    fn broadcast(&self, from: usize, mut values: ValuesMut<'_>) {
        let (gives, len) = (self.rank() == from, len(&values.shared()));
        if gives {
            let values = values.shared();
            self.exchange(len, true, |range| bytes(&values, range), |_, _| Some(()));
        } else {
            let nothing = |_| Vec::new();
            self.exchange(len, false, nothing, |range, parts| {
                write(&mut values, range.start, range.len(), &parts[from])
            });
        }
    }

    fn leave(&self) {
        self.store.leave();
    }

    fn end_all(&self) -> ! {
        self.store.end_all();
        std::process::exit(1)
    }
}

fn len(values: &Values<'_>) -> usize {
    match values {
        Values::F32(values) => values.len(),
        Values::F64(values) => values.len(),
        Values::I64(values) => values.len(),
    }
}

fn bytes(values: &Values<'_>, range: Range<usize>) -> Vec<u8> {
    match values {
        Values::F32(values) => values[range].iter().flat_map(|value| value.to_le_bytes()).collect(),
        Values::F64(values) => values[range].iter().flat_map(|value| value.to_le_bytes()).collect(),
        Values::I64(values) => values[range].iter().flat_map(|value| value.to_le_bytes()).collect(),
    }
}

/// Gives each of the `len` values from `start` on and its number in `bytes` to `each`; `None` where these are others.
fn with_each<T, const N: usize>(
    values: &mut [T],
    (start, len): (usize, usize),
    bytes: &[u8],
    each: impl Fn(&mut T, [u8; N]),
) -> Option<()> {
    let values = values.get_mut(start..start.checked_add(len)?)?;
    let (numbers, rest) = bytes.as_chunks::<N>();
    if !rest.is_empty() || numbers.len() != len {
        return None;
    }
    values.iter_mut().zip(numbers).for_each(|(value, number)| each(value, *number));
    Some(())
}

fn write(to: &mut ValuesMut<'_>, start: usize, len: usize, bytes: &[u8]) -> Option<()> {
    match to {
        ValuesMut::F32(to) => with_each(to, (start, len), bytes, |to, number| *to = f32::from_le_bytes(number)),
        ValuesMut::F64(to) => with_each(to, (start, len), bytes, |to, number| *to = f64::from_le_bytes(number)),
        ValuesMut::I64(to) => with_each(to, (start, len), bytes, |to, number| *to = i64::from_le_bytes(number)),
    }
}

fn add(to: &mut ValuesMut<'_>, start: usize, len: usize, bytes: &[u8]) -> Option<()> {
    match to {
        ValuesMut::F32(to) => with_each(to, (start, len), bytes, |to, number| *to += f32::from_le_bytes(number)),
        ValuesMut::F64(to) => with_each(to, (start, len), bytes, |to, number| *to += f64::from_le_bytes(number)),
        ValuesMut::I64(to) => {
            with_each(to, (start, len), bytes, |to, number| *to = to.wrapping_add(i64::from_le_bytes(number)))
        }
    }
}
