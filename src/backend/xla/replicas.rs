//! A program's tensors and slots on each of the devices that run it, one for each of its ranks.
//!
//! Before: values on the host. After: [`super::session`] passes a replica's to the program on its device, which gives them back
//! changed.
//!
//! **Invariant:** every replica holds the same bytes: all begin with the same, and each step is the same on all. Slots that are shared
//! out are one replica's each, a part of every tensor's.

use rayon::prelude::*;

use super::lower::TensorType;
use super::pjrt::{Buffer, Client, PjrtError};
use super::values::{Number, upload_input};
use crate::backend::BackendError;
use crate::graph::{Layout, Program, TensorDecl};
use crate::tensor::Inputs;

/// What one device holds.
pub struct Replica {
    /// In the order of the layout.
    pub tensors: Vec<Buffer>,
    /// Slot after slot, one for each trained tensor; none before a step, or a checkpoint, needs them.
    pub slots: Vec<Buffer>,
}

/// Replica for replica, on the client's first devices.
pub struct Replicas {
    client: Client,
    /// In how many parts slots lie.
    shards: usize,
    each: Vec<Replica>,
}

impl Replicas {
    /// All tensors of the program's layout on a device for each of its ranks, and no slots.
    pub fn new<E: Number>(client: &Client, program: &Program, tensors: &[E]) -> Result<Self, BackendError> {
        let (count, layout) = (program.ranks, &program.layout);
        let tensors = on_each(count, |device| upload_all(client, device, layout, tensors))?;
        let each = tensors.into_iter().map(|tensors| Replica { tensors, slots: Vec::new() }).collect();
        Ok(Replicas { client: client.clone(), shards: program.shards(), each })
    }

    /// Replica for replica.
    pub fn each(&self) -> &[Replica] {
        &self.each
    }

    /// That of the first device, which speaks for all.
    pub fn first(&self) -> &Replica {
        &self.each[0]
    }

    /// Puts tensors, laid out by the layout, in the place of those that are there.
    pub fn put_tensors<E: Number>(&mut self, layout: &Layout, tensors: &[E]) -> Result<(), BackendError> {
        let made = on_each(self.each.len(), |device| upload_all(&self.client, device, layout, tensors))?;
        self.each.iter_mut().zip(made).for_each(|(replica, tensors)| replica.tensors = tensors);
        Ok(())
    }

    /// Whether there are slots, or none are needed.
    pub fn has_slots(&self, count: usize, layout: &Layout) -> bool {
        self.first().slots.len() == count * layout.trained()
    }

    /// Puts slots in the place of those that are there, `layout.trained_len` values each.
    pub fn put_slots<E: Number>(&mut self, layout: &Layout, slots: &[Vec<E>]) -> Result<(), BackendError> {
        let trained = &layout.tensors[..layout.trained()];
        let made = on_each(self.each.len(), |device| {
            let of_slot = |slot| trained.iter().enumerate().map(move |(index, decl)| (slot, index, decl));
            let one = |(slot, index, decl): (&Vec<E>, usize, &TensorDecl)| {
                let values = &slot[layout.range(index)];
                if self.shards == 1 {
                    return Ok(self.client.upload_values(device, &decl.shape, values)?);
                }
                let own = decl.elements().div_ceil(self.shards);
                let there = &values[values.len().min(device * own)..values.len().min((device + 1) * own)];
                let mut part = vec![E::ZERO; own];
                part[..there.len()].copy_from_slice(there);
                Ok(self.client.upload_values(device, &[own], &part)?)
            };
            slots.iter().flat_map(of_slot).map(one).collect::<Result<Vec<Buffer>, BackendError>>()
        })?;
        self.each.iter_mut().zip(made).for_each(|(replica, slots)| replica.slots = slots);
        Ok(())
    }

    /// Takes what a run of the program has made of the tensors and slots that were donated to it: of each device's results the first,
    /// in their order. Gives the others.
    pub fn take(&mut self, results: Vec<Vec<Buffer>>) -> Vec<Vec<Buffer>> {
        let one = |(replica, results): (&mut Replica, Vec<Buffer>)| {
            let mut results = results.into_iter();
            replica.tensors = results.by_ref().take(replica.tensors.len()).collect();
            replica.slots = results.by_ref().take(replica.slots.len()).collect();
            results.collect()
        };
        self.each.iter_mut().zip(results).map(one).collect()
    }

