//! A program's tensors and slots on each of the devices that run it, one for each of its ranks.
//!
//! Before: values on the host. After: [`super::session`] passes a replica's to the program on its device, which gives them back
//! changed.
//!
//! **Invariant:** every replica holds the same bytes: all begin with the same, and each step is the same on all.

use rayon::prelude::*;

use super::lower::TensorType;
use super::pjrt::{Buffer, Client, PjrtError};
use super::values::{Number, upload_input};
use crate::backend::BackendError;
use crate::graph::{Layout, TensorDecl};
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
    each: Vec<Replica>,
}

impl Replicas {
    /// All tensors of the layout on each of the first `count` devices, and no slots.
    pub fn new<E: Number>(client: &Client, count: usize, layout: &Layout, tensors: &[E]) -> Result<Self, BackendError> {
        let tensors = on_each(count, |device| upload_all(client, device, layout, tensors))?;
        let each = tensors.into_iter().map(|tensors| Replica { tensors, slots: Vec::new() }).collect();
        Ok(Replicas { client: client.clone(), each })
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
                Ok(self.client.upload_values(device, &decl.shape, &slot[layout.range(index)])?)
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

    /// Tensors by the layout, and each slot, as the first device has them.
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
        let slots = first.slots.chunks(layout.trained().max(1)).map(|slot| fill(slot, layout.trained_len));
        Ok((tensors, slots.collect::<Result<_, _>>()?))
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
            replica.tensors.iter().chain(&replica.slots).map(bytes).collect()
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