    /// Tensors by the layout, as the first device has them, and each slot, put together where it is shared out.
    pub fn read<E: Number>(&self, layout: &Layout) -> Result<(Vec<E>, Vec<Vec<E>>), BackendError> {
        let first = self.first();
        let fill = |buffers: &[Buffer], len: usize| {
            let mut values = vec![E::ZERO; len];
            for (index, buffer) in buffers.iter().enumerate() {
                buffer.read_values(&mut values[layout.range(index)])?;
            }
            Ok::<_, BackendError>(values)
        };
        let tensors = fill(&first.tensors, layout.total_len)?;
        let trained = layout.trained().max(1);
        if self.shards == 1 {
            let slots = first.slots.chunks(trained).map(|slot| fill(slot, layout.trained_len));
            return Ok((tensors, slots.collect::<Result<_, _>>()?));
        }
        let mut slots = vec![vec![E::ZERO; layout.trained_len]; first.slots.len() / trained];
        for (device, replica) in self.each.iter().enumerate() {
            for (place, buffer) in replica.slots.iter().enumerate() {
                let to = &mut slots[place / trained][layout.range(place % trained)];
                let part: Vec<E> = buffer.read()?;
                let start = to.len().min(device * part.len());
                let end = to.len().min(start + part.len());
                to[start..end].copy_from_slice(&part[..end - start]);
            }
        }
        Ok((tensors, slots))
    }

    /// The first device that does not hold the bytes of the first one, and the place of a tensor, or behind them all of a slot's,
    /// that differs there.
    pub fn differing(&self) -> Result<Option<(usize, usize)>, BackendError> {
        let bytes = |buffer: &Buffer| -> Result<Vec<u8>, PjrtError> {
            let mut bytes = vec![0; buffer.size()?];
            buffer.read_into(&mut bytes)?;
            Ok(bytes)
        };
        let all = |replica: &Replica| -> Result<Vec<Vec<u8>>, PjrtError> {
            let shared: &[Buffer] = if self.shards == 1 { &replica.slots } else { &[] };
            replica.tensors.iter().chain(shared).map(bytes).collect()
        };
        let first = all(self.first())?;
        for (device, replica) in self.each.iter().enumerate().skip(1) {
            if let Some(place) = all(replica)?.iter().zip(&first).position(|(own, first)| own != first) {
                return Ok(Some((device, place)));
            }
        }
        Ok(None)
    }
}

/// What `make` makes for each of `count` devices, all at once: each has a way of its own to the host.
pub fn on_each<T: Send>(
    count: usize,
    make: impl Fn(usize) -> Result<T, BackendError> + Sync + Send,
) -> Result<Vec<T>, BackendError> {
    match count {
        1 => Ok(vec![make(0)?]),
        _ => (0..count).into_par_iter().map(&make).collect(),
    }
}

/// What fills `types`, by name, on each device: its rank's own rows, and what is the same for all.
pub fn upload_own_rows<E: Number>(
    client: &Client,
    ranks: usize,
    types: &[(String, TensorType)],
    inputs: Inputs<'_>,
) -> Result<Vec<Vec<Buffer>>, BackendError> {
    on_each(ranks, |rank| {
        let own = if ranks == 1 { inputs } else { inputs.of_micro(rank) };
        types.iter().map(|(name, ty)| upload_input::<E>(client, rank, name, ty, own)).collect()
    })
}

/// All tensors of the layout, on a device.
fn upload_all<E: Number>(
    client: &Client,
    device: usize,
    layout: &Layout,
    tensors: &[E],
) -> Result<Vec<Buffer>, BackendError> {
    assert_eq!(tensors.len(), layout.total_len, "tensors are laid out by the program's layout");
    let upload = |(index, decl): (usize, &TensorDecl)| {
        Ok(client.upload_values(device, &decl.shape, &tensors[layout.range(index)])?)
    };
    layout.tensors.iter().enumerate().map(upload).collect()
}
